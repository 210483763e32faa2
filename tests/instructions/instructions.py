"""Instructions per request of the real sidecar, counted by valgrind: the difference between many requests and few, so that starting and ending
do not count. Kernel work is not in it; what it guards is the way of a request through our own code: allocations, copies, parsing.
"""

import json
import pathlib
import re
import socket
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib")]

import sidecar

EXPECTED = HERE / "expected.json"
FEW, MANY = 100, 1100
# Compilers and C libraries differ a little; a copy or an allocation more for each request is more than this.
TOLERANCE = 0.06
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"


def main():
    update = sys.argv[1:] == ["--update"]
    expected = {} if update else json.loads(EXPECTED.read_text())
    tally, measured = sidecar.Tally(), {}
    with sidecar.Processes() as processes:
        app = start_app()
        ready = processes.auth_service()
        for name, drive in SCENARIOS.items():
            few, many = (instructions(processes, ready, app, drive, count) for count in (FEW, MANY))
            measured[name] = round((many - few) / (MANY - FEW), -1)
            print(f"{name}: {measured[name]:,.0f} instructions per request" + ("" if update else f", expected {expected[name]:,}"))
            if not update:
                tally.check(name, judge(measured[name], expected[name]))
    if update:
        EXPECTED.write_text(json.dumps({name: int(count) for name, count in measured.items()}, indent=2) + "\n")
    else:
        tally.finish()


def judge(measured, expected):
    change = measured / expected - 1
    if change > TOLERANCE:
        return f"{change:+.0%}: find what costs so much more (callgrind), or, if it is worth it, tests/instructions/run --update"
    if change < -2 * TOLERANCE:
        return f"{change:+.0%}: well done; tests/instructions/run --update, so that it stays so"
    return None


def instructions(processes, ready, app, drive, count):
    """Of one life of the sidecar that serves `count` requests."""
    out = processes.folder / "callgrind.out"
    process = processes.sidecar(app, ready=ready, under=("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"))
    drive(process.port, ready, count)
    process.terminate()
    if process.wait(sidecar.PATIENCE):
        sys.exit(f"the sidecar ended with {process.returncode}: {pathlib.Path(process.log).read_text()}")
    return int(re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.MULTILINE).group(1))


def hot_token(port, ready, count):
    ask(port, [sidecar.access_token(ready)] * count)


def new_tokens(port, ready, count):
    ask(port, [sidecar.access_token(ready) for _ in range(count)])


def refused_token(port, _, count):
    ask(port, [UNKNOWN] * count, status=401)


def no_token(port, _, count):
    ask(port, [None] * count, status=401)


def large_answer(port, ready, count):
    ask(port, [sidecar.access_token(ready)] * count, path="/large")


def http2(port, ready, count):
    authorization = f"authorization: Bearer {sidecar.access_token(ready)}"
    command = ["h2load", f"-n{count}", "-c1", "-m1", "-t1", "-H", authorization, f"http://127.0.0.1:{port}/"]
    output = subprocess.run(command, capture_output=True, text=True, timeout=sidecar.PATIENCE).stdout
    if f"{count} 2xx" not in output:
        sys.exit(f"HTTP/2 failed:\n{output}")


SCENARIOS = {
    "hot token": hot_token,
    "hot token, HTTP/2": http2,
    "hot token, 64 KB answer": large_answer,
    "every token new": new_tokens,
    "refused token": refused_token,
    "no token": no_token,
}
# Well-formed, but nobody issued it.
UNKNOWN = "ca_000000000000000000000000000000000000000000000000000000000000000001LYmpc"


def ask(port, tokens, status=200, path="/"):
    """One request after the other on one connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=sidecar.PATIENCE) as connection:
        answers = connection.makefile("rb")
        for token in tokens:
            authorization = f"Authorization: Bearer {token}\r\n" if token else ""
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n".encode())
            line, length = answers.readline(), 0
            while (field := answers.readline().lower()) != b"\r\n":
                if field.startswith(b"content-length:"):
                    length = int(field.split(b":")[1])
            answers.read(length)
            if line.split()[1] != str(status).encode():
                sys.exit(f"not {status}: {line}")


def start_app():
    """The port of an app that answers a kilobyte, or 64 of them, as cheaply as can be."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    return listener.getsockname()[1]


def accept(listener):
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection):
    received = b""
    with connection:
        while piece := connection.recv(65536):
            received += piece
            while b"\r\n\r\n" in received:
                head, received = received.split(b"\r\n\r\n", 1)
                size = 65536 if head.startswith(b"GET /large") else 1024
                connection.sendall(HEAD % size + b"x" * size)


if __name__ == "__main__":
    main()
