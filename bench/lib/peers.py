"""The proxies under test. Each is started anew for each scenario, alone on its core, with one worker."""

import json
import os
import pathlib
import shutil
import socket
import time
from string import Template

from .nginx import start_nginx
from .process import free_port, wait_for_port

UPSTREAM = """
upstream app { server 127.0.0.1:$APP; keepalive 128; keepalive_requests 1000000000; keepalive_timeout 300s; }
upstream authority { server 127.0.0.1:$AUTHORITY; keepalive 128; keepalive_requests 1000000000; keepalive_timeout 300s; }
$ZONE
server { listen 127.0.0.1:$PORT; listen 127.0.0.1:$HTTP2_PORT http2; $LOCATIONS }
"""
PASS = 'proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;'
PASS_WITH_JWT = PASS + ' auth_request_set $jwt $upstream_http_x_auth_jwt; proxy_set_header Authorization "Bearer $jwt";'
ASK = 'internal; proxy_pass http://authority; proxy_pass_request_body off; proxy_set_header Content-Length ""; proxy_http_version 1.1; proxy_set_header Connection "";'

LOOK_UP = """
local token = string.match(ngx.var.http_authorization or "", "^Bearer (.+)")
if not token then return ngx.exit(401) end
local known = ngx.shared.tokens
local jwt = known:get(token)
if not jwt then
  local redis = require("nginx.redis"):new()
  redis:set_timeout(1000)
  if not redis:connect("127.0.0.1", $REDIS) then return ngx.exit(503) end
  local found, failed = redis:get(token)
  if not found then return ngx.exit(503) end
  redis:set_keepalive(60000, 128)
  jwt = found ~= ngx.null and found or ""
  known:set(token, jwt, 2)
end
if jwt == "" then return ngx.exit(401) end
ngx.req.set_header("Authorization", "Bearer " .. jwt)
"""


class Sidecar:
    """The real binary, with the real auth service unless `quick` names another."""

    name = "cloakroom"
    title = "Cloakroom's sidecar"
    http2 = True
    authenticates = True
    asks_real = True

    def __init__(self, world, quick=None):
        self._world, self._quick = world, quick

    def asking_quick(self):
        """The same, asking what is as quick as the authority that the other proxies ask."""
        return Sidecar(self._world, self._world.quick_auth_service)

    def start(self, port):
        world, admin = self._world, free_port()
        document = world.auth_service.document
        config = json.loads(SIDECAR_CONFIG)
        config["policy"] = config["jwt"]["audience"] = document["policy"]
        config["auth_service"] = {"internal_url": self._quick or document["internal_url"], "issuer": document["auth_url"]}
        config_file, token_file = world.folder / f"config-{port}.json", world.folder / "token"
        config_file.write_text(json.dumps(config))
        token_file.write_text(document["admin_token"])
        environment = {
            "PATH": os.environ["PATH"],
            "CLOAKROOM_CONFIG": str(config_file),
            "CLOAKROOM_TOKEN_FILE": str(token_file),
            "CLOAKROOM_PORTS": f"{world.app_port}:{port}",
            "CLOAKROOM_INTERCEPTION": "Redirect",
            "CLOAKROOM_POD_UID": f"bench-{port}",
            "CLOAKROOM_POD_NAME": "bench",
            "CLOAKROOM_POD_IPS": "127.0.0.1",
            "CLOAKROOM_ADMIN_LISTEN": f"127.0.0.1:{admin}",
            "CLOAKROOM_WORKERS": "1",
        }
        self.began = time.monotonic()
        return world.processes.start([world.sidecar], world.proxy_core, environment, log=world.folder / f"sidecar-{port}.log")

    def until_first_answer(self, port, token):
        """Seconds from its start to the first request that reached the app."""
        wanted = f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        while time.monotonic() - self.began < 10:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                    connection.sendall(wanted)
                    if connection.recv(4096).startswith(b"HTTP/1.1 200"):
                        return time.monotonic() - self.began
            except OSError:
                pass
            time.sleep(0.0002)
        raise SystemExit("bench: the sidecar did not proxy a request within 10 s")


SIDECAR_CONFIG = """{
  "format": 1, "revision": "bench", "mode": "Enforce", "origins": [], "trusted_proxies": [],
  "token_sources": [{"cookie": {"name": "__Host-cloakroom"}}, {"header": {"name": "Authorization", "scheme": "Bearer"}}],
  "unauthenticated": "Auto", "writable": [], "jwt": {"header": "Authorization", "claim_headers": {}}, "outage": "Deny",
  "rules": [], "limits": {"request_headers": 32768, "request_body": 10485760, "idle_timeout": 600}
}"""


class _Nginx:
    http2 = True
    authenticates = True
    asks_real = False
    modules, zone, locations = "", "", ""

    def __init__(self, world):
        self._world = world

    def start(self, port):
        world = self._world
        self.http2_port = free_port()
        folder = world.folder / f"{self.name}-{port}"
        servers = Template(UPSTREAM).safe_substitute(ZONE=self.zone, LOCATIONS=self.locations)
        return start_nginx(
            world.processes, folder, servers, world.proxy_core, self.modules,
            APP=world.app_port, AUTHORITY=world.authority_port, REDIS=world.redis_port, PORT=port, HTTP2_PORT=self.http2_port,
        )  # fmt: skip


class NginxPlain(_Nginx):
    name = "nginx"
    title = "nginx, plain proxy"
    authenticates = False
    locations = "location / { " + PASS + " }"


class NginxAsking(_Nginx):
    name = "nginx-asking"
    title = "nginx auth_request, asked each time"
    locations = "location / { auth_request /_auth; " + PASS_WITH_JWT + " } location = /_auth { " + ASK + " }"


