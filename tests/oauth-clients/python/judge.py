"""PyPI `authlib` as client and verifier."""

import json
import os
import re
import sys
import traceback
from html import unescape
from urllib.parse import parse_qs, urljoin, urlsplit

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # plain HTTP on loopback

import requests
from authlib.common.security import generate_token
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken, UserInfo
from authlib.oidc.core.util import create_half_hash
from authlib.oidc.discovery import OpenIDProviderMetadata
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from joserfc import jwt
from joserfc.jwk import KeySet

with open(sys.argv[1]) as file:
    WORLD = json.load(file)


class Person:
    """A browser: cookies, redirects, our real forms."""

    def __init__(self):
        self.cookies = {}

    def ask(self, method, url, data=None):
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        answer = requests.request(method, url, data=data, headers=headers, allow_redirects=False, timeout=30)
        for name, value in answer.cookies.items():
            self.cookies[name] = value
        return answer

    def go(self, url):
        answer = self.ask("GET", url)
        for _ in range(12):
            if answer.is_redirect:
                url = urljoin(url, answer.headers["Location"])
                if url.startswith((WORLD["callback"], WORLD["bye"])):
                    return url
                answer = self.ask("GET", url)
                continue
            form = re.search(r'<form method="post" action="([^"]*)">(.*?)</form>', answer.text, re.S)
            assert form, f"{answer.status_code} {answer.text}"
            fields = {"username": WORLD["username"], "password": WORLD["password"]}
            for tag in re.findall(r"<(?:input|button)[^>]*>", form[2]):
                name, value = re.search(r'\sname="([^"]*)"', tag), re.search(r'\svalue="([^"]*)"', tag)
                if name:
                    fields.setdefault(name[1], unescape(value[1]) if value else "")
            url = urljoin(url, form[1])
            answer = self.ask("POST", url, fields)
        raise AssertionError(f"no end after {url}")


METADATA = requests.get(f"{WORLD['issuer']}/.well-known/openid-configuration", timeout=30).json()


def session(client, method="client_secret_basic", **more):
    return OAuth2Session(
        client["client_id"],
        client["client_secret"],
        scope="openid profile email offline_access",
        redirect_uri=WORLD["callback"],
        code_challenge_method="S256",
        token_endpoint_auth_method=method,
        token_endpoint=METADATA["token_endpoint"],
        revocation_endpoint_auth_method=method,
        introspection_endpoint_auth_method=method,
        **more,
    )


def sign_in(client, method="client_secret_basic", person=None, **more):
    oauth = session(client, method)
    verifier, nonce = generate_token(48), generate_token(20)
    url, state = oauth.create_authorization_url(
        METADATA["authorization_endpoint"], code_verifier=verifier, nonce=nonce, **more
    )
    back = (person or Person()).go(url)
    assert parse_qs(urlsplit(back).query)["iss"] == [WORLD["issuer"]]
    token = oauth.fetch_token(authorization_response=back, state=state, code_verifier=verifier)
    return oauth, token, nonce


def verified(token, client, nonce, max_age=None):
    keys = KeySet.import_key_set(requests.get(METADATA["jwks_uri"], timeout=30).json())
    decoded = jwt.decode(token["id_token"], keys, algorithms=METADATA["id_token_signing_alg_values_supported"])
    options = {
        "iss": {"values": [WORLD["issuer"]]},
        "aud": {"values": [client["client_id"]]},
    }
    params = {"nonce": nonce, "client_id": client["client_id"], "access_token": token["access_token"], "max_age": max_age}
    claims = CodeIDToken(decoded.claims, decoded.header, options, params)
    claims.validate(leeway=5)
    assert claims["at_hash"] == create_half_hash(token["access_token"], decoded.header["alg"]).decode()
    return claims


def the_metadata_are_valid_by_rfc_8414_and_openid_discovery():
    for kind, name in [
        (OpenIDProviderMetadata, "openid-configuration"),
        (AuthorizationServerMetadata, "oauth-authorization-server"),
    ]:
        document = kind(requests.get(f"{WORLD['issuer']}/.well-known/{name}", timeout=30).json())
        for check in kind.REGISTRY_KEYS:
            # Endpoints of a real installation are https; here they are on loopback.
            if check.endswith(("_endpoint", "issuer", "_uri")):
                continue
            getattr(document, f"validate_{check}", lambda: None)()


def code_flow_with_pkce_id_token_and_user_info():
    oauth, token, nonce = sign_in(WORLD["web"], max_age=300)
    claims = verified(token, WORLD["web"], nonce, max_age=300)
    info = UserInfo(oauth.get(METADATA["userinfo_endpoint"]).json())
    assert info.sub == claims["sub"] and info.preferred_username == WORLD["username"]


def every_way_to_authenticate():
    for client, method in [("web", "client_secret_basic"), ("web", "client_secret_post"), ("native", "none")]:
        _, token, nonce = sign_in(WORLD[client], method)
        verified(token, WORLD[client], nonce)


def consent_of_a_third_party():
    _, token, nonce = sign_in(WORLD["partner"])
    verified(token, WORLD["partner"], nonce)


def refresh_revoke_introspect():
    oauth, token, _ = sign_in(WORLD["web"])
    before = token["refresh_token"]
    token = oauth.refresh_token(METADATA["token_endpoint"])
    assert token["refresh_token"] != before
    gateway = session(WORLD["gateway"])
    facts = gateway.introspect_token(METADATA["introspection_endpoint"], token=token["access_token"]).json()
    assert facts["active"] and facts["token_type"] == "Bearer" and WORLD["audience"] in facts["aud"]
    assert oauth.revoke_token(METADATA["revocation_endpoint"], token=token["refresh_token"]).status_code == 200
    facts = gateway.introspect_token(METADATA["introspection_endpoint"], token=token["access_token"]).json()
    assert facts == {"active": False}
    try:
        oauth.refresh_token(METADATA["token_endpoint"], refresh_token=token["refresh_token"])
        raise AssertionError("refreshed after it was revoked")
    except OAuthError as error:
        assert error.error == "invalid_grant"


def client_credentials_by_a_client_with_a_strange_name():
    robot = OAuth2Session(WORLD["robot"]["client_id"], WORLD["robot"]["client_secret"], scope="orders")
    token = robot.fetch_token(METADATA["token_endpoint"], grant_type="client_credentials")
    assert token["scope"] == "orders" and "refresh_token" not in token


CASES = [
    the_metadata_are_valid_by_rfc_8414_and_openid_discovery,
    code_flow_with_pkce_id_token_and_user_info,
    every_way_to_authenticate,
    consent_of_a_third_party,
    refresh_revoke_introspect,
    client_credentials_by_a_client_with_a_strange_name,
]


def main():
    for case in CASES:
        sentence = case.__name__.replace("_", " ")
        try:
            case()
            print(f"ok authlib: {sentence}")
        except Exception:
            print(f"FAILED authlib: {sentence}: {traceback.format_exc()}")
    print("done")


main()
