"""The control plane itself: what tests of Kubexen rely on is so, before they blame Kubexen."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hack.cluster import ApiError, Cluster, KubectlError
from hack.cluster.certificates import SERVER_NAMES
from hack.tools.build import FAMILIES, binary
from tests.cluster.conftest import AddNode

FINALIZER = "kubexen.dev/domain"
NODE_NAME = "authentication.kubernetes.io/node-name"


def pod(name: str, *, memory_mib: int = 0, **spec: Any) -> dict[str, Any]:
    resources = {"cpu": "1m", "memory": "16Mi"}
    if memory_mib:
        resources |= {"kubexen.dev/memory-mib": str(memory_mib), "kubexen.dev/vcpus": "1"}
    container = {"name": "main", "image": "none", "resources": {"requests": resources, "limits": resources}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
    }


def create_pod(cluster: Cluster, namespace: str, manifest: dict[str, Any], phase: str = "Running") -> dict[str, Any]:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    cluster.api.create(pods, manifest)
    return cluster.api.wait(f"{pods}/{manifest['metadata']['name']}", lambda item: item["status"]["phase"] == phase)


def condition(item: dict[str, Any], kind: str) -> str:
    return next((c["status"] for c in item["status"].get("conditions", []) if c["type"] == kind), "")


def test_the_versions_are_the_pinned_ones(cluster: Cluster) -> None:
    versions = json.loads(cluster.kubectl("version", "--output=json"))
    assert versions["serverVersion"]["gitVersion"] == FAMILIES["kubernetes"].version
    assert versions["clientVersion"]["gitVersion"] == FAMILIES["kubernetes"].version


@pytest.mark.parametrize("name", SERVER_NAMES)
def test_the_certificate_holds_every_name_of_the_server(cluster: Cluster, name: str) -> None:
    port = int(cluster.server.rpartition(":")[2])
    tls = ssl.create_default_context(cafile=str(cluster.state / "pki" / "ca.crt"))
    with socket.create_connection(("127.0.0.1", port)) as plain, tls.wrap_socket(plain, server_hostname=name) as secure:
        assert secure.version() == "TLSv1.3"


def test_anchors_go_to_the_host_with_most_free_memory_for_guests(
    cluster: Cluster, namespace: str, add_node: AddNode
) -> None:
    label = {"test": namespace}
    small, big = add_node("small", labels=label), add_node("big", labels=label)
    for node, memory in ((small, "4096"), (big, "16384")):
        cluster.patch_capacity(node, {"kubexen.dev/memory-mib": memory, "kubexen.dev/vcpus": "64"})
    # What dom0 itself has to do would make the default profile take the other node.
    busy = pod("busy", nodeName=big)
    busy["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "6", "memory": "12Gi"}}
    create_pod(cluster, namespace, busy)

    placed = []
    for number in range(3):
        spec = pod(f"anchor-{number}", memory_mib=1024, schedulerName="kubexen-scheduler", nodeSelector=label)
        placed.append(create_pod(cluster, namespace, spec)["spec"]["nodeName"])

    assert placed == [big, big, big]


def test_an_anchor_that_no_host_has_memory_for_waits_and_says_so(
    cluster: Cluster, namespace: str, add_node: AddNode
) -> None:
    node = add_node(capacity={"kubexen.dev/memory-mib": "1024", "kubexen.dev/vcpus": "8"})
    spec = pod("anchor", memory_mib=2048, schedulerName="kubexen-scheduler")
    spec["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    cluster.api.create(f"/api/v1/namespaces/{namespace}/pods", spec)

    path = f"/api/v1/namespaces/{namespace}/pods/anchor"
    waiting = cluster.api.wait(path, lambda item: condition(item, "PodScheduled") == "False")
    assert "Insufficient kubexen.dev/memory-mib" in json.dumps(waiting["status"]["conditions"])

    cluster.patch_capacity(node, {"kubexen.dev/memory-mib": "4096"})
    cluster.api.wait(path, lambda item: item["status"]["phase"] == "Running")


def test_a_drain_waits_for_the_finalizer_of_a_pod_and_ends_well(
    cluster: Cluster, namespace: str, add_node: AddNode
) -> None:
    node = add_node()
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    owner = cluster.api.create(maps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}})
    anchor = pod("anchor", nodeName=node)
    anchor["metadata"]["finalizers"] = [FINALIZER]
    anchor["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"], "controller": True}
    ]
    create_pod(cluster, namespace, anchor)
    path = f"/api/v1/namespaces/{namespace}/pods/anchor"

    command = [str(binary("kubectl")), f"--kubeconfig={cluster.kubeconfig}", "drain", node, "--timeout=60s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as drain:
        leaving = cluster.api.wait(path, lambda item: "deletionTimestamp" in item["metadata"])
        with pytest.raises(subprocess.TimeoutExpired):
            drain.wait(3)
        cluster.api.patch(path, {"metadata": {"finalizers": None}})
        output = drain.communicate(timeout=20)[0]

    assert drain.returncode == 0, output
    assert "pod/anchor evicted" in output
    assert condition(leaving, "DisruptionTarget") == "True"
    cluster.api.wait_gone(path)


def test_a_silent_node_becomes_not_ready_and_comes_back(cluster: Cluster, namespace: str, add_node: AddNode) -> None:
    silent, other = add_node("silent"), add_node("other")
    forever = [{"operator": "Exists"}]
    for name, node in (("stays", silent), ("leaves", silent), ("elsewhere", other)):
        create_pod(cluster, namespace, pod(name, nodeName=node, tolerations=forever))
    pods = f"/api/v1/namespaces/{namespace}/pods"

    cluster.stop_heartbeat(silent)

    node = cluster.api.wait(f"/api/v1/nodes/{silent}", lambda item: len(item["spec"].get("taints", [])) == 2)
    assert {(t["key"], t["effect"]) for t in node["spec"]["taints"]} == {
        ("node.kubernetes.io/unreachable", "NoSchedule"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
    }
    assert "NotReady" in cluster.kubectl("get", "node", silent)
    cluster.api.wait(f"{pods}/stays", lambda item: condition(item, "Ready") == "False")
    # Nobody there ends a pod, as on a dead host.
    cluster.api.delete(f"{pods}/leaves", gracePeriodSeconds="30")
    with pytest.raises(TimeoutError):
        cluster.api.wait_gone(f"{pods}/leaves", timeout=3)
    assert condition(cluster.api.get(f"{pods}/elsewhere"), "Ready") == "True"

    cluster.resume_heartbeat(silent)

    cluster.api.wait_gone(f"{pods}/leaves")
    cluster.api.wait(f"{pods}/stays", lambda item: condition(item, "Ready") == "True")


def test_a_simulated_pod_is_ready_as_its_readiness_gate_says(
    cluster: Cluster, namespace: str, add_node: AddNode
) -> None:
    gate = "kubexen.dev/domain-ready"
    create_pod(cluster, namespace, pod("gated", nodeName=add_node(), readinessGates=[{"conditionType": gate}]))
    path = f"/api/v1/namespaces/{namespace}/pods/gated"
    for status in ("False", "True"):
        patch = {"status": {"conditions": [{"type": gate, "status": status}]}}
        cluster.api.patch(f"{path}/status", patch, "application/strategic-merge-patch+json")
        cluster.api.wait(path, lambda item, status=status: condition(item, "Ready") == status)


def test_a_token_bound_to_a_node_names_it(cluster: Cluster, namespace: str, add_node: AddNode, tmp_path: Path) -> None:
    node = add_node()
    cluster.kubectl("create", "serviceaccount", "agent", f"--namespace={namespace}")
    token = cluster.service_account_token(namespace, "agent", node=node)
    config = tmp_path / "kubeconfig"
    config.write_text(cluster.kubeconfig_for(token, server_host="127.0.0.1"))

    user = json.loads(cluster.kubectl(f"--kubeconfig={config}", "auth", "whoami", "--output=json"))["status"][
        "userInfo"
    ]

    assert user["username"] == f"system:serviceaccount:{namespace}:agent"
    assert user["extra"][NODE_NAME] == [node]
    with pytest.raises(KubectlError, match=r"cannot list resource \"nodes\""):
        cluster.kubectl(f"--kubeconfig={config}", "get", "nodes")


def test_requests_are_counted_by_user_verb_and_resource(cluster: Cluster, namespace: str, add_node: AddNode) -> None:
    cluster.kubectl("create", "serviceaccount", "counted", f"--namespace={namespace}")
    account = f"--serviceaccount={namespace}:counted"
    cluster.kubectl("create", "rolebinding", "counted", "--clusterrole=edit", account, f"--namespace={namespace}")
    node = add_node()
    api = cluster.api_for(cluster.service_account_token(namespace, "counted", node=node))
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    mark = cluster.audit_mark()

    api.create(maps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
    for text in ("x", "y"):
        api.patch(f"{maps}/a", {"data": {"text": text}})
    api.wait(f"{maps}/a", lambda item: item["data"]["text"] == "y")
    with pytest.raises(ApiError, match="cannot list resource"):
        api.get("/api/v1/nodes")
    api.delete(f"{maps}/a")

    user = f"system:serviceaccount:{namespace}:counted"
    requests = [request for request in cluster.audit(mark) if request.user == user]
    assert Counter((request.verb, request.resource) for request in requests) == {
        ("create", "configmaps"): 1,
        ("patch", "configmaps"): 2,
        ("watch", "configmaps"): 1,
        ("list", "nodes"): 1,
        ("delete", "configmaps"): 1,
    }
    assert sum(request.is_write for request in requests) == 4
    assert {request.code for request in requests} == {200, 201, 403}
    assert {request.node for request in requests} == {node}
