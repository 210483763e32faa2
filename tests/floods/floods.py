"""Attacks on memory and patience. The sidecar is told how much memory it may take; under each attack what it really takes must stay below
that, somebody else must be answered (or told 503) meanwhile, and everybody once it is over.
"""

import os
import pathlib
import resource
import socket
import ssl
import struct
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE.parent / "hostile")]

import sidecar
import wire

MEMORY = 32 << 20
IDLE = 3
BIG = 4 << 20
GET = "GET {} HTTP/1.1\r\nHost: a\r\n\r\n"


def main():
    words = " ".join(sys.argv[1:])
    allow_many_files()
    app = start_app()
    tally = sidecar.Tally()
    with sidecar.Processes() as processes:
        for attack in ATTACKS:
            name = attack.__doc__.strip()
            if words in name:
                tally.check(name, judge(processes, app, attack))
    tally.finish()


def allow_many_files():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def judge(processes, app, attack):
    def change(config):
        config["rules"] = [{"matches": [{"path": "/**"}], "access": "Anonymous"}]
        config["limits"] = {"request_headers": 32768, "request_body": 1_000_000, "idle_timeout": IDLE}

    tls = attack in OVER_TLS
    environment = sidecar.certificate(processes.folder) if tls else {}
    process = processes.sidecar(app, change, environment={"CLOAKROOM_MEMORY": str(MEMORY), **environment})
    with Watch(process) as watch:
        held = Held(process.port)
        problem = attack(held)
        during = answer(process.port, tls)
        held.close()
    after = patiently(lambda: answer(process.port, tls) == 200)
    freed = patiently(lambda: sidecar.metrics(process.admin)["cloakroom_connections"] <= 1)
    unseen = attack in COUNTED and not patiently(lambda: sidecar.counted(process.admin, COUNTED[attack]))
    print(f"{attack.__doc__.strip()}: {watch.peak / 2**20:.1f} MiB of {MEMORY / 2**20:.0f}, others got {during}")
    process.terminate()
    if problem:
        return problem
    if watch.peak >= MEMORY:
        return f"{watch.peak / 2**20:.1f} MiB"
    # The app under test is slow itself while it is made to send: 504.
    if during not in (200, 503, 504, "closed"):
        return f"meanwhile others got {during}"
    if not after:
        return "nobody is answered afterwards"
    if unseen:
        return f"{COUNTED[attack]} counts nothing"
    return None if freed else "connections are left over"


class Held:
    """Connections that the attack keeps."""

    def __init__(self, port):
        self.port, self.streams = port, []

    def open(self, data=b""):
        stream = wire.Stream(self.port)
        stream.send(data)
        self.streams.append(stream)
        return stream

    def open_slow_reader(self, data):
        stream = wire.Stream.__new__(wire.Stream)
        stream.socket, stream.read = slow_socket(self.port), b""
        stream.send(data)
        self.streams.append(stream)
        return stream

    def open_tls(self, data=b""):
        """None where the sidecar takes no more."""
        try:
            stream = TlsStream(self.port)
        except OSError:
            return None
        stream.send(data)
        self.streams.append(stream)
        return stream

    def http2(self, slow=False):
        stream = SlowHttp2(self.port) if slow else wire.Http2(self.port)
        self.streams.append(stream)
        return stream

    def close(self):
        for stream in self.streams:
            stream.socket.close()


def slow_socket(port):
    """What is not read must not be hidden in the kernel's buffers."""
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.settimeout(wire.PATIENCE)
    slow.connect(("127.0.0.1", port))
    return slow


class SlowHttp2(wire.Http2):
    def __init__(self, port):
        self.socket, self.read = slow_socket(port), b""
        self.send(wire.PREFACE + wire.frame(wire.SETTINGS, 0, 0))


class TlsStream(wire.Stream):
    def __init__(self, port):
        super().__init__(port)
        self.socket = CLIENT.wrap_socket(self.socket, server_hostname="localhost")


CLIENT = ssl.create_default_context()
CLIENT.check_hostname, CLIENT.verify_mode = False, ssl.CERT_NONE

# Each opens what it needs and returns when its worst moment is over; what it returns is a complaint.


