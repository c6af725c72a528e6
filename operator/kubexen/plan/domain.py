"""A domain on its host: the agent's decisions about one XenDomain that is bound to its node.

The agent calls `plan` with the object, what the hypervisor shows and the time, carries out the one step that comes
back, looks again and asks again. A step that starts or destroys is taken only on an object read afresh.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from kubexen.api.conditions import Condition, ConditionType, Reason, find
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
from kubexen.hypervisor.port import NOT_IN_XEN, BackendState, DomainState, ShutdownReason
from kubexen.plan import restarts
from kubexen.plan.problem import Problem
from kubexen.plan.report import ORDERLY, Event, Report
from kubexen.plan.resolve import domain_uuid, reservation
from kubexen.plan.started import changed_fields, rebooted_by_host
from kubexen.plan.step import Destroy, Host, Observed, Pause, Plan, SetMemory, Shutdown, Start, Step, Unpause

CONDITIONS = (ConditionType.DOMAIN_READY, ConditionType.RESTART_REQUIRED)
"""The conditions of a XenDomain that are the agent's."""

ASK_AGAIN = 10.0
"""Seconds after which a guest that was asked to shut down is asked again (it may have been booting)."""

LOOK_AGAIN = 5.0
"""Seconds until a domain that only a person can end is looked at again."""

REBOOT_PATIENCE = 30.0
"""Seconds that the host has to carry out a guest's reboot before the agent does."""


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


def what_follows(domain: XenDomain, reason: str) -> LifecycleAction:
    """What the spec wants after an end of the guest for this reason (Xen's)."""
    spec = domain.spec
    by_reason: dict[str, LifecycleAction] = {
        ShutdownReason.POWEROFF: spec.on_poweroff, ShutdownReason.REBOOT: spec.on_reboot,
    }
    return by_reason.get(reason, spec.on_crash)


def _has_ended(state: DomainState) -> bool:
    return state.flags.shutdown or state.flags.crashed  # libxc shows a crash as `c` alone


def _how(reason: str) -> Reason:
    return Reason.POWERED_OFF if reason in ORDERLY else Reason.CRASHED


