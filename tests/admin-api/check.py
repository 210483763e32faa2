"""Starts `cloakroom local`, lets schemathesis loose on its admin API, and says how that ended.

    check.py CLOAKROOM [schemathesis option…]
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

SECONDS = 30
# The same cases each time; another seed is an option away.
SEED = "1"


def main():
    cloakroom, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="cloakroom-admin-api-") as folder:
        folder = pathlib.Path(folder)
        service = start(cloakroom, folder)
        try:
            ready = wait_for(service, folder / "ready.json")
            (folder / "schemathesis.toml").write_text(config(ready))
            output = run(ready, folder, options)
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(20)
    sys.exit(judge(output))


def start(cloakroom, folder):
    ports = ["--app-port", "0", "--auth-port", "0", "--internal-port", "0"]
    log = open(folder / "log", "w")
    return subprocess.Popen([cloakroom, "local", "--ready-file", str(folder / "ready.json"), *ports], stdout=log, stderr=log)


def wait_for(service, file):
    deadline = time.monotonic() + 60
    while not file.exists():
        if service.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"cloakroom local did not get ready:\n{(file.parent / 'log').read_text()}")
        time.sleep(0.1)
    return json.loads(file.read_text())


def config(ready):
    """Ids that exist for the operations that take one: otherwise nearly all of them would end at 404."""

    def ask(path, body=None):
        request = urllib.request.Request(ready["internal_url"] + "/admin/v1" + path)
        request.add_header("Authorization", "Bearer " + ready["admin_token"])
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    ids = {
        "users": ask("/users", {"username": "target", "groups": ["target"]})["id"],
        "clients": ask("/clients", {"client_id": "target"})["client_id"],
        "registration-tokens": ask("/registration-tokens", {"label": "target", "uses": 100})["id"],
        "api-keys": ask("/api-keys", {"service": "target", "audiences": ["a/b"]})["id"],
    }
    text = (pathlib.Path(__file__).parent / "schemathesis.toml").read_text()
    for tag, identity in ids.items():
        # Deleting is tried on what schemathesis made itself.
        text += f'\n[[operations]]\ninclude-path-regex = "^/{tag}/\\\\{{id\\\\}}"\nexclude-method = "DELETE"\nparameters = {{ "path.id" = "{identity}" }}\n'
    return text


def run(ready, folder, options):
    command = [str(pathlib.Path(sys.executable).parent / "st"), "--config-file", str(folder / "schemathesis.toml"), "run"]
    command += [ready["internal_url"] + "/admin/v1/openapi.json", "--url", ready["internal_url"] + "/admin/v1"]
    command += ["--header", "Authorization: Bearer " + ready["admin_token"], "--max-time", str(SECONDS), "--seed", SEED, *options]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "140", "SCHEMATHESIS_HOOKS": ""}
    environment.pop("SCHEMATHESIS_HOOKS")
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    return done.returncode, done.stdout


def judge(output):
    code, text = output
    tested = re.search(r"Tested: (\d+)", text)
    failures = re.search(r"(\d+) unique failures?", text)
    failed = int(failures.group(1)) if failures else int(code != 0)
    print(f"{tested.group(1) if tested else 0} passed, {failed} failed")
    return 1 if failed or code else 0


if __name__ == "__main__":
    main()
