"""What a run costs, read from outside: memory and CPU time from /proc, API requests from the audit log.

Called by __main__.py. It measures no latency.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.audit import Request

OURS = {"kubexen-controller": "controller", "kubexen-agent": "agents", "kopf": "controller"}
"""Who of us asked, by the begin of the user agent."""

COUNTED = frozenset({"xendomains", "xendisks", "pods"})
"""What counts as a write of a start: the domain, its disk, its anchor. XenHosts, Events and Leases do not."""


@dataclass(frozen=True)
class Memory:
    """A process's resident memory in MB of 2**20 bytes."""

    now: float
    peak: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        fields = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        return cls(*(round(int(fields[name].split()[0]) / 1024, 1) for name in ("VmRSS", "VmHWM")))


def only_child(pid: int) -> int:
    """The one process that this one has started. Errors: ValueError where it has another number of them."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time that these processes have used so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Requests:
    """Counts of requests by who asked (controller, agents or others), verb and resource."""

    counts: Counter[tuple[str, str, str]]

    @classmethod
    def of(cls, requests: Iterable[Request]) -> Requests:
        return cls(Counter((_who(r), r.verb, _target(r)) for r in requests))

    def writes(self) -> int:
        """Our writes of domains, disks and anchors."""
        return sum(
            count for (who, verb, target), count in self.counts.items()
            if who != "others" and verb in ("create", "update", "patch", "delete")
            and target.partition("/")[0] in COUNTED
        )

    def ours(self, domains: int) -> dict[str, float]:
        """Our requests a domain, by 'who verb resource'; the most frequent first."""
        return {
            f"{who} {verb} {target}": round(count / domains, 3)
            for (who, verb, target), count in self.counts.most_common() if who != "others"
        }

    def others(self) -> int:
        """Requests of Kubernetes' own components and of the bench."""
        return sum(count for (who, _, _), count in self.counts.items() if who == "others")


def _who(request: Request) -> str:
    return next((who for agent, who in OURS.items() if request.user_agent.startswith(agent)), "others")


def _target(request: Request) -> str:
    return request.resource + (f"/{request.subresource}" if request.subresource else "")