class _Pass:
    def __init__(
        self, domain: XenDomain, seen: Observed, host: Host, problem: Problem | None, now: datetime
    ) -> None:
        self.domain, self.seen, self.host, self.problem, self.now = domain, seen, host, problem, now
        self.state = seen.state
        self.status = domain.status
        self.next = domain.status.model_copy()  # its fields are replaced, never changed in place
        self.next.uuid = domain_uuid(domain)
        self.say = Report(self.next, domain.metadata.generation, now)
        self.step: Step | None = None
        self.events: list[Event] = []
        self.requeue: float | None = None

    def run(self) -> Plan:
        given_up = self.status.released is not None and self.status.released == self.status.anchor_uid
        if given_up and self.state is None and self.status.domid is None:
            return Plan(self.status)
        if not given_up and self.status.released is not None:  # another anchor: a new life
            self.next.released = self.next.last_exit = self.next.restarts = self.next.stopping = None
            self.status = self.next.model_copy()
        self._show()
        if is_leaving(self.domain) or given_up:
            self._leave()
        elif self.state is None:
            self._absent()
        elif self.state.flags.dying:
            self._ready(False, Reason.STOPPING, "Xen is taking the domain apart." if self.state.domid != NOT_IN_XEN
                        else "Its host has ended it, and is about to start it.")
            self.requeue = 0.5
        elif _has_ended(self.state):
            self._ended(self.state)
        else:
            self._alive(self.state)
        if self.seen.unclaimed is not None and self.next.released != self.status.released:
            self._keep(self.seen.unclaimed)
        return Plan(self.next, self.step, tuple(self.events), self.requeue)

    def _keep(self, domid: int) -> None:
        """It looks as if it had left, and runs on past libvirt: who gave it up would let it be started a second time."""
        self.next = self.say.status = self.status.model_copy()
        self._ready(False, Reason.STOPPING, f"libvirt on {self.host.node} has lost it, but it is there as domain {domid}. "
                    f"End it with `xl destroy {domid}` on its host; until then nothing is done with it.")
        self.requeue = LOOK_AGAIN

    def _show(self) -> None:
        """What the hypervisor tells, as it is."""
        state, status = self.state, self.next
        if state is None:
            status.domid = status.state = status.cpu = status.memory = None
            status.flags, status.disks, status.interfaces = [], [], []
            return
        status.domid = None if state.domid == NOT_IN_XEN else state.domid
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
            self._release()
            self._ready(False, Reason.RELEASED, f"It has left {self.host.node}.")
            return
        if self.state.flags.dying:
            self.requeue = 0.5
        elif _has_ended(self.state):
            self.step = Destroy(self.state.uuid, self.state.domid)
        elif self.status.move is not None and self.status.move.phase is MovePhase.FENCED:
            # It may be started elsewhere any moment: no time to ask the guest, though this node lives.
            self.step = Destroy(self.state.uuid, self.state.domid)
            self.events.append(Event("DestroyedLeftover", f"Ended the domain on {self.host.node}, which was fenced", warning=True))
        else:
            self._shut_down(self.state)
        self._ready(False, Reason.STOPPING, f"Shutting down on {self.host.node}.")

    def _release(self) -> None:
        """Give the anchor up: the domain is not here, and is not started for it again."""
        if self.status.released != self.status.anchor_uid:
            self.next.last_exit = None  # it goes because it has to, however an earlier life of it ended
        self.next.released = self.status.anchor_uid
        self.next.stopping = None
        self.next.boot_id = None
        self.next.restarts = None
        self.say.drop(ConditionType.RESTART_REQUIRED)

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
        wait = 0.0 if asked is None else ASK_AGAIN - (self.now - asked).total_seconds()
        if wait <= 0:
            if state.flags.paused:  # a paused guest cannot hear
                self.step = Unpause(state.uuid)
                self.requeue = 0.1
                return
            self.step = Shutdown(state.uuid)
            self.events.append(Event("ShuttingDown", f"Asked the guest to shut down; {left:.0f} s left"))
            wait = ASK_AGAIN
        self.requeue = min(left, wait)

    # --- it should be here and is not

    def _absent(self) -> None:
        ended = self.next.last_exit
        if ended is not None and self._action(ended.reason) is LifecycleAction.DESTROY:
            self.next.released = self.status.anchor_uid
            self._ready(False, _how(ended.reason), f"The guest ended ({ended.reason}).")
            return
        if ended is not None and self.status.boot_id == self.host.boot_id and self._left_to_host(ended):
            return
        if self.status.domid is not None and self.status.stopping is None and self.status.last_exit is None:
            if self.status.boot_id in (None, self.host.boot_id):
                self.events.append(
                    Event("DestroyedByHand", "Somebody destroyed the domain on its host; starting it again",
                          warning=True)
                )
            elif self.status.boot_id != self.status.fenced_boot_id:  # else it was on another host, which was fenced
                self.events.append(Event("HostRebooted", "Its host was booted anew; starting the domain again",
                                         warning=True))
        self._start()

    def _start(self) -> None:
        if self.status.stopping is not None:
            # Said before the start: it was the domain that is gone that was asked to shut down, not the one to come.
            self.next.stopping = None
            self._ready(False, Reason.STARTING, f"Starting on {self.host.node}.")
            self.requeue = 0.0
            return
        if self.status.reserved not in (None, reservation(self.domain)):
            self._release()
            self._ready(False, Reason.RELEASED,
                        "Its maximum of memory or of vCPUs, or its claims or Secrets have changed: it is placed anew.")
            return
        row = self.next.restarts or Restarts()
        if (wait := restarts.wait(row, self.now)) > 0:
            self._ready(False, Reason.CRASH_LOOP, f"It ended {row.count} times in a row; "
                        f"the next start waits {restarts.delay(row):.0f} s.")
            self.requeue = wait
            return
        if self.problem is not None:
            self._ready(False, self.problem.reason, self.problem.message)
            self.requeue = self.problem.retry_after
        else:
            self._ready(False, Reason.STARTING, f"Starting on {self.host.node}.")
        self.step = Start()

    # --- it is here and has ended

    def _ended(self, state: DomainState) -> None:
        """What follows is told before the destroy: a crash of ours in between must not make it 'destroyed by hand'."""
        reason = state.shutdown_reason or (ShutdownReason.CRASH if state.flags.crashed else ShutdownReason.UNKNOWN)
        if self.status.stopping is not None:  # we asked for it, and then the spec changed its mind
            self._destroy_to_restart(state, "It was shutting down", warning=False)
            return
        if reason is ShutdownReason.SUSPEND:
            self._ready(False, Reason.SUSPENDED, "Somebody on its host saves its memory; it is left alone meanwhile.")
            return
        told = self._told(state, reason)
        exit_ = told or Exit(reason=str(reason), time=(self.seen.ended_at or self.now).replace(microsecond=0))
        self.next.last_exit = exit_
        action, why = self._action(reason), f"The guest ended ({reason})"
        if action is LifecycleAction.RESTART and self._left_to_host(exit_, state.note):
            return
        if action not in (LifecycleAction.RESTART, LifecycleAction.DESTROY):
            self._ready(False, _how(reason), f"{why} and is kept as it is ({action}). To start it again: "
                        "powerState Halted and back to Running.")
        elif told is None:
            if action is LifecycleAction.RESTART and reason is not ShutdownReason.REBOOT:
                self.next.restarts = restarts.one_more(self.next.restarts or Restarts(), self.now)
            self._ready(False, Reason.RESTARTING if action is LifecycleAction.RESTART else Reason.STOPPING, f"{why}.")
            self.requeue = 0.0
        elif action is LifecycleAction.RESTART:
            self._destroy_to_restart(state, why, warning=reason is not ShutdownReason.REBOOT)
        else:
            self.step = Destroy(state.uuid, state.domid)
            self._ready(False, Reason.STOPPING, f"{why}.")  # whoever waits for PoweredOff may take it for gone

    def _told(self, state: DomainState, reason: ShutdownReason) -> Exit | None:
        """What the status says already of the end of this very incarnation."""
        before = self.status
        same = (before.domid, before.boot_id) == (state.domid, self.host.boot_id)
        return before.last_exit if same and before.last_exit and before.last_exit.reason == reason else None

    def _left_to_host(self, ended: Exit, note: str = "") -> bool:
        """Whether the host is given time to carry out a guest's reboot, as it does by itself."""
        if ended.reason != ShutdownReason.REBOOT or not rebooted_by_host(note, self.domain):
            return False
        left = REBOOT_PATIENCE - (self.now - ended.time).total_seconds()
        if left > 0:
            self._ready(False, Reason.RESTARTING, "The guest reboots.")
            self.requeue = left
        return left > 0

    def _destroy_to_restart(self, state: DomainState, why: str, *, warning: bool) -> None:
        self.step = Destroy(state.uuid, state.domid)
        self.events.append(Event("Restarting", f"{why}; starting it again", warning=warning))
        self._ready(False, Reason.RESTARTING, f"{why}; starting it again.")

    def _action(self, reason: str) -> LifecycleAction:
        return what_follows(self.domain, reason)

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
            self.say.set(ConditionType.RESTART_REQUIRED, True, "SpecChanged",
                         f"Waits for the next start: {', '.join(fields)}.")
        else:
            self.say.drop(ConditionType.RESTART_REQUIRED)

    def _up(self, state: DomainState) -> None:
        broken = [d.key for d in (*self.seen.devices.disks, *self.seen.devices.interfaces)
                  if d.backend in (BackendState.CLOSED, BackendState.CLOSING, BackendState.UNKNOWN)]
        if self.problem is not None:
            self._ready(False, self.problem.reason, self.problem.message)
            self.requeue = self.problem.retry_after
        elif broken:
            self._ready(False, "DeviceLost", f"The host has no backend for {', '.join(broken)} (any more).")
        elif state.flags.paused:
            self._ready(True, Reason.PAUSED, f"Paused on {self.host.node}.")
        else:
            self._ready(True, Reason.RUNNING, f"Running on {self.host.node}.")

    def _ready(self, status: bool, reason: str, message: str) -> None:
        self.say.set(ConditionType.DOMAIN_READY, status, reason, message)


def owned(status: XenDomainStatus) -> dict[str, Any]:
    """What the agent applies: its own fields and conditions, as a document."""
    document = status.to_dict(only=AGENT_FIELDS)
    conditions: list[Condition] = [c for c in status.conditions if c.type in CONDITIONS]
    document["conditions"] = [c.to_dict() for c in conditions]
    return document
