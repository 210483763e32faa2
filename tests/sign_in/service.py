"""The auth service as a process of its own, and an authenticator app that shares nothing with it."""

import base64
import hashlib
import hmac
import json
import os
import socket
import struct
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

ADMIN = "admin-token-of-the-browser-test"


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Service:
    def __init__(self, **settings):
        public, self.internal, metrics = free_ports(3)
        # Browsers have passkeys for domains only.
        self.url = f"http://localhost:{public}"
        config = {
            "issuer": self.url,
            "public": {"listen": f"127.0.0.1:{public}"},
            "internal": {"listen": f"127.0.0.1:{self.internal}"},
            "metrics": f"127.0.0.1:{metrics}",
            "admin": {"token": ADMIN},
            "theme": {"name": "Example Inc", "accent": "#2f5bd8"},
            "scopes": {"orders": "See and change your orders"},
            **settings,
        }
        self.folder = tempfile.TemporaryDirectory()
        file = os.path.join(self.folder.name, "config.json")
        with open(file, "w") as out:
            json.dump(config, out)
        self.log = open(os.path.join(self.folder.name, "log"), "w+")
        self.process = subprocess.Popen(
            [os.environ["CLOAKROOM_AUTH_SERVICE_BIN"], "--config", file], stdout=self.log, stderr=self.log
        )
        end = time.time() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{metrics}/readyz", timeout=5).read()
                return
            except OSError:
                if time.time() > end or self.process.poll() is not None:
                    raise RuntimeError(f"the service does not come up:\n{self.logged()}") from None
                time.sleep(0.1)

    def logged(self):
        self.log.flush()
        with open(self.log.name) as log:
            return log.read()

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()
        self.folder.cleanup()

    def admin(self, method, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.internal}/admin/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {ADMIN}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def user(self, username, name, password):
        body = {"username": username, "name": name, "email": f"{username}@example.com", "password": password}
        return self.admin("POST", "/users", body)["id"]


class Partner:
    """A third party's application: sends people to be asked for consent, and waits for them to come back."""

    def __init__(self, service):
        self.service = service
        answers = self.answers = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                address = urllib.parse.urlsplit(self.path)
                if address.path != "/callback":  # Browsers look for an icon.
                    return self.send_error(404)
                answers.append(dict(urllib.parse.parse_qsl(address.query)))
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(b"<!doctype html><title>Partner</title><h1>Back at the partner</h1>")

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.redirect_uri = f"http://127.0.0.1:{self.server.server_port}/callback"
        service.admin("POST", "/clients", {
            "client_id": "partner", "name": "Partner Analytics", "public": True, "redirect_uris": ["http://127.0.0.1/callback"],
            "grant_types": ["authorization_code", "refresh_token"], "scopes": ["openid", "email", "orders", "offline_access"],
        })  # fmt: skip

    def address(self, **more):
        challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 43).digest()).rstrip(b"=").decode()
        query = {
            "client_id": "partner", "response_type": "code", "redirect_uri": self.redirect_uri, "state": "s",
            "scope": "openid email orders offline_access", "code_challenge": challenge, "code_challenge_method": "S256", **more,
        }  # fmt: skip
        return f"{self.service.url}/oauth2/authorize?{urllib.parse.urlencode(query)}"

    def claims(self):
        """Of the ID token that the last code gives."""
        form = {
            "grant_type": "authorization_code", "client_id": "partner", "code": self.answers[-1]["code"],
            "redirect_uri": self.redirect_uri, "code_verifier": "v" * 43,
        }  # fmt: skip
        with urllib.request.urlopen(f"{self.service.url}/oauth2/token", urllib.parse.urlencode(form).encode(), 30) as answer:
            payload = json.load(answer)["id_token"].split(".")[1]
        return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


class Authenticator:
    """RFC 6238, from the key as a page shows it."""

    def __init__(self, key):
        key = key.replace(" ", "")
        self.seed = base64.b32decode(key + "=" * (-len(key) % 8))
        self.used = 0

    def code(self):
        """One that was not used yet; of the three that the service takes at any time, the earliest."""
        while True:
            step = int(time.time() // 30)
            fresh = [one for one in (step - 1, step, step + 1) if one > self.used]
            # Not one that ends while it is being typed.
            if fresh and (fresh[0] >= step or time.time() % 30 < 25):
                self.used = fresh[0]
                return self.at(self.used)
            time.sleep(0.5)

    def at(self, step):
        digest = hmac.digest(self.seed, struct.pack(">Q", step), "sha1")
        offset = digest[-1] & 15
        return f"{(struct.unpack('>I', digest[offset : offset + 4])[0] & 0x7FFFFFFF) % 1_000_000:06}"
