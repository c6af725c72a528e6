"""What a domain was started with: kept with it as its note, so that whoever looks can tell which fields wait for the next start."""

from __future__ import annotations

import json
from typing import Any

from kubexen.api.xendomain import XenDomain
from kubexen.hypervisor.port import DomainState
from kubexen.plan.anchor import PLACEMENT_FIELDS
from kubexen.plan.resolve import host_reboots

LIVE_FIELDS = frozenset({
    "powerState", "replicas", "uuid", "shutdownGracePeriodSeconds", "onPoweroff", "onCrash", "evictionStrategy", *PLACEMENT_FIELDS,
})
"""Fields of a spec that need no restart: they are carried out live, or are about where it is placed."""


def note(domain: XenDomain) -> str:
    """What is kept with a running domain: the spec it was started with, without what changes live."""
    return json.dumps(_started_with(domain), sort_keys=True, separators=(",", ":"))


def _started_with(domain: XenDomain) -> dict[str, Any]:
    spec = {key: value for key, value in domain.spec.to_dict().items() if key not in LIVE_FIELDS}
    spec["memory"] = {"max": str(domain.spec.memory.maximum)}
    spec["onReboot"] = str(domain.spec.on_reboot)
    return spec


def may_have(state: DomainState, namespace: str, disk: str) -> bool:
    """Whether a domain on a host was started with this XenDisk, be its object gone or changed; where nobody knows, it may be."""
    if state.owner is None:
        return state.name.startswith(f"{namespace}.")  # libvirt lost all it knew of it, or it is somebody else's
    if state.owner.namespace != namespace:
        return False
    try:
        disks = json.loads(state.note)["disks"]
    except (ValueError, KeyError, TypeError):
        return True
    return any(entry.get("disk") == disk for entry in disks)


def changed_fields(before: str, domain: XenDomain) -> list[str]:
    """Names of the fields, as in `spec.cpu.count`, that differ from those the domain was started with."""
    old = _read(before)
    return [] if old is None else list(_differences(old, _started_with(domain), "spec"))


def rebooted_by_host(before: str, domain: XenDomain) -> bool:
    """Whether its host carries out the guest's reboot, by what it was started with; by its spec, where nobody knows that."""
    spec = _read(before) or _started_with(domain)
    return host_reboots(spec.get("onReboot", ""), spec.get("cpu", {}))


def _read(note: str) -> dict[str, Any] | None:
    try:
        found = json.loads(note) if note else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _differences(old: Any, new: Any, path: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            name
            for key in sorted({*old, *new})
            for name in _differences(old.get(key), new.get(key), f"{path}.{key}")
        ]
    return [] if old == new else [path]
