"""The apps behind the sidecar: real servers that tell what they were sent, a tap that sees the bytes, and one app that lies."""

import json
import os
import pathlib
import socket
import subprocess
import threading
import time

from sidecar import PATIENCE, await_port, free_port

HERE = pathlib.Path(__file__).resolve().parent


class Seen:
    """What a server says it was sent."""

    def __init__(self, file):
        self.file, self.at, self.found = pathlib.Path(file), 0, []

    def until(self, wanted):
        """Everything up to the request with this target, which is taken too."""
        end = time.monotonic() + PATIENCE
        while True:
            with self.file.open("rb") as file:
                file.seek(self.at)
                while (line := file.readline()).endswith(b"\n"):
                    self.at += len(line)
                    self.found.append(json.loads(line))
            for index, request in enumerate(self.found):
                if request["target"] == wanted:
                    taken, self.found = self.found[:index], self.found[index + 1:]
                    return taken
            if time.monotonic() > end:
                raise TimeoutError(f"the app never saw {wanted}; it saw {self.found}")
            time.sleep(0.001)


class Tap:
    """Passes bytes on to the app and keeps what went there."""

    def __init__(self, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.lock, self.connections = threading.Lock(), []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            record = bytearray()
            with self.lock:
                self.connections.append(record)
            threading.Thread(target=self.carry, args=(client, server, record), daemon=True).start()
            threading.Thread(target=self.carry, args=(server, client, None), daemon=True).start()

    def carry(self, source, target, record):
        try:
            while data := source.recv(65536):
                if record is not None:
                    with self.lock:
                        record.extend(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, target):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def take(self):
        """What came since the last time, one piece a connection."""
        with self.lock:
            pieces = [bytes(record) for record in self.connections if record]
            for record in self.connections:
                record.clear()
        return pieces


class Server:
    """A real one, with its tap and its log."""

    def __init__(self, name, port, log):
        self.name, self.seen, self.tap = name, Seen(log), Tap(port)
        self.port = port


def start_servers(processes, files, tools):
    return [start(processes, files, tools) for start in (start_node, start_go, start_gunicorn)]


def start_node(processes, files, tools):
    return start_telling(processes, "node", ["node", HERE / "upstreams/node.js"], files)


def start_go(processes, files, tools):
    return start_telling(processes, "go", [tools["go"]], files)


def start_telling(processes, name, command, files):
    port, log = free_port(), processes.folder / f"{name}.seen"
    process = processes.start([*command, port, files], stdout=open(log, "wb"))
    await_port(port, process)
    return Server(name, port, log)


def start_gunicorn(processes, files, tools):
    port, log = free_port(), processes.folder / "gunicorn.seen"
    log.touch()
    command = [tools["gunicorn"], "--bind", f"127.0.0.1:{port}", "--workers", "1", "--threads", "8", "--keep-alive", "60"]
    options = ["--chdir", HERE / "upstreams", "--no-control-socket", "wsgi"]
    if "--no-control-socket" not in subprocess.run([tools["gunicorn"], "--help"], capture_output=True, text=True).stdout:
        options.remove("--no-control-socket")
    process = processes.start([*command, *options], {"FILES": str(files), "SEEN": str(log)})
    await_port(port, process)
    return Server("gunicorn", port, log)


class Files:
    """nginx with the files and nothing else: how it reads a path is how many do."""

    name = "nginx"

    def __init__(self, processes, files):
        self.port = free_port()
        folder = processes.folder / "nginx"
        folder.mkdir()
        config = folder / "nginx.conf"
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config.write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit; events {{ worker_connections 1024; }}\n"
            f"http {{ access_log off; {temporary} keepalive_requests 1000000;\n"
            f"  server {{ listen 127.0.0.1:{self.port}; root {files}; }} }}\n"
        )
        await_port(self.port, processes.start(["nginx", "-c", config, "-p", folder]))


class Liar:
    """Answers each path with the bytes that a case wants."""

    def __init__(self):
        self.replies = {}
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, connection):
        read = b""
        with connection:
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
                method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
                reply, closes = self.replies.get(target, (None, False))
                if reply is None:
                    text = b"you asked for " + target.encode()
                    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), b"" if method == "HEAD" else text)
                try:
                    connection.sendall(reply)
                except OSError:
                    return
                if closes:
                    return


def build_go(cache):
    """Once per version of its source."""
    import hashlib

    source = HERE / "upstreams/go"
    version = hashlib.sha256(b"".join((source / name).read_bytes() for name in ("go.mod", "main.go"))).hexdigest()[:16]
    binary = pathlib.Path(cache) / f"hostile-app-{version}"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "CGO_ENABLED": "0"}
        partial = f"{binary}.{os.getpid()}"
        subprocess.run(["go", "build", "-o", partial, "."], cwd=source, env=environment, check=True)
        os.replace(partial, binary)
    return str(binary)
