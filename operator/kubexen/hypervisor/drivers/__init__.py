"""The drivers, and how one is opened from its URI. The agent's main calls this; nothing else chooses a driver."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from kubexen.hypervisor.errors import Unsupported
from kubexen.hypervisor.port import Hypervisor


def opener(uri: str, xen_root: Path = Path("/"), root: Path = Path("/")) -> Callable[[], Hypervisor]:
    """What opens `xen:///system`, `test:///...` or `sim:///directory`, by its driver, which is imported here: the simulator needs
    no libvirt.

    `xen_root`: where this process sees the host's /usr, which has what belongs to the host's version of Xen; `root`: where it
    sees the host's devices.

    Raises:
        Unsupported: no driver has this scheme. What is returned raises Unreachable while the host's daemon does not answer.
    """
    scheme = uri.split(":", 1)[0]
    if scheme == "sim":
        from kubexen.hypervisor.drivers.sim.driver import SimDriver

        return partial(SimDriver.open, uri)
    if scheme in ("xen", "test"):
        from kubexen.hypervisor.drivers.libvirt.driver import LibvirtDriver

        return partial(LibvirtDriver.open, uri, xen_root, root)
    raise Unsupported(f"no driver for {uri!r}: use xen:///system, test:///default or sim:///DIRECTORY")
