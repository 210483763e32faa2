"""Tokens of an independent issuer (npm oidc-provider) at a real sidecar and auth service. Usage: suite.py <folder of the Node libraries>"""

import http.client
import http.server
import json
import pathlib
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))
from sidecar import PATIENCE, Processes, Tally, await_port, free_port  # noqa: E402

# Seconds that an answer of the issuer's introspection is believed.
CACHE = 3
# What a busy machine may add.
SLACK = 4

POLICY = """
apiVersion: cloakroom.dev/v1alpha1
kind: AuthPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  token: {issuers: [op]}
  unauthenticated: Deny
"""


class App(http.server.BaseHTTPRequestHandler):
    """Says what it got, or streams until somebody cuts it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"6\r\n:beat\n\r\n")
                    self.wfile.flush()
                    time.sleep(0.1)
            except OSError:
                return
        body = json.dumps(dict(self.headers)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class World:
    def __init__(self, processes, modules):
        self.issuer_port, self.control_port = free_port(), free_port()
        self.provider = processes.start(["node", pathlib.Path(modules) / "provider.mjs", self.issuer_port, self.control_port])
        await_port(self.issuer_port, self.provider)
        await_port(self.control_port, self.provider)
        issuer = f"http://127.0.0.1:{self.issuer_port}"
        secret = processes.folder / "secret"
        secret.write_text("asker-secret-of-the-suite\n")
        config = processes.folder / "auth.yaml"
        # JSON is YAML.
        config.write_text(json.dumps({"token_issuers": [{
            "id": "op", "issuer": issuer, "policies": ["shop/*"], "audiences": ["urn:orders:opaque", "urn:orders:jwt"], "jwks": {},
            "introspection": {"url": f"{issuer}/token/introspection", "client_id": "cloakroom", "client_secret_file": str(secret), "jwts": False},
            "types": "jwt", "cache_seconds": CACHE,
        }]}))
        policy = processes.folder / "policy.yaml"
        policy.write_text(POLICY)
        self.ready = processes.auth_service("--auth-config", config, "-f", policy)
        self.app = http.server.ThreadingHTTPServer(("127.0.0.1", 0), App)
        threading.Thread(target=self.app.serve_forever, daemon=True).start()
        app_port = self.app.server_address[1]
        self.sidecar = processes.sidecar(app_port, change=lambda config: config.update(token_issuers=["op"]), ready=self.ready)
        self.strict = processes.sidecar(app_port, ready=self.ready)

    def made(self, what, **parameters):
        connection = http.client.HTTPConnection("127.0.0.1", self.control_port, timeout=PATIENCE)
        connection.request("GET", f"/{what}?{urllib.parse.urlencode(parameters)}")
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, text
        return text

    def ask(self, token, sidecar=None, headers=None):
        """Status, and what the app got."""
        connection = http.client.HTTPConnection("127.0.0.1", (sidecar or self.sidecar).port, timeout=PATIENCE)
        connection.request("GET", "/", headers=headers or {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if answer.status == 200 else {}

    def await_connection(self):
        """The sidecar answers 503 until it is connected."""
        token, end = self.made("token", resource="urn:orders:opaque"), time.monotonic() + PATIENCE
        while self.ask(token)[0] == 503 and time.monotonic() < end:
            time.sleep(0.1)


def claims(received):
    import base64

    payload = received["Authorization"].removeprefix("Bearer ").split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=="))


def taken(world, token, sub):
    status, received = world.ask(token)
    if status != 200:
        return f"{status}"
    if token in json.dumps(received):
        return "the app got the token itself"
    ours = claims(received)
    expected = {"iss": world.ready["auth_url"], "sub": sub, "client_id": "op:robot", "scope": "orders", "aud": world.ready["policy"]}
    wrong = {name: ours.get(name) for name, value in expected.items() if ours.get(name) != value}
    return f"{wrong}" if wrong else None


def refused(world, token, status=401, **arguments):
    got = world.ask(token, **arguments)[0]
    return None if got == status else f"{got}"


def revocation(world):
    """Used all the while, until it is refused."""
    token = world.made("token", resource="urn:orders:opaque")
    if world.ask(token)[0] != 200:
        return "was not taken at first"
    world.made("revoke", token=token)
    began = time.monotonic()
    while (status := world.ask(token)[0]) == 200 and time.monotonic() < began + 60:
        time.sleep(0.1)
    took = time.monotonic() - began
    print(f"   a revoked token was refused after {took:.1f} s; stated: {CACHE} s")
    return None if status == 401 and took <= CACHE + SLACK else f"{status} after {took:.1f} s"


def stream(world):
    token = world.made("token", resource="urn:orders:opaque")
    connection = http.client.HTTPConnection("127.0.0.1", world.sidecar.port, timeout=PATIENCE)
    connection.request("GET", "/stream", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    began = time.monotonic()
    while time.monotonic() < began + 2 * CACHE + 1:
        if not answer.read(6):
            return "cut, though nobody had revoked it"
    world.made("revoke", token=token)
    began = time.monotonic()
    try:
        while answer.read(6) and time.monotonic() < began + 60:
            pass
    except (http.client.HTTPException, OSError):
        pass
    took = time.monotonic() - began
    print(f"   an open stream ended {took:.1f} s after its token was revoked")
    return None if took <= CACHE + SLACK else f"open for {took:.1f} s"


def outage(world, known):
    unknown = world.made("token", resource="urn:orders:opaque")
    world.provider.kill()
    world.provider.wait(PATIENCE)
    if (status := world.ask(unknown)[0]) != 503:
        return f"one that nobody knows: {status}"
    end = time.monotonic() + CACHE + SLACK
    while (status := world.ask(known)[0]) == 200 and time.monotonic() < end:
        time.sleep(0.2)
    return None if status == 503 else f"one that was good: {status}"


def main():
    tally = Tally()
    with Processes() as processes:
        world = World(processes, sys.argv[1])
        world.await_connection()
        opaque = world.made("token", resource="urn:orders:opaque")
        jwt = world.made("token", resource="urn:orders:jwt")
        tally.check("the opaque one is opaque", None if opaque.count(".") < 2 else opaque)
        tally.check("the JWT is one", None if jwt.count(".") == 2 else jwt)
        tally.check("an opaque token becomes our JWT", taken(world, opaque, "op:robot"))
        tally.check("a JWT becomes our JWT", taken(world, jwt, "op:robot"))
        for kind in ("opaque", "jwt"):
            tally.check(f"for another API, {kind}", refused(world, world.made("token", resource=f"urn:other:{kind}")))
            tally.check(f"bound to a key, {kind}", refused(world, world.made("bound", resource=f"urn:orders:{kind}")))
        tally.check("a person's JWT becomes ours", taken(world, world.made("person"), "op:ann"))
        for what in ("id_token", "stranger", "hmac"):
            tally.check(f"no access token of theirs: {what}", refused(world, world.made(what)))
        tally.check("made up", refused(world, "made-up-and-known-to-nobody"))
        tally.check("a changed JWT", refused(world, jwt[:-6] + ("AAAAAA" if jwt[-6:] != "AAAAAA" else "BBBBBB")))
        tally.check("in a cookie", refused(world, "", headers={"Cookie": f"__Host-cloakroom={opaque}"}))
        tally.check("at a sidecar whose policy names no issuer", refused(world, opaque, sidecar=world.strict))
        tally.check("our own key is as good as ever", refused(world, world.ready["api_key"], status=200))
        tally.check("revocation", revocation(world))
        tally.check("an open stream", stream(world))
        tally.check("an issuer that is down is an outage", outage(world, opaque))
        tally.check("which our own tokens do not notice", refused(world, world.ready["api_key"], status=200))
    tally.finish()


main()
