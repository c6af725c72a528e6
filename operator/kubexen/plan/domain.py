"""A domain on its host: the agent's decisions about one XenDomain that is bound to its node.

The agent calls `plan` with the object, what the hypervisor shows and the time, carries out the one step that comes back,
looks again and asks again. A step that starts or destroys is taken only on an object read afresh.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kubexen.api.conditions import Condition, ConditionType, Reason, find, set_condition
from kubexen.api.domainstatus import (
    AGENT_FIELDS,
    CpuStatus,
    DiskStatus,
    Exit,
    InterfaceStatus,
    MemoryStatus,
    MovePhase,
    Restarts,
    XenDomainStatus,
)
from kubexen.api.quantity import Quantity
from kubexen.api.xendomain import LifecycleAction, PowerState, XenDomain
from kubexen.hypervisor.port import BackendState, Devices, DomainState, ShutdownReason
from kubexen.plan.placement import Event
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import domain_uuid

CONDITIONS = (ConditionType.DOMAIN_READY, ConditionType.RESTART_REQUIRED)
"""The conditions of a XenDomain that are the agent's."""

FIRST_BACKOFF = 10.0
LONGEST_BACKOFF = 300.0
FORGET_AFTER = 600.0
"""Seconds of running after which earlier restarts count no more. The backoff doubles from the first to the longest."""

ASK_AGAIN = 10.0
"""Seconds after which a guest that was asked to shut down is asked again (it may have been booting)."""

REBOOT_PATIENCE = 30.0
"""Seconds that the host has to carry out a guest's reboot before the agent does."""

LIVE_FIELDS = frozenset({
    "powerState", "replicas", "uuid", "shutdownGracePeriodSeconds", "onPoweroff", "onCrash", "evictionStrategy",
    "nodeSelector", "affinity", "tolerations", "topologySpreadConstraints", "priorityClassName", "schedulerName",
})
"""Fields of a spec that need no restart: they are carried out live, or are about where it is placed."""


@dataclass(frozen=True)
class Start:
    pass


@dataclass(frozen=True)
class Destroy:
    uuid: str
    domid: int


@dataclass(frozen=True)
class Shutdown:
    uuid: str


@dataclass(frozen=True)
class Pause:
    uuid: str


@dataclass(frozen=True)
class Unpause:
    uuid: str


@dataclass(frozen=True)
class SetMemory:
    uuid: str
    kib: int


Step = Start | Destroy | Shutdown | Pause | Unpause | SetMemory


@dataclass(frozen=True)
class Host:
    """What the plan knows of the host it is on."""

    node: str
    boot_id: str


@dataclass(frozen=True)
class Observed:
    """The domain on this host; `state` None: it is not here. `blocked` is the settled sample of r and b."""

    state: DomainState | None
    devices: Devices = Devices()
    ended_at: datetime | None = None  # since when it has the flag `s`
    asked_at: datetime | None = None  # when it was last asked to shut down


@dataclass(frozen=True)
class Plan:
    status: XenDomainStatus
    step: Step | None = None
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None


def plan(domain: XenDomain, seen: Observed, host: Host, problem: Problem | None, now: datetime) -> Plan:
    """Decide one pass.

    Args:
        problem: why the last start or act failed, if it did and nothing has changed since.
    """
    return _Pass(domain, seen, host, problem, now).run()


def is_leaving(domain: XenDomain) -> bool:
    """Whether the domain has to be given up by this node."""
    move = domain.status.move
    return (
        domain.deleting
        or domain.spec.power_state is PowerState.HALTED
        or (move is not None and move.phase is not MovePhase.PENDING)
    )


def note(domain: XenDomain) -> str:
    """What is kept with a running domain: the spec it was started with, without what changes live."""
    return json.dumps(_started_with(domain), sort_keys=True, separators=(",", ":"))


def _started_with(domain: XenDomain) -> dict[str, Any]:
    spec = {key: value for key, value in domain.spec.to_dict().items() if key not in LIVE_FIELDS}
    spec["memory"] = {"max": str(domain.spec.memory.maximum)}
    spec["onReboot"] = str(domain.spec.on_reboot)
    return spec


