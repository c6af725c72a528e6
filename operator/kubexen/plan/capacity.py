"""What a node offers the scheduler: kubexen.dev/memory-mib and kubexen.dev/vcpus, from its XenHost.

Published by the controller on the Node. The scheduler counts anchors, not domains, so the figure is put right for
domains whose anchors it does not count (lost ones), and for those that it counts twice (a fresh anchor beside the old
one).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kubexen.api.names import MEMORY_RESOURCE, VCPUS_RESOURCE
from kubexen.api.quantity import MIB
from kubexen.api.xenhost import XenHost

VCPUS_PER_CPU = 8
"""Virtual CPUs a physical one may carry, where the administrator says nothing else."""


@dataclass(frozen=True)
class Held:
    """A domain that is bound to the node.

    Attributes:
        memory_mib: what its anchor asks for.
        anchors: how many of its anchors the scheduler counts on this node.
    """

    memory_mib: int
    vcpus: int
    anchors: int


def capacity(host: XenHost | None, held: Iterable[Held], vcpus_per_cpu: int = VCPUS_PER_CPU) -> dict[str, int]:
    """The two resources for Node.status.capacity; zeros where nothing is known of the host, or it was fenced."""
    if host is None or host.fenced or host.status.memory is None or host.status.cpus is None:
        return {MEMORY_RESOURCE: 0, VCPUS_RESOURCE: 0}
    memory = host.status.memory.for_guests // MIB
    vcpus = host.status.cpus.physical * vcpus_per_cpu
    for domain in held:
        memory += (domain.anchors - 1) * domain.memory_mib
        vcpus += (domain.anchors - 1) * domain.vcpus
    return {MEMORY_RESOURCE: max(0, memory), VCPUS_RESOURCE: max(0, vcpus)}
