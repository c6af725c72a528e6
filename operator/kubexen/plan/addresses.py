"""MAC addresses: the user's own, or one derived from the object's uid and the interface's name, so that it stays.

The controller assigns them, in the write that binds a domain; it alone sees all domains, so it alone can settle
collisions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from kubexen.api.conditions import Reason
from kubexen.api.xendomain import XenDomain
from kubexen.plan.problem import Problem

PREFIX = "00:16:3e"
"""Xen's own range of MAC addresses."""

ATTEMPTS = 64


def derive(uid: str, interface: str, attempt: int = 0) -> str:
    """A stable address in Xen's range; a higher `attempt` gives another one."""
    digest = hashlib.sha256(f"{uid}/{interface}/{attempt}".encode()).digest()
    return ":".join([PREFIX, *(f"{byte:02x}" for byte in digest[:3])])


def _candidates(uid: str, interface: str) -> Iterator[str]:
    return (derive(uid, interface, attempt) for attempt in range(ATTEMPTS))


def assign(domain: XenDomain, owner: Callable[[str], str | None]) -> Mapping[str, str]:
    """The address of each interface, by its name.

    Args:
        owner: tells which other domain (namespace/name) holds an address, if one does.

    Raises:
        Problem: a user's address belongs to another domain, or none is free (MacTaken).
    """
    given = domain.status.mac_addresses
    chosen = {interface.mac for interface in domain.spec.interfaces}
    result: dict[str, str] = {}
    for interface in domain.spec.interfaces:
        if interface.mac:
            if other := owner(interface.mac):
                raise Problem(
                    Reason.MAC_TAKEN,
                    f"spec.interfaces[{interface.name}].mac {interface.mac} belongs to XenDomain {other}: "
                    "choose another, or leave it out for one of its own",
                    stalled=True,
                )
            result[interface.name] = interface.mac
            continue
        kept = given.get(interface.name)
        candidates = _candidates(domain.metadata.uid, interface.name)
        if kept is not None and kept in _candidates(domain.metadata.uid, interface.name):
            candidates = chain([kept], candidates)
        free = (mac for mac in candidates if mac not in chosen and mac not in result.values() and not owner(mac))
        mac = next(free, None)
        if mac is None:
            raise Problem(
                Reason.MAC_TAKEN, f"spec.interfaces[{interface.name}]: no MAC address is free; give one", stalled=True
            )
        result[interface.name] = mac
    return result
