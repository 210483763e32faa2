"""HTTP/2, plain and over TLS, and gRPC through the real sidecar, as programs see it that were written by others."""

import http.server
import pathlib
import re
import socketserver
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))

import sidecar

# https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md: all that need no cloud.
GRPC_CASES = [
    "empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "timeout_on_sleeping_server",
    "cancel_after_begin", "cancel_after_first_response", "status_code_and_message", "special_status_message", "custom_metadata",
    "unimplemented_method", "unimplemented_service",
]
ANONYMOUS = [{"matches": [{"path": "/**"}], "access": "Anonymous"}]


def main():
    bin = pathlib.Path(sys.argv[1])
    tally = sidecar.Tally()
    with sidecar.Processes() as processes:
        h2spec(processes, bin, tally, tls=False)
        h2spec(processes, bin, tally, tls=True)
        ready = processes.auth_service()
        grpc(processes, bin, ready, tally)
    tally.finish()


def h2spec(processes, bin, tally, tls):
    app = start_app()
    environment = sidecar.certificate(processes.folder) if tls else None
    process = processes.sidecar(app, lambda config: config.update(rules=ANONYMOUS), environment=environment)
    command = [bin / "h2spec", "-h", "127.0.0.1", "-p", str(process.port), "--strict", "--timeout", "10", *(["-t", "-k"] if tls else [])]
    name = "h2spec over TLS" if tls else "h2spec"
    output = subprocess.run(command, capture_output=True, text=True, timeout=300).stdout
    summary = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", output)
    if not summary:
        tally.check(name, f"no summary in {output[-500:]!r}")
        return
    total, passed, skipped, failed = map(int, summary.groups())
    tally.passed += passed
    print(f"{name}: {summary[0]}")
    failures = output[output.find("Failures:"):] if failed else ""
    # Most of its cases break the protocol.
    errors = sidecar.counted(process.admin, "cloakroom_http2_errors_total")
    tally.check(f"{name}: what it broke is counted", None if errors > 50 else f"only {errors:.0f} errors")
    tally.check(name, failures or (f"{skipped} skipped" if skipped else None) or (None if total > 140 else f"only {total} tests"))


def grpc(processes, bin, ready, tally):
    app = sidecar.free_port()
    server = processes.start([bin / "server", "-port", app, "-use_tls=false"])
    sidecar.await_port(app, server)
    token = sidecar.access_token(ready)
    open_port = processes.sidecar(app, lambda config: config.update(rules=ANONYMOUS), ready).port
    port = processes.sidecar(app, lambda config: None, ready).port

    def call(case, port, *options):
        command = [bin / "client", "-server_host", "127.0.0.1", "-server_port", str(port), "-use_tls=false", f"-test_case={case}", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def problem(done):
        return None if done.returncode == 0 else (done.stderr or done.stdout)[-500:]

    environment = sidecar.certificate(processes.folder)
    tls_port = processes.sidecar(app, lambda config: None, ready, environment=environment).port
    trusting = ["-use_tls=true", "-use_test_ca=true", f"-ca_file={environment['CLOAKROOM_TLS']}/tls.crt", "-server_host_override=localhost"]
    bearer = f"-additional_metadata=authorization:Bearer {token}"
    for case in GRPC_CASES:
        tally.check(f"gRPC {case}, anonymous", problem(call(case, open_port)))
        tally.check(f"gRPC {case}, with a token", problem(call(case, port, bearer)))
        tally.check(f"gRPC {case}, over TLS with a token", problem(call(case, tls_port, bearer, *trusting)))
    # Of the client's messages the longest of a stream has 45,904 bytes, and a stream 74,922 in all; the unary one has 271,828.
    small_port = processes.sidecar(app, lambda config: config["limits"].update(request_body=50 << 10) or config.update(rules=ANONYMOUS), ready).port
    for case in ["client_streaming", "ping_pong"]:
        tally.check(f"gRPC {case}, each message within the limit", problem(call(case, small_port)))
    large = call("large_unary", small_port)
    tally.check("gRPC with a message over the limit is RESOURCE_EXHAUSTED", None if "ResourceExhausted" in large.stderr else f"{large.stderr[-500:]}")
    refused = call("empty_unary", port)
    tally.check("gRPC without a token is UNAUTHENTICATED", None if "Unauthenticated" in refused.stderr else f"{refused.stderr[-500:]}")
    junk = call("empty_unary", port, "-additional_metadata=authorization:Bearer junk")
    tally.check("gRPC with junk for a token is UNAUTHENTICATED", None if "Unauthenticated" in junk.stderr else f"{junk.stderr[-500:]}")
    server.terminate()
    server.wait()
    gone = call("empty_unary", open_port)
    tally.check("gRPC to an app that is gone is UNAVAILABLE", None if "Unavailable" in gone.stderr else f"{gone.stderr[-500:]}")


def start_app():
    server = App(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


class App(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_):
        pass  # h2spec breaks off requests, and that is seen here


class Answer(http.server.BaseHTTPRequestHandler):
    """Reads the body, whatever its framing, and says something."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        while self.headers.get("transfer-encoding") and (size := int(self.rfile.readline(), 16)):
            self.rfile.read(size + 2)
        if self.headers.get("transfer-encoding"):
            while self.rfile.readline().strip():
                pass
        body = b"you are welcome, " * 8
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_HEAD = do_OPTIONS = answer

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    main()
