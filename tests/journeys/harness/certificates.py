"""A certificate authority for the length of a run, made by openssl."""

import base64
import hashlib

from .cluster import run


class Authority:
    def __init__(self, folder):
        self._folder = folder
        self.certificate = folder / "ca.crt"
        self._key = folder / "ca.key"
        self._make_key(self._key)
        run(
            "openssl", "req", "-x509", "-key", self._key, "-out", self.certificate, "-days", "2", "-subj", "/CN=Journey CA",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip

    def issue(self, name, subjects):
        """Certificate and key for `subjects` (`DNS:…`, `IP:…`)."""
        certificate, key, request, extensions = (self._folder / f"{name}.{end}" for end in ("crt", "key", "csr", "ext"))
        self._make_key(key)
        run("openssl", "req", "-new", "-key", key, "-out", request, "-subj", f"/CN={name}")
        extensions.write_text(f"subjectAltName={','.join(subjects)}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
        run(
            "openssl", "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
            "-days", "2", "-out", certificate, "-extfile", extensions,
        )  # fmt: skip
        return certificate, key

    @staticmethod
    def _make_key(path):
        run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)


def spki(certificate):
    """The hash by which Chromium is told to trust just this certificate."""
    pem = run("openssl", "x509", "-in", certificate, "-noout", "-pubkey").stdout
    der = base64.b64decode("".join(line for line in pem.splitlines() if not line.startswith("-")))
    return base64.b64encode(hashlib.sha256(der).digest()).decode()
