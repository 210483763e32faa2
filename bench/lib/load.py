"""Load, always from the core that the proxy does not have: wrk, h2load, and connections that only wait."""

import re
import socket
import statistics
import subprocess
import sys

CONNECTIONS = 64

# Every token in turn; with `once`, none a second time.
TOKENS = """
local requests, position = {}, 0
local once = %s
function setup(thread) running = thread end
function init(args)
  for token in io.lines("%s") do requests[#requests + 1] = wrk.format("GET", "/", {Host = "localhost", Authorization = "Bearer " .. token}) end
end
function request()
  position = position + 1
  if position > #requests then
    if once then wrk.thread:stop() end
    position = 1
  end
  return requests[position]
end
"""


class Load:
    def __init__(self, folder, core):
        self._folder = folder
        self._pin = ["taskset", "-c", str(core)]

    def hot(self, port, token, seconds, path="/"):
        """Requests answered, with one token on 64 connections."""
        return self._wrk(port, seconds, "-H", f"Authorization: Bearer {token}", path=path)

    def turns(self, port, tokens, seconds, once=False, refused=False):
        """The same with each of the tokens in its turn."""
        listed, script = self._folder / "tokens", self._folder / "tokens.lua"
        listed.write_text("\n".join(tokens) + "\n")
        script.write_text(TOKENS % ("true" if once else "false", listed))
        return self._wrk(port, seconds, "-s", str(script), refused=refused)

    def _wrk(self, port, seconds, *options, path="/", refused=False):
        output = self._run("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *options, f"http://127.0.0.1:{port}{path}")
        count = int(re.search(r"(\d+) requests in", output).group(1))
        others = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
        if (int(others.group(1)) if others else 0) != (count if refused else 0):
            sys.exit(f"bench: not every request was answered as it should be:\n{output}")
        return count

    def http2(self, port, token, seconds):
        """Requests answered over HTTP/2 with prior knowledge, one at a time on each of 64 connections."""
        output = self._run("h2load", f"-c{CONNECTIONS}", "-m1", "-t1", f"-D{seconds}", "-H", f"authorization: Bearer {token}", f"http://127.0.0.1:{port}/")
        succeeded = int(re.search(r"status codes: (\d+) 2xx", output).group(1))
        failed = re.search(r"(\d+) failed, (\d+) errored", output)
        if not succeeded or int(failed.group(1)):
            sys.exit(f"bench: HTTP/2 failed:\n{output}")
        return succeeded

    def latencies(self, port, token, seconds, rate):
        """Microseconds that each request took at a fixed rate, spread over 20 connections."""
        log = self._folder / "latencies"
        log.unlink(missing_ok=True)
        self._run(
            "h2load", "--h1", "-c20", "-t1", f"--rps={rate // 20}", f"-D{seconds}", f"--log-file={log}",
            "-H", f"authorization: Bearer {token}", f"http://127.0.0.1:{port}/",
        )  # fmt: skip
        rows = [line.split("\t") for line in log.read_text().splitlines()]
        wrong = [row for row in rows if row[1] != "200"]
        if wrong:
            sys.exit(f"bench: {len(wrong)} of {len(rows)} requests were not answered 200")
        # The first fifth pays for connections and caches.
        return [int(row[2]) for row in rows[len(rows) // 5 :]]

    def _run(self, *command):
        done = subprocess.run([*self._pin, *command], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"bench: {' '.join(command[:6])}… ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def waiting_connections(port, token, count):
    """Connections that have made one request each and then wait."""
    request = f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    connections = []
    for start in range(0, count, 100):
        batch = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(min(100, count - start))]
        for connection in batch:
            connection.sendall(request)
        for connection in batch:
            _read_answer(connection)
        connections += batch
    return connections


def _read_answer(connection):
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(4096)
        if not piece:
            sys.exit("bench: a connection was closed before it was answered")
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        sys.exit(f"bench: a request on a new connection failed: {head[:200]}")
    length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
    while len(body) < length:
        body += connection.recv(4096)


def percentile(values, share):
    return statistics.quantiles(values, n=1000)[round(share * 1000) - 1]
