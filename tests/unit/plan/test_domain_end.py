"""A domain's end: asked for by the spec, or by the guest itself, and what follows then."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from kubexen.api.conditions import ConditionType, find
from kubexen.api.domainstatus import MovePhase, Restarts, XenDomainStatus
from kubexen.hypervisor.port import NOT_IN_XEN, DomainState, ShutdownReason
from kubexen.plan.domain import plan
from kubexen.plan.resolve import config, resolve
from kubexen.plan.started import note
from kubexen.plan.step import Destroy, Observed, Plan, Shutdown, Start, Step, Unpause
from tests.unit.plan.builders import HOST, NOW, UID, ago, bound, domain, ended, move, references, shows, state

READY = ConditionType.DOMAIN_READY
LEAVING: dict[str, dict[str, Any]] = {
    "halted": {"power_state": "Halted"},
    "deleted": {"deleting": True},
    "let go in a move": {"status": bound(move=move(MovePhase.RELEASING))},
}
FENCED: dict[str, Any] = {"status": bound(move=move(MovePhase.FENCED))}


def look(given: dict[str, Any], seen: Observed, now: datetime = NOW) -> Plan:
    return plan(domain(**({"status": bound()} | given)), seen, HOST, None, now)


# --- asked for


@pytest.mark.parametrize(
    "why",
    [*LEAVING.values(), FENCED, {"status": bound(last_exit=ended("poweroff"))}],
    ids=[*LEAVING, "fenced", "powered off"],
)
def test_a_domain_that_libvirt_has_lost_is_not_given_up(why: dict[str, Any]) -> None:
    """Who gave it up would let it be started on another host."""
    result = look(why, Observed(None, unclaimed=7))
    assert (result.status.released, result.step) == (None, None)
    assert result.requeue_after == 5
    ready = find(result.status.conditions, READY)
    assert ready is not None and not ready.is_true
    assert "xl destroy 7" in ready.message


def test_one_that_its_host_is_about_to_start_again_is_neither_given_up_nor_started() -> None:
    for given in ({}, *LEAVING.values(), FENCED):
        result = look(given, Observed(state("-----d", domid=NOT_IN_XEN)))
        assert (result.status.released, result.status.domid, result.step) == (None, None, None)
        assert result.status.state == "-----d"
        assert result.requeue_after is not None


@pytest.mark.parametrize("why", LEAVING.values(), ids=LEAVING)
def test_who_has_to_leave_is_asked_to_shut_down_and_released_when_gone(why: dict[str, Any]) -> None:
    asked = look(why, Observed(state()))
    assert asked.step == Shutdown(UID)
    assert asked.status.stopping == NOW
    assert shows(asked.status, READY) == "False Stopping"
    assert asked.status.released is None
    gone = look(why | {"status": asked.status}, Observed(None))
    assert gone.step is None
    assert (gone.status.released, gone.status.domid, gone.status.stopping) == ("a1", None, None)
    assert shows(gone.status, READY) == "False Released"
    assert [event.reason for event in gone.events] == []


def test_who_was_fenced_and_lives_is_ended_without_asking_the_guest() -> None:
    """Another node may start it any moment."""
    ends = look(FENCED, Observed(state()))
    assert ends.step == Destroy(UID, 7)
    assert [(event.reason, event.warning) for event in ends.events] == [("DestroyedLeftover", True)]
    gone = look({"status": ends.status}, Observed(None))
    assert (gone.step, gone.status.released, gone.events) == (None, "a1", ())


def test_a_move_whose_place_is_still_looked_for_shuts_nothing_down() -> None:
    assert look({"status": bound(move=move(MovePhase.PENDING))}, Observed(state())).step is None


@dataclass(frozen=True)
class Case:
    state: DomainState
    stopping: float | None = None  # seconds ago
    asked: float | None = None
    grace: int = 60
    want_step: Step | None = None
    want_again: float | None = None
    want_events: tuple[str, ...] = ()


STOPPING = {
    "first": Case(state(), want_step=Shutdown(UID), want_again=10, want_events=("ShuttingDown",)),
    "asked 4 s ago: it has time": Case(state(), 4, 4, want_again=6),
    "asked 10 s ago: asked again": Case(
        state(), 10, 10, want_step=Shutdown(UID), want_again=10, want_events=("ShuttingDown",)
    ),
    "5 s of the grace period are left": Case(state(), 55, 1, want_again=5),
    "the grace period is over": Case(state(), 60, 5, want_step=Destroy(UID, 7), want_events=("Destroying",)),
    "no grace period": Case(state(), grace=0, want_step=Destroy(UID, 7), want_events=("Destroying",)),
    "paused: it could not hear": Case(state("--p---"), want_step=Unpause(UID), want_again=0.1),
    "paused, and the grace period is over": Case(
        state("--p---"), 61, want_step=Destroy(UID, 7), want_events=("Destroying",)
    ),
    "it has ended": Case(state("---s--", reason=ShutdownReason.POWEROFF), 3, 3, want_step=Destroy(UID, 7)),
    "it crashed meanwhile": Case(state("----c-"), 3, 3, want_step=Destroy(UID, 7)),
    "Xen takes it apart": Case(state("---s-d"), 3, 3, want_again=0.5),
}


@pytest.mark.parametrize("case", STOPPING.values(), ids=STOPPING)
def test_shutting_down(case: Case) -> None:
    status = bound(stopping=None if case.stopping is None else ago(case.stopping))
    seen = Observed(case.state, asked_at=None if case.asked is None else ago(case.asked))
    given = {"status": status, "power_state": "Halted", "shutdown_grace_period_seconds": case.grace}
    result = look(given, seen)
    assert result.step == case.want_step
    assert result.requeue_after == case.want_again
    assert tuple(event.reason for event in result.events) == case.want_events
    assert shows(result.status, READY) == "False Stopping"


def test_who_goes_because_it_has_to_did_not_end_by_itself() -> None:
    """Else a domain that crashed earlier, was halted and set to run again at once would be taken for crashed now."""
    gone = look({"status": bound(last_exit=ended("crash")), "power_state": "Halted"}, Observed(None)).status
    assert (gone.released, gone.last_exit) == ("a1", None)


# --- asked for, and then the spec asks for it again


def test_back_to_running_while_it_shuts_down() -> None:
    """The request cannot be taken back: it ends, is destroyed and started again, once, and nobody says 'by hand'."""
    alive = look({"status": bound(stopping=ago(5))}, Observed(state(), asked_at=ago(5)))
    assert (alive.step, alive.requeue_after) == (None, 5)
    assert shows(alive.status, READY) == "False Restarting"

    over = look({"status": alive.status}, Observed(state("---s--", reason=ShutdownReason.POWEROFF)))
    assert over.step == Destroy(UID, 7)
    assert over.status.restarts is None and over.status.last_exit is None

    gone = look({"status": alive.status}, Observed(None))
    assert (gone.step, gone.requeue_after, gone.status.stopping) == (None, 0.0, None)
    again = look({"status": gone.status}, Observed(None))
    assert again.step == Start()
    assert [*gone.events, *again.events] == []
    fresh = look({"status": gone.status}, Observed(state(domid=8)))
    assert fresh.step is None
    assert shows(fresh.status, READY) == "True Running"


def test_a_guest_that_does_not_hear_is_destroyed_also_when_it_is_to_run_again() -> None:
    assert look({"status": bound(stopping=ago(60))}, Observed(state())).step == Destroy(UID, 7)


# --- by itself


@dataclass(frozen=True)
class End:
    reason: ShutdownReason
    spec: dict[str, str] = field(default_factory=dict)
    want_ready: str = "False Restarting"
    want_count: int = 0
    want_then: str = "start"  # or what Ready says when it is gone, and not before: who waits for that takes it for gone
    want_events: tuple[str, ...] = ("Restarting",)


OFF: dict[str, Any] = {"want_ready": "False Stopping", "want_events": ()}
ENDS = {
    "poweroff, destroy": End(ShutdownReason.POWEROFF, want_then="False PoweredOff", **OFF),
    "poweroff, restart": End(ShutdownReason.POWEROFF, {"on_poweroff": "restart"}, want_count=1),
    "reboot, destroy": End(ShutdownReason.REBOOT, {"on_reboot": "destroy"}, want_then="False PoweredOff", **OFF),
    "reboot, restart, which its host did not do": End(ShutdownReason.REBOOT),
    "crash, restart": End(ShutdownReason.CRASH, want_count=1),
    "crash, destroy": End(ShutdownReason.CRASH, {"on_crash": "destroy"}, want_then="False Crashed", **OFF),
    "watchdog, restart": End(ShutdownReason.WATCHDOG, want_count=1),
    "nobody knows why, restart": End(ShutdownReason.UNKNOWN, want_count=1),
}


@pytest.mark.parametrize("seen_at", [ago(40), None], ids=["told since when", "not told since when"])
@pytest.mark.parametrize("case", ENDS.values(), ids=ENDS)
def test_an_end_is_written_before_the_destroy(case: End, seen_at: datetime | None) -> None:
    seen = Observed(state("---s--", reason=case.reason), ended_at=seen_at)
    first = look(case.spec, seen)
    assert first.step is None
    assert first.status.last_exit is not None and first.status.last_exit.reason == case.reason
    assert (first.status.restarts.count if first.status.restarts else 0) == case.want_count
    if case.reason is ShutdownReason.REBOOT and case.want_then == "start" and seen_at is None:
        assert first.requeue_after == 30
        return
    assert first.requeue_after == 0.0

    second = look({"status": first.status} | case.spec, seen, NOW.replace(second=5))
    assert second.step == Destroy(UID, 7)
    assert shows(second.status, READY) == case.want_ready
    assert second.status.last_exit == first.status.last_exit
    assert second.status.restarts == first.status.restarts
    assert tuple(event.reason for event in second.events) == case.want_events

    third = look({"status": first.status} | case.spec, Observed(None), NOW.replace(second=6))
    assert third.events == ()
    if case.want_then == "start":
        assert third.step == Start()
    else:
        assert third.step is None and third.status.released == "a1"
        assert shows(third.status, READY) == case.want_then


def test_a_guests_reboot_is_left_to_its_host_for_30_s() -> None:
    first = look({}, Observed(state("---s--", reason=ShutdownReason.REBOOT), ended_at=ago(5)))
    assert (first.step, first.requeue_after) == (None, 25)
    assert shows(first.status, READY) == "False Restarting"
    between = look({"status": first.status}, Observed(None))
    assert (between.step, between.requeue_after, between.events) == (None, 25, ())
    back = look({"status": first.status}, Observed(state(domid=8)))
    assert shows(back.status, READY) == "True Running"
    assert (back.status.domid, back.status.last_exit) == (8, None)


@pytest.mark.parametrize("cpu", [{"weight": 512}, {"cap": 50}], ids=str)
def test_a_domain_with_a_share_of_its_own_is_rebooted_by_the_agent(cpu: dict[str, int]) -> None:
    """libvirt would forget the share: a guest could get rid of its cap."""
    shared = domain(cpu=cpu)
    assert not config(shared, resolve(shared, references()), note=note(shared)).restart_on_reboot
    ended = Observed(state("---s--", reason=ShutdownReason.REBOOT, note=note(shared)), ended_at=ago(5))
    first = look({"cpu": cpu}, ended)
    second = look({"cpu": cpu, "status": first.status}, ended)
    assert second.step == Destroy(UID, 7)
    # it was started before it had a share: the host is at it
    ended = Observed(state("---s--", reason=ShutdownReason.REBOOT, note=note(domain())), ended_at=ago(5))
    assert look({"cpu": cpu}, ended).requeue_after == 25


KEPT = {
    "poweroff": (ShutdownReason.POWEROFF, {"on_poweroff": "preserve"}, "False PoweredOff"),
    "crash": (ShutdownReason.CRASH, {"on_crash": "preserve"}, "False Crashed"),
    "crash, an action that is not built: nothing is lost": (
        ShutdownReason.CRASH, {"on_crash": "coredump-restart"}, "False Crashed"
    ),
}


@pytest.mark.parametrize("reason, spec, want", KEPT.values(), ids=KEPT)
def test_preserve(reason: ShutdownReason, spec: dict[str, str], want: str) -> None:
    seen = Observed(state("---s--", reason=reason), ended_at=ago(1))
    first = look(spec, seen)
    assert (first.step, shows(first.status, READY)) == (None, want)
    assert look({"status": first.status} | spec, seen, NOW.replace(second=30)) == dataclasses.replace(first)
    halted = look({"status": first.status, "power_state": "Halted"} | spec, seen)
    assert halted.step == Destroy(UID, 7)


def test_a_guest_whose_memory_is_being_saved_by_hand_is_left_alone() -> None:
    result = look({}, Observed(state("---s--", reason=ShutdownReason.SUSPEND)))
    assert (result.step, result.status.last_exit) == (None, None)
    assert shows(result.status, READY) == "False Suspended"


def test_a_crash_that_libxc_shows_as_c_alone() -> None:
    first = look({}, Observed(state("----c-")))
    assert first.status.last_exit is not None and first.status.last_exit.reason == "crash"
    assert look({"status": first.status}, Observed(state("----c-"))).step == Destroy(UID, 7)


def crash(status: XenDomainStatus, domid: int, now: datetime) -> XenDomainStatus:
    seen = Observed(state("----c-", domid=domid, reason=ShutdownReason.CRASH), ended_at=now)
    return plan(domain(status), seen, HOST, None, now).status


def test_crashes_in_a_row_are_counted_each_once_even_when_nobody_saw_it_alive_between() -> None:
    status = crash(bound(), 7, NOW)
    status = crash(status, 7, NOW.replace(second=1))
    status = crash(status, 8, NOW.replace(second=2))
    status = crash(status, 9, NOW.replace(second=30))
    assert status.restarts == Restarts(count=3, last=NOW.replace(second=30))


def test_a_crash_more_than_ten_minutes_after_the_last_is_the_first_again() -> None:
    for seconds, want in ((600, 6), (601, 1)):
        status = crash(bound(restarts=Restarts(count=5, last=ago(seconds))), 7, NOW)
        assert status.restarts == Restarts(count=want, last=NOW)


def test_a_domain_that_xen_takes_apart_is_waited_for() -> None:
    result = look({}, Observed(state("-----d")))
    assert (result.step, result.requeue_after) == (None, 0.5)
    assert shows(result.status, READY) == "False Stopping"
