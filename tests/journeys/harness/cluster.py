"""kubectl and helm of the test cluster, and what lies below them."""

import json
import os
import subprocess
from pathlib import Path

from .report import Failed

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / "tests" / "cluster" / "bin"


def run(*command, stdin=None, timeout=180, check=True):
    done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode:
        shown = " ".join(str(part) for part in command)
        raise Failed(f"{shown}\nended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
    return done


def kubectl(*arguments, **options):
    return run(TOOLS / "kubectl", *arguments, **options).stdout


def helm(*arguments, **options):
    return run(TOOLS / "helm", *arguments, **options).stdout


def get(kind, name=None, namespace=None, **selector):
    """An object, or the list of those with the labels of `selector`."""
    where = ["-n", namespace] if namespace else []
    if name:
        return json.loads(kubectl("get", kind, name, *where, "-o", "json"))
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    return json.loads(kubectl("get", kind, *where, *(["-l", labels] if labels else []), "-o", "json"))["items"]


def apply(manifest, namespace=None):
    return kubectl("apply", *(["-n", namespace] if namespace else []), "-f", "-", stdin=manifest)


def refused(manifest, namespace=None):
    """The API server's sentence for a manifest that it does not take."""
    done = run(TOOLS / "kubectl", "apply", *(["-n", namespace] if namespace else []), "-f", "-", stdin=manifest, check=False)
    if done.returncode == 0:
        raise Failed(f"it was accepted: {done.stdout}")
    return done.stderr


def exists(kind, name, namespace=None):
    where = ["-n", namespace] if namespace else []
    return bool(kubectl("get", kind, name, *where, "--ignore-not-found", "-o", "name").strip())


def pods(namespace, app):
    """Running pods that are not on their way out."""
    return [
        pod
        for pod in get("pods", namespace=namespace, app=app)
        if "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") == "Running"
    ]


def ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def sidecar(pod):
    """The injected sidecar of a pod, if it has one."""
    return next((c for c in pod["spec"].get("initContainers", []) if c["name"] == "cloakroom"), None)


def restarts(namespace, **selector):
    """Restarts of every container, by pod; of pods that are not on their way out."""
    count = {}
    for pod in get("pods", namespace=namespace, **selector):
        if "deletionTimestamp" in pod["metadata"]:
            continue
        status = pod["status"]
        statuses = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
        count[pod["metadata"]["name"]] = sum(s["restartCount"] for s in statuses)
    return count


def process_of(pod, container):
    """The process id, on this machine, of a pod's container."""
    status = next(s for s in pod["status"]["containerStatuses"] if s["name"] == container)
    wanted = status["containerID"].removeprefix("containerd://")
    for line in run(TOOLS / "ctr", "tasks", "list").stdout.splitlines():
        fields = line.split()
        if fields and fields[0] == wanted:
            return int(fields[1])
    raise Failed(f"containerd knows no task {wanted}")


def condition(policy, kind):
    """A condition of an AuthPolicy, if the operator has reported on the policy as it is now."""
    status = policy.get("status", {})
    if status.get("observedGeneration") != policy["metadata"]["generation"]:
        return None
    return next((c for c in status.get("conditions", []) if c["type"] == kind), None)


def image_tag():
    return os.environ["CLOAKROOM_IMAGE_TAG"]
