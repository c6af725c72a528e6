"""A domain that a node holds: what Ready says, what lets it go, and what becomes of its anchor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from kubexen.api.conditions import Condition, ConditionType, Reason
from kubexen.api.domainstatus import MovePhase, Reservation, XenDomainStatus
from kubexen.api.xendomain import XenDomain
from kubexen.plan.anchor import Anchor
from kubexen.plan.placement import plan
from kubexen.plan.problem import Problem
from kubexen.plan.world import NodeState, World
from tests.unit.plan.acts import words
from tests.unit.plan.builders import NOW, RUNNING, anchor, bound, domain, ended, move, pending, says, shows

PAUSED = says(True, Reason.PAUSED)
SUSPENDED = Problem(Reason.NOT_IMPLEMENTED, "spec.powerState: not built yet", stalled=True)


@dataclass(frozen=True)
class Says:
    agent: Condition | None
    spec: dict[str, Any] = field(default_factory=dict)
    world: dict[str, Any] = field(default_factory=dict)
    want_ready: str = ""
    want_other: str | None = None  # Reconciling or Stalled, whichever is there


READY = {
    "nothing yet": Says(None, want_ready="False Starting", want_other="Reconciling"),
    "running": Says(RUNNING, want_ready="True Running"),
    "paused, as asked": Says(PAUSED, {"power_state": "Paused"}, want_ready="True Paused"),
    "running, to be paused": Says(
        RUNNING, {"power_state": "Paused"}, want_ready="False Pausing", want_other="Reconciling"
    ),
    "paused, to run": Says(PAUSED, want_ready="False Resuming", want_other="Reconciling"),
    "crash loop": Says(says(False, Reason.CRASH_LOOP), want_ready="False CrashLoop", want_other="Reconciling"),
    "only a person can mend it": Says(
        says(False, Reason.FILE_NOT_FOUND), want_ready="False FileNotFound", want_other="Stalled"
    ),
    "crashed and preserved": Says(says(False, Reason.CRASHED), want_ready="False Crashed", want_other="Stalled"),
    "powered off and preserved: as the spec asks": Says(says(False, Reason.POWERED_OFF), want_ready="True PoweredOff"),
    "suspended is not built: it runs on, and that is told": Says(
        RUNNING, {"power_state": "Suspended"}, {"problem": SUSPENDED}, "False NotImplemented", "Stalled"
    ),
    "the node is lost": Says(RUNNING, world={"node": NodeState(lost=True)}, want_ready="False NodeLost"),
    "a problem of the spec does not touch what runs": Says(
        RUNNING, world={"problem": Problem(Reason.DISK_NOT_FOUND, "x")}, want_ready="True Running"
    ),
}


@pytest.mark.parametrize("case", READY.values(), ids=READY)
def test_ready_follows_the_agent(case: Says) -> None:
    result = plan(domain(bound(case.agent), **case.spec), [anchor()], World(**case.world), NOW)
    assert shows(result.status) == case.want_ready
    others = [t for t in (ConditionType.RECONCILING, ConditionType.STALLED) if shows(result.status, t)]
    assert others == ([case.want_other] if case.want_other else [])
    assert not [w for w in words(result) if not w.startswith("gate")]


def test_a_lost_node_that_comes_back_is_taken_back() -> None:
    running = plan(domain(bound()), [anchor()], World(), NOW).status
    assert running is not None
    lost = plan(domain(running), [anchor()], World(node=NodeState(lost=True)), NOW).status
    assert shows(lost) == "False NodeLost"
    back = plan(domain(lost), [anchor()], World(), NOW).status
    assert shows(back) == "True Running"
    assert back is not None and (back.node_name, back.anchor_uid) == ("xen1", "a1")


def test_ready_is_not_told_for_a_spec_that_the_agent_has_not_seen() -> None:
    seen = plan(domain(bound(), generation=1), [anchor()], World(), NOW).status
    assert seen is not None and seen.observed_generation == 1
    assert plan(domain(seen, generation=2), [anchor()], World(), NOW).status is None
    seen.conditions = [c for c in seen.conditions if c.type != ConditionType.DOMAIN_READY]
    seen.conditions.append(says(True, Reason.RUNNING, generation=2))
    caught_up = plan(domain(seen, generation=2), [anchor()], World(), NOW).status
    assert caught_up is not None and caught_up.observed_generation == 2


GATES: dict[str, tuple[Condition | None, bool | None, list[str]]] = {
    "up, not written yet": (RUNNING, None, ["gate a1 True"]),
    "up, written": (RUNNING, True, []),
    "down again": (says(False, Reason.CRASH_LOOP), True, ["gate a1 False"]),
    "not up yet, never written": (None, None, []),
}


@pytest.mark.parametrize("agent, ready, want", GATES.values(), ids=GATES)
def test_the_anchors_gate_follows_the_domain(agent: Condition | None, ready: bool | None, want: list[str]) -> None:
    result = plan(domain(bound(agent)), [anchor(ready=ready)], World(), NOW)
    assert words(result) == want
    assert result.status is not None
    assert result.status.replicas == (1 if agent is RUNNING else 0)


@dataclass(frozen=True)
class Leaving:
    domain: XenDomain
    anchors: tuple[Anchor, ...] = (anchor(),)
    world: dict[str, Any] = field(default_factory=dict)
    want_node: str | None = None
    want_anchor: str | None = None
    want_ready: str | None = None
    want_steps: tuple[str, ...] = ()
    want_events: tuple[str, ...] = ()


SECOND = anchor("a2", "xen2")
GIVEN_UP = bound(says(False, Reason.RELEASED), released="a1", domid=None)
POWEROFF = bound(says(False, Reason.POWERED_OFF), released="a1", domid=None, last_exit=ended("poweroff"))
CRASH = bound(says(False, Reason.CRASHED), released="a1", domid=None, last_exit=ended("crash"))
MOVED = GIVEN_UP.model_copy(update={"move": move(MovePhase.RELEASING, target="xen2")})

LEAVING = {
    "halted: the agent shuts it down, the anchor stays": Leaving(
        domain(bound(), power_state="Halted"), want_node="xen1", want_anchor="a1", want_ready="False Stopping"
    ),
    "halted and released": Leaving(
        domain(GIVEN_UP, power_state="Halted"), want_ready="True Halted", want_steps=("end a1",)
    ),
    "halted on a lost node: nobody knows": Leaving(
        domain(bound(), power_state="Halted"), world={"node": NodeState(lost=True)}, want_node="xen1", want_anchor="a1",
        want_ready="False NodeLost",
    ),
    "deleted: the agent reads that from the object": Leaving(
        domain(bound(), deleting=True), want_node="xen1", want_anchor="a1", want_ready="False Stopping"
    ),
    "deleted and released: the anchor goes first": Leaving(
        domain(GIVEN_UP, deleting=True), want_ready="False Deleting", want_steps=("end a1",)
    ),
    "deleted while a second anchor waits": Leaving(
        domain(bound(), deleting=True), (anchor(), SECOND), want_node="xen1", want_anchor="a1",
        want_ready="False Stopping", want_steps=("end a2",),
    ),
    "released in a move: bound to the second anchor in one write": Leaving(
        domain(MOVED), (anchor(deleting=True), SECOND), want_node="xen2", want_anchor="a2",
        want_ready="False Starting", want_steps=("end a1",), want_events=("Scheduled",),
    ),
    "released in a move whose second anchor is gone: unbound": Leaving(
        domain(MOVED), (anchor(deleting=True),), want_ready="False WaitingForNode", want_steps=("end a1",)
    ),
    "released in a move, and a host runs it unasked: unbound": Leaving(
        domain(MOVED), (anchor(deleting=True), SECOND), {"found_on": "xen9"}, want_ready="False WaitingForNode",
        want_steps=("end a1",),
    ),
    "released in a move, and meanwhile halted": Leaving(
        domain(MOVED, power_state="Halted"), (anchor(deleting=True), SECOND), want_ready="True Halted",
        want_steps=("end a1", "end a2"),
    ),
    "the guest powered itself off": Leaving(
        domain(POWEROFF), want_ready="True PoweredOff", want_steps=("end a1",), want_events=("DomainEnded",)
    ),
    "the guest crashed under onCrash destroy": Leaving(
        domain(CRASH), want_ready="False Crashed", want_steps=("end a1",), want_events=("DomainEnded",)
    ),
    "released without an end of its own (halted and back, quickly): a place is looked for": Leaving(
        domain(GIVEN_UP), want_ready="False WaitingForNode", want_steps=("end a1",)
    ),
    "released is an earlier anchor's: it stays": Leaving(
        domain(bound(released="a0")), want_node="xen1", want_anchor="a1", want_ready="False Starting",
        want_steps=("gate a1 False",),
    ),
}


@pytest.mark.parametrize("case", LEAVING.values(), ids=LEAVING)
def test_leaving(case: Leaving) -> None:
    result = plan(case.domain, case.anchors, World(**case.world), NOW)
    assert words(result) == list(case.want_steps)
    assert shows(result.status) == case.want_ready
    assert result.status is not None
    assert (result.status.node_name, result.status.anchor_uid) == (case.want_node, case.want_anchor)
    assert tuple(event.reason for event in result.events) == case.want_events


def test_a_powered_off_domain_stays_off_and_a_halted_one_does_not_remember_it() -> None:
    off = plan(domain(POWEROFF), [anchor()], World(), NOW).status
    assert off is not None and off.off == POWEROFF.last_exit
    halted = plan(domain(POWEROFF, power_state="Halted"), [anchor()], World(), NOW).status
    assert halted is not None and halted.off is None


def test_the_finalizer_goes_only_when_nothing_is_bound_and_no_anchor_is_left() -> None:
    leaving = domain(GIVEN_UP, deleting=True)
    assert words(plan(domain(bound(), deleting=True), [], World(), NOW)) == []
    assert words(plan(leaving, [anchor()], World(), NOW)) == ["end a1"]
    assert words(plan(leaving, [], World(), NOW)) == ["drop"]


def test_unbound_after_a_release_is_no_longer_shown_as_scheduled() -> None:
    status = plan(domain(MOVED), [anchor(deleting=True)], World(), NOW).status
    assert shows(status, ConditionType.SCHEDULED) == "False WaitingForNode"


def test_a_namespace_that_goes_is_told_to_the_agent_by_the_move() -> None:
    world = World(namespace_deleting=True)
    first = plan(domain(bound()), [anchor(deleting=True)], world, NOW).status
    assert first is not None and first.move is not None
    assert (first.move.phase, first.move.cause) == (MovePhase.RELEASING, "the namespace is being deleted")
    assert plan(domain(first), [anchor(deleting=True)], world, NOW).status is None


# --- fencing


def test_a_fenced_node_is_left_in_two_writes() -> None:
    world = World(node=NodeState(lost=True, fenced=True))
    announced = plan(domain(bound()), [anchor()], world, NOW)
    assert announced.status is not None and announced.status.move is not None
    assert announced.status.move.phase is MovePhase.FENCED
    assert (announced.status.node_name, announced.status.anchor_uid) == ("xen1", "a1")
    assert announced.status.fenced_boot_id == "boot-1"  # for the next agent, which finds that boot in the status
    assert words(announced) == []

    left = plan(domain(announced.status), [anchor()], world, NOW)
    assert left.status is not None and left.status.node_name is None and left.status.move is None
    assert words(left) == ["end a1"]
    assert words(plan(domain(left.status), [], World(), NOW)) == ["create"]


def test_a_fenced_node_is_left_for_a_second_anchor_that_waits() -> None:
    fenced = bound(move=move(MovePhase.FENCED))
    result = plan(domain(fenced), [anchor(), SECOND], World(node=NodeState(fenced=True)), NOW)
    assert result.status is not None
    assert (result.status.node_name, result.status.anchor_uid) == ("xen2", "a2")
    assert words(result) == ["end a1"]


def test_what_is_deleted_leaves_a_fenced_node_too() -> None:
    fenced = bound(move=move(MovePhase.FENCED))
    assert words(plan(domain(fenced, deleting=True), [], World(node=NodeState(fenced=True)), NOW)) == ["drop"]


# --- an anchor that failed or is lost


@dataclass(frozen=True)
class Lost:
    anchors: tuple[Anchor, ...] = ()
    status: XenDomainStatus = field(default_factory=bound)
    world: dict[str, Any] = field(default_factory=dict)
    want_anchor: str = "a1"
    want_steps: tuple[str, ...] = ()
    want_events: tuple[str, ...] = ()


LOST = {
    "gone": Lost(want_steps=("create on xen1",), want_events=("AnchorLost",)),
    "failed": Lost((anchor(phase="Failed"),), want_steps=("end a1", "create on xen1"), want_events=("AnchorLost",)),
    "its end was cut short": Lost(
        (anchor(phase="Succeeded", deleting=True),), want_steps=("end a1", "create on xen1"),
        want_events=("AnchorLost",),
    ),
    "the new one is pending": Lost((pending("a2", "xen1"),)),
    "the new one runs": Lost((anchor("a2"),), want_anchor="a2"),
    "the new one runs, the old one failed": Lost(
        (anchor(phase="Failed"), anchor("a2")), want_anchor="a2", want_steps=("end a1",)
    ),
    "one elsewhere does not count": Lost(
        (SECOND,), want_steps=("end a2", "create on xen1"), want_events=("AnchorLost",)
    ),
    "the Node is gone as well: nothing can be bound to it": Lost(world={"node": NodeState(exists=False)}),
    "lost while its node lets it go: that goes on": Lost(
        (SECOND,), bound(move=move(MovePhase.RELEASING, target="xen2"))
    ),
}


@pytest.mark.parametrize("case", LOST.values(), ids=LOST)
def test_a_lost_anchor_is_made_again_where_the_domain_is(case: Lost) -> None:
    result = plan(domain(case.status), case.anchors, World(**case.world), NOW)
    assert words(result) == list(case.want_steps)
    assert result.status is not None
    assert (result.status.node_name, result.status.anchor_uid) == ("xen1", case.want_anchor)
    assert shows(result.status) == "True Running"
    assert tuple(event.reason for event in result.events) == case.want_events


def test_a_domain_that_leaves_is_not_bound_to_a_host_that_was_lost_meanwhile() -> None:
    status = bound(says(False, Reason.RELEASED), released="a1", move=move(MovePhase.RELEASING, target="xen2"))
    result = plan(domain(status), [anchor(), anchor("a2", "xen2")], World(barred=frozenset({"xen2"})), NOW)
    assert result.status is not None and result.status.node_name is None
    assert words(result) == ["end a1", "end a2"]


def test_what_a_fresh_anchor_mounts_is_all_that_the_next_start_may_count_on() -> None:
    """The spec named another Secret for a while: the anchor that was made then has none, whatever the spec says by now."""
    reserved = Reservation(memory="1Gi", vcpus=1, mounts=["claim/data", "secret/seed"])
    found = domain(bound(reserved=reserved))
    result = plan(found, [anchor("a2", mounts=frozenset({"claim/data"}))], World(), NOW)
    assert result.status is not None and result.status.anchor_uid == "a2"
    assert result.status.reserved == reserved.model_copy(update={"mounts": ["claim/data"]})
