"""Access tokens that somebody else has issued, for as long as a policy takes them."""

import json
import time

from harness import cluster, tokens
from harness.report import equal, eventually, expect
from harness.world import ISSUER, SHOP, WIKI

from .sign_in import echo, public_keys


def another_issuer(world, report):
    report.part("Tokens of another issuer")
    issuer = world.token_issuer

    def ask(token, at=None):
        return world.shop("/echo", at=at, headers=[("Authorization", f"Bearer {token}")])

    def everywhere(status):
        for at in world.replicas(SHOP, "shop"):
            eventually(10, lambda: ask(issuer.token(), at).status == status, f"{status} at {at}", every=0.1)  # noqa: B023

    def set_issuers(namespace, name, issuers):
        cluster.kubectl("patch", "authpolicy", name, "-n", namespace, "--type=merge", "-p", json.dumps({"spec": {"token": {"issuers": issuers}}}))

    with report.check("a policy that names no issuer takes no token but ours"):
        equal(ask(issuer.token()).status, 401, "status")

    with report.check("a policy that names it takes its tokens, and the app gets our JWT"):
        set_issuers(SHOP, "shop", [issuer.id])
        everywhere(200)
        token = tokens.bearer(echo(ask(issuer.token(sub="ann", scope="orders"))))
        _, claims = tokens.verify(token, public_keys(world), ISSUER, f"{SHOP}/shop")
        equal((claims["sub"], claims["client_id"], claims["scope"]), ("partner:ann", "partner:their-app", "orders"), "claims")
        equal(world.signed_in("/echo").status, 200, "a session of ours")

    for sentence, token in (
        ("signed by somebody else", issuer.forged()),
        ("for another service", issuer.token(aud="https://elsewhere.journey.test")),
        ("past its end", issuer.token(exp=int(time.time()) - 5)),
        ("with a key bound to it", issuer.token(cnf={"jkt": "x"})),
    ):
        with report.check(f"a token {sentence} is refused"):
            equal(ask(token).status, 401, "status")

    with report.check("a policy that the issuer is not for is told so, and what was in force stays"):
        set_issuers(WIKI, "wiki", [issuer.id])
        refused = eventually(20, lambda: refusal("wiki"), "Accepted=False")
        expect(issuer.id in refused["message"], refused["message"])
        equal(refused["reason"], "RegistrationRefused", "reason")
        equal(world.http("http://wiki.localhost/pages/1", headers=[("Authorization", f"Bearer {issuer.token()}")]).status, 401, "status")
        set_issuers(WIKI, "wiki", None)
        eventually(20, lambda: not refusal("wiki"), "Accepted")

    with report.check("a policy that names it no longer refuses its tokens at once"):
        set_issuers(SHOP, "shop", None)
        everywhere(401)
        equal(world.signed_in("/echo").status, 200, "a session of ours")


def refusal(name):
    condition = cluster.condition(cluster.get("authpolicy", name, WIKI), "Accepted")
    return condition if condition is None or condition["status"] == "False" else None
