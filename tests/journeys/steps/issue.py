"""API keys that `kubectl apply` asks for: written to a Secret, good where they should be, replaced and ended."""

import base64
import json
import time

from harness import cluster, tokens
from harness.report import equal, eventually, expect
from harness.world import ISSUER, SHOP, WIKI

from .sign_in import echo, public_keys

NAME, SECRET = "reports", "cloakroom.reports.api-key"


def api_keys(world, report):
    report.part("API keys")

    def ask(key, at=None):
        return world.shop("/echo", at=at, headers=[("Authorization", f"Bearer {key}")])

    def everywhere(key, status, seconds):
        began = time.monotonic()
        for at in world.replicas(SHOP, "shop"):
            eventually(max(0, seconds - (time.monotonic() - began)), lambda: ask(key, at).status == status, f"{status} at {at}", every=0.02)  # noqa: B023

    with report.check("an ApiKey is Ready, its Secret holds the key, and the app gets our JWT for it", vital=True):
        cluster.apply(manifest(SHOP, {"audiences": [f"{SHOP}/shop"], "scopes": ["orders"]}))
        eventually(20, lambda: condition(SHOP, "Ready")["status"] == "True", "Ready")
        first = secret(SHOP)
        claims = seen(world, ask(first))
        equal((claims["sub"], claims["scope"]), (f"service:{SHOP}/{NAME}", "orders"), "subject and scope")

    with report.check("another trigger makes a new secret, and the old one is good beside it"):
        patch({"rotation": {"trigger": "once", "overlap": "1h"}})
        second = eventually(20, lambda: secret(SHOP) != first and secret(SHOP), "another key", every=0.2)
        for key in (first, second):
            everywhere(key, 200, 10)

    with report.check("deleting the Secret makes another key, and ends the ones before"):
        cluster.kubectl("delete", "secret", SECRET, "-n", SHOP)
        third = eventually(30, lambda: secret(SHOP), "another Secret", every=0.2)
        everywhere(third, 200, 10)
        for key in (first, second):
            everywhere(key, 401, 5)

    with report.check("the key that the Secret holds is good again after Redis has lost everything about it"):
        world.redis.command("del", *[key for key in world.redis.command("--scan", "--pattern", "*api-key*").split() if "api-key" in key])
        id_ = cluster.get("apikey", NAME, SHOP)["status"]["id"]
        eventually(30, lambda: world.admin(f"/api-keys/{id_}").status == 200, "the auth service knows it", every=0.5)
        everywhere(third, 200, 10)

    with report.check("a key for another namespace's policy is refused with a sentence, and there is no such key"):
        cluster.apply(manifest(WIKI, {"audiences": [f"{SHOP}/shop"]}))
        refused = eventually(20, lambda: condition(WIKI, "Accepted")["status"] == "False" and condition(WIKI, "Accepted"), "Accepted=False")
        equal(refused["reason"], "RegistrationRefused", "reason")
        expect(SHOP in refused["message"], refused["message"])
        equal(ask(secret(WIKI)).status, 401, "status")
        delete(WIKI)

    with report.check("a Secret of somebody else's is left as it is"):
        cluster.kubectl("create", "secret", "generic", SECRET, "-n", WIKI, "--from-literal=api_key=mine")
        cluster.apply(manifest(WIKI, {"audiences": [f"{WIKI}/wiki"]}))
        eventually(20, lambda: condition(WIKI, "Accepted")["reason"] == "SecretTaken", "SecretTaken")
        equal(secret(WIKI), "mine", "the Secret")
        cluster.kubectl("delete", "secret", SECRET, "-n", WIKI)
        eventually(30, lambda: condition(WIKI, "Ready")["status"] == "True", "Ready once the name is free")
        delete(WIKI)

    with report.check("a contradiction is refused at kubectl apply"):
        said = cluster.refused(manifest(WIKI, {"audiences": ["a"], "rotation": {"every": "24h"}}))
        expect("longer than overlap" in said, said)

    with report.check("deleting the ApiKey ends it at every replica within a second, and the Secret goes"):
        everywhere(third, 200, 10)
        delete(SHOP, then=lambda: everywhere(third, 401, 1))


def manifest(namespace, spec):
    metadata = {"name": NAME, "namespace": namespace}
    return json.dumps({"apiVersion": "cloakroom.dev/v1alpha1", "kind": "ApiKey", "metadata": metadata, "spec": spec})


def patch(spec):
    cluster.kubectl("patch", "apikey", NAME, "-n", SHOP, "--type=merge", "-p", json.dumps({"spec": spec}))


def delete(namespace, then=lambda: None):
    cluster.kubectl("delete", "apikey", NAME, "-n", namespace, "--timeout=30s")
    then()
    eventually(30, lambda: not cluster.exists("secret", SECRET, namespace), "no Secret", every=0.2)


def condition(namespace, kind):
    return cluster.condition(cluster.get("apikey", NAME, namespace), kind)


def secret(namespace):
    return base64.b64decode(cluster.get("secret", SECRET, namespace)["data"]["api_key"]).decode()


def seen(world, answer):
    _, claims = tokens.verify(tokens.bearer(echo(answer)), public_keys(world), ISSUER, f"{SHOP}/shop")
    return claims
