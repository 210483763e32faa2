"""JWTs, read by a library that shares nothing with what made them: pure Python, signature check included."""

import re

from jose import jwt
from jose.backends.ecdsa_backend import ECDSAECKey

from .report import expect

JWT = re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{20,}")
OPAQUE = re.compile(r"\bc[sark]_[0-9A-Za-z]{40,}")


def verify(token, keys, issuer, audience):
    """The claims, if one of the JWKS `keys` signed the token for that audience. Only ES256 will do."""
    header = jwt.get_unverified_header(token)
    expect(header.get("alg") == "ES256", f"alg is {header.get('alg')!r}")
    expect(header.get("typ", "").lower() in ("at+jwt", "application/at+jwt"), f"typ is {header.get('typ')!r}: RFC 9068 section 2.1")
    key = next((key for key in keys["keys"] if key.get("kid") == header.get("kid")), None)
    expect(key is not None, f"kid {header.get('kid')!r} is not among {[key.get('kid') for key in keys['keys']]}")
    expect("d" not in key, "the JWKS carries a private key")
    return header, jwt.decode(token, ECDSAECKey(key, "ES256"), algorithms=["ES256"], issuer=issuer, audience=audience)


def bearer(headers):
    """The JWT in the Authorization header that an app saw."""
    values = [value for name, value in headers if name.lower() == "authorization"]
    expect(len(values) == 1, f"the app saw {len(values)} Authorization headers")
    scheme, _, token = values[0].partition(" ")
    expect(scheme == "Bearer" and JWT.fullmatch(token), f"the app saw Authorization: {values[0][:40]}…")
    return token
