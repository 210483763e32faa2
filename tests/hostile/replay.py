"""Replays the corpus byte for byte against the real sidecar, before real servers that tell what they were sent.

    tests/hostile/run [words of a case's name]

Whatever a case expects, this holds for every one: what reached the app is requests to a parser that forgives nothing, and the app's own
server counts the same ones, with the same bodies; nothing marked as forged or smuggled is among them, nor the token; and the next request
of another client gets its own answer.
"""

import os
import pathlib
import re
import sys
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))

import apps
import paths
import sidecar
import wire

RULES = [
    {"matches": [{"path": "/open/**"}], "access": "Anonymous"},
    {"matches": [{"path": "/probe/**"}], "access": "Anonymous"},
    {"matches": [{"path": "/never/**"}, {"path": "/secret/**"}], "access": "Deny"},
]


def main():
    sidecar.need(
        ("node", "Node.js 20 or newer, for one of the apps"), ("go", "Go 1.22 or newer, for one of the apps"), ("nginx", "for one of the apps")
    )
    words = " ".join(sys.argv[1:])
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "cloakroom"
    tools = {"go": apps.build_go(cache), "gunicorn": str(pathlib.Path(sys.executable).parent / "gunicorn")}
    tally = sidecar.Tally()
    with sidecar.Processes() as processes:
        files = paths.make_files(processes.folder)
        ready = processes.auth_service()
        token = sidecar.access_token(ready)
        requests, http2, replies = load(words)
        for server in apps.start_servers(processes, files, tools):
            replay = Replay(processes, server, ready, token, tally)
            for case in requests:
                replay.over_http1(case)
            for case in http2:
                replay.over_http2(case)
            replay.check_counters()
            if not words:
                paths.search(server, replay.open_port, tally)
        nginx = apps.Files(processes, files)
        paths.search(nginx, processes.sidecar(nginx.port, authorised).port, tally)
        liar = Lies(processes, ready, token, tally)
        for case in replies:
            liar.over_http1(case)
            liar.over_http2(case)
    tally.finish()


def load(words):
    """The cases, one for each of their values: of requests over HTTP/1 and HTTP/2, and of answers."""
    found = []
    for file in sorted((HERE / "cases").glob("*.toml")):
        for case in tomllib.loads(file.read_text())["case"]:
            for value in case.pop("each", [None]):
                found.append({**expand(case, value), "file": file.name})
    found = [case for case in found if words in case["name"]]
    replies = [case for case in found if "reply" in case]
    http2 = [case for case in found if "fields" in case]
    return [case for case in found if "send" in case], http2, replies


def expand(part, value):
    """Puts a case's value in everywhere."""
    if isinstance(part, dict):
        shown = {"name": name_of(part["name"], value)} if "name" in part else {}
        return {key: expand(inner, value) for key, inner in part.items()} | shown
    if isinstance(part, list):
        return [expand(inner, value) for inner in part]
    if not isinstance(part, str):
        return part
    for index, inner in enumerate(value if isinstance(value, list) else []):
        part = part.replace("{value[%d]}" % index, inner)
    return part.replace("{value}", value) if isinstance(value, str) else part


def name_of(name, value):
    shown = repr(value)[:70] if isinstance(value, str) else repr(value)
    if isinstance(value, list):
        for index, inner in enumerate(value):
            name = name.replace("{value[%d]}" % index, repr(inner)[:70])
    return name.replace("{value}", shown)


def repeat(text):
    return re.sub(r"\{([^{}]*)\*(\d+)\}", lambda found: found[1] * int(found[2]), text)


def authorised(config):
    """All but what is denied is open: the rule alone stands before the file."""
    config["rules"] = [*RULES, {"matches": [{"path": "/**"}], "access": "Anonymous"}]


