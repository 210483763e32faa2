"""The apps, as they run today; then Cloakroom beside them."""

import json

from harness import cluster
from harness.report import equal, eventually, expect
from harness.world import ISSUER, SHOP, SYSTEM, WIKI

CHART = cluster.ROOT / "charts" / "cloakroom"


def everything(world, report):
    report.part("Install")
    with report.check("two unmodified apps run, two replicas each", vital=True):
        cluster.apply(world.manifest("apps.yaml"))
        for namespace, app in ((SHOP, "shop"), (WIKI, "wiki")):
            cluster.kubectl("rollout", "status", f"deployment/{app}", "-n", namespace, "--timeout=60s")
    with report.check("Helm installs Cloakroom from the chart, and waits until it is ready", vital=True):
        secrets_of_the_operations_team(world)
        helm_upgrade(world)
    world.learn_addresses()
    with report.check("`helm test` passes"):
        cluster.helm("test", "cloakroom", "-n", SYSTEM, "--timeout", "60s")
    with report.check("a second `helm upgrade` changes no secret and restarts nothing"):
        before = state()
        helm_upgrade(world)
        equal(state(), before, "Secrets and pods")
    with report.check("every pod of ours is fit for a restricted namespace"):
        warnings = cluster.run(
            cluster.TOOLS / "kubectl", "label", "namespace", SYSTEM, "--dry-run=server", "--overwrite", "pod-security.kubernetes.io/enforce=restricted"
        ).stderr
        expect("violat" not in warnings, warnings)
    with report.check("the operator may restart what others run, not change it, and not read Secrets by the list"):
        on_a_leash(world)
    with report.check("the API server has nothing against the types in our admission policies"):
        for policy in cluster.get("validatingadmissionpolicies"):
            warnings = policy.get("status", {}).get("typeChecking", {}).get("expressionWarnings", [])
            expect(not warnings, f"{policy['metadata']['name']}: {warnings}")
    with report.check("no webhook was installed"):
        hooks = cluster.kubectl("get", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "-o", "name")
        expect("cloakroom" not in hooks, hooks)
    with report.check("a person is registered by the admin API", vital=True):
        create_person(world)
    with report.check("before any policy, the apps answer everyone", vital=True):
        world.start_prober()
        for url in ("http://shop.journey.test/orders/1", "http://wiki.localhost/pages/1"):
            equal(world.http(url).status, 200, url)


def on_a_leash(world):
    account = f"system:serviceaccount:{SYSTEM}:cloakroom-operator"
    operator = (f"--as={account}", "--as-group=system:serviceaccounts", "--as-group=system:authenticated")

    def refused(words, *arguments, stdin=None):
        done = cluster.run(cluster.TOOLS / "kubectl", *arguments, *operator, stdin=stdin, check=False)
        expect(done.returncode != 0 and words in done.stderr, f"{arguments}: {done.stdout}{done.stderr}")

    shop = cluster.get("deployment", "shop", SHOP)
    shop["spec"]["template"]["spec"]["containers"][0]["image"] = "evil"
    del shop["status"]
    refused("does not change what they run", "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(shop))
    refused("dry run only", "run", "evil", "-n", SHOP, "--image=evil")
    refused("but its own", "create", "configmap", "evil", "-n", SHOP)
    refused("but its own", "create", "secret", "generic", "evil", "-n", SYSTEM)
    for arguments in (("list", "secrets", "-A"), ("create", "pods", "--subresource=exec", "-n", SHOP), ("create", "serviceaccounts", "--subresource=token", "-A")):
        answer = cluster.run(cluster.TOOLS / "kubectl", "auth", "can-i", *arguments, *operator, check=False).stdout.strip()
        equal(answer, "no", f"can-i {' '.join(arguments)}")
    cluster.kubectl("run", "probe", "-n", SHOP, "--image=x", "--dry-run=server", *operator)


def secrets_of_the_operations_team(world):
    cluster.kubectl("create", "namespace", SYSTEM)
    certificate, key = world.authority.issue("auth", ["DNS:auth.journey.test"])
    cluster.kubectl("create", "secret", "tls", "public-tls", "-n", SYSTEM, f"--cert={certificate}", f"--key={key}")
    cluster.kubectl("create", "secret", "generic", "redis", "-n", SYSTEM, f"--from-literal=password={world.redis.password}")
    cluster.kubectl("create", "secret", "generic", "redis-ca", "-n", SYSTEM, f"--from-file=ca.crt={world.authority.certificate}")


def helm_upgrade(world, tag=None):
    values = {
        "issuer": ISSUER,
        "image": {"registry": "localhost", "tag": tag or cluster.image_tag()},
        "authService": {"tlsSecret": "public-tls", "tokenIssuers": [partner(world.token_issuer)]},
        "redis": {
            "url": world.redis.url,
            "username": world.redis.user,
            "passwordSecret": {"name": "redis"},
            "caSecret": {"name": "redis-ca"},
        },
        "networkPolicies": {"enabled": True},
    }
    cluster.helm(
        "upgrade", "--install", "cloakroom", CHART, "-n", SYSTEM, "-f", "-", "--wait", "--timeout", "120s",
        stdin=json.dumps(values), timeout=150,
    )  # fmt: skip


def partner(issuer):
    authority = {"name": "redis-ca", "key": "ca.crt"}
    return {"id": issuer.id, "issuer": issuer.url, "policies": [f"{SHOP}/*"], "audiences": [issuer.audience], "jwks": {"caSecret": authority}}


def state():
    secrets = {s["metadata"]["name"]: s.get("data") for s in cluster.get("secrets", namespace=SYSTEM) if s["type"] != "helm.sh/release.v1"}
    return secrets, sorted(pod["metadata"]["uid"] for pod in cluster.get("pods", namespace=SYSTEM) if pod["status"]["phase"] == "Running")


def create_person(world):
    person = world.person
    answer = world.admin("/users", "POST", {**person, "groups": ["staff"]})
    equal(answer.status, 201, f"{answer}")
    eventually(5, lambda: world.http(f"{ISSUER}/.well-known/openid-configuration").status == 200, "discovery")
