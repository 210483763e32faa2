"""A policy edited while it is in force."""

import json
import time

from harness import cluster
from harness.report import equal, eventually, expect
from harness.world import SHOP

from .protect import enforced


def a_policy_in_force(world, report):
    report.part("Edit")
    rules = cluster.get("authpolicy", "shop", SHOP)["spec"]["rules"]
    opened = [*rules, {"match": [{"path": "/news/**"}], "access": "Anonymous"}]
    for sentence, wanted, status in (("opens a path", opened, 200), ("closes it again", rules, 401)):
        with report.check(f"an edit that {sentence} is in force at every replica within 3 s"):
            pods = {pod["metadata"]["uid"] for pod in cluster.pods(SHOP, "shop")}
            cluster.kubectl("patch", "authpolicy", "shop", "-n", SHOP, "--type=merge", "-p", json.dumps({"spec": {"rules": wanted}}))
            began = time.monotonic()
            for at in world.replicas(SHOP, "shop"):
                eventually(3 - (time.monotonic() - began), lambda: world.shop("/news/1", at=at).status == status, f"{status} at {at}", every=0.05)  # noqa: B023
            print(f"        in force {1000 * (time.monotonic() - began):.0f} ms after kubectl returned", flush=True)
            equal({pod["metadata"]["uid"] for pod in cluster.pods(SHOP, "shop")}, pods, "the pods: none was restarted")
            equal(world.signed_in("/echo").status, 200, "a session from before")
    with report.check("Enforced is True of the policy as edited"):
        eventually(20, lambda: enforced(SHOP, "shop"), "Enforced")
    with report.check("an edit that makes no sense is refused, and what was in force stays so"):
        said = cluster.run(
            cluster.TOOLS / "kubectl", "patch", "authpolicy", "shop", "-n", SHOP, "--type=merge",
            "-p", '{"spec":{"session":{"idle":"2h","absolute":"1h"}}}', check=False,
        ).stderr  # fmt: skip
        expect("idle must not be longer than absolute" in said, said)
        equal(world.signed_in("/echo").status, 200, "a session from before")
