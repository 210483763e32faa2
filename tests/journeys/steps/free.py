"""`kubectl delete` of the policies, and the apps are as they were."""

from harness import cluster
from harness.report import equal, eventually, expect
from harness.world import SHOP, WIKI


def the_apps(world, report):
    report.part("Free")
    with report.check("deleting the policies takes the sidecars away", vital=True):
        for name in ("shop, behind sign-in", "wiki, behind sign-in"):
            world.prober.allow(name, 200)
        for namespace, name in ((SHOP, "shop"), (WIKI, "wiki"), (WIKI, "notes")):
            cluster.kubectl("delete", "authpolicy", name, "-n", namespace, "--wait=false")
        for namespace, app, count in ((SHOP, "shop", 3), (WIKI, "wiki", 2)):
            eventually(120, lambda: free(namespace, app, count), f"{app} without sidecars", every=0.5)  # noqa: B023
    with report.check("the policies are gone, with everything that was made for them"):
        eventually(60, lambda: not [p for n in (SHOP, WIKI) for p in cluster.get("authpolicies", namespace=n)], "no policies", every=0.5)
        for kind in ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings"):
            eventually(10, lambda: "cloakroom" not in cluster.kubectl("get", kind, "-o", "name"), f"no {kind}", every=0.5)  # noqa: B023
        for namespace in (SHOP, WIKI):
            eventually(15, lambda: not ours(namespace), f"nothing of ours in {namespace}", every=0.5)  # noqa: B023
    with report.check("the apps answer everyone again"):
        for url in ("http://shop.journey.test/orders/1", "http://wiki.localhost/pages/1"):
            equal(eventually(10, lambda: world.http(url), "an answer").status, 200, url)  # noqa: B023
    with report.check("the apps were never down, from the first request to the last"):
        asked = sum(world.prober.asked.values())
        expect(not world.prober.failures, world.prober.summary)
        expect(asked > 1000, f"only {asked} requests were made")
        print(f"        {asked} requests", flush=True)


def ours(namespace):
    names = cluster.kubectl("get", "configmaps,secrets", "-n", namespace, "-o", "name").split()
    return [name for name in names if "cloakroom" in name]


def free(namespace, app, count):
    pods = [pod for pod in cluster.get("pods", namespace=namespace, app=app) if "deletionTimestamp" not in pod["metadata"]]
    return len(pods) == count and all(cluster.ready(pod) and not cluster.sidecar(pod) for pod in pods)
