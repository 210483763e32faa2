"""`kubectl apply` of policies for apps that run."""

import time

from harness import cluster
from harness.report import equal, eventually, expect
from harness.world import NOTES_URL, SHOP, WIKI


def running_apps(world, report):
    report.part("Protect apps that run")
    with report.check("the app that only listens on 127.0.0.1 is not reachable yet"):
        expect(not any(cluster.ready(pod) for pod in cluster.pods(WIKI, "notes")), "a pod of it is ready")

    with report.check("policies are accepted within 5 s, and say that pods are not protected yet", vital=True):
        for name in ("shop, behind sign-in", "wiki, behind sign-in"):
            world.prober.demand(name, 200, 401)  # the moment is the rollout's
        cluster.apply(world.manifest("policies.yaml"))
        seen = []

        def accepted():
            row = table(SHOP, "shop")
            seen.append(row)
            return row["accepted"] == "True"

        eventually(5, accepted, "Accepted")
        first = next(row for row in seen if row["accepted"] == "True")
        expect(first["enforced"] != "True", f"Enforced before any pod could have the sidecar: {first}")

    with report.check("Enforced is True once every pod has proved its sidecar", vital=True):
        for namespace, name, count in ((SHOP, "shop", 2), (WIKI, "wiki", 2), (WIKI, "notes", 1)):
            eventually(120, lambda: enforced(namespace, name), f"Enforced of {name}", every=0.3)  # noqa: B023 - called at once
            row = table(namespace, name)
            equal((row["protected"], row["reason"]), (f"{count}/{count}", "Enforced"), f"kubectl get authpolicy {name}")

    with report.check("once Enforced is True nobody gets in without a token, and the door that is open to all stays open"):
        for name in ("shop, behind sign-in", "wiki, behind sign-in"):
            world.prober.demand(name, 401)
        moment = time.time()
        time.sleep(2)
        expect(not world.prober.since(moment), lambda: world.prober.since(moment)[:3])

    with report.check("running Deployments were restarted, and the apps were never down meanwhile"):
        expect(not world.prober.failures, world.prober.summary)
        for namespace, app in ((SHOP, "shop"), (WIKI, "wiki")):
            for pod in cluster.pods(namespace, app):
                expect(cluster.sidecar(pod), f"{pod['metadata']['name']} has no sidecar")

    with report.check("the app that only listens on 127.0.0.1 is ready now, by its own probe, and its sidecar answers for it"):
        eventually(30, lambda: all(cluster.ready(pod) for pod in cluster.pods(WIKI, "notes")), "ready")
        equal(eventually(10, lambda: world.http(NOTES_URL + "/"), "an answer").status, 401, "status")

    with report.check("the sidecar is a native one; in the restricted namespace nothing runs with privileges"):
        for namespace, app in ((SHOP, "shop"), (WIKI, "wiki")):
            for pod in cluster.pods(namespace, app):
                sidecar = cluster.sidecar(pod)
                equal(sidecar.get("restartPolicy"), "Always", "restartPolicy")
                requests = sidecar.get("resources", {}).get("requests", {})
                expect({"cpu", "memory"} <= set(requests), f"requests {requests}")
                equal(sidecar["securityContext"].get("runAsNonRoot"), True, "runAsNonRoot")
                equal(sidecar["securityContext"].get("readOnlyRootFilesystem"), True, "readOnlyRootFilesystem")
        for pod in cluster.pods(WIKI, "wiki"):
            expect(not any(c["name"] == "cloakroom-intercept" for c in pod["spec"]["initContainers"]), "Loopback needs no interception")

    with report.check("the app's own httpGet probes decide over readiness, through the sidecar"):
        pod = cluster.pods(SHOP, "shop")[0]
        probe = pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]
        equal(probe["port"], 15020, "the probe's port")
        answer = world.http(f"http://{pod['status']['podIP']}:15020{probe['path']}")
        equal(answer.status, 200, "the replayed probe")

    with report.check("port 15020 replays declared probes and nothing else"):
        pod = cluster.pods(SHOP, "shop")[0]
        for path in ("/orders/1", "/probe/app/readiness/../../orders/1", "/probe/other/readiness", "/echo", "/probe/app/readiness?path=/echo"):
            answer = world.http(f"http://{pod['status']['podIP']}:15020{path}")
            expect(answer.status == 404 or b'"target"' not in answer.body and b"headers" not in answer.body, f"{path}: {answer}")


def table(namespace, name):
    """A policy's row in `kubectl get authpolicy`, as a person sees it."""
    lines = cluster.kubectl("get", "authpolicy", name, "-n", namespace).splitlines()
    starts = [lines[0].index(title) for title in lines[0].split()]
    ends = [*starts[1:], None]
    return {title.lower(): lines[1][start:end].strip() for title, start, end in zip(lines[0].split(), starts, ends, strict=True)}


def enforced(namespace, name):
    condition = cluster.condition(cluster.get("authpolicy", name, namespace), "Enforced")
    return bool(condition) and condition["status"] == "True"
