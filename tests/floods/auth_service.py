"""The same for the auth service's public port, where anybody may come, too: the process (of `cloakroom local`, with all that is in it) must stay
below what it was told it may take, and answer once it is over.
"""

import pathlib
import struct
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent

sys.path[:0] = [str(HERE.parent / "lib"), str(HERE.parent / "hostile")]

import floods
import sidecar
import wire

MEMORY = 128 << 20
FORM = "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\n"
DOCUMENT = "/.well-known/openid-configuration"


def main(words):
    floods.allow_many_files()
    tally = sidecar.Tally()
    for attack in (heads, bodies, unpacked, untaken, untaken_heads):
        name = attack.__doc__.strip()
        if words in name:
            tally.check(name, judge(attack, name))
    tally.finish()


def judge(attack, name):
    with sidecar.Processes() as processes:
        ready = processes.auth_service(environment={"CLOAKROOM_MEMORY": str(MEMORY)})
        port = urllib.parse.urlsplit(ready["auth_url"]).port
        with floods.Watch(ready["process"]) as watch:
            held = floods.Held(port)
            attack(held)
            during = answer(port)
            held.close()
        after = floods.patiently(lambda: answer(port) == 200)
        print(f"auth service: {name}: {watch.peak / 2**20:.0f} MiB of {MEMORY / 2**20:.0f}, others got {during}")
        if watch.peak >= MEMORY:
            return f"{watch.peak / 2**20:.0f} MiB"
        if during not in (200, 503, "closed"):
            return f"meanwhile others got {during}"
        return None if after else "nobody is answered afterwards"


def heads(held):
    """6,000 heads of 30 KB that do not end"""
    for _ in range(6000):
        send(held, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 30_000)
    time.sleep(1)


def bodies(held):
    """4,000 forms of 60 KB whose last part does not come"""
    for _ in range(4000):
        send(held, FORM.encode() + b"a=" + b"y" * 55_000)
    time.sleep(1)


def unpacked(held):
    """200 HTTP/2 connections, 100 heads each that are 30 KB once they are unpacked, with bodies that do not come"""
    fields = [[":method", "POST"], [":scheme", "http"], [":authority", "localhost"], [":path", "/oauth2/token"]]
    # Literal with incremental indexing, then index 62 seven times.
    entry = b"\x40" + wire.text("x") + wire.text("y" * 3900)
    for _ in range(200):
        frames = [
            wire.frame(wire.HEADERS, wire.END_HEADERS, stream, wire.literal(fields) + (entry if stream == 1 else b"\xbe") + b"\xbe" * 6)
            for stream in range(1, 201, 2)
        ]
        floods.send_what_goes(held.http2(), b"".join(frames))
    time.sleep(1)


def untaken(held):
    """200 HTTP/2 connections, 100 documents each that nobody takes"""
    settings = wire.frame(wire.SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
    for _ in range(200):
        floods.send_what_goes(held.http2(), settings + requests("GET"))
    time.sleep(2)


def untaken_heads(held):
    """200 HTTP/2 connections with documents that are never read, and then heads"""
    for _ in range(200):
        connection = held.http2(slow=True)
        floods.send_what_goes(connection, floods.all_the_window() + requests("GET"))
    for connection in held.streams:
        floods.send_what_goes(connection, requests("HEAD", 201))
    time.sleep(2)


def requests(method, first=1):
    return b"".join(floods.request(stream, DOCUMENT, method=method) for stream in range(first, first + 200, 2))


def send(held, data):
    try:
        held.open(data)
    except OSError:
        pass  # closed for want of room, as it may be


def answer(port):
    """What somebody else is told."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{DOCUMENT}", timeout=wire.PATIENCE) as answered:
            return answered.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return "closed"


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
