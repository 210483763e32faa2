"""Requests exactly as written: no redirects followed, no cookies kept, headers as an ordered list, certificates verified."""

import http.client
import json
import socket
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Answer:
    status: int
    headers: list
    body: bytes = field(repr=False)

    def header(self, name):
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    def json(self):
        return json.loads(self.body)

    def __str__(self):
        lines = [str(self.status), *(f"{key}: {value}" for key, value in self.headers)]
        return "\n".join(lines) + "\n\n" + self.body[:800].decode(errors="replace")


class _Connection(http.client.HTTPConnection):
    def __init__(self, host, address, context, timeout):
        super().__init__(host, timeout=timeout)
        self._address = address
        self._context = context

    def connect(self):
        self.sock = socket.create_connection(self._address, self.timeout)
        if self._context:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


class Client:
    """`addresses` says where a host really is, as a resolver would."""

    def __init__(self, ca_file=None, addresses=None):
        self._context = ssl.create_default_context(cafile=ca_file) if ca_file else None
        self.addresses = dict(addresses or {})

    def __call__(self, url, method="GET", headers=(), body=None, at=None, timeout=10):
        """`at` is the address to ask instead of the host's own: one replica, say."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        address = at or self.addresses.get(parts.netloc) or (parts.hostname, port)
        connection = _Connection(parts.hostname, address, self._context if tls else None, timeout)
        try:
            connection.putrequest(method, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", parts.netloc)
            for name, value in headers.items() if isinstance(headers, dict) else headers:
                connection.putheader(name, value)
            if isinstance(body, str):
                body = body.encode()
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()
