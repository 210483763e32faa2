"""Somebody else's OAuth server, as far as others see it: where its keys are, over TLS, and tokens that it has signed."""

import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ecdsa import NIST256p, SigningKey
from jose import jwk, jwt


class TokenIssuer:
    id, audience = "partner", "https://api.journey.test"

    def __init__(self, authority, address, port):
        self.url = f"https://{address}:{port}"
        self._key = SigningKey.generate(curve=NIST256p)
        public = jwk.construct(self._key.verifying_key.to_pem().decode(), "ES256").to_dict()
        pages = {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [{**public, "kid": "one", "use": "sig"}]},
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(pages.get(self.path)).encode()
                self.send_response(200 if self.path in pages else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer((address, port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("partner", [f"IP:{address}"]))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def token(self, key=None, **claims):
        now = int(time.time())
        usual = {"iss": self.url, "aud": self.audience, "sub": "ann", "client_id": "their-app", "iat": now, "exp": now + 600, "jti": "1"}
        pem = (key or self._key).to_pem().decode()
        return jwt.encode({**usual, **claims}, pem, algorithm="ES256", headers={"kid": "one", "typ": "at+jwt"})

    def forged(self):
        """Signed, but by somebody else."""
        return self.token(key=SigningKey.generate(curve=NIST256p))
