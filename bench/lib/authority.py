"""Who says which tokens are good: the real auth service, and what is as quick as can be, so that nothing but the proxy's own work counts."""

import base64
import concurrent.futures
import http.client
import json
import secrets
import socket
import string
import sys
import time
import urllib.parse
import zlib

from .nginx import start_nginx
from .process import wait_for_port

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
# What the quick authority refuses; as good as any other beginning to the real one, which does not know the token.
UNKNOWN = "ca_0000"


class AuthService:
    """`cloakroom local`, for its auth service: in-memory store, on the load's core."""

    def __init__(self, processes, folder, cli, core):
        ready = folder / "ready.json"
        command = [cli, "local", "--ready-file", ready, "--app-port", "0", "--auth-port", "0", "--internal-port", "0"]
        processes.start(command, core, log=folder / "auth-service.log")
        deadline = time.monotonic() + 20
        while not ready.exists():
            if time.monotonic() > deadline:
                sys.exit("bench: cloakroom local did not get ready")
            time.sleep(0.05)
        self.document = json.loads(ready.read_text())
        pair = f"{self.document['client_id']}:{self.document['client_secret']}"
        self.basic = "Basic " + base64.b64encode(pair.encode()).decode()

    def tokens(self, count):
        """Access tokens of the demo client, as many different ones as asked for."""
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            batches = pool.map(self._batch, [count // 4 + (part < count % 4) for part in range(4)])
        return [token for batch in batches for token in batch]

    def _batch(self, count):
        at = urllib.parse.urlsplit(self.document["auth_url"])
        connection = http.client.HTTPConnection(at.hostname, at.port, timeout=10)
        headers = {"Authorization": self.basic, "Content-Type": "application/x-www-form-urlencoded"}
        found = []
        for _ in range(count):
            connection.request("POST", "/oauth2/token", "grant_type=client_credentials", headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                sys.exit(f"bench: the auth service gave no token: {answer.status} {body[:300]}")
            found.append(json.loads(body)["access_token"])
        return found


def unknown_tokens(count):
    """Well-formed, so that their checksum does not give them away, but nobody ever issued them."""
    found = []
    for _ in range(count):
        text = UNKNOWN + "".join(secrets.choice(ALPHABET) for _ in range(74 - 6 - len(UNKNOWN)))
        found.append(text + _base62(zlib.crc32(text.encode()), 6))
    return found


def _base62(number, length):
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return digits


QUICK = """
server {
  listen 127.0.0.1:$PORT;
  location / {
    if ($http_authorization ~ "^Bearer $UNKNOWN") { return 401; }
    if ($http_authorization = "") { return 401; }
    add_header X-Auth-Jwt "$JWT";
    return 200;
  }
}
"""


JWT = "e" * 700


def start_quick_authority(processes, folder, core, port):
    """Answers at once, 200 or 401, with a header of a JWT's size: less work than any real one has."""
    start_nginx(processes, folder / "authority", QUICK, core, PORT=port, UNKNOWN=UNKNOWN, JWT=JWT)


def start_quick_auth_service(processes, folder, binary, core, port):
    """The same in the sidecar's own protocol: bench/authority."""
    processes.start([binary, port, UNKNOWN], core, log=folder / "quick-auth-service.log")
    wait_for_port(port, "the quick auth service")


def start_redis(processes, core, port, tokens):
    """Redis with a JWT for each of the tokens."""
    processes.start(["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"], core)
    wait_for_port(port, "redis-server")
    commands = "".join(f"SET {token} {JWT}\r\n" for token in tokens).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, connection.makefile("rb") as answers:
        connection.sendall(commands)
        for _ in tokens:
            if (answer := answers.readline()) != b"+OK\r\n":
                sys.exit(f"bench: redis-server took no token: {answer!r}")
