"""The state of a domain's disks and interfaces, from the xenstore. platform.py calls it.

An attach that libvirt calls done may have a backend that never connects, or none at all, so what counts is the backend's
own state. Which devices there are is taken from /libxl, which a guest cannot write, not from its own part of the store.
"""

from __future__ import annotations

from kubexen.hypervisor.drivers.libvirt.lowlevel import Xen
from kubexen.hypervisor.port import BackendState, Devices, DeviceState

_STATES = (
    BackendState.UNKNOWN,
    BackendState.INITIALISING,
    BackendState.INIT_WAIT,
    BackendState.INITIALISED,
    BackendState.CONNECTED,
    BackendState.CLOSING,
    BackendState.CLOSED,
)


def devices_of(xen: Xen, domid: int) -> Devices:
    """Disks by their target, whichever backend serves them (vbd, qdisk), and interfaces by their MAC. One whose backend is
    not there (QEMU could not make it) is Unknown."""
    return Devices(disks=_states(xen, domid, "vbd", "dev"), interfaces=_states(xen, domid, "vif", "mac"))


def _states(xen: Xen, domid: int, kind: str, key: str) -> tuple[DeviceState, ...]:
    root = f"/libxl/{domid}/device/{kind}"
    devices = [f"{root}/{number}" for number in sorted(xen.ls(root), key=int)]
    return tuple(
        DeviceState(key=xen.read(f"{device}/{key}") or "", backend=_state(xen.read(f"{backend}/state")))
        for device in devices
        if (backend := xen.read(f"{device}/backend"))
    )


def _state(code: str | None) -> BackendState:
    """XenbusState: 1 to 6; 7 and 8 (a PCI device's reconfiguration) do not come up for these."""
    return _STATES[int(code)] if code in tuple("0123456") else BackendState.UNKNOWN
