"""Pods that the tests of this folder make, and their processes as the node's kernel knows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hack.cluster import Cluster
from hack.cluster.nodeconfig import IMAGE
from kubexen.api.xendomain import XenDomain
from kubexen.plan import anchor

# Says, as the pod's last word, who it is and what the API server tells it of its own pod.
REPORT = """
import asyncio, json, os
from pathlib import Path
from kubexen.kube.client import Api
from kubexen.kube.resources import PODS

async def main():
    account = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read_text()
    api = await Api.connect(user_agent="kubexen-test")
    pod = await api.get(PODS, os.environ["HOSTNAME"], account)
    await api.close()
    word = {"uid": os.getuid(), "node": pod["spec"]["nodeName"]}
    Path("/dev/termination-log").write_text(json.dumps(word))

asyncio.run(main())
"""


def pod(name: str, namespace: str, node: str, *command: str) -> dict[str, Any]:
    """A pod of the image on this node, as `restricted` wants it."""
    container = {
        "name": "it",
        "image": IMAGE,
        "command": list(command),
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": node, "restartPolicy": "Never", "securityContext": security, "containers": [container]},
    }


def anchor_of(name: str, namespace: str, node: str) -> dict[str, Any]:
    """An anchor as the controller makes it, but without a domain: nothing owns it, and no finalizer keeps its object."""
    domain = XenDomain.parse({
        "apiVersion": "kubexen.dev/v1alpha1",
        "kind": "XenDomain",
        "metadata": {"name": name, "namespace": namespace, "uid": "none"},
        "spec": {"type": "pv", "memory": {"size": "128Mi"}, "boot": {"direct": {"kernel": {"pool": "none", "file": "none"}}}},
    })
    document = anchor.manifest(domain, image=IMAGE, on=node)
    document["metadata"] = {"name": name, "namespace": namespace, "labels": document["metadata"]["labels"]}
    return document


def reported(cluster: Cluster, namespace: str, node: str) -> Any:
    """What a pod of the image on this node says of itself, as an account that may read its namespace's pods."""
    cluster.kubectl("create", "role", "see", "--verb=get", "--resource=pods", "-n", namespace)
    cluster.kubectl("create", "rolebinding", "see", "--role=see", f"--serviceaccount={namespace}:default", "-n", namespace)
    path = create(cluster, pod("reports", namespace, node, "python3", "-c", REPORT))
    return last_word(wait_phase(cluster, path, "Succeeded"))


def create(cluster: Cluster, document: dict[str, Any]) -> str:
    """Create a pod; its path."""
    collection = f"/api/v1/namespaces/{document['metadata']['namespace']}/pods"
    cluster.api.create(collection, document)
    return f"{collection}/{document['metadata']['name']}"


def wait_phase(cluster: Cluster, path: str, phase: str, timeout: float = 60) -> dict[str, Any]:
    """Wait until a pod is in this phase, or has ended in another; the pod."""
    found = cluster.api.wait(path, lambda pod: pod["status"].get("phase") in (phase, "Succeeded", "Failed"), timeout)
    assert found["status"]["phase"] == phase, found["status"]
    return found


def last_word(document: dict[str, Any]) -> Any:
    """What the container of a pod that ended left in its termination message, which is JSON."""
    ended = document["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["exitCode"] == 0, ended
    return json.loads(ended["message"])


def container_id(document: dict[str, Any]) -> str:
    return str(document["status"]["containerStatuses"][0]["containerID"]).removeprefix("containerd://")


def kib(told: str, field: str) -> int:
    """A field of what the kernel tells of a process's memory, as in /proc/PID/status."""
    return next(int(line.split()[1]) for line in told.splitlines() if line.startswith(f"{field}:"))


def processes(container: str) -> list[int]:
    """The processes of a container on this machine, by its cgroup."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and container in (folder / "cgroup").read_text():
                found.append(int(folder.name))
        except OSError:
            continue  # it ended
    return found
