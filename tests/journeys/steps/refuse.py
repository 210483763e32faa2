"""Bad input, and the sentence it gets."""

import json

from harness import cluster
from harness.report import equal, eventually, expect
from harness.world import SHOP, SYSTEM

POLICY = """
apiVersion: cloakroom.dev/v1alpha1
kind: AuthPolicy
metadata: {{name: wrong, namespace: {namespace}}}
spec: {spec}
"""


def what_cannot_be(world, report):
    report.part("Refuse what cannot be")
    for sentence, namespace, spec, words in (
        ("a policy for kube-system", "kube-system", "{selector: {matchLabels: {a: b}}}", "lock the cluster out"),
        ("a policy for our own namespace", SYSTEM, "{selector: {matchLabels: {a: b}}}", "Cloakroom itself"),
        ("a policy whose app shares the auth service's host", SHOP, '{selector: {matchLabels: {a: b}}, origins: ["https://auth.journey.test:8443"]}', "share its cookies"),
        ("a policy that selects everything", SHOP, "{selector: {}}", "empty selector"),
        ("a policy with a misspelt field", SHOP, "{selector: {matchLabels: {a: b}}, interceptoin: Loopback}", "interceptoin"),
    ):  # fmt: skip
        with report.check(f"{sentence} is refused with a sentence"):
            said = cluster.refused(POLICY.format(namespace=namespace, spec=spec))
            expect(words in said, said)
    with report.check("a selected pod that cannot be protected (hostNetwork) is refused with a sentence"):
        said = cluster.refused(world.manifest("unprotectable.yaml"))
        expect("hostNetwork" in said or "host network" in said, said)
    with report.check("another injector cannot take the sidecar out: the pod gets it back, or is refused with a sentence"):
        cluster.apply(world.manifest("other-injector.yaml"))
        try:
            eventually(10, lambda: cluster.exists("mutatingadmissionpolicybinding", "journey-other-injector"), "the other injector")
            done = cluster.run(cluster.TOOLS / "kubectl", "create", "-f", "-", "-o", "json", stdin=world.manifest("robbed.yaml"), check=False)
            if done.returncode:
                expect("sidecar" in done.stderr, done.stderr)
            else:
                expect(cluster.sidecar(json.loads(done.stdout)), f"a pod without the sidecar: {done.stdout}")
                cluster.kubectl("delete", "pod", "robbed", "-n", SHOP, "--grace-period=1")
        finally:
            cluster.kubectl("delete", "mutatingadmissionpolicy,mutatingadmissionpolicybinding", "journey-other-injector")
    with report.check("a pod that no policy selects is created untouched"):
        done = cluster.kubectl(
            "run", "bystander", "-n", SHOP, f"--image=localhost/cloakroom-sample-app:{cluster.image_tag()}", "--dry-run=server",
            "-o", "jsonpath={.spec.initContainers}{.spec.volumes[*].name}",
        )  # fmt: skip
        expect("cloakroom" not in done, done)
        equal(done.count("kube-api-access"), 1, "volumes")
