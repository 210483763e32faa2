"""OAuth clients that `kubectl apply` asks for: people allow them, services get tokens, and all of it ends with the resource."""

import base64
import hashlib
import secrets
from urllib.parse import parse_qs, urlencode, urlsplit

from harness import cluster
from harness.credential import Credential
from harness.report import equal, eventually, expect
from harness.world import ISSUER, SHOP, SHOP_URL, WIKI

from . import sign_in
from .issue import ask, everywhere, seen

CLIENT = Credential("OAuthClient", "partner")
ID = f"partner@{SHOP}"
CALLBACK = f"{SHOP_URL}/open/callback"
SPEC = {
    "displayName": "Partner Ltd",
    "grantTypes": ["authorization_code", "refresh_token", "client_credentials"],
    "redirectURIs": [CALLBACK],
    "audiences": [f"{SHOP}/shop"],
    "scopes": ["openid", "orders"],
}


def oauth_clients(world, report):
    report.part("OAuth clients")

    with report.check("an OAuthClient is Ready, and its Secret holds client id, secret and issuer", vital=True):
        CLIENT.apply(SHOP, SPEC)
        CLIENT.is_ready(SHOP)
        first = CLIENT.entries(SHOP)
        equal((first["client_id"], first["issuer"], sorted(first)), (ID, ISSUER, ["client_id", "client_secret", "issuer"]), "the Secret")
        equal(CLIENT.status(SHOP)["id"], ID, "status.id")

    with report.check("it gets a token for itself, and the app our JWT for that"):
        own = tokens_for(world, first, grant_type="client_credentials", scope="orders")["access_token"]
        claims = seen(world, ask(world, own))
        equal((claims["sub"], claims["client_id"], claims["scope"]), (ID, ID, "orders"), "subject, client and scope")

    with report.check("a person is asked, told whose the application is, and allows it; the app sees the person"):
        granted = allowed(world, first)
        claims = seen(world, ask(world, granted["access_token"]))
        equal((claims["client_id"], claims["scope"]), (ID, "openid orders"), "client and scope")
        expect(claims["sub"] != ID, "it is the client itself")
        again = tokens_for(world, first, grant_type="refresh_token", refresh_token=granted["refresh_token"])
        everywhere(world, again["access_token"], 200, 10)

    with report.check("another trigger makes a new secret, the old one is good beside it, and tokens stay"):
        CLIENT.patch(SHOP, {"rotation": {"trigger": "once", "overlap": "1h"}})
        second = eventually(20, lambda: CLIENT.entries(SHOP) != first and CLIENT.entries(SHOP), "another secret", every=0.2)
        for entries in (first, second):
            eventually(10, lambda: by_itself(world, entries).status == 200, "a token")  # noqa: B023
        everywhere(world, own, 200, 10)

    with report.check("deleting the Secret makes another one, and the ones before are refused"):
        CLIENT.delete_secret(SHOP)
        third = eventually(30, lambda: CLIENT.entries(SHOP), "another Secret", every=0.2)
        eventually(10, lambda: by_itself(world, third).status == 200, "a token")
        for entries in (first, second):
            equal(by_itself(world, entries).status, 401, "status")

    with report.check("a redirect URI that is removed stops working"):
        CLIENT.patch(SHOP, {"redirectURIs": [f"{SHOP_URL}/open/elsewhere"]})
        eventually(20, lambda: world.http(authorize("x" * 43)).status == 400, "an error page instead of a redirect")
        CLIENT.patch(SHOP, {"redirectURIs": [CALLBACK]})
        eventually(20, lambda: world.http(authorize("x" * 43)).status == 303, "on to sign in")

    with report.check("the secret is good again after Redis has lost the client"):
        world.redis.command("del", *world.redis.command("--scan", "--pattern", f"*{ID}*:client").split())
        eventually(30, lambda: by_itself(world, third).status == 200, "a token", every=0.5)

    with report.check("an address or audience of another namespace's is refused with a sentence, and there is no such client"):
        for changes in ({"redirectURIs": [f"{SHOP_URL}/open/callback"], "audiences": []}, {"redirectURIs": ["https://partner.example/cb"]}):
            CLIENT.apply(WIKI, {**SPEC, **changes})
            sentence = CLIENT.is_refused(WIKI, "RegistrationRefused")
            expect(SHOP in sentence, sentence)
            equal(by_itself(world, CLIENT.entries(WIKI)).status, 401, "status")
            CLIENT.delete(WIKI)

    with report.check("a Secret of somebody else's is left as it is"):
        cluster.kubectl("create", "secret", "generic", CLIENT.secret, "-n", WIKI, "--from-literal=client_secret=mine")
        CLIENT.apply(WIKI, {"grantTypes": ["client_credentials"], "audiences": [f"{WIKI}/wiki"]})
        CLIENT.is_refused(WIKI, "SecretTaken")
        equal(CLIENT.entries(WIKI), {"client_secret": "mine"}, "the Secret")
        CLIENT.delete_secret(WIKI)
        CLIENT.is_ready(WIKI, 30)
        CLIENT.delete(WIKI)

    with report.check("a public client has no secret"):
        CLIENT.apply(WIKI, {"type": "Public", "redirectURIs": ["http://127.0.0.1/callback"], "audiences": [f"{WIKI}/wiki"]})
        CLIENT.is_ready(WIKI)
        equal(CLIENT.entries(WIKI), {"client_id": f"partner@{WIKI}", "issuer": ISSUER}, "the Secret")
        CLIENT.delete(WIKI)

    with report.check("contradictions, and a client that would lose its secret, are refused at kubectl apply"):
        for namespace, changes, sentence in (
            (WIKI, {"redirectURIs": []}, "must say where"),
            (WIKI, {"redirectURIs": ["http://partner.example/cb"]}, "a redirect URI is https"),
            (WIKI, {"type": "Public"}, "needs type Confidential"),
            (SHOP, {"type": "Public", "grantTypes": ["authorization_code"]}, "make another"),
        ):
            said = cluster.refused(CLIENT.manifest(namespace, {**SPEC, **changes}))
            expect(sentence in said, said)

    with report.check("deleting the OAuthClient ends all that was issued to it at every replica within a second"):
        held = [tokens_for(world, third, grant_type="client_credentials", scope="orders")["access_token"], allowed(world, third)["access_token"]]
        for token in held:
            everywhere(world, token, 200, 10)

        def ended():
            for token in held:
                everywhere(world, token, 401, 1)
            equal(by_itself(world, third).status, 401, "a token for itself")

        CLIENT.delete(SHOP, then=ended)


