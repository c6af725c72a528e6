"""Why an anchor does not run, in words that a person can act on: the scheduler's, the kubelet's, and what the largest host has.

placement.py writes it into conditions. What it cannot read of the scheduler's message it hands on as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubexen.api.conditions import Reason
from kubexen.api.names import MEMORY_RESOURCE, VCPUS_RESOURCE
from kubexen.api.xendomain import XenDomain
from kubexen.plan.anchor import Anchor
from kubexen.plan.resolve import request, reservation

VOLUME_WARNINGS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
"""Reasons of a kubelet's Events about a claim or a Secret."""


@dataclass(frozen=True)
class Largest:
    """The most that any one node offers for anchors, whether or not something is on it."""

    memory_mib: int
    vcpus: int


def explain(domain: XenDomain, anchor: Anchor, largest: Largest | None, mounting: str = "") -> tuple[Reason, str]:
    """The condition's reason and message for an anchor that does not run.

    Args:
        mounting: the kubelet's newest warning about it, with its reason first.
    """
    if not anchor.unschedulable:
        if anchor.node and mounting:
            reason = Reason.WAITING_FOR_DISK if mounting.startswith(VOLUME_WARNINGS) else Reason.WAITING_FOR_NODE
            return reason, f"Waiting for anchor {anchor.name} to run on {anchor.node}, which says: {mounting}"
        if anchor.node:
            return Reason.WAITING_FOR_NODE, f"Waiting for anchor {anchor.name} to run on {anchor.node}."
        scheduler = domain.spec.scheduler_name
        who = f"spec.schedulerName {scheduler!r}: is there such a scheduler?" if scheduler else "is kube-scheduler up?"
        return Reason.WAITING_FOR_NODE, f"Waiting for anchor {anchor.name} to be placed ({who})."
    told = f"The scheduler: {anchor.unschedulable}"
    memory, vcpus = request(reservation(domain))
    if f"Insufficient {MEMORY_RESOURCE}" in anchor.unschedulable:
        asked = f"It takes {memory} MiB (spec.memory.max, or else size, and what Xen needs for it)"
        if largest is not None and memory > largest.memory_mib:
            return Reason.WAITING_FOR_MEMORY, (
                f"{asked} and the largest host has {largest.memory_mib} MiB for guests: give it less, "
                f"or add a larger host. {told}"
            )
        return Reason.WAITING_FOR_MEMORY, (
            f"{asked} and no host it may be on has that much left: stop or shrink others, or add a host. {told}"
        )
    if f"Insufficient {VCPUS_RESOURCE}" in anchor.unschedulable:
        asked = f"It takes {vcpus} vCPUs (spec.cpu.max, or else count)"
        if largest is not None and vcpus > largest.vcpus:
            return Reason.WAITING_FOR_NODE, (
                f"{asked} and the largest host takes {largest.vcpus}: give it fewer, or add a larger host. {told}"
            )
        return Reason.WAITING_FOR_NODE, (
            f"{asked} and no host it may be on has as many left: stop others, or add a host. {told}"
        )
    return Reason.WAITING_FOR_NODE, (
        "No node takes it: look at spec.nodeSelector, affinity, tolerations and topologySpreadConstraints, "
        f"and at the nodes. {told}"
    )