class Replay:
    """One app behind one sidecar."""

    def __init__(self, processes, server, ready, token, tally):
        def change(config):
            config["rules"] = RULES
            config["limits"] = {"request_headers": 8192, "request_body": 100_000, "idle_timeout": 60}

        process = processes.sidecar(server.tap.port, change, ready)
        self.port, self.admin = process.port, process.admin
        self.open_port = processes.sidecar(server.tap.port, authorised).port
        self.server, self.token, self.tally = server, token, tally
        self.probes = self.broken = 0
        self.settle()

    def text(self, text):
        return repeat(text.replace("{auth}", f"Authorization: Bearer {self.token}\r\n").replace("{token}", self.token))

    def over_http1(self, case):
        self.run(case, self.ask_http1)

    def over_http2(self, case):
        self.run(case, self.ask_http2)

    def run(self, case, ask):
        try:
            problem = ask(case)
        except (wire.Cut, TimeoutError, ValueError, KeyError, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
        try:
            seen = self.judge(case)
            problem = problem or seen
        except (wire.Cut, TimeoutError, ValueError, KeyError, OSError) as error:
            problem = problem or f"{type(error).__name__}: {error}"
        self.tally.check(f"{case['file']}: {case['name']} ({self.server.name})", problem)

    def ask_http1(self, case):
        pieces = case["send"] if isinstance(case["send"], list) else [case["send"]]
        if "length_of" in case:
            length = str(len(self.text(case["length_of"])))
            pieces = [piece.replace("{length}", length) for piece in pieces]
        wanted = case["status"]
        with wire.Stream(self.port) as stream:
            for index, piece in enumerate(pieces):
                if index:
                    wait()
                stream.send(self.text(piece).encode("latin-1"))
            if case.get("finish"):
                stream.socket.shutdown(1)
            if case.get("any"):
                status = stream.answer()[0]
                if status not in wanted:
                    return f"{status} and not one of {wanted}"
            else:
                for index, status in enumerate(wanted):
                    got, fields, body = stream.answer(index in case.get("head", []))
                    if got != status:
                        return f"answer {index + 1} is {got} and not {status}: {body[:200]!r}"
                    if status >= 400 and "cloakroom-decision" not in fields:
                        return f"answer {index + 1} is the app's: {body[:200]!r}"
            then = case.get("then", "closed")
            if then == "closed" and not stream.is_closed():
                return "more after the last answer"
            if then == "open":
                return self.probe(stream)
        return None

    def ask_http2(self, case):
        fields = []
        for field in case["fields"]:
            pair = ["authorization", f"Bearer {self.token}"] if field == "auth" else field
            fields.append([self.text(part) for part in pair])
        with wire.Http2(self.port) as stream:
            stream.request(1, fields, case.get("body"), case.get("trailers"))
            outcome, _, body = stream.outcome(1)
            self.broken += outcome in ("reset", "goaway")
            if outcome not in case["outcome"]:
                return f"{outcome} and not one of {case['outcome']}: {body[:200]!r}"
            if outcome != "goaway":
                # What one stream is does not spoil the next.
                self.probes += 1
                target = f"/probe/{self.probes}"
                stream.request(3, [[":method", "GET"], [":scheme", "http"], [":authority", "a"], [":path", target]])
                again, _, body = stream.outcome(3)
                if again != "goaway" and (again, body.decode()) != (200, f"you asked for {target}"):
                    return f"the next stream got {again} {body!r}"
        return None

    def check_counters(self):
        """What was answered below the level of requests is seen by operators."""
        errors = sidecar.counted(self.admin, "cloakroom_http2_errors_total")
        problem = None if errors >= self.broken else f"{errors:.0f} errors are counted of {self.broken}"
        self.tally.check(f"what breaks HTTP/2 is counted ({self.server.name})", problem)

    def probe(self, stream):
        self.probes += 1
        target = f"/probe/{self.probes}"
        stream.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        status, _, body = stream.answer()
        if (status, body.decode()) != (200, f"you asked for {target}"):
            return f"the next request got {status} {body!r}"
        return None

    def settle(self):
        """What the app has seen since the last time, without our own probes."""
        with wire.Stream(self.port) as stream:
            problem = self.probe(stream)
            if problem:
                raise ValueError(f"another client's request: {problem}")
        seen = self.server.seen.until(f"/probe/{self.probes}")
        return [request for request in seen if not request["target"].startswith("/probe/")], self.server.tap.take()

    def judge(self, case):
        seen, pieces = self.settle()
        for request in seen:
            if problem := self.judge_request(request):
                return problem
        whole = []
        for piece in pieces:
            requests, _ = wire.strict_requests(piece)
            whole += [request for request in requests if not request[1].startswith("/probe/")]
        told = [(request["method"], request["target"], request["body"]) for request in seen if request["whole"]]
        # What an app's server answers by itself it does not tell.
        quiet = case.get("maybe") and not told
        if sorted(whole) != sorted(told) and not quiet:
            return f"the bytes say {whole}, the app's server says {told}"
        # A request whose body was refused may have been begun; the app must not take it for a whole one.
        seen = [request for request in seen if request["whole"]]
        lines = [f"{request['method']} {request['target']}" for request in seen]
        wanted = case.get("app", [])
        if lines != wanted and not (case.get("maybe") and not lines):
            return f"the app saw {lines} and not {wanted}"
        fields = dict(map(tuple, seen[-1]["headers"])) if seen else {}
        body = case.get("seen_body", case.get("body") if "send" in case else None)
        if body is not None and seen and seen[-1]["body"] != body:
            return f"the app got the body {seen[-1]['body']!r}"
        for name, value in case.get("header", {}).items():
            if fields.get(name) != value:
                return f"the app got {name}: {fields.get(name)!r}"
        for name in case.get("absent", []):
            if name in fields:
                return f"the app got {name}: {fields[name]!r}"
        return None

    def judge_request(self, request):
        fields = request["headers"]
        for name, value in fields:
            if "forged" in value or "forged" in name or self.token in value:
                return f"the app got {name}: {value}"
        if "smuggled" in request["target"] or "smuggled" in request["method"]:
            return f"the app got a request for {request['target']}"
        for name, pattern in [("host", r"\S*"), ("x-forwarded-for", r"127\.0\.0\.1"), ("x-forwarded-proto", "http")]:
            values = [value for other, value in fields if other == name]
            if len(values) != 1 or not re.fullmatch(pattern, values[0]):
                return f"the app got {name}: {values}"
        tokens = [value for name, value in fields if name == "authorization"]
        if len(tokens) > 1 or not all(token.startswith("Bearer eyJ") for token in tokens):
            return "an Authorization header that is not the JWT"
        if not tokens and not request["target"].startswith("/open/"):
            return f"{request['target']} without a JWT"
        return None


class Lies:
    """The app that answers as a case wants."""

    def __init__(self, processes, ready, token, tally):
        def change(config):
            config["rules"] = RULES

        self.liar, self.tally, self.count = apps.Liar(), tally, 0
        self.port = processes.sidecar(self.liar.port, change, ready).port

    def over_http1(self, case):
        self.run(case, "HTTP/1.1", self.ask_http1)

    def over_http2(self, case):
        self.run(case, "HTTP/2", self.ask_http2)

    def run(self, case, protocol, ask):
        self.count += 1
        target = f"/open/{self.count}"
        self.liar.replies[target] = (repeat(case["reply"]).encode("latin-1"), case.get("closes", False))
        try:
            problem = ask(case, target) or self.another()
        except (wire.Cut, TimeoutError, ValueError, KeyError, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
        self.tally.check(f"{case['file']}: {case['name']} ({protocol})", problem)

    def ask_http1(self, case, target):
        method = case.get("method", "GET")
        with wire.Stream(self.port) as stream:
            stream.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            try:
                status, fields, body = stream.answer(method == "HEAD")
            except wire.Cut:
                return None if case.get("cut") else "the answer is cut short"
            if problem := compare(case, status, fields, body):
                return problem
            if fields.get("connection") != "close":
                return self.answered(stream)
        return None

    def ask_http2(self, case, target):
        fields = [[":method", case.get("method", "GET")], [":scheme", "http"], [":authority", "a"], [":path", target]]
        with wire.Http2(self.port) as stream:
            stream.request(1, fields)
            status, fields, body = stream.outcome(1)
            if status == "reset" and case.get("cut"):
                return None
            return compare(case, status, fields, body)

    def another(self):
        """Twice, since a poisoned connection may not be the first that is taken."""
        for _ in range(2):
            with wire.Stream(self.port) as stream:
                if problem := self.answered(stream):
                    return problem
        return None

    def answered(self, stream):
        self.count += 1
        target = f"/open/{self.count}"
        stream.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        status, _, body = stream.answer()
        if (status, body.decode("latin-1")) != (200, f"you asked for {target}"):
            return f"the next request got {status} {body!r}"
        return None


def compare(case, status, fields, body):
    if any("poison" in value for value in fields.values()) or b"poison" in body:
        return f"poison: {fields} {body!r}"
    # Where it was noticed in time, the client is told.
    wanted = 502 if case.get("cut") else case["status"]
    if status != wanted:
        return f"{status} and not {wanted}: {body[:100]!r}"
    if wanted != 502 and body.decode("latin-1") != case["body"]:
        return f"the body is {body[:100]!r}"
    for name, value in case.get("header", {}).items():
        if fields.get(name) != value:
            return f"{name}: {fields.get(name)!r}"
    for name in case.get("absent", []):
        if name in fields:
            return f"{name}: {fields[name]!r}"
    return None


def wait():
    """Long enough that what was sent is read by itself; nothing depends on it."""
    time.sleep(0.03)


if __name__ == "__main__":
    main()
