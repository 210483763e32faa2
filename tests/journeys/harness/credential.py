"""A resource that asks for a credential, and the Secret that the operator writes for it."""

import base64
import json

from . import cluster
from .report import eventually


class Credential:
    def __init__(self, kind, name):
        self.kind, self.name = kind, name
        self.suffix = {"ApiKey": "api-key", "OAuthClient": "oauth-client"}[kind]
        self.secret = f"cloakroom.{name}.{self.suffix}"

    def manifest(self, namespace, spec):
        metadata = {"name": self.name, "namespace": namespace}
        return json.dumps({"apiVersion": "cloakroom.dev/v1alpha1", "kind": self.kind, "metadata": metadata, "spec": spec})

    def apply(self, namespace, spec):
        cluster.apply(self.manifest(namespace, spec))

    def patch(self, namespace, spec):
        cluster.kubectl("patch", self.kind.lower(), self.name, "-n", namespace, "--type=merge", "-p", json.dumps({"spec": spec}))

    def delete(self, namespace, then=lambda: None):
        cluster.kubectl("delete", self.kind.lower(), self.name, "-n", namespace, "--timeout=30s")
        then()
        eventually(30, lambda: not cluster.exists("secret", self.secret, namespace), "no Secret", every=0.2)

    def delete_secret(self, namespace):
        cluster.kubectl("delete", "secret", self.secret, "-n", namespace)

    def status(self, namespace):
        return cluster.get(self.kind.lower(), self.name, namespace)["status"]

    def condition(self, namespace, kind):
        return cluster.condition(cluster.get(self.kind.lower(), self.name, namespace), kind)

    def is_ready(self, namespace, seconds=20):
        eventually(seconds, lambda: self.condition(namespace, "Ready")["status"] == "True", "Ready")

    def is_refused(self, namespace, reason):
        """The sentence why."""

        def refused():
            accepted = self.condition(namespace, "Accepted")
            return accepted["status"] == "False" and accepted["reason"] == reason and accepted["message"]

        return eventually(20, refused, f"Accepted=False, {reason}")

    def entries(self, namespace):
        """What the Secret holds."""
        data = cluster.get("secret", self.secret, namespace)["data"]
        return {name: base64.b64decode(value).decode() for name, value in data.items()}
