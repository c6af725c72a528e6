"""What is below libvirt: a Xen host, or nothing (test:///...). driver.py asks it for what libvirt does not tell or do.

XenPlatform reads Xen and the xenstore beside libvirt; LibvirtPlatform has libvirt only, and so declares less.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import libvirt

from kubexen.hypervisor.drivers.libvirt.config import from_xml, parse_affinity
from kubexen.hypervisor.drivers.libvirt.connection import Connection
from kubexen.hypervisor.drivers.libvirt.devices import devices_of
from kubexen.hypervisor.drivers.libvirt.flags import FlagsProbe, LibvirtProbe, XcProbe, XlProbe
from kubexen.hypervisor.drivers.libvirt.host import host_by_libvirt, host_by_xc, host_by_xl
from kubexen.hypervisor.drivers.libvirt.hostfiles import HostFiles
from kubexen.hypervisor.drivers.libvirt.libxllog import LibxlLog
from kubexen.hypervisor.drivers.libvirt.loops import LoopDevices, Loops, NoLoops
from kubexen.hypervisor.drivers.libvirt.lowlevel import Commands, LowLevel, Xen
from kubexen.hypervisor.drivers.libvirt.mapping import translate
from kubexen.hypervisor.errors import InvalidConfig, NoMemory
from kubexen.hypervisor.hostpath import local
from kubexen.hypervisor.port import (
    BackendState,
    Capability,
    Devices,
    DeviceState,
    DomainConfig,
    DomainType,
    HostInfo,
)

logger = logging.getLogger(__name__)

NETWORK_DEVICES = Path("/sys/class/net")


class Platform(Protocol):
    capabilities: frozenset[Capability]
    probe: FlagsProbe
    loops: Loops

    def host(self) -> HostInfo: ...

    def name(self, domid: int) -> str:
        """The name of a domain that libvirt does not know; '': it has none."""

    def check(self, config: DomainConfig) -> None:
        """What can be told before a start. Errors: InvalidConfig, NoMemory."""

    def create(self, conn: Any, config: DomainConfig, xml: str, *, paused: bool) -> Any:
        """Start it; a virDomain."""

    def set_share(self, domain: Any, weight: int, cap: int) -> None:
        """Its share of the CPUs, weight and cap."""

    def is_busy(self, domain: Any) -> bool:
        """Whether libvirt is at work on a domain, as it is all through its reboot."""

    def devices(self, domain: Any, domid: int) -> Devices: ...

    def shutdown(self, domain: Any, domid: int) -> None: ...

    def pause(self, domid: int) -> None:
        """Past libvirt, which takes no notice where it believes the domain to be paused already."""

    def destroy(self, domid: int) -> None:
        """Past libvirt, for what it does not know."""

    def unpause(self, domid: int) -> None:
        """One level of pause, past libvirt: Xen counts them, and `xl pause` adds one that libvirt does not see."""


class XenPlatform:
    """A Xen host's dom0."""

    capabilities = frozenset(Capability)

    def __init__(self, connection: Connection, files: HostFiles, root: Path = Path("/")) -> None:
        self._root = root
        self.loops: Loops = LoopDevices(root)
        self._log = LibxlLog()
        self._commands = Commands(root)
        self._look: Callable[[], HostInfo]
        self._xen: Xen
        self.probe: FlagsProbe
        try:
            self._xen = bindings = LowLevel(files)
            self.probe = XcProbe(bindings)
            self._look = partial(host_by_xc, connection, bindings)
        except ImportError as error:
            logger.warning("Xen's own bindings cannot be used (%s): its state is read by xl, which is slower", error)
            self._xen = self._commands
            self.probe = XlProbe(self._commands)
            self._look = partial(host_by_xl, connection, self._commands)

    def host(self) -> HostInfo:
        return self._look()

    def name(self, domid: int) -> str:
        return self._xen.read(f"/local/domain/{domid}/name") or ""

    def check(self, config: DomainConfig) -> None:
        """libxl's own answer to these comes late, says little, or never comes: without its file a disk's backend just
        does not connect, an affinity to CPUs that are not there is dropped (both seen on libvirt 9.0, Xen 4.17)."""
        for what, path in [("kernel", config.kernel), ("initrd", config.initrd)]:
            if path and not Path(path).is_file():
                raise InvalidConfig(f"{what}: no file {path}")
        for disk in config.disks:
            there = local(self._root, disk.path).is_block_device() if disk.block_device else Path(disk.path).is_file()
            if not there:
                raise InvalidConfig(f"disk {disk.target}: no {'block device' if disk.block_device else 'file'} {disk.path}")
        for interface in config.interfaces:
            if not (NETWORK_DEVICES / interface.bridge / "bridge").is_dir():
                raise InvalidConfig(f"interface {interface.mac}: no bridge {interface.bridge}")
        host = self.host()
        if config.affinity and not parse_affinity(config.affinity) & set(range(host.cpus)):
            raise InvalidConfig(f"affinity {config.affinity!r}: the host's CPUs are 0-{host.cpus - 1}")
        need, free = needed_kib(config), host.free_memory_kib
        if need > free:
            raise NoMemory(f"{config.name} needs {need // 1024} MiB, Xen has {free // 1024} MiB free")

    def create(self, conn: Any, config: DomainConfig, xml: str, *, paused: bool) -> Any:
        begin = self._log.end()
        try:
            return conn.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)
        except libvirt.libvirtError as error:
            raise translate(error, f"create {config.name}", self._log.since(begin)) from error

    def set_share(self, domain: Any, weight: int, cap: int) -> None:
        domain.setSchedulerParameters({"weight": weight, "cap": cap})

    def is_busy(self, domain: Any) -> bool:
        return bool(domain.jobInfo()[0] != libvirt.VIR_DOMAIN_JOB_NONE)

    def devices(self, domain: Any, domid: int) -> Devices:
        return devices_of(self._xen, domid)

    def shutdown(self, domain: Any, domid: int) -> None:
        """Not through libvirt: that waits up to 60 s for the guest's answer, and holds the domain all that time, so
        that a guest that does not answer could not be destroyed. This is all that libxl itself does to ask."""
        self._xen.write(f"/local/domain/{domid}/control/shutdown", "poweroff")

    def destroy(self, domid: int) -> None:
        self._commands.run("xl", "destroy", str(domid))

    def pause(self, domid: int) -> None:
        self._xen.pause(domid)

    def unpause(self, domid: int) -> None:
        self._xen.unpause(domid)