def authorize(verifier):
    """Where a browser is sent to be asked."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    query = {"client_id": ID, "response_type": "code", "redirect_uri": CALLBACK, "scope": "openid orders", "state": "s1",
             "code_challenge": challenge, "code_challenge_method": "S256"}  # fmt: skip
    return f"{ISSUER}/oauth2/authorize?{urlencode(query)}"


def allowed(world, entries):
    """What the client gets once the person, who is signed in, has pressed Allow."""
    sign_in.again(world)
    verifier = secrets.token_urlsafe(32)
    world.browser.open(authorize(verifier))
    world.browser.wait(lambda: "Partner Ltd" in world.browser.text(), "the consent page")
    expect(SHOP in world.browser.text() and "shop.journey.test" in world.browser.text(), world.browser.text())
    world.browser.press("Allow")
    world.browser.wait(lambda: world.browser.url.startswith(f"{CALLBACK}?"), "back at the application")
    answer = parse_qs(urlsplit(world.browser.url).query)
    equal((answer["state"], answer["iss"]), (["s1"], [ISSUER]), "state and iss")
    return tokens_for(world, entries, grant_type="authorization_code", code=answer["code"][0], redirect_uri=CALLBACK, code_verifier=verifier)


def by_itself(world, entries):
    return token_endpoint(world, entries, grant_type="client_credentials", scope="orders")


def tokens_for(world, entries, **form):
    answer = token_endpoint(world, entries, **form)
    equal(answer.status, 200, f"status of the token endpoint: {answer}")
    return answer.json()


def token_endpoint(world, entries, **form):
    basic = base64.b64encode(f"{entries['client_id']}:{entries['client_secret']}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
    return world.http(f"{ISSUER}/oauth2/token", "POST", headers, urlencode(form))
