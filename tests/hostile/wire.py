"""HTTP as bytes: what no library would send, and what came back, read strictly."""

import re
import socket
import struct

import hpack

PATIENCE = 30
FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*")
TOKEN_LINE = re.compile(rb"[A-Z_-]+ (/[\x21-\x7e]*|\*) HTTP/1\.1")


class Cut(Exception):
    """The connection ended inside a message."""


class Stream:
    """Bytes of a connection, as they are needed."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # refused and closed already: the answer says why

    def more(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            raise Cut(f"after {self.read[-60:]!r}")
        self.read += data

    def exactly(self, count):
        while len(self.read) < count:
            self.more()
        taken, self.read = self.read[:count], self.read[count:]
        return taken

    def line(self):
        while b"\r\n" not in self.read:
            self.more()
        line, self.read = self.read.split(b"\r\n", 1)
        return line

    def rest(self):
        try:
            while True:
                self.more()
        except Cut:
            taken, self.read = self.read, b""
            return taken

    def is_closed(self):
        return self.rest() == b""

    def answer(self, to_head=False):
        """Status, fields and body of the next final answer."""
        status, fields = self.head()
        while status < 200 and status != 101:
            status, fields = self.head()
        if to_head or status in (101, 204, 304):
            return status, fields, b""
        if fields.get("transfer-encoding") == "chunked":
            return status, fields, self.chunks()
        if "content-length" in fields:
            return status, fields, self.exactly(int(fields["content-length"]))
        return status, fields, self.rest()

    def head(self):
        start = self.line()
        version, status, *_ = start.split(b" ")
        if version != b"HTTP/1.1":
            raise ValueError(f"a status line: {start!r}")
        fields = {}
        while line := self.line():
            name, value = line.decode("latin-1").split(": ", 1)
            if name.lower() in ("content-length", "transfer-encoding") and name.lower() in fields:
                raise ValueError(f"{name} twice")
            fields[name.lower()] = value
        return int(status), fields

    def chunks(self):
        body = b""
        while size := int(self.line(), 16):
            body += self.exactly(size)
            if self.exactly(2) != b"\r\n":
                raise ValueError("a chunk's end")
        while self.line():
            pass
        return body


def strict_requests(data):
    """Requests in bytes that reached an app, by a parser that forgives nothing; and whether the last one is incomplete."""
    requests = []
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        if not separator:
            return requests, True
        line, *lines = head.split(b"\r\n")
        if not TOKEN_LINE.fullmatch(line):
            raise ValueError(f"the request line {line!r}")
        fields = []
        for field in lines:
            if not FIELD.fullmatch(field):
                raise ValueError(f"the field {field!r}")
            name, value = field.decode("latin-1").split(": ", 1)
            fields.append((name.lower(), value))
        lengths = [value for name, value in fields if name in ("content-length", "transfer-encoding")]
        if len(lengths) > 1:
            raise ValueError(f"two lengths in {head!r}")
        if [name for name, _ in fields].count("host") != 1:
            raise ValueError(f"not one Host in {head!r}")
        body = b""
        if lengths == ["chunked"]:
            while True:
                size, separator, after = rest.partition(b"\r\n")
                if not separator:
                    return requests, True
                if not re.fullmatch(rb"[0-9a-f]+", size):
                    raise ValueError(f"the chunk size {size!r}")
                if size == b"0":
                    break
                count = int(size, 16)
                if len(after) < count + 2:
                    return requests, True
                if after[count:count + 2] != b"\r\n":
                    raise ValueError("a chunk's end")
                body, rest = body + after[:count], after[count + 2:]
            while after and not after.startswith(b"\r\n"):
                trailer, separator, after = after.partition(b"\r\n")
                if not FIELD.fullmatch(trailer):
                    raise ValueError(f"the trailer {trailer!r}")
            if not after.startswith(b"\r\n"):
                return requests, True
            rest = after[2:]
        elif lengths:
            count = int(lengths[0])
            if len(rest) < count:
                return requests, True
            body, rest = rest[:count], rest[count:]
        method, target, _ = line.decode("latin-1").split(" ")
        requests.append((method, target, body.decode("latin-1")))
        data = rest
    return requests, False


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(fields):
    """HPACK without tables or Huffman: any byte in any name or value."""
    return b"".join(b"\x00" + text(name) + text(value) for name, value in fields)


def text(value):
    value = value.encode("latin-1")
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, out = len(value) - 127, b"\x7f"
    while rest >= 128:
        out, rest = out + bytes([rest % 128 + 128]), rest // 128
    return out + bytes([rest]) + value


class Http2(Stream):
    """One connection that sends what it is told to."""

    def __init__(self, port):
        super().__init__(port)
        self.decoder = hpack.Decoder()
        self.send(PREFACE + frame(SETTINGS, 0, 0))

    def request(self, stream, fields, body=None, trailers=None):
        ends = END_STREAM if body is None and trailers is None else 0
        out = frame(HEADERS, END_HEADERS | ends, stream, literal(fields))
        if body is not None:
            out += frame(DATA, END_STREAM if trailers is None else 0, stream, body.encode("latin-1"))
        if trailers is not None:
            out += frame(HEADERS, END_HEADERS | END_STREAM, stream, literal(trailers))
        self.send(out)

    def next_frame(self):
        length, kind, flags, stream = struct.unpack(">IBBI", b"\0" + self.exactly(9))
        return kind, flags, stream & 0x7FFFFFFF, self.exactly(length)

    def outcome(self, wanted):
        """What became of a stream: its status and body, `reset` or `goaway`."""
        status, fields, body = None, {}, b""
        while True:
            try:
                kind, flags, stream, payload = self.next_frame()
            except Cut:
                return "goaway", fields, body
            if kind == GOAWAY:
                # A polite one (NO_ERROR) lets streams finish.
                if payload[4:8] != b"\0\0\0\0":
                    return "goaway", fields, body
            elif kind == SETTINGS and not flags & ACK:
                self.send(frame(SETTINGS, ACK, 0))
            elif kind == HEADERS:
                # Every block, for the decoder's table; ours are never padded nor continued.
                block = [(_text(name), _text(value)) for name, value in self.decoder.decode(payload, raw=True)]
                if stream == wanted:
                    fields.update(block)
                    status = int(fields[":status"])
            elif stream != wanted:
                continue
            elif kind == RST_STREAM:
                # Whole, and the rest of the request not wanted: NO_ERROR (RFC 9113 §8.1).
                return "reset", fields, body
            elif kind == DATA:
                body += payload
            if stream == wanted and flags & END_STREAM and kind in (DATA, HEADERS):
                return status, fields, body


def _text(value):
    return value.decode("latin-1") if isinstance(value, bytes) else value
