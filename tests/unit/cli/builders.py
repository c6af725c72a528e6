"""A cluster in which all is well, as plain documents, and ways to change a thing in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from kubexen.api.crdgen import crd
from kubexen.api.kinds import KINDS
from kubexen.api.names import (
    ANCHOR_FINALIZER,
    API_VERSION,
    CONTROLLER_LEASE,
    DOMAIN_FINALIZER,
    DOMAIN_LABEL,
    HOST_LABEL,
    MEMORY_RESOURCE,
    SCHEDULER_NAME,
)
from kubexen.cli.doctor import cluster, rights
from kubexen.cli.doctor import snapshot as snapshots
from kubexen.cli.doctor.rights import MYSELF, Right
from kubexen.cli.doctor.snapshot import Snapshot
from kubexen.kube.kinds import XENDISKS, XENDOMAINS, XENHOSTS, XENNETWORKS, XENSTORAGEPOOLS
from kubexen.kube.resources import LEASES, NODES, PODS, Object, Resource

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
SYSTEM, AGENTS = "kubexen-system", "kubexen-agents"
ACCOUNTS = [f"{SYSTEM}:{rights.CONTROLLER}", f"{AGENTS}:{rights.AGENT}"]


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def named(name: str, namespace: str = "", **rest: Any) -> Object:
    metadata = {"name": name, "uid": f"uid-{name}", **({"namespace": namespace} if namespace else {})}
    return {"metadata": metadata, **rest}


def is_so(kind: str, status: str, reason: str = "Because", message: str = "", since: float = 0) -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": ago(since)}


def lease(name: str, namespace: str, seconds: float = 3) -> Object:
    return named(name, namespace, spec={"holderIdentity": f"{name}_1", "leaseDurationSeconds": 15, "renewTime": ago(seconds)})


def node(name: str = "xen1") -> Object:
    found = named(name, spec={}, status={"conditions": [is_so("Ready", "True")],
                                         "allocatable": {"pods": "110", MEMORY_RESOURCE: "4096"}})
    found["metadata"]["labels"] = {HOST_LABEL: "true"}
    return found


def host(name: str = "xen1") -> Object:
    return named(name, apiVersion=API_VERSION, kind="XenHost", spec={}, status={
        "nodeName": name, "conditions": [is_so("Ready", "True", "Ready", "The hypervisor answers.")],
        "memory": {"total": "8Gi", "free": "4Gi", "forGuests": "4Gi"}, "domains": 1, "agentVersion": "0.1.0",
        "checks": [{"name": "Dom0Memory", "result": "OK", "message": "dom0 has 2048M"}],
        "networks": [{"name": "lan", "ready": True}],
        "pools": [{"name": "images", "ready": True, "total": "100Gi", "free": "50Gi"}],
    })  # fmt: skip


def domain(name: str = "web", **status: Any) -> Object:
    found = named(name, "shop", apiVersion=API_VERSION, kind="XenDomain", spec={
        "type": "pvh", "boot": {"direct": {"kernel": {"pool": "images", "file": "vmlinuz"}}}, "memory": {"size": "256Mi"},
    }, status={"nodeName": "xen1", "conditions": [is_so("Ready", "True", "Running")], **status})  # fmt: skip
    found["metadata"]["finalizers"] = [DOMAIN_FINALIZER]
    return found


def disk(name: str = "data", **status: Any) -> Object:
    found = named(name, "shop", apiVersion=API_VERSION, kind="XenDisk", spec={"pool": "images", "size": "1Gi"},
                  status={"nodeName": "xen1", "data": "Present", "conditions": [is_so("Ready", "True", "Ready")], **status})
    found["metadata"]["finalizers"] = ["kubexen.dev/disk"]
    return found


def anchor(name: str = "web-anchor", **rest: Any) -> Object:
    found = named(name, "shop", kind="Pod", spec={"schedulerName": SCHEDULER_NAME, "nodeName": "xen1", "containers": []},
                  status={"phase": "Running", "conditions": [is_so("PodScheduled", "True")]})
    found["metadata"] |= {"labels": {DOMAIN_LABEL: "web"}, "finalizers": [ANCHOR_FINALIZER],
                          "ownerReferences": [{"uid": "uid-web"}], "creationTimestamp": ago(900), **rest}
    return found


def definitions() -> list[Object]:
    found = [copy.deepcopy(crd(kind)) for kind in KINDS]
    for definition in found:
        definition["status"] = {"conditions": [is_so("Established", "True")]}
    return found


def policies(names: tuple[str, ...]) -> tuple[list[Object], list[Object]]:
    return [named(name) for name in names], [named(f"{name}-binding", spec={"policyName": name}) for name in names]


def well() -> Snapshot:
    """Nothing is wrong."""
    mutating, mutating_bindings = policies(cluster.FINALIZER_POLICIES)
    validating, validating_bindings = policies(cluster.GUARDS)
    found: dict[Resource, list[Object]] = {
        NODES: [node()], XENHOSTS: [host()], XENDOMAINS: [domain()], XENDISKS: [disk()], PODS: [anchor()],
        XENNETWORKS: [named("lan", kind="XenNetwork", spec={}, status={"conditions": [is_so("Ready", "True")]})],
        XENSTORAGEPOOLS: [named("images", kind="XenStoragePool", spec={}, status={"conditions": [is_so("Ready", "True")]})],
        LEASES: [lease(CONTROLLER_LEASE, SYSTEM), lease("xen1", AGENTS)],
        snapshots.CRDS: definitions(),
        snapshots.MUTATING: mutating, snapshots.MUTATING_BINDINGS: mutating_bindings,
        snapshots.VALIDATING: validating, snapshots.VALIDATING_BINDINGS: validating_bindings,
        snapshots.ACCOUNTS: [named(rights.CONTROLLER, SYSTEM), named(rights.AGENT, AGENTS)],
    }  # fmt: skip
    answers = [(Right(MYSELF, "list", "", "nodes"), True), *((r, True) for r in rights.needed(SYSTEM, AGENTS, ACCOUNTS))]
    return Snapshot(NOW, SYSTEM, AGENTS, {str(res): objects for res, objects in found.items()}, {}, answers)


Change = Callable[[Snapshot], Any]


def one(res: Resource, change: Callable[[Object], Any], name: str = "") -> Change:
    """Change the first object of a kind, or the one of this name."""

    def apply(snapshot: Snapshot) -> None:
        change(next(obj for obj in snapshot.of(res) if name in ("", obj["metadata"]["name"])))

    return apply


def without(res: Resource, name: str = "") -> Change:
    """Take the object of this name away, or all."""

    def apply(snapshot: Snapshot) -> None:
        objects = snapshot.objects[str(res)]
        assert isinstance(objects, list)
        objects[:] = [obj for obj in objects if name and obj["metadata"]["name"] != name]

    return apply


def with_(res: Resource, *more: Object) -> Change:
    def apply(snapshot: Snapshot) -> None:
        objects = snapshot.objects[str(res)]
        assert isinstance(objects, list)
        objects.extend(more)

    return apply