def silent(held):
    """1,500 connections that say nothing"""
    for _ in range(1500):
        held.open()
    time.sleep(0.3)


def too_many(held):
    """more connections than there may be"""
    for _ in range(3000):
        held.open()
    time.sleep(0.3)


def slowloris(held):
    """800 heads, a line a second"""
    for _ in range(800):
        held.open(b"GET / HTTP/1.1\r\nHost: a\r\n")
    began = time.monotonic()
    for count in range(IDLE + 2):
        for stream in held.streams:
            stream.send(b"X: %d\r\n" % count)
        time.sleep(1)
    # A line a second buys no time: all are told so and closed.
    told = sum(b"HTTP/1.1 408" in stream.rest() for stream in held.streams[:50])
    return None if told == 50 and time.monotonic() - began < 60 else f"{told} of 50 were told 408"


def large_heads(held):
    """1,500 heads of 30 KB that do not end"""
    for _ in range(1500):
        held.open(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 30_000)
    time.sleep(0.5)


def slow_bodies(held):
    """300 bodies that do not come"""
    for _ in range(300):
        held.open(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello")
    time.sleep(IDLE + 2)
    told = sum(b"HTTP/1.1 408" in stream.rest() for stream in held.streams[:50])
    return None if told == 50 else f"{told} of 50 were told 408"


def slow_readers(held):
    """400 answers of 4 MB that nobody reads"""
    for _ in range(400):
        held.open_slow_reader(GET.format("/big").encode())
    time.sleep(1)


def slow_readers_are_cut(held):
    """answers that nobody reads end"""
    stream = held.open_slow_reader(GET.format("/big").encode())
    time.sleep(2 * IDLE + 2)
    try:
        return None if len(stream.rest()) < BIG else "all of it was still sent"
    except (OSError, wire.Cut):
        return None


def pipelining(held):
    """answers to 100,000 requests sent ahead that nobody reads"""
    stream = held.open_slow_reader(b"")
    stream.socket.settimeout(1)
    try:
        stream.socket.sendall(GET.format("/").encode() * 100_000)
    except OSError:
        pass  # not taken any more, as it should be


def streams_without_window(held):
    """40 HTTP/2 connections, 100 streams each, whose answers nobody takes"""
    settings = wire.frame(wire.SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
    for _ in range(40):
        connection = held.http2()
        connection.send(settings)
        for stream in range(1, 201, 2):
            connection.send(request(stream, "/big"))
    time.sleep(1)


def streams_without_window_end(held):
    """HTTP/2 answers that nobody takes end with their connection"""
    connection = held.http2()
    connection.send(wire.frame(wire.SETTINGS, 0, 0, struct.pack(">HI", 4, 0)) + request(1, "/big"))
    # Signs of life are no progress.
    end = time.monotonic() + 5 * IDLE + 5
    connection.socket.settimeout(0.5)
    while time.monotonic() < end:
        connection.send(wire.frame(wire.PING, 0, 0, bytes(8)))
        try:
            connection.more()
        except TimeoutError:
            pass
        except wire.Cut:
            return None
        time.sleep(0.2)
    return "still open"


def streams_that_trickle(held):
    """HTTP/2 connections that take one answer by the byte, and 99 not at all, do not keep others out"""
    window = wire.frame(wire.SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
    attackers = []
    for _ in range(6):
        connection = held.http2()
        connection.send(window + b"".join(request(stream, "/big") for stream in range(1, 201, 2)))
        attackers.append(connection)
    end, refused = time.monotonic() + 10 * IDLE, False
    while time.monotonic() < end:
        for connection in attackers:
            connection.send(wire.frame(wire.WINDOW_UPDATE, 0, 1, struct.pack(">I", 1)))
        time.sleep(0.25)
        told = answer(held.port)
        refused |= told == 503
        if refused and told == 200:
            return None
    return "nobody is answered" if refused else "nobody was kept out at first: no attack"


def streams_never_read(held):
    """40 HTTP/2 connections, 100 streams each with all the window there is, never read"""
    for _ in range(40):
        connection = held.http2()
        connection.send(all_the_window() + b"".join(request(stream, "/big") for stream in range(1, 201, 2)))
    time.sleep(1.5)


def refusals_never_read(held):
    """250 HTTP/2 connections full to the brim, then 99 requests on each that are refused"""
    everything = all_the_window()
    for stage in (request(1, "/big"), b"".join(request(stream, "/", method="HEAD" if stream % 4 == 1 else "GET") for stream in range(3, 201, 2))):
        for index in range(250):
            if len(held.streams) <= index:
                held.http2(slow=True).send(everything)
            send_what_goes(held.streams[index], stage)
        time.sleep(1)


def http2_silent(held):
    """1,500 HTTP/2 connections that say nothing after their settings"""
    for _ in range(1500):
        held.http2()
    time.sleep(0.5)


def http2_large_heads(held):
    """1,500 HTTP/2 heads of 30 KB that do not end"""
    fields = wire.literal([[":method", "GET"], ["x", "y" * 15_000]])
    for _ in range(1500):
        send_what_goes(held.http2(), wire.frame(wire.HEADERS, 0, 1, fields) + wire.frame(9, 0, 1, fields)[:-1000])
    time.sleep(0.5)


def http2_large_heads_unanswered(held):
    """6 HTTP/2 connections, 100 requests with 30 KB heads each to an app that does not answer"""
    for _ in range(6):
        connection = held.http2()
        for stream in range(1, 201, 2):
            send_what_goes(connection, request(stream, "/stuck", filler=[["x%d" % index, "y" * 10_000] for index in range(3)]))
    time.sleep(1)


def whole_answers_never_read(held):
    """200 HTTP/2 connections, 100 answers of 30 KB each that are never read"""
    everything = all_the_window() + b"".join(request(stream, "/medium") for stream in range(1, 201, 2))
    for _ in range(200):
        send_what_goes(held.http2(slow=True), everything)
    time.sleep(1.5)


def whole_answers_by_the_byte(held):
    """200 HTTP/2 connections, 100 answers of 10 KB each with a window of one byte"""
    settings = wire.frame(wire.SETTINGS, 0, 0, struct.pack(">HI", 4, 1))
    for _ in range(200):
        connection = held.http2()
        send_what_goes(connection, settings + b"".join(request(stream, "/small") for stream in range(1, 201, 2)))
    time.sleep(1.5)


def uploads_never_read(held):
    """20 HTTP/2 connections that send to an app that does not read"""
    for _ in range(20):
        connection = held.http2()
        for stream in range(1, 101, 2):
            connection.send(request(stream, "/stuck", ends=False) + wire.frame(wire.DATA, 0, stream, bytes(16384)))
        connection.send(wire.frame(wire.DATA, 0, 1, bytes(16384)) * 3)
    time.sleep(1)


def rapid_reset(held):
    """HTTP/2 rapid reset (CVE-2023-44487)"""
    reset = struct.pack(">I", 8)
    return flood(held, lambda stream: request(stream, "/") + wire.frame(wire.RST_STREAM, 0, stream, reset), "goaway")


def made_you_reset(held):
    """HTTP/2 MadeYouReset (CVE-2025-8671): the sidecar is made to reset"""
    nothing = struct.pack(">I", 0)
    return flood(held, lambda stream: request(stream, "/") + wire.frame(wire.WINDOW_UPDATE, 0, stream, nothing), "goaway")


def continuation(held):
    """HTTP/2 CONTINUATION flood (CVE-2024-27316)"""
    block = wire.literal([["x", "y" * 15_000]])
    connection = held.http2()
    connection.send(wire.frame(wire.HEADERS, 0, 1, wire.literal([[":method", "GET"]])))
    for _ in range(2000):
        connection.send(wire.frame(9, 0, 1, block))
    return ends(connection, ("goaway",))


def empty_continuation(held):
    """HTTP/2 CONTINUATION frames without content"""
    connection = held.http2()
    connection.send(wire.frame(wire.HEADERS, 0, 1, wire.literal([[":method", "GET"]])))
    connection.send(wire.frame(9, 0, 1) * 200_000)
    return ends(connection, ("goaway",))


def hpack_bomb(held):
    """HPACK: a large field in the table, named thousands of times"""
    connection = held.http2()
    head = wire.literal([[":method", "GET"], [":scheme", "http"], [":authority", "a"], [":path", "/"]])
    # Literal with incremental indexing, then index 62 over and over.
    entry = b"\x40" + wire.text("x") + wire.text("y" * 3900)
    for stream in range(1, 101, 2):
        connection.send(wire.frame(wire.HEADERS, 5, stream, head + (entry if stream == 1 else b"") + b"\xbe" * 12_000))
    outcome = connection.outcome(1)[0]
    return None if outcome in (431, "reset", "goaway") else f"{outcome}"


def settings(held):
    """HTTP/2 SETTINGS flood, whose acknowledgements nobody reads (CVE-2019-9515)"""
    return unread(held, wire.frame(wire.SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)) * 1000, 300)


def pings(held):
    """HTTP/2 PING flood, whose answers nobody reads (CVE-2019-9512)"""
    return unread(held, wire.frame(wire.PING, 0, 0, bytes(8)) * 1000, 300)


def empty_data(held):
    """HTTP/2 DATA frames without content (CVE-2019-9518)"""
    connection = held.http2()
    connection.send(request(1, "/upload", ends=False))
    end = time.monotonic() + IDLE + 3
    empty = wire.frame(wire.DATA, 0, 1) * 1000
    while time.monotonic() < end:
        connection.send(empty)
        time.sleep(0.05)
    # They are no progress: the request is out of time.
    return ends(connection, (408, "goaway", "reset"))


def windows(held):
    """HTTP/2 WINDOW_UPDATE and PRIORITY flood"""
    update = wire.frame(wire.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) + wire.frame(2, 0, 3, struct.pack(">IB", 0, 1))
    return unread(held, update * 1000, 300)


def too_many_streams(held):
    """HTTP/2 requests beyond the number of streams"""
    connection = held.http2()
    for stream in range(1, 2001, 2):
        connection.send(request(stream, "/stuck"))
    time.sleep(0.5)


def tls_silent(held):
    """1,500 TLS connections that say nothing once they are open"""
    for _ in range(1500):
        held.open_tls()
    time.sleep(0.3)


def tls_hellos(held):
    """2,000 TLS handshakes that break off after their first bytes"""
    for _ in range(2000):
        held.open(struct.pack(">BHHB", 22, 0x0301, 512, 1))
    time.sleep(IDLE + 2)
    told = sum(stream.is_closed() for stream in held.streams[:50])
    return None if told == 50 else f"{told} of 50 were closed"


def tls_large_hellos(held):
    """1,500 TLS handshakes that begin with 16 KB of a record which does not end"""
    for _ in range(1500):
        held.open(struct.pack(">BHHBBH", 22, 0x0301, 0x4000, 1, 0, 0xff00) + bytes(16_000))
    time.sleep(0.5)


def tls_records(held):
    """600 TLS connections with 16 KB of a record that does not end"""
    for _ in range(600):
        stream = held.open_tls()
        if stream:
            # Behind the back of the library: the sidecar cannot tell before the record is whole.
            os.write(stream.socket.fileno(), struct.pack(">BHH", 23, 0x0303, 0x4000) + bytes(16_000))
    time.sleep(0.5)


def tls_slow_readers(held):
    """300 answers of 4 MB over TLS that nobody reads"""
    for _ in range(300):
        held.open_tls(GET.format("/big").encode())
    time.sleep(1)


def tls_renewals(held):
    """TLS handshakes one after the other for 3 seconds, with nothing after them"""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        if stream := held.open_tls():
            held.streams.remove(stream)
            stream.socket.close()


OVER_TLS = [tls_silent, tls_hellos, tls_large_hellos, tls_records, tls_slow_readers, tls_renewals]
ATTACKS = [
    silent, too_many, slowloris, large_heads, slow_bodies, slow_readers, slow_readers_are_cut, pipelining, streams_without_window,
    streams_without_window_end, streams_that_trickle, streams_never_read, refusals_never_read, http2_silent, http2_large_heads,
    http2_large_heads_unanswered, whole_answers_never_read,
    whole_answers_by_the_byte, uploads_never_read, rapid_reset, made_you_reset, continuation, empty_continuation, hpack_bomb, settings, pings,
    empty_data, windows, too_many_streams, *OVER_TLS,
]

# What an operator sees of them, by the beginning of the counters' names.
HTTP2_ERRORS = "cloakroom_http2_errors_total"
COUNTED = {
    too_many: "cloakroom_connections_refused_total",
    slow_readers_are_cut: 'cloakroom_answers_cut_total{reason="client_stalled"}',
    rapid_reset: HTTP2_ERRORS + '{reason="enhance_your_calm"}',
    made_you_reset: HTTP2_ERRORS,
    continuation: HTTP2_ERRORS,
    empty_continuation: HTTP2_ERRORS,
}


def all_the_window():
    settings = wire.frame(wire.SETTINGS, 0, 0, struct.pack(">HI", 4, 0x7FFFFFFF))
    return settings + wire.frame(wire.WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7FFF0000))


def send_what_goes(connection, data):
    try:
        connection.send(data)
    except OSError:
        pass  # closed for what came before, as it may be


def request(stream, path, ends=True, method="GET", filler=()):
    fields = [[":method", method if ends else "POST"], [":scheme", "http"], [":authority", "a"], [":path", path], *filler]
    block, flags = wire.literal(fields), 1 if ends else 0
    pieces = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
    frames = [wire.frame(9 if index else wire.HEADERS, 0 if index else flags, stream, piece) for index, piece in enumerate(pieces)]
    # The last one ends the head.
    last = bytearray(frames[-1])
    last[4] |= wire.END_HEADERS
    return b"".join(frames[:-1]) + bytes(last)


def flood(held, frames, wanted):
    connection = held.http2()
    for stream in range(1, 20_001, 2):
        connection.send(frames(stream))
    return ends(connection, (wanted,))


def unread(held, data, times):
    """Sent for as long as it is taken, and nothing read."""
    connection = held.http2()
    connection.socket.settimeout(0.5)
    for _ in range(times):
        try:
            connection.socket.sendall(data)
        except OSError:
            break
    return None


def ends(connection, wanted):
    """Whether the first stream, or all of it, ends as it should."""
    try:
        outcome = connection.outcome(1)[0]
    except TimeoutError:
        outcome = "open"
    if outcome in wanted:
        return None
    # What was whole before may have been answered.
    try:
        while True:
            if connection.next_frame()[0] == wire.GOAWAY:
                return None
    except wire.Cut:
        return None
    except TimeoutError:
        return f"{outcome}, and the connection goes on"


def answer(port, tls=False):
    """What somebody else is told."""
    try:
        with (TlsStream if tls else wire.Stream)(port) as stream:
            stream.send(GET.format("/").encode())
            return stream.answer()[0]
    except (wire.Cut, ConnectionError, ssl.SSLError):
        return "closed"
    except TimeoutError:
        return "nothing"


def patiently(holds):
    end = time.monotonic() + sidecar.PATIENCE
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


class Watch:
    """The process's own memory at its highest: what the kernel cannot take back."""

    def __init__(self, process):
        self.status, self.peak, self.over = pathlib.Path(f"/proc/{process.pid}/status"), 0, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def look(self):
        last = False
        while not last:
            last = self.over.wait(0.02)
            for line in self.status.read_text().splitlines():
                if line.startswith("RssAnon:"):
                    self.peak = max(self.peak, int(line.split()[1]) * 1024)


def start_app():
    """`/big` answers 4 MB, `/medium` 30 KB, `/small` 10 KB, `/stuck` neither reads nor answers, everything else is answered at once, its body unread."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    sizes = {b"/big": BIG, b"/medium": 30_000, b"/small": 10_000}
    answers = {path: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size) for path, size in sizes.items()}

    def serve(connection):
        with connection:
            read = b""
            while True:
                while b"\r\n\r\n" not in read:
                    try:
                        data = connection.recv(65536)
                    except OSError:
                        return
                    if not data:
                        return
                    read += data
                head, read = read.split(b"\r\n\r\n", 1)
                path = head.split(b" ")[1]
                try:
                    if path == b"/stuck":
                        time.sleep(60)
                        return
                    if b"POST" in head:
                        while connection.recv(65536):
                            pass
                        return
                    connection.sendall(answers.get(path, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
                except OSError:
                    return

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.stack_size(256 << 10)
    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


if __name__ == "__main__":
    main()
