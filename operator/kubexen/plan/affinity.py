"""xl's way to name physical CPUs (`0-3,5,^1`), and what of it a host has.

resolve.py and the agent check a spec with it.
"""

from __future__ import annotations

from kubexen.api.conditions import Reason
from kubexen.api.xendomain import XenDomain
from kubexen.plan.problem import Problem

FIELD = "spec.cpu.affinity"


def named(given: str) -> frozenset[int]:
    """The CPUs that are named and not taken out again. The model has refused what cannot be read."""
    taken: set[int] = set()
    out: set[int] = set()
    for part in given.split(","):
        first, _, last = part.removeprefix("^").partition("-")
        (out if part.startswith("^") else taken).update(range(int(first), int(last or first) + 1))
    return frozenset(taken - out)


def cpuset(given: str | None) -> str:
    """As the port wants it, empty for all: libvirt knows no ^ of a range, and puts back what a later part names again."""
    return "" if given is None or given == "all" else ",".join(map(str, sorted(named(given))))


def check(domain: XenDomain, node: str = "", physical: int | None = None) -> None:
    """Raises Problem (InvalidSpec) where an affinity leaves no CPU, or names one that the host does not have."""
    affinity = domain.spec.cpu.affinity
    if affinity is None or affinity == "all":
        return
    cpus = named(affinity)
    if not cpus:
        raise Problem(
            Reason.INVALID_SPEC, f"{FIELD}: {affinity!r} leaves no CPU; name at least one, as in 0-3,5,^1", stalled=True
        )
    if physical is not None and max(cpus) >= physical:
        raise Problem(
            Reason.INVALID_SPEC,
            f"{FIELD}: {affinity!r} names CPU {max(cpus)}, and host {node} has CPUs 0-{physical - 1}; "
            "name some of these, or choose another host with spec.nodeSelector",
            stalled=True,
            retry_after=60,
        )
