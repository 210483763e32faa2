"""Registers what the judges need with a running `cloakroom local` and prints where everything is, as JSON."""

import json
import socket
import sys
import urllib.request

AUTHORIZED = ["authorization_code", "refresh_token"]
OPENID = ["openid", "profile", "email", "roles", "groups", "offline_access"]


def main(ready_file):
    with open(ready_file) as file:
        ready = json.load(file)

    def admin(method, path, body):
        headers = {"Authorization": f"Bearer {ready['admin_token']}", "Content-Type": "application/json"}
        url = f"{ready['internal_url']}/admin/v1{path}"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    # The policy's audience, as the demo client has it.
    audience = admin_get(ready, "/clients/demo")["audiences"][0]

    def client(client_id, **settings):
        made = admin("POST", "/clients", {"client_id": client_id, "name": client_id.title(), **settings})
        return {"client_id": client_id, "client_secret": made.get("client_secret")}

    people = {
        "redirect_uris": ["http://127.0.0.1/callback"],
        "post_logout_redirect_uris": ["http://127.0.0.1:9999/bye"],
        "grant_types": AUTHORIZED,
        "scopes": OPENID,
        "audiences": [audience],
    }
    with socket.socket() as listener:  # a port that was free a moment ago
        listener.bind(("127.0.0.1", 0))
        logout_uri = f"http://127.0.0.1:{listener.getsockname()[1]}/logout"
    world = {
        **ready,
        "issuer": ready["auth_url"],
        "audience": audience,
        "callback": "http://127.0.0.1:9999/callback",
        "bye": "http://127.0.0.1:9999/bye",
        "web": client("web", first_party=True, **people),
        "proxy": client("proxy", first_party=True, **{**people, "redirect_uris": ["http://127.0.0.1/oauth2/callback"]}),
        "partner": client("partner", **people),
        "native": client("native", public=True, first_party=True, **people),
        "tv": client(
            "tv",
            public=True,
            grant_types=["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
            scopes=OPENID,
            audiences=[audience],
        ),
        # A service that answers for the audience and calls on.
        "service": client(
            "service",
            grant_types=["urn:ietf:params:oauth:grant-type:token-exchange"],
            scopes=["profile"],
            audiences=["next-service"],
            introspects=[audience],
        ),
        "listener": {
            **client("listener", first_party=True, backchannel_logout_uri=logout_uri, **people),
            "logout_uri": logout_uri,
        },
        # Characters that have to be form-encoded before they are joined (RFC 6749 section 2.3.1).
        "robot": client("robot~1.2", grant_types=["client_credentials"], scopes=["orders"], audiences=[audience]),
        "registration_token": admin("POST", "/registration-tokens", {"label": "judges", "uses": 10})["token"],
        "gateway": client("gateway", introspects=[audience]),
    }
    json.dump(world, sys.stdout)


def admin_get(ready, path):
    request = urllib.request.Request(
        f"{ready['internal_url']}/admin/v1{path}", headers={"Authorization": f"Bearer {ready['admin_token']}"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


main(sys.argv[1])
