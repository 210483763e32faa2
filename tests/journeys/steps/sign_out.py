"""Signing out at one replica, and what the other ones know of it a second later."""

import time

from harness.report import equal, eventually, expect
from harness.world import SHOP, SHOP_URL, WIKI_URL

from . import sign_in


def everywhere_at_once(world, report):
    report.part("Sign out")
    revoked = world.cookie
    with report.check("the same cookie is refused on both replicas within a second of signing out in the browser"):
        replicas = world.replicas(SHOP, "shop")
        for at in replicas:
            equal(world.signed_in("/echo", at=at).status, 200, f"before, at {at}")  # so that both have it in their caches
        world.browser.open(f"{SHOP_URL}/")
        expect("signed in as" in world.browser.text().lower(), world.browser.text()[:300])
        pressed = time.monotonic()
        world.browser.press("Sign out")
        for at in replicas:
            eventually(1, lambda: world.signed_in("/echo", at=at).status == 401, f"refused at {at}", every=0.02)  # noqa: B023
        print(f"        refused everywhere {1000 * (time.monotonic() - pressed):.0f} ms after the click", flush=True)
    with report.check("it stays refused, as a bearer token too"):
        for at in world.replicas(SHOP, "shop"):
            equal(world.signed_in("/echo", at=at).status, 401, f"at {at}")
            answer = world.shop("/echo", at=at, headers={"Authorization": f"Bearer {revoked}"})
            equal(answer.status, 401, f"bearer at {at}")
            expect('error="invalid_token"' in (answer.header("WWW-Authenticate") or ""), answer)
    with report.check("the session ended for the other app as well"):
        eventually(1, lambda: world.http(f"{WIKI_URL}/echo", headers={"Cookie": f"__Host-cloakroom={world.wiki_cookie}"}).status == 401, "refused at the wiki")
    with report.check("the browser has lost its cookie, and has to sign in again"):
        world.browser.open(f"{SHOP_URL}/orders/7")
        world.browser.wait(lambda: sign_in.host(world) == "auth.journey.test", "the sign-in page")
        sign_in.again(world)
        expect(world.cookie != revoked, "the old token is back")
        equal(world.signed_in("/echo").status, 200, "the new token")
