"""Domains, anchors and hosts as the plans see them, each whole; a test changes what it is about."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from kubexen.api.conditions import Condition, ConditionType, Reason, find, set_condition
from kubexen.api.domainstatus import ClaimStatus, Exit, Move, MovePhase, VolumeMode, XenDomainStatus
from kubexen.api.names import DOMAIN_FINALIZER
from kubexen.api.xendisk import XenDisk
from kubexen.api.xendomain import XenDomain
from kubexen.api.xennetwork import XenNetwork
from kubexen.api.xenstoragepool import XenStoragePool
from kubexen.hypervisor.port import DomainState, Flags, Owner, ShutdownReason
from kubexen.plan import domain as planning
from kubexen.plan.anchor import Anchor, placement
from kubexen.plan.claims import Claim
from kubexen.plan.resolve import References, request, reservation
from kubexen.plan.started import note
from tests.unit.api import builders as documents

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
UID = "7d0c3a52-55c1-4f39-9a43-0a1b2c3d4e5f"
HOST = planning.Host("xen1", "boot-1")
EVERYONE: dict[str, Any] = {}
"""A namespace selector that admits all."""


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


# --- the object


def domain(
    status: XenDomainStatus | None = None,
    *,
    deleting: bool = False,
    generation: int = 1,
    finalizers: Iterable[str] = (DOMAIN_FINALIZER,),
    labels: dict[str, str] | None = None,
    name: str = "web",
    uid: str = UID,
    **spec: Any,
) -> XenDomain:
    """`spec` is given by the names of attributes, as in power_state="Halted"."""
    document = documents.domain(name)
    document["metadata"] |= {
        "namespace": "shop", "uid": uid, "generation": generation, "finalizers": list(finalizers),
        "labels": labels or {}, "creationTimestamp": "2026-03-01T11:00:00Z",
    }
    if deleting:
        document["metadata"]["deletionTimestamp"] = "2026-03-01T11:59:00Z"
    document["spec"] |= copy.deepcopy(spec)
    result = XenDomain.parse(document)
    result.status = status or XenDomainStatus()
    return result


def says(ready: bool, reason: str, generation: int = 1) -> Condition:
    """The agent's condition."""
    return set_condition([], ConditionType.DOMAIN_READY, ready, reason, "The agent's words.", generation, ago(300))[0]


RUNNING = says(True, Reason.RUNNING)


def bound(agent: Condition | None = RUNNING, **fields: Any) -> XenDomainStatus:
    """The status of a domain that is on xen1, held by anchor a1."""
    values: dict[str, Any] = {
        "node_name": "xen1", "anchor_uid": "a1", "domid": 7, "boot_id": "boot-1",
        "conditions": [agent] if agent else [],
    }
    return XenDomainStatus(**(values | fields))


def ended(reason: str = "poweroff", seconds: float = 10) -> Exit:
    return Exit(reason=reason, time=ago(seconds))


def move(phase: MovePhase = MovePhase.PENDING, cause: str = "EvictionByEvictionAPI", target: str | None = None) -> Move:
    return Move(uid="a1", phase=phase, cause=cause, target=target)


# --- its claims

ON_ONE_NODE = ("ReadWriteOnce",)
SHARED = ("ReadWriteMany",)


def claim(
    name: str = "data", access: Iterable[str] = ON_ONE_NODE, *, block: bool = True, volume: str | None = None,
) -> ClaimStatus:
    return ClaimStatus(
        name=name, uid=f"uid-of-{name}", volume_name=f"pv-{name}" if volume is None else volume,
        volume_mode=VolumeMode.BLOCK if block else VolumeMode.FILESYSTEM, access_modes=list(access),
    )


def uses(*names: str) -> list[dict[str, str]]:
    """Entries of spec.disks."""
    return [{"name": name, "claimName": name, "target": f"xvd{'abcdef'[n]}"} for n, name in enumerate(names)]


# --- its anchors


def anchor(uid: str = "a1", node: str = "xen1", phase: str = "Running", *, age: float = 60, **fields: Any) -> Anchor:
    created = ago(age).isoformat().replace("+00:00", "Z")
    values: dict[str, Any] = {
        "name": f"web-anchor-{uid}", "deleting": False, "ready": True, "request": request(reservation(domain())),
        "placement": placement(domain()),
    }
    return Anchor(uid=uid, node=node, phase=phase, created=created, **(values | fields))


def pending(uid: str = "a1", node: str = "", **fields: Any) -> Anchor:
    return anchor(uid, node, "Pending", **({"ready": None} | fields))


# --- on its host


def state(flags: str = "-b----", *, domid: int = 7, reason: ShutdownReason | None = None, **fields: Any) -> DomainState:
    """`flags` as `xl list` shows them."""
    values: dict[str, Any] = {
        "uuid": UID, "name": "shop.web", "memory_kib": 512 * 1024, "max_memory_kib": 512 * 1024,
        "memory_target_kib": 512 * 1024, "vcpus_online": 1, "vcpus": 1, "owner": Owner("shop", "web", UID),
        "note": note(domain()),
    }
    bits = {name: letter != "-" for name, letter in
            zip(("running", "blocked", "paused", "shutdown", "crashed", "dying"), flags, strict=True)}
    return DomainState(domid=domid, flags=Flags(**bits), shutdown_reason=reason, **(values | fields))


# --- what it refers to


def _namespaced(document: dict[str, Any], uid: str) -> dict[str, Any]:
    document["metadata"] |= {"namespace": "shop", "uid": uid}
    return document


def pool(name: str = "images", **spec: Any) -> XenStoragePool:
    document = documents.pool(name)
    document["spec"] |= {"directory": {"path": f"/srv/{name}"}, "namespace_selector": EVERYONE} | spec
    return XenStoragePool.parse(document)


def network(name: str = "lan", **spec: Any) -> XenNetwork:
    document = documents.network(name)
    document["spec"] |= {"namespace_selector": EVERYONE} | spec
    return XenNetwork.parse(document)


def disk(name: str = "root", *, status: dict[str, Any] | None = None, deleting: bool = False, **spec: Any) -> XenDisk:
    document = _namespaced(documents.disk(name), f"uid-of-{name}")
    document["spec"] |= spec
    document["status"] = status or {}
    if deleting:
        document["metadata"]["deletionTimestamp"] = "2026-03-01T11:59:00Z"
    return XenDisk.parse(document)


def references(
    *objects: XenDisk | XenStoragePool | XenNetwork, labels: dict[str, str] | None = None, claims: Iterable[Claim] = (),
) -> References:
    """With the pools `images` and `local` and the network `lan`, unless others of these names are given."""
    everything = [pool("images"), pool("local"), network("lan"), *objects]
    of = {kind: {o.metadata.name: o for o in everything if isinstance(o, kind)}
          for kind in (XenDisk, XenStoragePool, XenNetwork)}
    return References(of[XenDisk], of[XenStoragePool], of[XenNetwork], labels or {},  # type: ignore[arg-type]
                      {c.status.name: c for c in claims})


# --- reading what came out


def shows(status: XenDomainStatus | None, type: ConditionType = ConditionType.READY) -> str | None:
    """A condition as in `True Running`; None: it is not there, or the status is not written."""
    found = find(status.conditions, type) if status else None
    return f"{found.status} {found.reason}" if found else None
