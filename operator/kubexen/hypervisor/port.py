"""What Kubexen asks of a Xen host: a Protocol of plain data that every driver implements.

The agent calls it; drivers/libvirt and drivers/sim implement it; tests/contract runs one suite over all of them.
No libvirt handle, XML or custom resource crosses it. Every method blocks (the agent calls it in a bounded thread) and raises
only errors of `errors.py`. A driver is thread-safe. Closing it, or the death of its process, harms no domain.

Memory is in KiB everywhere here, as in libxl.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Capability(StrEnum):
    """What a driver can do beyond the common core; a suite skips, visibly, what is not declared."""

    FLAGS = "flags"  # state flags come from the hypervisor: r b p s c d
    SHUTDOWN_REASON = "shutdown-reason"  # a domain that ended stays, with its reason, until it is destroyed
    SHUTDOWN_DELAY = "shutdown-delay"  # a guest takes its time to shut down, or ignores the request
    GUEST_REBOOT = "guest-reboot"  # a guest's reboot is carried out by the host itself (on_reboot=restart)
    BACKENDS = "backends"  # the state of a device's backend can be read
    MEMORY_LIVE = "memory-live"  # a running domain's memory can be changed
    PVH = "pvh"
    PERSISTENCE = "persistence"  # domains outlive the driver's connection and its process
    EVENTS = "events"
    LOOP_DEVICES = "loop-devices"  # dom0's kernel can make a block device of an open file


class DomainType(StrEnum):
    """xl: type."""

    PV = "pv"
    PVH = "pvh"


class ShutdownReason(StrEnum):
    """Why a domain with the flag `s` ended (Xen's SHUTDOWN_* codes, public/sched.h)."""

    POWEROFF = "poweroff"
    REBOOT = "reboot"
    SUSPEND = "suspend"
    CRASH = "crash"
    WATCHDOG = "watchdog"
    SOFT_RESET = "soft-reset"
    UNKNOWN = "unknown"


class BackendState(StrEnum):
    """XenbusState of a device's backend (public/io/xenbus.h)."""

    UNKNOWN = "Unknown"
    INITIALISING = "Initialising"
    INIT_WAIT = "InitWait"
    INITIALISED = "Initialised"
    CONNECTED = "Connected"
    CLOSING = "Closing"
    CLOSED = "Closed"


@dataclass(frozen=True)
class Flags:
    """The state flags of `xl list`. running and blocked are samples, the others are facts."""

    running: bool = False
    blocked: bool = False
    paused: bool = False
    shutdown: bool = False
    crashed: bool = False
    dying: bool = False

    def __str__(self) -> str:
        """The STATE column of `xl list`, as in `-b----`."""
        bits = (self.running, self.blocked, self.paused, self.shutdown, self.crashed, self.dying)
        return "".join(letter if bit else "-" for letter, bit in zip("rbpscd", bits, strict=True))

    def names(self) -> list[str]:
        """The flags that are set, by name."""
        return [name for name in ("running", "blocked", "paused", "shutdown", "crashed", "dying") if getattr(self, name)]


@dataclass(frozen=True)
class Owner:
    """The XenDomain a domain belongs to, as kept in the domain's own metadata. No owner: not ours, never touched."""

    namespace: str
    name: str
    uid: str

    @property
    def key(self) -> str:
        """NAMESPACE/NAME."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class DiskConfig:
    """A raw image file or block device handed to a domain. xl: disk."""

    path: str  # host path
    target: str  # xvda, ...
    read_only: bool = False  # a block device only: QEMU serves no raw file read-only (xen-disk, 7.2)
    block_device: bool = False  # path is a block device, not a file


@dataclass(frozen=True)
class InterfaceConfig:
    """A network interface on a bridge. xl: vif."""

    mac: str
    bridge: str


@dataclass(frozen=True)
class DomainConfig:
    """All that a host needs to start a domain. What it does when it ends is the caller's: an ended domain
    stays (xl: on_poweroff=preserve, on_crash=preserve) until the caller destroys it."""

    uuid: str
    name: str  # unique on the host
    owner: Owner
    type: DomainType
    kernel: str  # host path
    vcpus: int
    max_vcpus: int
    memory_kib: int
    max_memory_kib: int
    initrd: str = ""
    cmdline: str = ""
    affinity: str = ""  # physical CPUs of every vCPU, libvirt's cpuset: "0-3,^1"; empty: all
    weight: int = 256  # credit2 scheduler
    cap: int = 0  # percent of one physical CPU; 0: none
    disks: tuple[DiskConfig, ...] = ()
    interfaces: tuple[InterfaceConfig, ...] = ()
    restart_on_reboot: bool = True  # xl: on_reboot=restart, done by the host itself; else preserve
    note: str = ""  # the caller's text, kept with the domain and given back in DomainState


NOT_IN_XEN = -1
"""The domid of a domain that its host has ended and is about to start again (a guest's reboot), or is about to start."""


@dataclass(frozen=True)
class DomainState:
    """A domain as it is on the host now."""

    uuid: str
    name: str
    domid: int  # or NOT_IN_XEN, with the flag `d`
    flags: Flags
    memory_kib: int  # what it has now
    max_memory_kib: int
    vcpus_online: int
    vcpus: int
    owner: Owner | None = None
    note: str = ""
    memory_target_kib: int | None = None  # what it was told to have; None: not known
    shutdown_reason: ShutdownReason | None = None  # only with the flag `s`


@dataclass(frozen=True)
class DeviceState:
    """A disk or an interface of a running domain. `key` is the disk's target or the interface's MAC."""

    key: str
    backend: BackendState


@dataclass(frozen=True)
class Devices:
    disks: tuple[DeviceState, ...] = ()
    interfaces: tuple[DeviceState, ...] = ()


@dataclass(frozen=True)
class HostInfo:
    """The host as `xl info` shows it."""

    boot_id: str  # dom0's /proc/sys/kernel/random/boot_id: another one means that every domain is gone
    hypervisor_version: str  # 4.17.5
    toolstack_version: str  # libvirt's, or the simulator's
    driver: str  # the URI without secrets
    flags_source: str  # where the state flags are read: xc, xl, libvirt, sim
    cpus: int  # physical CPUs
    cpu_model: str
    threads_per_core: int
    cores_per_socket: int
    nodes: int  # NUMA
    total_memory_kib: int
    free_memory_kib: int
    dom0_memory_kib: int
    scheduler: str  # credit2, ...
    capabilities: tuple[str, ...] = field(default_factory=tuple)  # xen_caps: xen-3.0-x86_64, hvm-3.0-x86_64, ...
    command_line: str = ""  # xen_commandline; empty: not known


Listener = Callable[[str | None], None]
"""Called from any thread with the uuid of a domain that may have changed, or None: look at all of them."""


class Hypervisor(Protocol):
    """One Xen host. Every act names the domain by uuid; acts on a domain must not overlap (the caller holds a lock)."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    def host(self) -> HostInfo:
        """Errors: Unreachable."""

    def domains(self) -> Sequence[DomainState]:
        """All domains but dom0, ours and others, in one cheap call. Never a partial answer: it raises instead.

        Errors: Unreachable.
        """

    def devices(self, uuid: str) -> Devices:
        """The state of each device's backend. Errors: Unreachable, NotFound."""

    def create(self, config: DomainConfig, *, paused: bool = False) -> DomainState:
        """Build and start a domain; leaves nothing behind when it fails. Takes seconds.

        Again: AlreadyExists (it never makes a second one).
        Errors: AlreadyExists, InvalidConfig, NoMemory, Unsupported, Unreachable, TimedOut, Failed.
        """

    def destroy(self, uuid: str, domid: int) -> None:
        """End a domain at once. `domid` must be the one it has now, so that an old decision cannot hit a new incarnation.

        Again: NotFound, which is success. Errors: NotFound (also: another domid), Unreachable, TimedOut, Failed.
        """

    def shutdown(self, uuid: str) -> None:
        """Ask the guest to power off; returns at once. Again: asks again, harmless. Errors: NotFound, WrongState, Unreachable."""

    def pause(self, uuid: str) -> None:
        """Again: nothing. Errors: NotFound, WrongState, Unreachable."""

    def unpause(self, uuid: str) -> None:
        """Again: nothing. Errors: NotFound, WrongState, Unreachable."""

    def set_memory(self, uuid: str, kib: int) -> None:
        """Tell a running domain how much memory to have, at most its maximum; it balloons there in its own time.

        Again: nothing. Errors: NotFound, WrongState, InvalidConfig (above the maximum), Unreachable.
        """

    def tidy(self) -> Sequence[Owner]:
        """Remove definitions that somebody made of our domains, and that would outlive them; whose they were. The domains
        run on. Again: nothing left to do, empty. Errors: Unreachable, Failed."""

    def loop(self, name: str, file: int, *, read_only: bool = False) -> str:
        """A block device of the host over an open regular file (a descriptor, which the caller may close); its path.

        The host's kernel holds the file from then on, through the mount it was opened through, whatever becomes of its
        name and of this process. Again with the same name: the same device, or one over the other file (only where no
        domain has the old one).
        Errors: Unsupported, Failed.
        """

    def unloop(self, name: str) -> None:
        """Let go of what `loop` made under this name: of its file as well, when this returns. Again: nothing.
        Errors: Failed (as long as somebody has the device open)."""

    def loops(self) -> Sequence[str]:
        """The names of all that `loop` made and is still there. Errors: Failed."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` on every change, as a hint to look again; None after a lost connection. Returns the way to stop."""

    def close(self) -> None:
        """Let go of the host; domains run on."""
