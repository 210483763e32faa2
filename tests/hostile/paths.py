"""One file that nobody may have, and every spelling of its path that servers are known to forgive: any byte of it is a bypass."""

import itertools

import wire

SECRET = b"nobody may read this"
WORKING = 8


def make_files(folder):
    files = folder / "files"
    for name, text in [("secret/file.txt", SECRET), ("open/file.txt", b"for all")]:
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_bytes(text)
    return files


def spellings():
    """Of `/secret/file.txt`."""
    yield "/secret/file.txt"
    for byte in range(1, 256):
        for part in (f"%{byte:02x}", f"%{byte:02X}", f"%25{byte:02x}"):
            for path in (f"/{part}secret/file.txt", f"/secret{part}/file.txt", f"/secret/{part}file.txt", f"/secret{part}file.txt",
                         f"{part}/secret/file.txt", f"/open{part}..{part}secret/file.txt", f"/open/..{part}secret/file.txt"):
                yield path
        if 0x20 < byte and chr(byte) not in "#?":
            for path in (f"/{chr(byte)}/secret/file.txt", f"/secret{chr(byte)}/file.txt", f"/secret{chr(byte)}file.txt",
                         f"/open/..{chr(byte)}/secret/file.txt"):
                yield path
    for letter in set("secret"):
        yield "/secret/file.txt".replace(letter, f"%{ord(letter):02x}")
        yield "/secret/file.txt".replace(letter, f"%25{ord(letter):02x}")
        yield "/secret/file.txt".replace(letter, letter.upper())
        yield "/secret/file.txt".replace(letter, f"%{ord(letter.upper()):02x}")
    for cased in ["/SECRET/FILE.TXT", "/Secret/File.txt", "/secret/FILE.txt", "//SECRET/file.txt", "/open/../Secret/file.txt", "/Secret;x/file.txt"]:
        yield cased
    dots = ["..", "%2e%2e", ".%2e", "%2E.", "..;", "..;x", "..%3b", "%252e%252e", "..%00", "..%09", "%c0%ae%c0%ae", "...", ".%00.", "..\\"]
    slashes = ["/", "//", "///", "/./", "/%2e/", "%2f", "%5c", "\\", "/;/", "%252f", "/.;/", "%c0%af", "/%20/", "/a/../"]
    for dot, slash in itertools.product(dots, slashes):
        yield f"/open{slash}{dot}{slash}secret{slash}file.txt"
        yield f"/open/{dot}{slash}secret/file.txt"
    for slash in slashes:
        yield f"{slash}secret{slash}file.txt"
        yield f"/{slash}secret/file.txt"
        yield f"/secret{slash}file.txt"
    for suffix in ["/", "/.", "?", "?a", ";a", "%20", "%00", ".", "#", "/..", "//"]:
        yield f"/secret/file.txt{suffix}"
    yield "/open/x/../../secret/file.txt"
    yield "http://a/secret/file.txt"
    yield "http://a/open/../secret/file.txt"


def led_astray():
    """Paths that nobody minds, and a header that has servers take them for another."""
    for path in ("/open/secret/file.txt", "/open", "/open/file.txt"):
        for name in ("SCRIPT_NAME", "script_name", "Script-Name", "PATH_INFO", "REQUEST_URI", "X-Script-Name", "X-Forwarded-Prefix", "X-Forwarded-Path",
                     "X-Forwarded-Uri", "X-Original-URL", "X-Original-Uri", "X-Rewrite-URL", "X-Envoy-Original-Path", "X-Original-Prefix"):  # fmt: skip
            for value in ("/open", "/open/", "/secret/file.txt"):
                yield path, f"{name}: {value}\r\n"


def search(server, port, tally):
    direct, through, asked = [], [], 0
    own, sidecars = Fetcher(server.port), Fetcher(port)
    for path, header in itertools.chain(zip(spellings(), itertools.repeat("")), led_astray()):
        asked += 1
        if own.fetch(path, header):
            direct.append(path + header)
        if sidecars.fetch(path, header):
            through.append(path + header)
    print(f"{server.name}: {asked} spellings of a denied file; {len(direct)} fetch it from the app, {len(through)} through the sidecar")
    tally.check(f"paths: spellings that {server.name} takes for the file", None if len(direct) >= WORKING else f"only {direct}")
    tally.check(f"paths: no spelling leads to the file ({server.name})", f"{through}" if through else None)
    good = sidecars.get("/open/file.txt")
    tally.check(f"paths: the open file is there ({server.name})", None if good[0] == 200 and good[2] == b"for all" else f"{good}")


class Fetcher:
    """Asks on one connection for as long as that is kept."""

    def __init__(self, port):
        self.port, self.stream = port, None

    def fetch(self, path, header):
        try:
            return SECRET in self.get(path, header)[2]
        except (wire.Cut, ValueError):
            # Closed, or an answer that is none: another connection for the next.
            self.stream = None
            return False

    def get(self, path, header=""):
        if self.stream is None:
            self.stream = wire.Stream(self.port)
        self.stream.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Static: 1\r\n{header}\r\n".encode("latin-1"))
        answer = self.stream.answer()
        if answer[1].get("connection", "").lower() == "close" or answer[0] == 400:
            self.stream = None
        return answer
