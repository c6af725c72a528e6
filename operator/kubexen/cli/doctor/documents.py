"""Reading plain documents: conditions, times, Leases. Used by all checks; it finds nothing by itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kubexen.kube.resources import Object

SKEW = 15.0
"""Seconds that the clock of this machine and of a host may differ."""


def status(obj: Object) -> dict[str, Any]:
    return obj.get("status") or {}


def condition(obj: Object, kind: str) -> dict[str, Any]:
    """A condition; one that is not there is empty."""
    return next((c for c in status(obj).get("conditions") or () if c.get("type") == kind), {})


def age(time: str | None, now: datetime) -> float:
    """Seconds since then; 0 where no time is given."""
    return (now - datetime.fromisoformat(time)).total_seconds() if time else 0.0


def silence(lease: Object | None, now: datetime) -> float | None:
    """Seconds that a Lease is overdue; None: it is held and renewed."""
    spec = (lease or {}).get("spec") or {}
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        return float("inf")
    late = age(spec["renewTime"], now) - float(spec.get("leaseDurationSeconds") or 15)
    return late if late > SKEW else None


def words(seconds: float) -> str:
    """A duration for a person."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
