"""What people meet: sent to sign in, back at the page asked for; and what the app meets: a JWT, never the token."""

import time
from urllib.parse import urlsplit

from harness import tokens
from harness.report import equal, eventually, expect
from harness.world import ISSUER, SHOP, SHOP_URL, WIKI, WIKI_URL

HTML = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def in_a_browser(world, report):
    report.part("Sign in")
    with report.check("no token: 401 with WWW-Authenticate, a problem in JSON, and a decision id"):
        answer = world.shop("/orders/1")
        equal(answer.status, 401, "status")
        challenge = answer.header("WWW-Authenticate") or ""
        expect(challenge.startswith("Bearer"), f"WWW-Authenticate: {challenge}")
        expect("error=" not in challenge, f"without a token there is no error to name (RFC 6750 section 3.1): {challenge}")
        equal((answer.header("Content-Type") or "").split(";")[0], "application/problem+json", "Content-Type")
        equal(answer.json().get("status"), 401, "the problem's status")
        expect("decision" in str(answer.json()), answer)
    with report.check("a page load is sent to sign in, a script's request is not"):
        answer = world.shop("/orders/7?tab=open", headers=HTML)
        expect(answer.status in (302, 303), answer)
        expect(answer.header("Location").startswith(f"{ISSUER}/"), answer)
        expect("no-store" in (answer.header("Cache-Control") or ""), answer)
        equal(world.shop("/orders/7", headers={"Accept": "*/*", "Sec-Fetch-Mode": "cors"}).status, 401, "a script's")

    wanted = f"{SHOP_URL}/orders/7?tab=open&q=a%20b"
    with report.check("a page load in a real browser ends on the sign-in page", vital=True):
        world.browser.open(wanted)
        world.browser.wait(lambda: host(world) == "auth.journey.test", "the sign-in page")
        expect(world.cookie_value() is None, "there is a session cookie before sign-in")
    with report.check("a wrong password gets one message, the same for a person who does not exist"):
        messages = []
        for username in (world.person["username"], "nobody-at-all"):
            world.browser.fill_in(username=username, password="not the password")
            world.browser.submit()
            equal(host(world), "auth.journey.test", "host")
            messages.append(world.browser.message())
        equal(messages[0], messages[1], "message")
        expect(messages[0], "there was no message")
    with report.check("with the right one the browser is back at the very page it asked for", vital=True):
        world.browser.fill_in(username=world.person["username"], password=world.person["password"])
        world.browser.submit()
        world.browser.wait(lambda: host(world) == "shop.journey.test", "back at the shop")
        equal(world.browser.url, wanted, "URL")
        expect("headers" in world.browser.text(), world.browser.text()[:400])
        world.cookie = world.cookie_value()
    with report.check("the session cookie is an opaque token: HttpOnly, Secure, SameSite=Lax, host-only, and no script sees it"):
        cookie = world.browser.cookie("__Host-cloakroom")
        expect(tokens.OPAQUE.fullmatch(cookie["value"]), "not an opaque token")
        equal((cookie["httpOnly"], cookie["secure"], cookie["sameSite"], cookie["path"]), (True, True, "Lax", "/"), "attributes")
        equal(world.browser.cookies_seen_by_scripts(), "", "document.cookie")
        # The one that counts returns, to end loops of redirects, lives a little longer.
        leftover = [c["name"] for c in world.browser.driver.get_cookies() if "flow" in c["name"] and not c["name"].endswith("-returns")]
        equal(leftover, [], "cookies of the finished flow")

    the_apps_side(world, report)

    with report.check("another app, same person: signed in without being asked again"):
        world.browser.open(f"{WIKI_URL}/pages/3")
        world.browser.wait(lambda: world.browser.url == f"{WIKI_URL}/pages/3", "the wiki's page")
        world.wiki_cookie = world.cookie_value()
        expect(world.wiki_cookie and world.wiki_cookie != world.cookie, "the wiki has no token of its own")
    with report.check("the wiki's JWT is for the wiki, and the shop's token is refused there"):
        headers = echo(world.http(f"{WIKI_URL}/echo", headers={"Cookie": f"__Host-cloakroom={world.wiki_cookie}"}))
        tokens.verify(tokens.bearer(headers), public_keys(world), ISSUER, f"{WIKI}/wiki")
        equal(world.http(f"{WIKI_URL}/echo", headers={"Cookie": f"__Host-cloakroom={world.cookie}"}).status, 401, "the shop's token at the wiki")
        equal(world.http(f"{WIKI_URL}/echo", headers={"Authorization": f"Bearer {world.cookie}"}).status, 401, "the same as a bearer token")


