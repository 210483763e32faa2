"""A policy that is given a certificate: its port speaks TLS from then on, and its proof is taken over it."""

import base64
import json

from harness import cluster
from harness.http import Client
from harness.report import equal, eventually, expect
from harness.world import WIKI

from .protect import enforced

NAME = "notes.localhost"


def message():
    condition = cluster.condition(cluster.get("authpolicy", "notes", WIKI), "Enforced")
    return condition["message"] if condition else ""


def a_protected_port(world, report):
    report.part("TLS on the protected port")
    https = Client(world.authority.certificate)

    def ask(scheme, path="/"):
        at = world.replicas(WIKI, "notes")[0]
        return https(f"{scheme}://{NAME}:8080{path}", at=at)

    def certificate(name):
        files = dict(zip(("tls.crt", "tls.key"), world.authority.issue(name, [f"DNS:{NAME}"]), strict=True))
        data = {key: base64.b64encode(file.read_bytes()).decode() for key, file in files.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "notes-tls", "namespace": WIKI}, "type": "kubernetes.io/tls", "data": data}
        cluster.apply(json.dumps(secret))

    def set_tls(tls):
        before = {pod["metadata"]["uid"] for pod in cluster.pods(WIKI, "notes")}
        cluster.kubectl("patch", "authpolicy", "notes", "-n", WIKI, "--type=merge", "-p", json.dumps({"spec": {"tls": tls}}))
        eventually(90, lambda: before.isdisjoint(pod["metadata"]["uid"] for pod in cluster.pods(WIKI, "notes")), "pods that were created for it")

    with report.check("a policy that names a Secret which is not there yet says so, and its pods are not ready"):
        set_tls({"secretName": "notes-tls"})
        eventually(60, lambda: "Secret notes-tls" in message(), "the Secret's name in Enforced", every=0.3)
        expect(not any(cluster.ready(pod) for pod in cluster.pods(WIKI, "notes")), "a pod is ready without a certificate")

    with report.check("with the Secret the port speaks TLS, and Enforced is proved over it"):
        certificate("notes")
        eventually(180, lambda: enforced(WIKI, "notes"), "Enforced", every=0.3)
        equal(ask("https").status, 401, "without a token")
        refused = ask("http")
        equal((refused.status, b"use https://" in refused.body), (400, True), "plain HTTP")

    with report.check("only the sidecar mounts the Secret"):
        for pod in cluster.pods(WIKI, "notes"):
            expect(not any(m["name"] == "cloakroom-tls" for m in pod["spec"]["containers"][0].get("volumeMounts", [])), "the app mounts it")

    with report.check("without tls the port speaks plain HTTP again"):
        set_tls(None)
        cluster.kubectl("delete", "secret", "notes-tls", "-n", WIKI)
        eventually(120, lambda: enforced(WIKI, "notes"), "Enforced", every=0.3)
        equal(ask("http").status, 401, "without a token")
