"""Of two domains that want the same thing (a UUID, a MAC address, a claim), which one has it."""

from __future__ import annotations

from kubexen.api.xendomain import XenDomain


def comes_first(one: XenDomain, other: XenDomain) -> bool:
    """Who is bound, else who is older, else the name decides."""
    return _rank(one) < _rank(other)


def _rank(domain: XenDomain) -> tuple[bool, str, str]:
    created = domain.metadata.creation_timestamp
    return (not domain.status.node_name, created.isoformat() if created else "", domain.key)
