"""Simulated nodes of a cluster: Node objects that kwok keeps alive, as a kubelet would.

A part of `Cluster` (its methods are called on that), used by tests, the demo without Xen and the bench.
A pod that is bound to such a node is Running at once and stays so; once deleted it goes, unless a finalizer keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hack.cluster.api import Api, Object

# kwok looks after the nodes with this label. An annotation would do as well, but kwok does not notice when one is taken
# away: it goes on to renew the node's Lease. A label ends its watch of the node, and the node falls silent.
MANAGED_LABEL = "kwok.x-k8s.io/node"
MANAGED_VALUE = "fake"
CAPACITY = {"cpu": "8", "memory": "16Gi", "pods": "1000"}
# What Kubernetes itself puts on a node that is not ready yet, or no more.
LIFECYCLE_TAINTS = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}


class SimulatedNodes:
    """The methods of a cluster that make and break its simulated nodes."""

    api: Api
    node_monitor_grace_period: int

    def add_node(
        self,
        name: str,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        capacity: Mapping[str, str] | None = None,
    ) -> Object:
        """Make a node, wait until it takes pods, and return its Node. `capacity` is added to the default one."""
        return self.add_nodes([name], labels, taints, capacity)[0]

    def add_nodes(
        self,
        names: Iterable[str],
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        capacity: Mapping[str, str] | None = None,
    ) -> list[Object]:
        """Make several nodes at once, all alike."""
        names = list(names)
        for name in names:
            self.api.create("/api/v1/nodes", _node(name, labels or {}, taints, CAPACITY | dict(capacity or {})))
        return [self.wait_node_ready(name) for name in names]

    def wait_node_ready(self, name: str, timeout: float = 30) -> Object:
        """Wait until the node is Ready and Kubernetes has taken its own taints from it."""
        return self.api.wait(_path(name), _takes_pods, timeout)

    def stop_heartbeat(self, name: str, *, wait: bool = True) -> None:
        """Let a node fall silent, as a dead host: its Lease is not renewed any more, and nothing answers for its pods.

        The node lifecycle controller makes it NotReady after the grace period. It does not evict pods when every node
        of the cluster is silent: then it takes its own network for the broken part.
        """
        self.label_node(name, {MANAGED_LABEL: None})
        if wait:
            self.api.wait(_path(name), lambda node: _ready(node) == "Unknown", self.node_monitor_grace_period + 30)

    def resume_heartbeat(self, name: str) -> None:
        """Bring a silent node back, and wait until it takes pods."""
        self.label_node(name, {MANAGED_LABEL: MANAGED_VALUE})
        self.wait_node_ready(name)

    def label_node(self, name: str, labels: Mapping[str, str | None]) -> None:
        """Label a node, as an administrator does (None removes)."""
        self.api.patch(_path(name), {"metadata": {"labels": dict(labels)}})

    def delete_node(self, name: str) -> None:
        """Delete the Node object. Kubernetes removes its Lease and, after a while, its pods."""
        self.api.delete(_path(name))
        self.api.wait_gone(_path(name))

    def patch_capacity(self, name: str, capacity: Mapping[str, str | None]) -> Object:
        """Patch the node's capacity (None removes) and wait until it is allocatable, as under a kubelet."""
        self.api.patch(f"{_path(name)}/status", {"status": {"capacity": dict(capacity)}})
        wanted = {resource: value for resource, value in capacity.items() if value is not None}
        return self.api.wait(_path(name), lambda node: wanted.items() <= node["status"]["allocatable"].items())


def _path(name: str) -> str:
    return f"/api/v1/nodes/{name}"


def _node(name: str, labels: Mapping[str, str], taints: Sequence[Mapping[str, str]], capacity: Object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
            | {MANAGED_LABEL: MANAGED_VALUE}
            | dict(labels),
        },
        "spec": {"taints": [dict(taint) for taint in taints]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def _ready(node: Object) -> str:
    conditions = node["status"].get("conditions", [])
    return next((condition["status"] for condition in conditions if condition["type"] == "Ready"), "")


def _takes_pods(node: Object) -> bool:
    taints = {taint["key"] for taint in node["spec"].get("taints", [])}
    return _ready(node) == "True" and not taints & LIFECYCLE_TAINTS
