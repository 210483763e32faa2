"""Pods that come and go under load, and a new version of everything: nobody's request is lost, nobody is signed out, no app restarts."""

from contextlib import ExitStack

from harness import cluster
from harness.load import Gaps, Load
from harness.report import equal, eventually, expect
from harness.world import SHOP, SYSTEM, WIKI

from .install import helm_upgrade
from .protect import enforced

IMAGES = ("operator", "auth", "sidecar", "cli")


def pods_under_load(world, report):
    report.part("Roll")
    with report.check("no request is lost while all pods of the app are replaced under a steady load"):
        headers = {"Host": "shop.journey.test", "X-Forwarded-Proto": "https", "Cookie": f"__Host-cloakroom={world.cookie}"}
        with Load(world.http.addresses["shop.journey.test"], "/orders/1", headers) as load:
            before = {pod["metadata"]["uid"] for pod in cluster.pods(SHOP, "shop")}
            cluster.kubectl("rollout", "restart", "deployment/shop", "-n", SHOP)
            cluster.kubectl("rollout", "status", "deployment/shop", "-n", SHOP, "--timeout=90s")
            eventually(40, lambda: not before & {p["metadata"]["uid"] for p in cluster.get("pods", namespace=SHOP, app="shop")}, "the old pods are gone")
        expect(not load.lost, load.summary)
        expect(load.asked > 500, f"only {load.asked} requests were made")
        print(f"        {load.asked} requests", flush=True)
    with report.check("Enforced is True of the new pods"):
        eventually(30, lambda: enforced(SHOP, "shop"), "Enforced")


def a_new_version(world, report):
    report.part("Upgrade")
    tag = cluster.image_tag() + "-next"
    for image in IMAGES:
        name = f"localhost/cloakroom-{image}"
        cluster.run(cluster.TOOLS / "ctr", "images", "tag", "--force", f"{name}:{cluster.image_tag()}", f"{name}:{tag}")
    pods = cluster.pods(SHOP, "shop")
    before = {pod["metadata"]["uid"] for pod in pods}
    world.prober.pause()
    with ExitStack() as stack:
        gaps = [stack.enter_context(Gaps((pod["status"]["podIP"], 8080), "/open/door", "shop.journey.test")) for pod in pods]
        with report.check("helm upgrade to a new version reaches the sidecars of running pods"):
            helm_upgrade(world, tag)
            eventually(120, lambda: all(upgraded(pod, tag) for pod in cluster.pods(SHOP, "shop")), "new sidecars", every=0.5)
            eventually(30, lambda: enforced(SHOP, "shop"), "Enforced")
        # Each policy's in its own time: while a sidecar restarts nobody listens in its pod, and whoever is asked about again would notice.
        for name in ("wiki", "notes"):
            eventually(120, lambda name=name: all(upgraded(pod, tag) for pod in cluster.pods(WIKI, name)), f"the {name}'s new sidecars", every=0.5)
            eventually(30, lambda name=name: enforced(WIKI, name), f"Enforced of the {name}")
    with report.check("no app was restarted for it, and no pod replaced"):
        now = cluster.pods(SHOP, "shop")
        equal({pod["metadata"]["uid"] for pod in now}, before, "the pods")
        for pod in now:
            equal([status["restartCount"] for status in pod["status"]["containerStatuses"]], [0], "restarts of the app")
    with report.check("meanwhile a pod was without a listener for less than a second"):
        # Starting a container is kubelet's and the machine's part of it. Where that is busy with something else it takes one pod longer, but not both.
        shortest, *_, longest = sorted(gap.longest for gap in gaps)
        expect(shortest < 1 and longest < 3, f"{shortest:.2f} and {longest:.2f} s without an answer")
        print(f"        {1000 * shortest:.0f} and {1000 * longest:.0f} ms", flush=True)
    with report.check("nobody was signed out by it"):
        for at in world.replicas(SHOP, "shop"):
            equal(world.signed_in("/echo", at=at).status, 200, f"the session, at {at}")
    with report.check("our own pods are all of the new version"):
        for pod in cluster.get("pods", namespace=SYSTEM):
            if "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") == "Running":
                images = {container["image"] for container in pod["spec"]["containers"]}
                expect(all(image.endswith(tag) for image in images), f"{pod['metadata']['name']}: {images}")
    world.prober.resume()


def upgraded(pod, tag):
    status = next(s for s in pod["status"]["initContainerStatuses"] if s["name"] == "cloakroom")
    return cluster.sidecar(pod)["image"].endswith(tag) and status.get("ready") and status["restartCount"] >= 1
