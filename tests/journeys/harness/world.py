"""Everything around the cluster, and where things are."""

import base64
import json
import secrets
import shutil
import tempfile
from pathlib import Path
from string import Template

from . import cluster
from .browser import Browser
from .certificates import Authority
from .edge import Edge
from .http import Client
from .prober import Prober
from .redis_server import RedisServer
from .report import Failed, eventually, note
from .token_issuer import TokenIssuer

HERE = Path(__file__).resolve().parent.parent

SYSTEM, SHOP, WIKI = "journey-system", "journey-shop", "journey-wiki"
ISSUER = "https://auth.journey.test"
SHOP_URL, WIKI_URL, NOTES_URL = "https://shop.journey.test", "http://wiki.localhost", "http://notes.localhost"
NODE = "10.244.0.1"
KINDS = ("apikeys", "oauthclients", "authpolicies")
DEFINITIONS = tuple(f"{kind}.cloakroom.dev" for kind in KINDS)
CLUSTER_SCOPED = (
    "mutatingadmissionpolicybindings", "mutatingadmissionpolicies", "validatingadmissionpolicybindings", "validatingadmissionpolicies",
    "clusterroles", "clusterrolebindings",
)  # fmt: skip


class World:
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="cloakroom-journey-"))
        self.authority = Authority(self.folder)
        self.redis = RedisServer(self.folder, self.authority, NODE, 26390, secrets.token_urlsafe(24))
        self.token_issuer = TokenIssuer(self.authority, NODE, 26391)
        self.http = Client(self.authority.certificate)
        self.person = {"username": "ada", "password": secrets.token_urlsafe(16), "email": "ada@journey.test"}
        self.cookie = None  # of the shop, as the browser has it
        self.wiki_cookie = None
        self.prober = None
        self._browser = None
        self._edge = None

    def __enter__(self):
        self.redis.start()
        return self

    def __exit__(self, *_):
        if self.prober:
            self.prober.__exit__()
        if self._browser:
            self._browser.close()
        if self._edge:
            self._edge.close()
        self.redis.stop()
        self.token_issuer.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def manifest(self, name):
        return Template((HERE / "manifests" / name).read_text().replace("$(", "$$(")).substitute(TAG=cluster.image_tag())

    # Where things are.

    def learn_addresses(self):
        self.http.addresses = {
            "auth.journey.test": (_service(SYSTEM, "cloakroom-auth"), 443),
            "shop.journey.test": (_service(SHOP, "shop"), 80),
            "wiki.localhost": (_service(WIKI, "wiki"), 80),
            "notes.localhost": (_service(WIKI, "notes"), 80),
        }

    def replicas(self, namespace, app):
        """The addresses of an app's pods on the protected port."""
        return [(pod["status"]["podIP"], 8080) for pod in cluster.pods(namespace, app)]

    def shop(self, path, at=None, headers=(), **options):
        """A request to the shop as it arrives from the proxy in front, which has ended TLS."""
        given = list(headers.items() if isinstance(headers, dict) else headers)
        return self.http("http://shop.journey.test" + path, at=at, headers=[("X-Forwarded-Proto", "https"), *given], **options)

    def signed_in(self, path, at=None, headers=(), **options):
        return self.shop(path, at=at, headers=[("Cookie", f"__Host-cloakroom={self.cookie}"), *headers], **options)

    def admin(self, path, method="GET", body=None):
        """The admin API, as an administrator uses it: on the internal port, whose certificate the operator's CA has signed."""
        token = _secret("cloakroom-admin-token", "token")
        authority = self.folder / "internal-ca.crt"
        authority.write_text(_secret("cloakroom-auth-internal-tls", "ca.crt"))
        host = f"cloakroom-auth-internal.{SYSTEM}.svc:9443"
        client = Client(authority, {host: (_service(SYSTEM, "cloakroom-auth-internal"), 9443)})
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return client(f"https://{host}/admin/v1{path}", method, headers, body and json.dumps(body))

    def cookie_value(self):
        cookie = self.browser.cookie("__Host-cloakroom")
        return cookie and cookie["value"]

    # Around the cluster.

    def start_prober(self):
        targets = {
            "shop, open to all": "http://shop.journey.test/open/door",
            "shop, behind sign-in": "http://shop.journey.test/orders/1",
            "wiki, open to all": "http://wiki.localhost/open/door",
            "wiki, behind sign-in": "http://wiki.localhost/pages/1",
        }
        self.prober = Prober(self.http, targets, {name: [200] for name in targets})
        self.prober.__enter__()

    @property
    def browser(self):
        if not self._browser:
            certificate, key = self.authority.issue("edge", ["DNS:shop.journey.test"])
            self._edge = Edge(certificate, key, self.http.addresses["shop.journey.test"])
            addresses = {
                "auth.journey.test:443": self.http.addresses["auth.journey.test"],
                "shop.journey.test:443": self._edge.address,
                "wiki.localhost:80": self.http.addresses["wiki.localhost"],
            }
            self._browser = Browser(self.folder, addresses, [certificate, self.folder / "auth.crt"])
        return self._browser

    # Before and after.

    def clean_up(self):
        """Also what an interrupted run left."""
        foreign = [r for r in json.loads(cluster.helm("list", "-A", "-o", "json")) if r["chart"].startswith("cloakroom-") and r["namespace"] != SYSTEM]
        if foreign:
            raise SystemExit(f"Cloakroom is installed in {foreign[0]['namespace']}, and a cluster has room for one: take that away first (tests/cluster/demo down)")
        for namespace in (SHOP, WIKI):
            for kind in KINDS:
                self._delete_all(kind, namespace)
        cluster.helm("uninstall", "cloakroom", "-n", SYSTEM, "--ignore-not-found", "--wait", "--timeout", "60s", check=False)
        cluster.kubectl("delete", "namespace", SYSTEM, SHOP, WIKI, "--ignore-not-found", "--timeout=90s", timeout=100)
        cluster.kubectl("delete", "crd", *DEFINITIONS, "--ignore-not-found", "--timeout=30s")
        for kind in CLUSTER_SCOPED:
            for name in _ours(kind):
                cluster.kubectl("delete", kind, name, "--ignore-not-found")

    def _delete_all(self, kind, namespace):
        if not cluster.exists("crd", f"{kind}.cloakroom.dev") or not cluster.exists("namespace", namespace):
            return
        for one in cluster.get(kind, namespace=namespace):
            name = one["metadata"]["name"]
            cluster.kubectl("delete", kind, name, "-n", namespace, "--timeout=20s", check=False)
            if cluster.exists(kind, name, namespace):  # no operator is there to let go of it
                cluster.kubectl("patch", kind, name, "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')

    def expect_clean(self):
        left = [f"{kind}/{name}" for kind in CLUSTER_SCOPED for name in _ours(kind)]
        for kind, name in (("namespace", SYSTEM), ("namespace", SHOP), ("namespace", WIKI), *(("crd", name) for name in DEFINITIONS)):
            if cluster.exists(kind, name):
                left.append(f"{kind}/{name}")
        if left:
            raise Failed(f"left behind: {left}")

    def diagnose(self):
        """What one would ask for first, after the first failure."""
        for title, arguments in (
            ("policies", ["get", "authpolicies", "-A"]),
            ("keys and clients", ["get", "apikeys,oauthclients", "-A"]),
            ("their status", ["get", "authpolicies", "-A", "-o", "jsonpath={range .items[*]}{.metadata.name}{\": \"}{.status}{\"\\n\"}{end}"]),
            ("admission policies", ["get", "mutatingadmissionpolicies,validatingadmissionpolicies"]),
        ):
            _show(title, arguments)
        for namespace in (SYSTEM, SHOP, WIKI):
            _show(f"pods of {namespace}", ["get", "pods", "-n", namespace, "-o", "wide"])
            _show(f"events of {namespace}", ["get", "events", "-n", namespace, "--sort-by=.lastTimestamp"], 12)
        _show("operator", ["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator", "--tail=25", "--prefix"], 40)
        _show("auth service", ["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/component=auth", "--tail=25", "--prefix"], 40)
        for namespace, app in ((SHOP, "shop"), (WIKI, "wiki")):
            _show(f"sidecars of {app}", ["logs", "-n", namespace, "-l", f"app={app}", "-c", "cloakroom", "--tail=15", "--prefix"], 30)
        if self.prober and self.prober.failures:
            note("the prober's first failures:\n" + "\n".join(map(str, self.prober.failures[:5])))
        if self._browser:
            try:
                note(f"the browser is at {self._browser.url}:\n{self._browser.text()[:600]}")
            except Exception as error:  # noqa: BLE001 - diagnosis must not fail
                note(f"the browser: {error}")


def _service(namespace, name):
    return eventually(10, lambda: cluster.get("service", name, namespace)["spec"]["clusterIP"], f"Service {name}")


def _secret(name, entry):
    return base64.b64decode(cluster.get("secret", name, SYSTEM)["data"][entry]).decode()


def _ours(kind):
    names = cluster.kubectl("get", kind, "-o", "name").split()
    return [name.split("/")[1] for name in names if name.split("/")[1].startswith(("cloakroom-", "cloakroom.journey-", "journey-"))]


def _show(title, arguments, lines=25):
    done = cluster.run(cluster.TOOLS / "kubectl", *arguments, check=False)
    text = (done.stdout + done.stderr).strip().splitlines()
    note(f"--- {title}\n" + "\n".join(line[:400] for line in text[-lines:]))