def changed_fields(before: str, domain: XenDomain) -> list[str]:
    """Names of the fields, as in `spec.cpu.count`, that differ from those the domain was started with."""
    try:
        old = json.loads(before) if before else None
    except ValueError:
        old = None
    return list(_differences(old, _started_with(domain), "spec")) if isinstance(old, dict) else []


def _differences(old: Any, new: Any, path: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            name
            for key in sorted({*old, *new})
            for name in _differences(old.get(key), new.get(key), f"{path}.{key}")
        ]
    return [] if old == new else [path]


class _Pass:
    def __init__(
        self, domain: XenDomain, seen: Observed, host: Host, problem: Problem | None, now: datetime
    ) -> None:
        self.domain, self.seen, self.host, self.problem, self.now = domain, seen, host, problem, now
        self.state = seen.state
        self.status = domain.status
        self.next = domain.status.model_copy(deep=True)
        self.next.uuid = domain_uuid(domain)
        self.step: Step | None = None
        self.events: list[Event] = []
        self.requeue: float | None = None

    def run(self) -> Plan:
        given_up = self.status.released is not None and self.status.released == self.status.anchor_uid
        if given_up and self.state is None:
            return Plan(self.status)
        if not given_up and self.status.released is not None:  # another anchor: a new life
            self.next.released = self.next.last_exit = self.next.restarts = self.next.stopping = None
        self._show()
        if is_leaving(self.domain) or given_up:
            self._leave()
        elif self.state is None:
            self._absent()
        elif self.state.flags.dying:
            self._ready(False, Reason.STOPPING, "Xen is taking the domain apart.")
            self.requeue = 0.5
        elif self.state.flags.shutdown:
            self._ended(self.state)
        else:
            self._alive(self.state)
        return Plan(self.next, self.step, tuple(self.events), self.requeue)

    def _show(self) -> None:
        """What the hypervisor tells, as it is."""
        state, status = self.state, self.next
        if state is None:
            status.domid = status.state = status.cpu = status.memory = None
            status.flags, status.disks, status.interfaces = [], [], []
            return
        status.domid = state.domid
        status.boot_id = self.host.boot_id
        status.state = str(state.flags)
        status.flags = state.flags.names()
        status.cpu = CpuStatus(configured=state.vcpus, online=state.vcpus_online)
        # Whole MiB, as xl list shows them: Xen adds some pages of its own.
        status.memory = MemoryStatus(current=Quantity.from_mib(state.memory_kib // 1024))
        backends = {d.key: d.backend for d in (*self.seen.devices.disks, *self.seen.devices.interfaces)}
        macs = status.mac_addresses
        status.disks = [
            DiskStatus(name=d.name, target=d.target, backend_state=str(backends[d.target]))
            for d in self.domain.spec.disks
            if d.target in backends
        ]
        status.interfaces = [
            InterfaceStatus(name=i.name, mac=macs[i.name], address=i.address or "",
                            backend_state=str(backends[macs[i.name]]))
            for i in self.domain.spec.interfaces
            if macs.get(i.name) in backends
        ]

    # --- it has to leave this node

    def _leave(self) -> None:
        if self.state is None:
            self.next.released = self.status.anchor_uid
            self.next.stopping = None
            self.next.boot_id = None
            self.next.restarts = None
            self._drop(ConditionType.RESTART_REQUIRED)
            self._ready(False, Reason.RELEASED, f"It has left {self.host.node}.")
            return
        if self.state.flags.dying:
            self.requeue = 0.5
        elif self.state.flags.shutdown:
            self.step = Destroy(self.state.uuid, self.state.domid)
        else:
            self._shut_down(self.state)
        self._ready(False, Reason.STOPPING, f"Shutting down on {self.host.node}.")

    def _shut_down(self, state: DomainState) -> None:
        if self.next.stopping is None:
            self.next.stopping = self.now.replace(microsecond=0)
        grace = timedelta(seconds=self.domain.spec.shutdown_grace_period_seconds)
        left = (self.next.stopping + grace - self.now).total_seconds()
        if left <= 0:
            self.step = Destroy(state.uuid, state.domid)
            self.events.append(
                Event("Destroying", f"The guest did not shut down within {grace.total_seconds():.0f} s", warning=True)
            )
            return
        asked = self.seen.asked_at
        if asked is None or (self.now - asked).total_seconds() >= ASK_AGAIN:
            if state.flags.paused:  # a paused guest cannot hear
                self.step = Unpause(state.uuid)
                self.requeue = 0.1
                return
            self.step = Shutdown(state.uuid)
            self.events.append(Event("ShuttingDown", f"Asked the guest to shut down; {left:.0f} s left"))
        self.requeue = min(left, ASK_AGAIN)

    # --- it should be here and is not

    def _absent(self) -> None:
        ended = self.next.last_exit
        if ended is not None and self._action(ShutdownReason(ended.reason)) is LifecycleAction.DESTROY:
            self.next.released = self.status.anchor_uid
            self._ready(False, Reason.POWERED_OFF, f"The guest ended ({ended.reason}).")
            return
        if self.status.domid is not None and self.status.stopping is None and self.status.last_exit is None:
            if self.status.boot_id not in (None, self.host.boot_id):
                self.events.append(Event("HostRebooted", "Its host was booted anew; starting the domain again",
                                         warning=True))
            else:
                self.events.append(
                    Event("DestroyedByHand", "Somebody destroyed the domain on its host; starting it again", warning=True)
                )
        self._start()

    def _start(self) -> None:
        wait = self._backoff()
        if wait > 0:
            self._ready(False, Reason.CRASH_LOOP, f"It ended {self._restarts().count} times in a row; "
                        f"the next start waits {self._delay():.0f} s.")
            self.requeue = wait
            return
        if self.problem is not None:
            self._ready(False, self.problem.reason, self.problem.message)
            self.requeue = self.problem.retry_after
        else:
            self._ready(False, Reason.STARTING, f"Starting on {self.host.node}.")
        self.next.stopping = None
        self.step = Start()

    def _restarts(self) -> Restarts:
        return self.next.restarts or Restarts()

    def _delay(self) -> float:
        count = self._restarts().count
        return 0.0 if count < 2 else min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** (count - 2))

    def _backoff(self) -> float:
        """Seconds until the next start; the first restart is at once."""
        last = self._restarts().last
        return 0.0 if last is None else self._delay() - (self.now - last).total_seconds()

    # --- it is here and has ended

    def _ended(self, state: DomainState) -> None:
        reason = state.shutdown_reason or ShutdownReason.UNKNOWN
        if self.status.stopping is not None:  # we asked for it, and then the spec changed its mind
            self._again(state, "It was shutting down", count=False)
            return
        ended = self.seen.ended_at or self.now
        if reason is ShutdownReason.REBOOT and self.domain.spec.on_reboot is LifecycleAction.RESTART:
            left = REBOOT_PATIENCE - (self.now - ended).total_seconds()
            if left > 0:
                self._ready(False, Reason.RESTARTING, "The guest reboots.")
                self.requeue = left
                return
        action = self._action(reason)
        if action is LifecycleAction.PRESERVE:
            self.next.last_exit = self._exit(reason)
            self._ready(False, Reason.CRASHED if reason is ShutdownReason.CRASH else Reason.POWERED_OFF,
                        f"The guest ended ({reason}) and is kept as it is, as the spec asks. To start it again: "
                        "powerState Halted and back to Running.")
        elif action is LifecycleAction.RESTART:
            self._again(state, f"The guest ended ({reason})", count=reason is not ShutdownReason.REBOOT)
            self.next.last_exit = self._exit(reason)
        else:
            # Said before the destroy: a crash of ours in between must not turn it into 'destroyed by hand'.
            self.next.last_exit = self._exit(reason)
            if self.status.last_exit == self.next.last_exit:
                self.step = Destroy(state.uuid, state.domid)
            else:
                self.requeue = 0.0
            self._ready(False, Reason.POWERED_OFF, f"The guest ended ({reason}).")

    def _exit(self, reason: ShutdownReason) -> Exit:
        """How it ended, with a time that stays the same over passes."""
        old = self.status.last_exit
        ended = (self.seen.ended_at or self.now).replace(microsecond=0)
        if old is not None and old.reason == reason and self.status.stopping is None and old.time >= ended:
            return old
        return Exit(reason=str(reason), time=ended)

    def _again(self, state: DomainState, why: str, *, count: bool) -> None:
        self.step = Destroy(state.uuid, state.domid)
        if count:
            restarts = self._restarts()
            fresh = restarts.last is None or (self.now - restarts.last).total_seconds() > FORGET_AFTER
            self.next.restarts = Restarts(count=1 if fresh else restarts.count + 1, last=self.now.replace(microsecond=0))
        self.events.append(Event("Restarting", f"{why}; starting it again", warning=count))
        self._ready(False, Reason.RESTARTING, f"{why}; starting it again.")

    def _action(self, reason: ShutdownReason) -> LifecycleAction:
        spec = self.domain.spec
        if reason is ShutdownReason.POWEROFF:
            return spec.on_poweroff
        if reason is ShutdownReason.REBOOT:
            return spec.on_reboot
        return spec.on_crash

    # --- it is here and lives

    def _alive(self, state: DomainState) -> None:
        self.next.last_exit = None
        paused = self.domain.spec.power_state is PowerState.PAUSED
        if self.status.stopping is not None:
            # It was asked to end and nobody can take that back: wait for the end, then start it again.
            self._shut_down(state)
            self._ready(False, Reason.RESTARTING, "It is shutting down and will be started again.")
            return
        if paused and not state.flags.paused:
            self.step = Pause(state.uuid)
        elif state.flags.paused and not paused:
            self.step = Unpause(state.uuid)
            before = find(self.status.conditions, ConditionType.DOMAIN_READY)
            if before is not None and before.is_true and before.reason == Reason.RUNNING:
                self.events.append(
                    Event("PausedByHand", "Somebody paused the domain on its host; resuming it", warning=True)
                )
        elif (wanted := self._memory(state)) is not None:
            self.step = SetMemory(state.uuid, wanted)
        self._restart_required(state)
        self._up(state)

    def _memory(self, state: DomainState) -> int | None:
        """The memory to tell it to have, if it was told something else; within the maximum it was started with."""
        wanted = min(self.domain.spec.memory.size // 1024, state.max_memory_kib)
        told = state.memory_target_kib if state.memory_target_kib is not None else state.memory_kib
        # Xen counts in pages and keeps a little for itself: a difference below 1 MiB is none.
        return wanted if abs(wanted - told) >= 1024 else None

    def _restart_required(self, state: DomainState) -> None:
        fields = changed_fields(state.note, self.domain)
        if fields:
            self._set(ConditionType.RESTART_REQUIRED, True, "SpecChanged",
                      f"Waits for the next start: {', '.join(fields)}.")
        else:
            self._drop(ConditionType.RESTART_REQUIRED)

    def _up(self, state: DomainState) -> None:
        broken = [d.key for d in (*self.seen.devices.disks, *self.seen.devices.interfaces)
                  if d.backend in (BackendState.CLOSED, BackendState.CLOSING)]
        if self.problem is not None:
            self._ready(False, self.problem.reason, self.problem.message)
            self.requeue = self.problem.retry_after
        elif broken:
            self._ready(False, "DeviceLost", f"The host lost the backend of {', '.join(broken)}.")
        elif state.flags.paused:
            self._ready(True, Reason.PAUSED, f"Paused on {self.host.node}.")
        else:
            self._ready(True, Reason.RUNNING, f"Running on {self.host.node}.")

    def _ready(self, status: bool, reason: str, message: str) -> None:
        self._set(ConditionType.DOMAIN_READY, status, reason, message)

    def _set(self, type_: ConditionType, status: bool, reason: str, message: str) -> None:
        self.next.conditions = set_condition(
            self.next.conditions, type_, status, reason, message, self.domain.metadata.generation, self.now
        )

    def _drop(self, type_: ConditionType) -> None:
        self.next.conditions = [c for c in self.next.conditions if c.type != type_]


def owned(status: XenDomainStatus) -> dict[str, Any]:
    """What the agent applies: its own fields and conditions, as a document."""
    document = status.to_dict(only=AGENT_FIELDS)
    conditions: list[Condition] = [c for c in status.conditions if c.type in CONDITIONS]
    document["conditions"] = [c.to_dict() for c in conditions]
    return document
