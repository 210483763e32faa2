"""API keys that `kubectl apply` asks for: written to a Secret, good where they should be, replaced and ended."""

import time

from harness import cluster, tokens
from harness.credential import Credential
from harness.report import equal, eventually, expect
from harness.world import ISSUER, SHOP, WIKI

from .sign_in import echo, public_keys

KEY = Credential("ApiKey", "reports")


def api_keys(world, report):
    report.part("API keys")

    with report.check("an ApiKey is Ready, its Secret holds the key, and the app gets our JWT for it", vital=True):
        KEY.apply(SHOP, {"audiences": [f"{SHOP}/shop"], "scopes": ["orders"]})
        KEY.is_ready(SHOP)
        first = secret(SHOP)
        claims = seen(world, ask(world, first))
        equal((claims["sub"], claims["scope"]), (f"service:{SHOP}/{KEY.name}", "orders"), "subject and scope")

    with report.check("another trigger makes a new secret, and the old one is good beside it"):
        KEY.patch(SHOP, {"rotation": {"trigger": "once", "overlap": "1h"}})
        second = eventually(20, lambda: secret(SHOP) != first and secret(SHOP), "another key", every=0.2)
        for key in (first, second):
            everywhere(world, key, 200, 10)

    with report.check("deleting the Secret makes another key, and ends the ones before"):
        KEY.delete_secret(SHOP)
        third = eventually(30, lambda: secret(SHOP), "another Secret", every=0.2)
        everywhere(world, third, 200, 10)
        for key in (first, second):
            everywhere(world, key, 401, 5)

    with report.check("the key that the Secret holds is good again after Redis has lost everything about it"):
        world.redis.command("del", *[key for key in world.redis.command("--scan", "--pattern", "*api-key*").split() if "api-key" in key])
        id_ = KEY.status(SHOP)["id"]
        eventually(30, lambda: world.admin(f"/api-keys/{id_}").status == 200, "the auth service knows it", every=0.5)
        everywhere(world, third, 200, 10)

    with report.check("a key for another namespace's policy is refused with a sentence, and there is no such key"):
        KEY.apply(WIKI, {"audiences": [f"{SHOP}/shop"]})
        sentence = KEY.is_refused(WIKI, "RegistrationRefused")
        expect(SHOP in sentence, sentence)
        equal(ask(world, secret(WIKI)).status, 401, "status")
        KEY.delete(WIKI)

    with report.check("a Secret of somebody else's is left as it is"):
        cluster.kubectl("create", "secret", "generic", KEY.secret, "-n", WIKI, "--from-literal=api_key=mine")
        KEY.apply(WIKI, {"audiences": [f"{WIKI}/wiki"]})
        KEY.is_refused(WIKI, "SecretTaken")
        equal(secret(WIKI), "mine", "the Secret")
        KEY.delete_secret(WIKI)
        KEY.is_ready(WIKI, 30)
        KEY.delete(WIKI)

    with report.check("a contradiction is refused at kubectl apply"):
        said = cluster.refused(KEY.manifest(WIKI, {"audiences": ["a"], "rotation": {"every": "24h"}}))
        expect("longer than overlap" in said, said)

    with report.check("deleting the ApiKey ends it at every replica within a second, and the Secret goes"):
        everywhere(world, third, 200, 10)
        KEY.delete(SHOP, then=lambda: everywhere(world, third, 401, 1))


def secret(namespace):
    return KEY.entries(namespace)["api_key"]


def ask(world, token, at=None):
    return world.shop("/echo", at=at, headers=[("Authorization", f"Bearer {token}")])


def everywhere(world, token, status, seconds):
    """What every replica of the shop answers within so many seconds."""
    began = time.monotonic()
    for at in world.replicas(SHOP, "shop"):
        eventually(max(0, seconds - (time.monotonic() - began)), lambda: ask(world, token, at).status == status, f"{status} at {at}", every=0.02)  # noqa: B023


def seen(world, answer):
    """The claims that the app got."""
    _, claims = tokens.verify(tokens.bearer(echo(answer)), public_keys(world), ISSUER, f"{SHOP}/shop")
    return claims
