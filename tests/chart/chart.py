"""What the chart renders for the values in values/, and what it says of those in refused/."""

import subprocess
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CHART = ROOT / "charts" / "cloakroom"
KUBECTL = ROOT / "tests" / "cluster" / "bin" / "kubectl"
# What a cluster without the kinds of others does not know.
FOREIGN = {"cert-manager.io", "gateway.networking.k8s.io"}

passed = failed = 0


def main():
    check("the chart's CRDs are the generated ones", lambda: done(ROOT / "charts" / "sync-crds", "--check"))
    check("helm lint --strict has nothing against it", lambda: done("helm", "lint", "--strict", "--quiet", CHART))
    cluster = subprocess.run([KUBECTL, "get", "--raw", "/readyz"], capture_output=True).returncode == 0
    for values in sorted((HERE / "values").glob("*.yaml")):
        name = values.stem
        check(f"{name}: helm lint --strict has nothing against it", lambda: done("helm", "lint", "--strict", "--quiet", CHART, "-f", values))
        objects = []
        check(f"{name}: it renders", lambda: objects.extend(render(values)))
        check(f"{name}: every container meets the restricted Pod Security Standard, and says what it needs", lambda: restricted(objects))
        check(f"{name}: no right reaches further than it must", lambda: modest(objects))
        check(f"{name}: no webhook, and no object outside of the release's namespace", lambda: at_home(objects))
        check(f"{name}: every Service and disruption budget selects pods of ours, and only of one kind", lambda: selectors(objects))
        if cluster:
            check(f"{name}: the API server accepts it", lambda: accepted(objects))
    for values in sorted((HERE / "refused").glob("*.yaml")):
        check(f"refused with a sentence: {values.stem.replace('-', ' ')}", lambda: refused(values))
    if not cluster:
        print("no cluster runs: nothing was shown to an API server (tests/cluster/up)")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def check(sentence, holds):
    global passed, failed
    try:
        holds()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is this check's failure
        failed += 1
        print(f"FAILED  {sentence}\n        {type(error).__name__}: {str(error)[-1500:]}")
    else:
        passed += 1
        print(f"ok      {sentence}")


def done(*command, stdin=None):
    ended = subprocess.run([str(part) for part in command], input=stdin, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def template(values):
    command = ["helm", "template", "cloakroom", CHART, "--namespace", "default", "--kube-version", "1.37.0", "-f", values]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def render(values):
    ended = template(values)
    assert ended.returncode == 0, ended.stderr
    objects = [document for document in yaml.safe_load_all(ended.stdout) if document]
    assert len(objects) > 15, f"only {len(objects)} objects"
    return objects


def pods(objects):
    for thing in objects:
        if thing["kind"] in ("Deployment", "StatefulSet"):
            yield thing["metadata"]["name"], thing["spec"]["template"]["metadata"]["labels"], thing["spec"]["template"]["spec"]
        elif thing["kind"] == "Pod":
            yield thing["metadata"]["name"], thing["metadata"].get("labels", {}), thing["spec"]


def restricted(objects):
    for name, _, spec in pods(objects):
        of_pod = spec["securityContext"]
        assert of_pod["runAsNonRoot"] is True and of_pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not spec.get("hostNetwork") and not spec.get("hostPID") and not spec.get("hostIPC"), name
        assert not [volume for volume in spec.get("volumes", []) if "hostPath" in volume], name
        for container in spec["containers"] + spec.get("initContainers", []):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False and context["capabilities"] == {"drop": ["ALL"]}, name
            assert context["readOnlyRootFilesystem"] is True, name
            resources = container["resources"]
            assert resources["requests"].keys() >= {"cpu", "memory"} and "memory" in resources["limits"], name


def modest(objects):
    roles = [thing for thing in objects if thing["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        for rule in role["rules"]:
            where = f"{role['kind']} {role['metadata']['name']}: {rule}"
            assert "*" not in rule.get("verbs", []) + rule.get("resources", []) + rule.get("apiGroups", []), where
            for verb in ("escalate", "bind", "impersonate"):
                assert verb not in rule["verbs"], where
            if "secrets" in rule.get("resources", []) and role["kind"] == "ClusterRole":
                assert not {"list", "watch", "deletecollection"} & set(rule["verbs"]), f"it could read every Secret there is: {where}"
            assert not {"pods/exec", "serviceaccounts/token", "nodes/proxy"} & set(rule.get("resources", [])), where


def at_home(objects):
    for thing in objects:
        assert "Webhook" not in thing["kind"], thing["kind"]
        assert thing["metadata"].get("namespace", "default") == "default", f"{thing['kind']} {thing['metadata']}"


def selectors(objects):
    everyone = [labels for _, labels, _ in pods(objects)]
    for thing in objects:
        selector = thing["spec"].get("selector", {}) if thing["kind"] in ("Service", "PodDisruptionBudget") else {}
        wanted = selector.get("matchLabels", selector)
        if wanted:
            chosen = {labels.get("app.kubernetes.io/component") for labels in everyone if wanted.items() <= labels.items()}
            assert len(chosen) == 1, f"{thing['kind']} {thing['metadata']['name']} selects {chosen}"


def accepted(objects):
    known = [thing for thing in objects if thing["apiVersion"].split("/")[0] not in FOREIGN and thing["kind"] != "Pod"]
    done(KUBECTL, "create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=yaml.safe_dump_all(unused_names(known)))


def unused_names(objects):
    """Names that no installation has, since creating has to be possible."""
    for thing in objects:
        if thing["kind"] != "CustomResourceDefinition":
            thing["metadata"]["name"] = "dry-run-" + thing["metadata"]["name"]
        else:
            continue
        yield thing


def refused(values):
    sentence = values.read_text().splitlines()[0].removeprefix("# ")
    ended = template(values)
    assert ended.returncode != 0, "it was accepted"
    assert sentence in ended.stderr, f"wanted {sentence!r} in: {ended.stderr}"


if __name__ == "__main__":
    sys.exit(main())
