"""The real sidecar as a process, for suites that talk to it in bytes."""

import base64
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# Patience for whatever should take milliseconds: the machine may be busy with something else.
PATIENCE = 30

# As the operator writes it; without an auth service only what needs no token is let in.
CONFIG = {
    "format": 1, "revision": "test", "policy": "local/demo", "mode": "Enforce", "origins": ["http://localhost"], "trusted_proxies": [],
    "auth_service": {"internal_url": "http://127.0.0.1:9", "issuer": "https://auth.example.com"},
    "token_sources": [{"cookie": {"name": "__Host-cloakroom"}}, {"header": {"name": "Authorization", "scheme": "Bearer"}}],
    "unauthenticated": "Deny", "writable": [],
    "jwt": {"header": "Authorization", "audience": "local/demo", "claim_headers": {"X-User-Email": "email"}},
    "outage": "Deny", "rules": [], "limits": {"request_headers": 32768, "request_body": 10485760, "idle_timeout": 60},
}


def binary(name):
    for profile in ("debug", "release"):
        path = TARGET / profile / name
        if path.exists():
            return str(path)
    print(f"{name} is not built: cargo build --workspace", file=sys.stderr)
    sys.exit(77)


def need(*tools):
    """Ends the suite as skipped where a tool is missing."""
    for tool, why in tools:
        if not shutil.which(tool):
            print(f"{tool} is missing: {why}", file=sys.stderr)
            sys.exit(77)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_port(port, process=None):
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process and process.poll() is not None:
                sys.exit(f"{process.args[0]} ended with {process.returncode}")
            if time.monotonic() > end:
                sys.exit(f"nothing listens on port {port}")
            time.sleep(0.02)


class Processes:
    """Started here, ended here, by their ids; with a folder for their files."""

    def __enter__(self):
        self.started = []
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cloakroom-"))
        self.folder.chmod(0o755)
        return self

    def __exit__(self, *_):
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, command, environment=None, **options):
        log = open(self.folder / f"log-{len(self.started)}", "wb")
        options.setdefault("stdout", log)
        options.setdefault("stderr", log)
        environment = {**os.environ, **(environment or {})}
        process = subprocess.Popen([str(part) for part in command], env=environment, stdin=subprocess.DEVNULL, **options)
        process.log = log.name
        self.started.append(process)
        return process

    def auth_service(self, *arguments, environment=None):
        """`cloakroom local`, of which only the auth service is used; what its ready file says, and its process as `process`."""
        ready = self.folder / "ready.json"
        ports = ["--app-port", "0", "--auth-port", "0", "--internal-port", "0"]
        process = self.start([os.environ.get("CLOAKROOM_BIN") or binary("cloakroom"), "local", "--ready-file", ready, *ports, *arguments], environment)
        end = time.monotonic() + PATIENCE
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"cloakroom local did not get ready: {pathlib.Path(process.log).read_text()}")
            time.sleep(0.05)
        return {**json.loads(ready.read_text()), "process": process}

    def sidecar(self, app_port, change=lambda config: None, ready=None, workers=1, environment=None, under=()):
        """A `cloakroom-sidecar` process before the app's port; `under` another program, where one is named."""
        config = json.loads(json.dumps(CONFIG))
        token = "none"
        if ready:
            config["policy"] = config["jwt"]["audience"] = ready["policy"]
            config["auth_service"] = {"internal_url": ready["internal_url"], "issuer": ready["auth_url"]}
            token = ready["admin_token"]
        change(config)
        port, admin = free_port(), free_port()
        config_file, token_file = self.folder / f"config-{port}.json", self.folder / f"token-{port}"
        config_file.write_text(json.dumps(config))
        token_file.write_text(token)
        process = self.start([*under, os.environ.get("CLOAKROOM_SIDECAR_BIN") or binary("cloakroom-sidecar")], {
            "CLOAKROOM_CONFIG": str(config_file),
            "CLOAKROOM_TOKEN_FILE": str(token_file),
            "CLOAKROOM_PORTS": f"{app_port}:{port}",
            "CLOAKROOM_INTERCEPTION": "Redirect",
            "CLOAKROOM_POD_UID": f"test-{port}",
            "CLOAKROOM_ADMIN_LISTEN": f"127.0.0.1:{admin}",
            "CLOAKROOM_WORKERS": str(workers),
            **(environment or {}),
        })
        process.port, process.admin, process.config_file = port, admin, config_file
        await_port(port, process)
        return process


def metrics(port):
    """What port 15020 counts, by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def counted(port, start):
    """The sum of all counters whose name and labels begin like this."""
    return sum(value for name, value in metrics(port).items() if name.startswith(start))


def certificate(folder):
    """Certificate and key for localhost in a folder, as the injection mounts them; what the sidecar's environment says of it."""
    need(("openssl", "it makes the certificate of a port that speaks TLS"))
    folder = pathlib.Path(folder) / "tls"
    if not folder.exists():
        folder.mkdir()
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
        command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command += ["-keyout", folder / "tls.key", "-out", folder / "tls.crt"]
        subprocess.run(command, check=True, capture_output=True)
        (folder / "tls.key").chmod(0o644)
    return {"CLOAKROOM_TLS": str(folder)}


def access_token(ready):
    """An access token of the demo client, by client credentials."""
    form = urllib.parse.urlencode({"grant_type": "client_credentials"}).encode()
    request = urllib.request.Request(ready["auth_url"] + "/oauth2/token", data=form)
    pair = f"{ready['client_id']}:{ready['client_secret']}"
    request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=PATIENCE) as answer:
        return json.load(answer)["access_token"]


class Tally:
    """Counts, and prints what failed."""

    def __init__(self):
        self.passed, self.failed = 0, 0

    def check(self, name, problem):
        if problem:
            self.failed += 1
            print(f"FAILED {name}: {problem}")
        else:
            self.passed += 1

    def finish(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed else 0)