def the_apps_side(world, report):
    with report.check("both replicas accept the token, as cookie and as bearer token"):
        for at in world.replicas(SHOP, "shop"):
            equal(world.signed_in("/echo", at=at).status, 200, f"cookie at {at}")
            equal(world.shop("/echo", at=at, headers={"Authorization": f"Bearer {world.cookie}"}).status, 200, f"bearer at {at}")
    with report.check("the app got a JWT that an independent library verifies from the JWKS, for its own audience"):
        headers = echo(world.signed_in("/echo"))
        _, claims = tokens.verify(tokens.bearer(headers), public_keys(world), ISSUER, f"{SHOP}/shop")
        expect(claims["exp"] - claims["iat"] <= 60, f"it lives {claims['exp'] - claims['iat']} s")
        missing = {"sub", "jti", "client_id", "sid", "auth_time", "amr"} - set(claims)
        expect(not missing, f"without {missing}: {claims}")
        equal(claims.get("email"), world.person["email"], "email")
        expect(abs(time.time() - claims["auth_time"]) < 300, f"auth_time {claims['auth_time']}")
    with report.check("the sidecar serves the same keys on localhost's port 15020"):
        address = world.replicas(SHOP, "shop")[0][0]
        keys = world.http(f"http://{address}:15020/jwks.json").json()
        tokens.verify(tokens.bearer(echo(world.signed_in("/echo"))), keys, ISSUER, f"{SHOP}/shop")
    with report.check("what the app writes into the session is in the JWT of the next request, at every replica"):
        first, second = world.replicas(SHOP, "shop")
        answer = world.signed_in("/session?key=cart&value=three", at=first)
        equal(answer.status, 200, "status")
        expect(not answer.header("Cloakroom-Session"), "the reserved header went out")
        equal(session_at(world, first).get("cart"), "three", "cart, at the replica that wrote it")
        eventually(1, lambda: session_at(world, second).get("cart") == "three", "cart, at the other")
    with report.check("a claim reaches an app that reads no JWT as a header"):
        values = [value for name, value in echo(world.signed_in("/echo")) if name.lower() == "x-user-email"]
        equal(values, [world.person["email"]], "X-User-Email")
    with report.check("no header that the app sees holds the opaque token"):
        for headers in ({"Cookie": f"a=1; __Host-cloakroom={world.cookie}; b=2"}, {"Authorization": f"Bearer {world.cookie}"}):
            seen = echo(world.shop("/echo", headers=headers))
            for name, value in seen:
                expect(not tokens.OPAQUE.search(value), f"{name} holds an opaque token")
            if "Cookie" in headers:
                equal([value for name, value in seen if name.lower() == "cookie"], ["a=1; b=2"], "the other cookies")


def echo(answer):
    """The headers that the app saw, as ordered pairs."""
    equal(answer.status, 200, "status of /echo")
    return [(name, value) for name, value in answer.json()["headers"]]


def session_at(world, at):
    token = tokens.bearer(echo(world.signed_in("/echo", at=at)))
    return tokens.verify(token, public_keys(world), ISSUER, f"{SHOP}/shop")[1].get("session", {})


def public_keys(world):
    discovery = world.http(f"{ISSUER}/.well-known/openid-configuration").json()
    equal(discovery["issuer"], ISSUER, "the discovered issuer")
    return world.http(discovery["jwks_uri"]).json()


def again(world):
    """A new session, for what comes after a sign-out."""
    world.browser.open(f"{SHOP_URL}/echo")
    world.browser.wait(lambda: host(world) == "auth.journey.test" or world.cookie_value(), "sign-in")
    if host(world) == "auth.journey.test":
        world.browser.fill_in(username=world.person["username"], password=world.person["password"])
        world.browser.submit()
    world.browser.wait(lambda: world.browser.url == f"{SHOP_URL}/echo", "back at the shop")
    world.cookie = world.cookie_value()


def host(world):
    return urlsplit(world.browser.url).hostname
