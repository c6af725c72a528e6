"""One simulated domain: what it is and what it does over time. The machine hands in the time and keeps the record.

Pure. What takes time is kept as the moment it is due, never as a running timer: it holds while no process is alive.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from kubexen.hypervisor.drivers.sim.settings import Settings
from kubexen.hypervisor.errors import Busy, WrongState
from kubexen.hypervisor.port import BackendState, Devices, DeviceState, DomainState, Flags, Owner, ShutdownReason

OVERHEAD_KIB = 1024  # what Xen takes for a domain beside its memory, roughly


class Step(StrEnum):
    """What a domain does next, by itself."""

    BUILT = "built"
    POWEROFF = "poweroff"
    RESTART = "restart"
    GONE = "gone"


@dataclass
class SimDomain:
    """A domain's record. Times are seconds since the epoch."""

    uuid: str
    name: str
    domid: int
    memory_kib: int  # at build
    max_memory_kib: int
    vcpus: int
    max_vcpus: int
    started: float
    owner: Owner | None = None
    note: str = ""
    disks: list[str] = field(default_factory=list)  # targets
    interfaces: list[str] = field(default_factory=list)  # MACs
    restart_on_reboot: bool = True
    managed: bool = True  # False: made with xl, unknown to the toolstack that the driver speaks to
    defined: bool = False  # the toolstack would keep a definition of it
    building: bool = False
    paused: bool = False
    dying: bool = False
    reason: ShutdownReason | None = None
    listens: bool = True  # answers a shutdown request
    busy: bool = False  # computes all the time, an idle guest is blocked
    shutdown_asked: bool = False
    connected_at: float | None = None  # when its frontends are connected; None: it has not run yet
    step: Step | None = None
    due: float | None = None  # of step
    balloon_from: int = 0
    balloon_goal: int = 0
    balloon_at: float = 0.0
    target_kib: int = 0

    # -- record

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> SimDomain:
        data = json.loads(text)
        data["owner"] = Owner(**data["owner"]) if data["owner"] else None
        data["reason"] = ShutdownReason(data["reason"]) if data["reason"] else None
        data["step"] = Step(data["step"]) if data["step"] else None
        return cls(**data)

    # -- what it does

    def build(self, now: float, settings: Settings, *, paused: bool) -> None:
        """Xen takes the memory and loads the kernel; all that time it shows as paused."""
        self.balloon_from = self.balloon_goal = self.target_kib = self.memory_kib
        self.building, self.paused = True, paused
        self._plan(Step.BUILT, now, settings.create_ms)

    def advance(self, settings: Settings, new_domid: Callable[[], int]) -> bool:
        """Take the step that is due; False: the domain is gone."""
        step, now = self.step, self.due or 0.0
        self.step = self.due = None
        if step is Step.GONE:
            return False
        if step is Step.BUILT:
            self.building = False
            if not self.paused:
                self._run(now, settings)
        elif step is Step.POWEROFF:
            self.end(ShutdownReason.POWEROFF, now, settings)
        elif step is Step.RESTART:
            self.domid, self.started = new_domid(), now
            self.reason, self.connected_at = None, None
            self.balloon_from = self.balloon_goal = self.target_kib = self.memory_kib
            self._run(now, settings)
        return True

    def check_acts(self) -> None:
        """Raises: Busy while it is built or torn down, WrongState when it has ended."""
        if self.building or self.dying:
            raise Busy(f"{self.name} is being {'built' if self.building else 'destroyed'}")
        if self.reason is not None:
            raise WrongState(f"{self.name} has ended: {self.reason}")

    def pause(self, now: float, settings: Settings) -> bool:
        """False: it was paused."""
        self.check_acts()
        if self.paused:
            return False
        self.balloon_from = self.memory(now, settings)
        self.paused = True
        if self.step is Step.POWEROFF:
            self.step = self.due = None
        return True

    def unpause(self, now: float, settings: Settings) -> bool:
        """False: it was not paused."""
        self.check_acts()
        if not self.paused:
            return False
        self.paused = False
        self._run(now, settings)
        return True

    def ask_shutdown(self, now: float, settings: Settings) -> None:
        """A paused guest answers when it is unpaused; one that does not listen never does."""
        self.check_acts()
        if self.listens:
            self.shutdown_asked = True
            self._answer(now, settings)

    def ignore_shutdown(self, ignore: bool) -> None:
        self.listens = not ignore
        if ignore:
            self.shutdown_asked = False
            if self.step is Step.POWEROFF:
                self.step = self.due = None

    def end(self, reason: ShutdownReason, now: float, settings: Settings) -> None:
        """The guest ends; the domain stays, with its memory, until it is destroyed or the host restarts it."""
        self.balloon_from = self.balloon_goal = self.memory(now, settings)
        self.reason, self.shutdown_asked, self.step, self.due = reason, False, None, None
        if reason is ShutdownReason.REBOOT and self.restart_on_reboot:
            self._plan(Step.RESTART, now, settings.reboot_ms)

    def destroy(self, now: float, settings: Settings) -> None:
        self.dying = True
        self._plan(Step.GONE, now, settings.destroy_ms)

    def balloon(self, kib: int, free_kib: int, now: float, settings: Settings) -> None:
        """Take a new target. The guest balloons as far as the host's free memory lets it."""
        self.balloon_from = self.memory(now, settings)
        self.target_kib = kib
        self.balloon_goal = min(kib, self.balloon_from + free_kib)
        self.balloon_at = max(now, self.connected_at or now)

    def _plan(self, step: Step, now: float, after_ms: int) -> None:
        self.step, self.due = step, now + after_ms / 1000

    def _run(self, now: float, settings: Settings) -> None:
        if self.connected_at is None:
            self.connected_at = now + settings.boot_ms / 1000
        self.balloon_at = max(now, self.connected_at)
        self._answer(now, settings)

    def _answer(self, now: float, settings: Settings) -> None:
        if self.shutdown_asked and not self.paused and self.step is None:
            self._plan(Step.POWEROFF, max(now, self.connected_at or now), settings.shutdown_ms)

    # -- what is seen

    def memory(self, now: float, settings: Settings) -> int:
        """What it has at `now`."""
        if self.building or self.paused or self.balloon_from == self.balloon_goal or now < self.balloon_at:
            return self.balloon_from
        done = min(1.0, (now - self.balloon_at) * 1000 / settings.balloon_ms) if settings.balloon_ms else 1.0
        return self.balloon_from + int((self.balloon_goal - self.balloon_from) * done)

    def reserved(self, now: float, settings: Settings) -> int:
        """What the host cannot give to others: a domain that grows has taken its goal already."""
        return max(self.memory(now, settings), self.balloon_goal) + OVERHEAD_KIB

    def flags(self, sample: float, flicker: float) -> Flags:
        """`sample` in [0, 1) is the luck of the moment, for r and b alone."""
        if self.dying:
            return Flags(dying=True)
        if self.reason is not None:
            return Flags(shutdown=True, crashed=self.reason is ShutdownReason.CRASH)
        if self.building or self.paused:
            return Flags(paused=True)
        if sample < flicker / 2:
            return Flags()  # runnable, but not scheduled right now
        running = self.busy == (sample >= flicker)
        return Flags(running=running, blocked=not running)

    def state(self, now: float, settings: Settings, sample: float) -> DomainState:
        return DomainState(
            uuid=self.uuid,
            name=self.name,
            domid=self.domid,
            flags=self.flags(sample, settings.flicker),
            memory_kib=self.memory(now, settings),
            max_memory_kib=self.max_memory_kib,
            vcpus_online=self.vcpus,
            vcpus=self.max_vcpus,  # as Xen tells it: those that it has room for
            owner=self.owner,
            note=self.note,
            memory_target_kib=self.target_kib,
            shutdown_reason=None if self.dying else self.reason,
        )

    def devices(self, now: float) -> Devices:
        backend = self._backend(now)
        return Devices(
            disks=tuple(DeviceState(target, backend) for target in self.disks),
            interfaces=tuple(DeviceState(mac, backend) for mac in self.interfaces),
        )

    def _backend(self, now: float) -> BackendState:
        if self.building:
            return BackendState.INITIALISING
        if self.reason is not None and self.reason is not ShutdownReason.CRASH:
            return BackendState.CLOSED  # a guest that ends in order closes its frontends, a crash closes nothing
        if self.connected_at is None or now < self.connected_at:
            return BackendState.INIT_WAIT  # waits for the guest's frontend
        return BackendState.CONNECTED

    def cpu_seconds(self, now: float) -> float:
        """`xl list`'s Time(s)."""
        return (now - self.started) * (self.vcpus if self.busy else 0.01)
