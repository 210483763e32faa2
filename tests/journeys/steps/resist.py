"""Clients that forge, apps that leak, and somebody who takes the interception away."""

import base64
import json
import secrets

from harness import cluster, tokens
from harness.report import equal, eventually, expect
from harness.world import SHOP, WIKI_URL

from .protect import enforced, table
from .sign_in import echo


def clients_and_apps(world, report):
    report.part("Resist")
    with report.check("the client never gets the JWT, not even from an app that leaks it"):
        for path in ("/leak", "/echo?x", "/"):
            answer = world.signed_in(path)
            equal(answer.status, 200, path)
            for name, value in answer.headers:
                expect(not tokens.JWT.search(value), f"{path}: {name} holds a JWT")
        leaked = world.signed_in("/leak")
        expect(leaked.header("X-Leaked-JWT") is None or not tokens.JWT.search(leaked.header("X-Leaked-JWT")), leaked)
        expect(not tokens.JWT.search(leaked.body.decode(errors="replace")), "the body holds it")

    forged = "Bearer " + ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, {"sub": "root"})) + "."
    spellings = ["X-User-Email", "x-user-email", "X_User_Email", "X.User.Email", "X-USER_EMAIL"]
    with report.check("forged identity headers never reach the app, in any spelling"):
        headers = [*((name, "root@evil.test") for name in spellings), ("Cloakroom-Session", "e30"), ("Cloakroom-Logout", "everywhere")]
        for answer in (world.signed_in("/echo", headers=headers), world.shop("/open/echo", headers=headers)):
            seen = echo(answer)
            expect("root@evil.test" not in str(seen), f"the app saw {seen}")
            expect(not [name for name, _ in seen if name.lower().startswith("cloakroom-")], f"the app saw {seen}")
    with report.check("a forged JWT is no way in, and does not reach the app through an open door either"):
        equal(world.shop("/orders/1", headers={"Authorization": forged}).status, 401, "status")
        answer = world.shop("/open/echo", headers={"Authorization": forged})
        expect(answer.status != 200 or not [n for n, _ in echo(answer) if n.lower() == "authorization"], answer)
    with report.check("an address claimed by a client that is no trusted proxy is not believed"):
        claims = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Forwarded-Host": "evil.test", "X-Forwarded-Proto": "ftp"}
        seen = str(echo(world.http(f"{WIKI_URL}/open/echo", headers=claims)))
        for claim in ("203.0.113.9", "evil.test", "ftp"):
            expect(claim not in seen, f"the app saw {seen}")
    with report.check("junk tokens get 401, and Redis hears nothing of them"):
        before = world.redis.commands()
        for number in range(150):
            junk = secrets.token_urlsafe(20 + number % 30)
            equal(world.shop("/orders/1", headers={"Authorization": f"Bearer {junk}"}).status, 401, "status")
        heard = world.redis.commands() - before
        expect(heard < 100, f"Redis ran {heard} commands for 150 junk tokens")
    with report.check("a request that two parsers could read differently is refused"):
        answer = world.signed_in("/echo", method="POST", headers=[("Transfer-Encoding", "chunked")], body="5\r\nhello\r\n0\r\n\r\n")
        equal(answer.status, 400, "CL and TE")
        equal(world.signed_in("/open/..%2forders/1").status, 400, "an encoded slash")


def a_bypass(world, report):
    report.part("Bypass")
    with report.check("Enforced turns False, Bypassed, for a pod whose interception somebody takes away"):
        victim = cluster.pods(SHOP, "shop")[0]
        world.prober.allow("shop, behind sign-in", 200)
        process = cluster.process_of(victim, "app")
        cluster.run("nsenter", f"--net=/proc/{process}/ns/net", "nft", "flush", "ruleset")
        equal(world.shop("/orders/1", at=(victim["status"]["podIP"], 8080)).status, 200, "the app itself answers: the bypass is real")

        def bypassed():
            condition = cluster.condition(cluster.get("authpolicy", "shop", SHOP), "Enforced")
            return condition and condition["status"] == "False" and condition["reason"] == "Bypassed" and condition

        condition = eventually(60, bypassed, "Enforced=False, Bypassed", every=0.5)
        expect(victim["metadata"]["name"] in condition["message"], f"the message does not name the pod: {condition['message']}")
        row = table(SHOP, "shop")
        equal((row["enforced"], row["protected"]), ("False", "1/2"), "kubectl get authpolicy")
    with report.check("with that pod replaced, Enforced is True again"):
        cluster.kubectl("delete", "pod", victim["metadata"]["name"], "-n", SHOP, "--wait=false")
        eventually(60, lambda: enforced(SHOP, "shop") and table(SHOP, "shop")["protected"] == "2/2", "Enforced", every=0.5)
        world.prober.demand("shop, behind sign-in", 401)
