"""Verifies a JWT as an app written in Python would: verify_jwt.py JWKS_URL ISSUER AUDIENCE JWT. Prints header and claims."""

import json
import sys

import jwt

jwks_url, issuer, audience, token = sys.argv[1:]
key = jwt.PyJWKClient(jwks_url).get_signing_key_from_jwt(token)
claims = jwt.decode(
    token,
    key,
    algorithms=["ES256", "EdDSA"],
    issuer=issuer,
    audience=audience,
    options={"require": ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"], "strict_aud": False},
)
print(json.dumps({"header": jwt.get_unverified_header(token), "claims": claims}))
