"""What is lost when something of ours is down: answers for a while, never sessions, never pods."""

import time

from harness import cluster
from harness.report import equal, eventually, expect
from harness.world import SHOP, SYSTEM

from .protect import enforced, table


def of_redis(world, report):
    report.part("Redis down")
    before = {**cluster.restarts(SHOP, app="shop"), **cluster.restarts(SYSTEM)}
    equal(world.signed_in("/echo").status, 200, "before")
    with report.check("without Redis, requests get 503 with Retry-After, and nobody is signed out"):
        world.redis.stop()
        unavailable(world, seconds=20)
    with report.check("no token is still 401, and open doors stay open"):
        equal(world.shop("/orders/1").status, 401, "status without a token")
        equal(world.shop("/open/door").status, 200, "status at the open door")
    with report.check("with Redis back the same cookie is good again, and nothing was restarted"):
        world.redis.start()
        eventually(20, lambda: accepted(world), "the cookie accepted")
        equal({**cluster.restarts(SHOP, app="shop"), **cluster.restarts(SYSTEM)}, before, "restarts")
    with report.check("the auth service is ready again"):
        eventually(20, lambda: all(cluster.ready(pod) for pod in auth_pods()), "ready")


def of_the_auth_service(world, report):
    report.part("Auth service down")
    with report.check("a pod that starts while no auth service answers is ready, with 503 and Retry-After for the signed in"):
        cluster.kubectl("scale", "deployment", "cloakroom-auth", "-n", SYSTEM, "--replicas=0")
        eventually(40, lambda: not auth_pods(), "no auth service")
        old = cluster.pods(SHOP, "shop")[0]["metadata"]["name"]
        names = {pod["metadata"]["name"] for pod in cluster.pods(SHOP, "shop")}
        cluster.kubectl("delete", "pod", old, "-n", SHOP, "--wait=false")
        new = eventually(40, lambda: next((p for p in cluster.pods(SHOP, "shop") if p["metadata"]["name"] not in names and cluster.ready(p)), None), "a ready pod")
        unavailable(world, seconds=15, at=(new["status"]["podIP"], 8080))
        equal(world.shop("/open/door", at=(new["status"]["podIP"], 8080)).status, 200, "the open door")
    with report.check("kubectl get authpolicy does not claim that anything is bypassed"):
        expect(table(SHOP, "shop")["reason"] != "Bypassed", table(SHOP, "shop"))
    with report.check("with the auth service back the same cookie is good again, at every replica"):
        cluster.kubectl("scale", "deployment", "cloakroom-auth", "-n", SYSTEM, "--replicas=2")
        cluster.kubectl("rollout", "status", "deployment/cloakroom-auth", "-n", SYSTEM, "--timeout=60s")
        for at in world.replicas(SHOP, "shop"):
            eventually(15, lambda: accepted(world, at), f"the cookie accepted at {at}")  # noqa: B023


def of_the_operator(world, report):
    report.part("Operator down")
    with report.check("with the operator scaled to zero a new pod is injected all the same, and protected"):
        cluster.kubectl("scale", "deployment", "cloakroom-operator", "-n", SYSTEM, "--replicas=0")
        eventually(40, lambda: not cluster.get("pods", namespace=SYSTEM, **{"app.kubernetes.io/component": "operator"}), "no operator")
        names = {pod["metadata"]["name"] for pod in cluster.pods(SHOP, "shop")}
        cluster.kubectl("scale", "deployment", "shop", "-n", SHOP, "--replicas=3")
        new = eventually(40, lambda: next((p for p in cluster.pods(SHOP, "shop") if p["metadata"]["name"] not in names and cluster.ready(p)), None), "a ready pod")
        expect(cluster.sidecar(new), "it has no sidecar")
        at = (new["status"]["podIP"], 8080)
        equal(world.shop("/orders/1", at=at).status, 401, "without a token")
        equal(world.signed_in("/echo", at=at).status, 200, "with one")
    with report.check("a selected pod that cannot be protected is refused all the same"):
        said = cluster.refused(world.manifest("unprotectable.yaml"))
        expect("hostNetwork" in said or "host network" in said, said)
    with report.check("the operator is back, and counts the new pod"):
        cluster.kubectl("scale", "deployment", "cloakroom-operator", "-n", SYSTEM, "--replicas=2")
        eventually(60, lambda: enforced(SHOP, "shop") and table(SHOP, "shop")["protected"] == "3/3", "3/3", every=0.5)


def unavailable(world, seconds, at=None):
    """Until a signed-in request gets its 503; it never gets a 401, and never loses its cookie."""
    deadline = time.monotonic() + seconds
    while True:
        answer = world.signed_in("/echo", at=at)
        expect(answer.status in (200, 503), f"an outage must never look like this: {answer}")
        expect(not answer.header("Set-Cookie"), f"the cookie was touched: {answer.header('Set-Cookie')}")
        if answer.status == 503:
            break
        expect(time.monotonic() < deadline, f"no 503 within {seconds} s")
        time.sleep(0.2)
    expect((answer.header("Retry-After") or "").isdigit(), answer)


def accepted(world, at=None):
    answer = world.signed_in("/echo", at=at)
    equal(answer.status, 200, f"{answer}")
    return True


def auth_pods():
    return cluster.get("pods", namespace=SYSTEM, **{"app.kubernetes.io/component": "auth"})