class NginxCached(_Nginx):
    name = "nginx-cached"
    title = "nginx auth_request, cached 2 s"
    zone = "proxy_cache_path $FOLDER/cache levels=1:2 keys_zone=auth:32m max_size=512m use_temp_path=off;"
    cache = " proxy_cache auth; proxy_cache_key $http_authorization; proxy_cache_valid 200 401 2s;"
    locations = "location / { auth_request /_auth; " + PASS_WITH_JWT + " } location = /_auth { " + ASK + cache + " }"


class NginxLua(_Nginx):
    """Looks tokens up in Redis, where each has its JWT, and keeps them for two seconds: what people write who want no other service."""

    name = "nginx-lua"
    title = "nginx with Lua, Redis, cached 2 s"
    files = [*(pathlib.Path("/usr/lib/nginx/modules", name) for name in ("ndk_http_module.so", "ngx_http_lua_module.so")), pathlib.Path("/usr/share/lua/5.1/nginx/redis.lua")]
    modules = "".join(f"load_module {file};" for file in files[:2])
    zone = "lua_shared_dict tokens 64m;"
    locations = "location / { access_by_lua_block { " + LOOK_UP + " } " + PASS + " }"


class _Envoy:
    http2 = True
    asks_real = False
    filters = []

    def __init__(self, world):
        self._world = world

    def start(self, port):
        world = self._world
        clusters = [_cluster("app", world.app_port), _cluster("authority", world.authority_port)]
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "in",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]}]},
            "http_filters": [*self.filters, _filter("envoy.filters.http.router", "router.v3.Router")],
        }
        listener = {
            "name": "in",
            "address": _address(port),
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
        }
        config = world.folder / f"{self.name}-{port}.json"
        config.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}}))
        command = [world.envoy, "-c", config, "--concurrency", "1", "--log-level", "off", "--disable-hot-restart"]
        return world.processes.start(command, world.proxy_core, log=world.folder / f"{self.name}-{port}.log")


class EnvoyPlain(_Envoy):
    name = "envoy"
    title = "Envoy, plain proxy"
    authenticates = False


class EnvoyAsking(_Envoy):
    name = "envoy-asking"
    title = "Envoy ext_authz (HTTP), asked each time"
    authenticates = True

    def __init__(self, world):
        super().__init__(world)
        service = {
            "server_uri": {"uri": "http://authority", "cluster": "authority", "timeout": "1s"},
            "authorization_response": {"allowed_upstream_headers": {"patterns": [{"exact": "x-auth-jwt"}]}},
        }
        self.filters = [_filter("envoy.filters.http.ext_authz", "ext_authz.v3.ExtAuthz", http_service=service)]


def _filter(name, kind, **config):
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.filters.http.{kind}", **config}}


def _address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name, port):
    endpoint = {"endpoint": {"address": _address(port)}}
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}}


class Oathkeeper:
    """Asks the real auth service by RFC 7662, keeps the answer for two seconds, and mints a JWT itself."""

    name = "oathkeeper"
    title = "Oathkeeper, introspection cached 2 s, id_token"
    http2 = False
    authenticates = True
    asks_real = True

    def __init__(self, world):
        self._world = world

    def start(self, port):
        world = self._world
        folder = world.folder / f"oathkeeper-{port}"
        folder.mkdir()
        document = world.auth_service.document
        rule = {
            "id": "all",
            "match": {"url": "<http|https>://<.*>", "methods": ["GET"]},
            "upstream": {"url": f"http://127.0.0.1:{world.app_port}"},
            "authenticators": [{"handler": "oauth2_introspection"}],
            "authorizer": {"handler": "allow"},
            "mutators": [{"handler": "id_token"}],
        }
        (folder / "rules.json").write_text(json.dumps([rule]))
        introspection = {
            "introspection_url": document["auth_url"] + "/oauth2/introspect",
            "introspection_request_headers": {"Authorization": world.auth_service.basic},
            "cache": {"enabled": True, "ttl": "2s"},
        }
        config = {
            "serve": {"proxy": {"port": port, "host": "127.0.0.1"}, "api": {"port": free_port(), "host": "127.0.0.1"}, "prometheus": {"port": free_port(), "host": "127.0.0.1"}},
            "log": {"level": "error"},
            "access_rules": {"repositories": [f"file://{folder}/rules.json"]},
            "authenticators": {"oauth2_introspection": {"enabled": True, "config": introspection}},
            "authorizers": {"allow": {"enabled": True}},
            "mutators": {"id_token": {"enabled": True, "config": {"issuer_url": "http://bench", "jwks_url": f"file://{folder}/keys.json"}}},
        }
        (folder / "config.json").write_text(json.dumps(config))
        keys = pathlib.Path(world.oathkeeper_keys())
        shutil.copy(keys, folder / "keys.json")
        environment = {"PATH": os.environ["PATH"], "GOMAXPROCS": "1", "HOME": str(folder)}
        return world.processes.start([world.oathkeeper, "serve", "-c", folder / "config.json"], world.proxy_core, environment, log=folder / "log")


ALL = [Sidecar, NginxPlain, NginxLua, NginxCached, NginxAsking, EnvoyPlain, EnvoyAsking, Oathkeeper]


def started(peer, processes):
    """Starts a proxy on a port of its own; its id, its HTTP/1.1 port and its HTTP/2 port."""
    port = free_port()
    pid = peer.start(port)
    wait_for_port(port, peer.title)
    return pid, port, getattr(peer, "http2_port", port)
