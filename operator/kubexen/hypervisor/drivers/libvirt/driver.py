"""A Xen host through libvirt: the port's methods, each as a few calls. connect() opens it for xen:// and test://.

Domains are transient: libvirt keeps no definition, so after a host's reboot nothing is left that anybody could start,
and no second copy of a domain can come to life. What to do about a domain is the caller's: nothing here decides.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any

import libvirt

from kubexen.hypervisor.drivers.libvirt.config import DEFAULT_CAP, DEFAULT_WEIGHT, share, to_xml
from kubexen.hypervisor.drivers.libvirt.connection import Connection
from kubexen.hypervisor.drivers.libvirt.events import Listeners
from kubexen.hypervisor.drivers.libvirt.flags import Sample
from kubexen.hypervisor.drivers.libvirt.hostfiles import HostFiles
from kubexen.hypervisor.drivers.libvirt.identity import Identities, metadata_of
from kubexen.hypervisor.drivers.libvirt.platform import LibvirtPlatform, Platform, XenPlatform
from kubexen.hypervisor.errors import AlreadyExists, Failed, InvalidConfig, NotFound, Unreachable, WrongState
from kubexen.hypervisor.port import (
    NOT_IN_XEN,
    Capability,
    Devices,
    DomainConfig,
    DomainState,
    Flags,
    HostInfo,
    Listener,
    Owner,
)

logger = logging.getLogger(__name__)

DOM0 = 0  # the domid of what libvirt lists and no look at Xen's guests does
MOST_PAUSES = 16  # how many `xl pause` beside libvirt are undone


class LibvirtDriver:
    """One connection; see port.Hypervisor for what each method promises."""

    def __init__(self, connection: Connection, platform: Platform, listeners: Listeners) -> None:
        self._connection = connection
        self._platform = platform
        self._listeners = listeners
        self._identities = Identities(connection, lambda domid: platform.name(domid) or f"domain-{domid}")

    @classmethod
    def open(cls, uri: str, xen_root: Path = Path("/"), root: Path = Path("/")) -> LibvirtDriver:
        """Below `xen_root` is the host's /usr, with what belongs to its version of Xen; below `root` are its devices.

        Raises:
            Unreachable: the host's daemon does not answer.
        """
        listeners = Listeners()
        connection = Connection(uri, listeners.tell)
        try:
            platform: Platform
            is_xen = uri.startswith("xen")
            platform = XenPlatform(connection, HostFiles(xen_root), root) if is_xen else LibvirtPlatform(connection)
        except Unreachable:  # tried again and again where there is no Xen
            connection.close()
            raise
        return cls(connection, platform, listeners)

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._platform.capabilities

    def host(self) -> HostInfo:
        return self._platform.host()

    def domains(self) -> Sequence[DomainState]:
        samples = self._samples()
        between, arrived = self._not_among({sample.uuid for sample in samples})
        if arrived:
            samples = self._samples()
        states = [
            DomainState(
                uuid=sample.uuid,
                name=identity.name,
                domid=sample.domid,
                flags=sample.flags,
                memory_kib=sample.memory_kib,
                max_memory_kib=sample.max_memory_kib,
                vcpus_online=sample.vcpus_online,
                vcpus=sample.vcpus,
                owner=identity.owner,
                note=identity.note,
                memory_target_kib=sample.memory_target_kib,
                shutdown_reason=sample.shutdown_reason,
            )
            for sample, identity in zip(samples, self._identities.of(samples), strict=True)
        ]
        seen = {state.uuid for state in states}
        return states + [state for state in between if state.uuid not in seen]

    def devices(self, uuid: str) -> Devices:
        domid = self._sample(uuid).domid
        with self._connection.calls(f"look at the devices of {uuid}") as conn:
            return self._platform.devices(conn.lookupByUUIDString(uuid), domid)

    def create(self, config: DomainConfig, *, paused: bool = False) -> DomainState:
        xml = to_xml(config)
        self._check_sizes(config)
        self._check_disks(config)
        self._check_free(config)
        self._platform.check(config)
        weighted = (config.weight, config.cap) != (DEFAULT_WEIGHT, DEFAULT_CAP)
        with self._connection.calls(f"create {config.name}") as conn:
            domain = self._platform.create(conn, config, xml, paused=paused or weighted)
            try:
                if weighted:
                    self._platform.set_share(domain, config.weight, config.cap)
                    if not paused:
                        domain.resume()
            except libvirt.libvirtError:
                domain.destroy()
                raise
        return self._state(config)

    def destroy(self, uuid: str, domid: int) -> None:
        sample = self._sample(uuid)
        if sample.domid != domid:
            raise NotFound(f"{uuid} is domain {sample.domid} by now, not {domid}")
        with self._connection.calls(f"destroy {uuid}") as conn:
            conn.lookupByUUIDString(uuid).destroy()

    def shutdown(self, uuid: str) -> None:
        sample = self._live(uuid)
        with self._connection.calls(f"shut down {uuid}") as conn:
            self._platform.shutdown(conn.lookupByUUIDString(uuid), sample.domid)

    def pause(self, uuid: str) -> None:
        sample = self._live(uuid)
        if sample.flags.paused:
            return
        with self._connection.calls(f"pause {uuid}") as conn:
            conn.lookupByUUIDString(uuid).suspend()
        if not self._sample(uuid).flags.paused:
            self._platform.pause(sample.domid)

    def unpause(self, uuid: str) -> None:
        sample = self._live(uuid)
        if not sample.flags.paused:
            return
        with self._connection.calls(f"unpause {uuid}") as conn:
            domain = conn.lookupByUUIDString(uuid)
            if (given := share(domain.XMLDesc())) is not None:  # whoever made it may have died before that
                self._platform.set_share(domain, *given)
            domain.resume()
        for _ in range(MOST_PAUSES):
            if not self._sample(uuid).flags.paused:
                return
            self._platform.unpause(sample.domid)
        raise Failed(f"{uuid} stays paused")

    def set_memory(self, uuid: str, kib: int) -> None:
        sample = self._live(uuid)
        if not 0 < kib <= sample.max_memory_kib:
            raise InvalidConfig(f"{kib} KiB of memory, the maximum is {sample.max_memory_kib} KiB")
        with self._connection.calls(f"set the memory of {uuid}") as conn:
            conn.lookupByUUIDString(uuid).setMemoryFlags(kib, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def tidy(self) -> Sequence[Owner]:
        done = []
        with self._connection.calls("look for definitions") as conn:
            for domain in conn.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT):
                if (metadata := metadata_of(domain)) is not None:
                    _undefine(domain)
                    done.append(metadata[0])
        return done

    def loop(self, name: str, file: int, *, read_only: bool = False) -> str:
        return self._platform.loops.make(name, file, read_only=read_only)

    def unloop(self, name: str) -> None:
        self._platform.loops.remove(name)

    def loops(self) -> Sequence[str]:
        return self._platform.loops.names()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return self._listeners.subscribe(listener)

    def close(self) -> None:
        self._connection.close()

    def _samples(self) -> list[Sample]:
        """One for each uuid: the remains of an earlier incarnation (dying) give way to the living one."""
        ordered = sorted(self._platform.probe.samples(), key=lambda sample: (not sample.flags.dying, sample.domid))
        return list({sample.uuid: sample for sample in ordered}.values())

    def _sample(self, uuid: str) -> Sample:
        for sample in self._samples():
            if sample.uuid == uuid:
                return sample
        raise NotFound(f"no domain {uuid}")

    def _not_among(self, samples: Set[str]) -> tuple[list[DomainState], bool]:
        """Of our domains that Xen did not show: those that libvirt is at work on, and whether some have come since.

        A guest's reboot is an end and a new start to libvirt (10 s under emulation): whoever took the domain for gone in
        between would start it a second time, or give it up. Only libvirt knows of it then, whoever asks; and takes it for active
        until it has cleaned up after the old one. Errors: Unreachable.
        """
        between, arrived = [], False
        with self._connection.calls("look for domains that are not in Xen") as conn:
            for domain in conn.listAllDomains():
                uuid = domain.UUIDString()
                if uuid in samples or domain.ID() == DOM0:
                    continue
                with contextlib.suppress(NotFound), self._connection.calls(f"look for {uuid}"):
                    arrived = arrived or bool(domain.isActive())
                    if self._platform.is_busy(domain) and (metadata := metadata_of(domain)) is not None:
                        between.append(_between(domain, *metadata))
        return between, arrived

    def _live(self, uuid: str) -> Sample:
        """A domain that can still take an order."""
        sample = self._sample(uuid)
        if sample.flags.shutdown or sample.flags.dying:
            raise WrongState(f"{uuid} has ended ({sample.flags})")
        return sample

    def _state(self, config: DomainConfig) -> DomainState:
        for state in self.domains():
            if state.uuid == config.uuid:
                return state
        raise Failed(f"{config.name} was created, and is gone already")

    def _check_sizes(self, config: DomainConfig) -> None:
        if not 0 < config.vcpus <= config.max_vcpus:
            raise InvalidConfig(f"{config.vcpus} vCPUs, the maximum is {config.max_vcpus}")
        if not 0 < config.memory_kib <= config.max_memory_kib:
            raise InvalidConfig(f"{config.memory_kib} KiB of memory, the maximum is {config.max_memory_kib} KiB")

    def _check_disks(self, config: DomainConfig) -> None:
        for disk in config.disks:
            if disk.read_only and not disk.block_device:
                raise InvalidConfig(f"{disk.target}: a file cannot be read-only; give a device over it")

    def _check_free(self, config: DomainConfig) -> None:
        """Neither the uuid nor the name may be taken: not in Xen by whomever, nor by a definition in libvirt."""
        self._clear_torn(config)
        for state in self.domains():
            if state.uuid == config.uuid:
                raise AlreadyExists(f"{state.name} has the uuid {config.uuid}, as domain {state.domid}")
            if state.name == config.name:
                raise AlreadyExists(f"the name {config.name} is taken by domain {state.domid}, {state.uuid}")
        with self._connection.calls(f"look for {config.name}") as conn:
            for look_up, key in ((conn.lookupByUUIDString, config.uuid), (conn.lookupByName, config.name)):
                domain = _found(look_up, key)
                if domain is not None and not self._make_room(conn, domain, config):
                    raise AlreadyExists(f"libvirt has a definition of {domain.name()}, {domain.UUIDString()}")

    def _make_room(self, conn: Any, domain: Any, config: DomainConfig) -> bool:
        """Remove what libvirt holds if it is only a leftover of this very domain: a definition that somebody made, or the
        shell of a transient domain whose restart after its guest's reboot failed, which would block every start (seen
        on libvirt 9.0). Not while libvirt is at work on it. Whether there is room now."""
        same = (domain.UUIDString(), domain.name()) == (config.uuid, config.name)
        if not same or domain.isActive() or self._platform.is_busy(domain):
            return False
        metadata = metadata_of(domain)
        if metadata is None or metadata[0] != config.owner:
            return False
        # A transient one cannot be undefined; defining it makes it a persistent one.
        _undefine(domain if domain.isPersistent() else conn.defineXML(to_xml(config)))
        return True

    def _clear_torn(self, config: DomainConfig) -> None:
        """Destroy what is left of a build of this domain that libvirt's daemon died in, or failed and could not take back: libvirt
        does not know it, it is paused, and it never ran. A destroy that was cut short has left it without a name."""
        for sample in self._samples():
            if sample.uuid == config.uuid and sample.flags.paused and not sample.ran and not sample.flags.dying:
                with self._connection.calls(f"look for {config.name}") as conn:
                    known = _found(conn.lookupByUUIDString, config.uuid) is not None
                if not known and self._platform.name(sample.domid) in ("", config.name):
                    logger.warning("domain %d is a build of %s that was cut off: destroyed", sample.domid, config.name)
                    self._platform.destroy(sample.domid)


def _between(domain: Any, owner: Owner, note: str) -> DomainState:
    """A domain that is not in Xen just now."""
    _, most, _, vcpus, _ = domain.info()
    return DomainState(
        uuid=domain.UUIDString(), name=domain.name(), domid=NOT_IN_XEN, flags=Flags(dying=True), memory_kib=0,
        max_memory_kib=most, vcpus_online=0, vcpus=vcpus, owner=owner, note=note,
    )


def _found(look_up: Callable[[str], Any], key: str) -> Any:
    try:
        return look_up(key)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _undefine(domain: Any) -> None:
    """A saved memory image goes with it: restored later, it would be a second copy of the domain."""
    try:
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT):
            raise
        domain.undefine()