class LibvirtPlatform:
    """A driver of libvirt that has no Xen below it; what libvirt says is all there is."""

    capabilities = frozenset({Capability.MEMORY_LIVE, Capability.PVH, Capability.EVENTS})

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.loops: Loops = NoLoops()
        self.probe: FlagsProbe = LibvirtProbe(connection)

    def host(self) -> HostInfo:
        return host_by_libvirt(self._connection)

    def name(self, domid: int) -> str:
        return ""

    def check(self, config: DomainConfig) -> None:
        need, total = needed_kib(config), self.host().total_memory_kib
        if need > total:
            raise NoMemory(f"{config.name} needs {need // 1024} MiB, the host has {total // 1024} MiB")

    def create(self, conn: Any, config: DomainConfig, xml: str, *, paused: bool) -> Any:
        domain = conn.createXML(xml, 0)  # libvirt's test driver knows no start that is paused
        if paused:
            domain.suspend()
        return domain

    def set_share(self, domain: Any, weight: int, cap: int) -> None:
        """Nothing runs there."""

    def is_busy(self, domain: Any) -> bool:
        """All it does is done at once."""
        return False

    def devices(self, domain: Any, domid: int) -> Devices:
        config = from_xml(domain.XMLDesc())
        return Devices(
            disks=tuple(DeviceState(disk.target, BackendState.UNKNOWN) for disk in config.disks),
            interfaces=tuple(DeviceState(vif.mac, BackendState.UNKNOWN) for vif in config.interfaces),
        )

    def shutdown(self, domain: Any, domid: int) -> None:
        domain.shutdown()

    def destroy(self, domid: int) -> None:
        """libvirt knows all there is."""

    def pause(self, domid: int) -> None:
        """libvirt's word is all there is."""

    def unpause(self, domid: int) -> None:
        """libvirt's word is all there is."""


def needed_kib(config: DomainConfig) -> int:
    """What Xen needs free to start it: its memory, and as libxl reckons, a PVH domain's page tables and some slack."""
    paging = 1024 * config.max_vcpus + 8 * (config.max_memory_kib // 1024) if config.type is DomainType.PVH else 0
    return config.memory_kib + paging + 2048
