"""Which domains there are, with flags, sizes and the reason of their end: read from the hypervisor, not from libvirt.

libvirt's cached state never tells blocked or crashed, and misses what xl did. driver.py takes one look at all domains
at a time; whose a domain is comes from identity.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID

import libvirt

from kubexen.hypervisor.drivers.libvirt.connection import Connection
from kubexen.hypervisor.drivers.libvirt.lowlevel import Commands, LowLevel
from kubexen.hypervisor.errors import Failed
from kubexen.hypervisor.port import Flags, ShutdownReason

PAGE = 1024  # domains a call


@dataclass(frozen=True)
class Sample:
    """One domain at the moment of the look."""

    uuid: str
    domid: int
    flags: Flags
    memory_kib: int
    max_memory_kib: int
    vcpus_online: int
    vcpus: int
    memory_target_kib: int | None = None
    shutdown_reason: ShutdownReason | None = None
    ran: bool = True  # it had a CPU at least once


class FlagsProbe(Protocol):
    source: str

    def samples(self) -> list[Sample]:
        """All domains but dom0. Errors: Unreachable."""


_REASONS = dict(
    enumerate(
        (
            ShutdownReason.POWEROFF,
            ShutdownReason.REBOOT,
            ShutdownReason.SUSPEND,
            ShutdownReason.CRASH,
            ShutdownReason.WATCHDOG,
            ShutdownReason.SOFT_RESET,
        )
    )
)


def shutdown_reason(code: int) -> ShutdownReason:
    """Xen's SHUTDOWN_* code by name."""
    return _REASONS.get(code, ShutdownReason.UNKNOWN)


class XcProbe:
    """By libxc: one call for all domains, and two reads of the xenstore for each (Xen's own maximum follows the target,
    so the maximum that was asked for is only there)."""

    source = "xc"

    def __init__(self, xen: LowLevel) -> None:
        self._xen = xen

    def samples(self) -> list[Sample]:
        rows: list[dict[str, Any]] = []
        first = 0  # dom0 is always there: an empty answer is none
        while page := self._xen.domain_getinfo(first, PAGE):
            rows += page
            if len(page) < PAGE:
                break
            first = page[-1]["domid"] + 1
        read = self._xen.read
        return [
            sample_of_xc(row, _kib(read, row["domid"], "target"), _kib(read, row["domid"], "static-max"))
            for row in rows if row["domid"]
        ]  # fmt: skip


def _memory(domid: int, key: str) -> str:
    """The xenstore's path of a size of memory: `target`, which a domain was told to have, or `static-max`."""
    return f"/local/domain/{domid}/memory/{key}"


def _kib(read: Callable[[str], str | None], domid: int, key: str) -> int | None:
    value = read(_memory(domid, key))
    return int(value) if value and value.isdecimal() else None


def sample_of_xc(row: dict[str, Any], target_kib: int | None, static_max_kib: int | None) -> Sample:
    """One row of domain_getinfo. libxc tells a crashed domain as not shut down; xl and we tell it as both."""
    ended = bool(row["shutdown"] or row["crashed"])
    return Sample(
        uuid=str(UUID(bytes=bytes(row["handle"]))),
        domid=row["domid"],
        flags=Flags(
            running=bool(row["running"]),
            blocked=bool(row["blocked"]),
            paused=bool(row["paused"]),
            shutdown=ended,
            crashed=bool(row["crashed"]),
            dying=bool(row["dying"]),
        ),
        memory_kib=row["mem_kb"],
        max_memory_kib=static_max_kib or row["maxmem_kb"],
        vcpus_online=row["online_vcpus"],
        vcpus=row["max_vcpu_id"] + 1,
        memory_target_kib=target_kib,
        shutdown_reason=shutdown_reason(row["shutdown_reason"]) if ended else None,
        ran=row["cpu_time"] > 0,
    )


class XlProbe:
    """By the text of `xl list`: slower, sizes in whole MiB, and only the vCPUs that are online. It tells no maximum of memory and
    no target: they are read from the xenstore, as XcProbe has it."""

    source = "xl"

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def samples(self) -> list[Sample]:
        samples = samples_of_xl(self._commands.run("xl", "list", "-v"))
        paths = [_memory(sample.domid, key) for sample in samples for key in ("target", "static-max")]
        read = dict(zip(paths, self._commands.read_each(paths), strict=True)).get
        return [
            replace(
                sample,
                memory_target_kib=_kib(read, sample.domid, "target"),
                max_memory_kib=_kib(read, sample.domid, "static-max") or sample.max_memory_kib,
            )
            for sample in samples
        ]


_XL_ROW = re.compile(
    r"(?P<name>.+?)\s+(?P<domid>\d+)\s+(?P<mib>\d+)\s+(?P<vcpus>\d+)\s+"
    r"(?P<state>[r-][b-][p-][s-][c-][d-])\s+(?P<seconds>[\d.]+)\s+(?P<uuid>[0-9a-f-]{36})\s+(?P<reason>\S+)"
)


def samples_of_xl(text: str) -> list[Sample]:
    """The rows of `xl list -v`."""
    samples = []
    for line in text.splitlines()[1:]:
        row = _XL_ROW.match(line)
        if row is None:
            raise Failed(f"a line of `xl list -v` that nobody understands: {line!r}")
        if row["domid"] == "0":
            continue
        kib = int(row["mib"]) * 1024
        flags = Flags(*(letter != "-" for letter in row["state"]))
        samples.append(
            Sample(
                uuid=row["uuid"],
                domid=int(row["domid"]),
                flags=flags,
                memory_kib=kib,
                max_memory_kib=kib,
                vcpus_online=int(row["vcpus"]),
                vcpus=int(row["vcpus"]),
                shutdown_reason=shutdown_reason(int(row["reason"], 16)) if flags.shutdown and row["reason"] != "-" else None,
                ran=float(row["seconds"]) > 0,
            )
        )
    return samples


class LibvirtProbe:
    """By libvirt's own state: for drivers with no Xen below (test:///...), which never say why a domain ended."""

    source = "libvirt"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def samples(self) -> list[Sample]:
        found = []
        with self._connection.calls("list domains") as conn:
            for domain in conn.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                try:
                    found.append(_sample_of_libvirt(domain))
                except libvirt.libvirtError as error:
                    # It ended since the list was made; anything else would be a partial answer.
                    if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                        raise
        return found


_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: Flags(),
    libvirt.VIR_DOMAIN_RUNNING: Flags(running=True),
    libvirt.VIR_DOMAIN_BLOCKED: Flags(blocked=True),
    libvirt.VIR_DOMAIN_PAUSED: Flags(paused=True),
    libvirt.VIR_DOMAIN_PMSUSPENDED: Flags(shutdown=True),
    libvirt.VIR_DOMAIN_SHUTDOWN: Flags(shutdown=True),
    libvirt.VIR_DOMAIN_SHUTOFF: Flags(shutdown=True),
    libvirt.VIR_DOMAIN_CRASHED: Flags(shutdown=True, crashed=True),
}


def _sample_of_libvirt(domain: Any) -> Sample:
    state, max_memory, memory, vcpus, _ = domain.info()
    return Sample(
        uuid=domain.UUIDString(),
        domid=domain.ID(),
        flags=_STATES.get(state, Flags()),
        memory_kib=memory,
        max_memory_kib=max_memory,
        vcpus_online=vcpus,
        vcpus=domain.maxVcpus(),
        memory_target_kib=memory,
    )
