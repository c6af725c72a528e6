"""PersistentVolumeClaims as disks: what of a claim a domain needs to know, and which domain may have it.

The controller uses it with claims read afresh, the agent with those that status.claims records. A claim has one domain at
a time. The controller keeps the order (`check_order`), and each agent proves it before a start (`check_sole`): a bound domain's
claims are written before its agent asks for all domains of the namespace, so of two that hold one claim whoever asks
later sees the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubexen.api.conditions import Reason
from kubexen.api.domainstatus import ClaimStatus, VolumeMode
from kubexen.api.xendomain import XenDomain
from kubexen.plan.order import comes_first
from kubexen.plan.problem import Problem

DISKS = "/run/kubexen/disks"
"""Where a host has one path a disk that is the same on every host: libvirt's leases go by the path."""


@dataclass(frozen=True)
class Claim:
    """A claim that a spec names. `problem`: why no domain can have it now."""

    status: ClaimStatus
    problem: str = ""


def observe(document: Mapping[str, Any]) -> Claim:
    """The claim that a PersistentVolumeClaim's document shows."""
    metadata, spec = document["metadata"], document["spec"]
    status = ClaimStatus(
        name=metadata["name"],
        uid=metadata["uid"],
        volume_name=spec.get("volumeName") or "",
        volume_mode=VolumeMode(spec.get("volumeMode") or VolumeMode.FILESYSTEM),
        access_modes=list(spec.get("accessModes") or ()),
    )
    if "deletionTimestamp" in metadata:
        return Claim(status, "is being deleted; make another, or use another")
    if document.get("status", {}).get("phase") == "Lost":
        return Claim(status, "has lost its PersistentVolume; bring that back, or use another claim")
    return Claim(status)


def recorded(domain: XenDomain) -> dict[str, Claim]:
    """The claims that the domain's anchor mounts, by name, as the controller wrote them down."""
    return {status.name: Claim(status) for status in domain.status.claims}


def named(domain: XenDomain) -> list[str]:
    """The names of the claims in a spec, in its order."""
    return [disk.claim_name for disk in domain.spec.disks if disk.claim_name]


def word(name: str) -> str:
    """A claim among what an anchor mounts."""
    return f"claim/{name}"


def path(claim: ClaimStatus) -> str:
    """The disk's path on every host."""
    return f"{DISKS}/{claim.uid}"


def exclusive(claims: Iterable[ClaimStatus]) -> list[str]:
    """The names of those that can be on one node only."""
    return [claim.name for claim in claims if claim.exclusive]


def holds(domain: XenDomain, name: str) -> bool:
    return any(claim.name == name for claim in domain.status.claims)


def check_order(domain: XenDomain, name: str, others: Iterable[XenDomain]) -> None:
    """That no other domain has, or comes first for, the claim of this name: whoever holds it keeps it.

    Args:
        others: those whose spec or status has the claim, as the controller knows them.

    Raises:
        Problem: DiskInUse.
    """
    for other in others:
        if (holds(other, name), comes_first(other, domain)) > (holds(domain, name), False):
            node = other.status.node_name
            raise in_use(name, other.metadata.name, f"which is on node {node}" if node else "which came first")


def check_sole(domain: XenDomain, held: Iterable[ClaimStatus], others: Iterable[XenDomain]) -> None:
    """That no other domain on a node holds one of these claims.

    Args:
        others: all domains of the namespace, read after this one was bound.

    Raises:
        Problem: DiskInUse.
    """
    uids = {claim.uid: claim.name for claim in held}
    for other in others:
        if other.metadata.uid == domain.metadata.uid or not other.status.node_name:
            continue
        for claim in other.status.claims:
            if claim.uid in uids:
                raise in_use(claim.name, other.metadata.name, f"which is on node {other.status.node_name}")


def in_use(claim: str, holder: str, how: str) -> Problem:
    return Problem(
        Reason.DISK_IN_USE,
        f"spec.disks: PersistentVolumeClaim {claim!r} is held by XenDomain {holder!r}, {how}; "
        "halt that and take the claim out of it, or give this one a claim of its own",
        retry_after=10,
    )


def node_terms(volume: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The nodes that a PersistentVolume can be on, as terms of a node selector (alternatives); none: any node."""
    affinity = volume.get("spec", {}).get("nodeAffinity") or {}
    return list((affinity.get("required") or {}).get("nodeSelectorTerms") or ())
