"""Somebody asks for the end of a bound domain's anchor: a place elsewhere first, and what if there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from kubexen.api.conditions import ConditionType, Reason
from kubexen.api.domainstatus import Move, MovePhase, XenDomainStatus
from kubexen.plan.anchor import Anchor, placement
from kubexen.plan.placement import plan
from kubexen.plan.problem import Problem
from kubexen.plan.world import NodeState, Plan, World
from tests.unit.plan.acts import words
from tests.unit.plan.builders import NOW, SHARED, anchor, bound, claim, domain, move, pending, says, shows, uses

EVICTED = anchor(deleting=True, disruption="EvictionByEvictionAPI")
CORDONED = {"node": NodeState(cordoned=True)}
DRAINED = bound(move=move(cause="cordon: EvictionByEvictionAPI"))
ONLY_XEN1 = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["xen1"]}]}
NO_ROOM = "0/2 nodes are available: 1 node(s) were unschedulable."


@dataclass(frozen=True)
class Case:
    anchors: tuple[Anchor, ...] = (EVICTED,)
    status: XenDomainStatus = field(default_factory=bound)
    world: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    want_move: MovePhase | None = MovePhase.PENDING
    want_steps: tuple[str, ...] = ()
    want_migratable: str | None = None
    want_events: tuple[str, ...] = ()


CASES = {
    "evicted: a second anchor is made, off this node": Case(want_steps=("create off xen1",), want_events=("Evicting",)),
    "the second is pending: the domain runs on": Case((EVICTED, pending("a2")), DRAINED, CORDONED),
    "the second runs: now the node is to let it go": Case(
        (EVICTED, anchor("a2", "xen2")), DRAINED, CORDONED, want_move=MovePhase.RELEASING, want_events=("Moving",)
    ),
    "the second runs already when the eviction is seen": Case(
        (EVICTED, anchor("a2", "xen2")), want_move=MovePhase.RELEASING, want_events=("Evicting", "Moving")
    ),
    "the node lets it go: nothing to do meanwhile": Case(
        (EVICTED, anchor("a2", "xen2")), bound(move=move(MovePhase.RELEASING, target="xen2")),
        want_move=MovePhase.RELEASING,
    ),
    "the second failed: another one": Case(
        (EVICTED, anchor("a2", "xen2", "Failed")), DRAINED, CORDONED, want_steps=("end a2", "create off xen1")
    ),
    "nowhere to go": Case(
        (EVICTED, pending("a2", unschedulable=NO_ROOM)), DRAINED, CORDONED,
        want_migratable="False NowhereToGo", want_events=("EvictionBlocked",),
    ),
    "its disk is here": Case(
        world={"only_node": "xen1"}, want_migratable="False NowhereToGo", want_events=("Evicting", "EvictionBlocked")
    ),
    "its disk is elsewhere, on the only node that can take it": Case(
        world={"only_node": "xen2"}, want_steps=("create only xen2 off xen1",), want_events=("Evicting",)
    ),
    "it could not start again": Case(
        world={"problem": Problem(Reason.POOL_NOT_FOUND, "no pool")},
        want_migratable="False NowhereToGo", want_events=("Evicting", "EvictionBlocked"),
    ),
    "no quota for a second anchor": Case(
        world={"anchor_refused": "exceeded quota: small"}, want_steps=("create off xen1",),
        want_migratable="False NowhereToGo", want_events=("Evicting", "EvictionBlocked"),
    ),
    "its claim can be on one node: a place is kept without it": Case(
        world={"claims": (claim(),)}, spec={"disks": uses("data")}, want_steps=("create off xen1",), want_events=("Evicting",)
    ),
    "a place is kept: now the node is to let it go": Case(
        (EVICTED, anchor("a2", "xen2")), DRAINED, {**CORDONED, "claims": (claim(),)}, {"disks": uses("data")},
        want_move=MovePhase.RELEASING, want_events=("Moving",),
    ),
    "no place is kept anywhere": Case(
        (EVICTED, pending("a2", unschedulable=NO_ROOM)), DRAINED, {**CORDONED, "claims": (claim(),)},
        {"disks": uses("data")}, want_migratable="False NowhereToGo", want_events=("EvictionBlocked",),
    ),
    "the place was kept where a claim could be that it has no more: another one": Case(
        (EVICTED, pending("a2", unschedulable=NO_ROOM, placement=placement(domain(), [ONLY_XEN1]))), DRAINED,
        {**CORDONED, "claims": (claim(),)}, {"disks": uses("data")}, want_steps=("end a2", "create off xen1"),
    ),
    "the place was kept before a claim was there that can be on one node: another one": Case(
        (EVICTED, pending("a2", unschedulable=NO_ROOM)), DRAINED, {**CORDONED, "claims": (claim(),), "places": (ONLY_XEN1,)},
        {"disks": uses("data")}, want_steps=("end a2", "create off xen1"),
    ),
    "its claim can be on many nodes: the second anchor has it too": Case(
        world={"claims": (claim(access=SHARED),)}, spec={"disks": uses("data")},
        want_steps=("create off xen1 with data",), want_events=("Evicting",),
    ),
    "uncordoned: the fresh anchor has the claims that the domain has": Case(
        (EVICTED, pending("a2")), DRAINED.model_copy(update={"claims": [claim()]}), spec={"disks": uses("data", "new")},
        want_steps=("end a2", "create on xen1 with data"),
    ),
    "only strategies that are not built": Case(
        spec={"eviction_strategy": ["LiveMigrate"]},
        want_migratable="False NowhereToGo", want_events=("Evicting", "EvictionBlocked"),
    ),
    "uncordoned: a fresh anchor on the same node": Case(
        (EVICTED, pending("a2")), DRAINED, want_steps=("end a2", "create on xen1")
    ),
    "uncordoned, and an earlier try failed": Case(
        (EVICTED, anchor("a2", "xen1", "Failed")), DRAINED, want_steps=("end a2", "create on xen1")
    ),
    "uncordoned: the fresh one is pending": Case((EVICTED, pending("a2", "xen1")), DRAINED),
    "uncordoned, but it was no drain": Case((EVICTED, pending("a2")), bound(move=move())),
}


def look(case: Case) -> Plan:
    return plan(domain(case.status, **case.spec), case.anchors, World(**case.world), NOW)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_eviction(case: Case) -> None:
    result = look(case)
    assert words(result) == list(case.want_steps)
    assert result.status is not None
    assert (result.status.node_name, result.status.anchor_uid) == ("xen1", "a1")
    assert (result.status.move.phase if result.status.move else None) == case.want_move
    assert tuple(event.reason for event in result.events) == case.want_events
    if case.want_migratable:
        assert shows(result.status, ConditionType.MIGRATABLE) == case.want_migratable
    assert shows(result.status) == "True Running"


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if "EvictionBlocked" in c.want_events])
def test_a_blocked_eviction_is_told_once(name: str) -> None:
    case = CASES[name]
    first = look(case).status
    assert first is not None
    again = plan(domain(first, **case.spec), case.anchors, World(**case.world), NOW)
    assert again.status is None
    assert again.events == ()


def test_the_move_names_its_cause_and_then_its_target() -> None:
    first = look(Case(world=CORDONED)).status
    assert first is not None
    assert first.move == Move(uid="a1", phase=MovePhase.PENDING, cause="cordon: EvictionByEvictionAPI")
    second = plan(domain(first), [EVICTED, anchor("a2", "xen2")], World(node=NodeState(cordoned=True)), NOW).status
    assert second is not None
    assert second.move == Move(
        uid="a1", phase=MovePhase.RELEASING, cause="cordon: EvictionByEvictionAPI", target="xen2"
    )


def test_a_delete_without_a_reason_has_a_cause_too() -> None:
    status = plan(domain(bound()), [anchor(deleting=True)], World(), NOW).status
    assert status is not None and status.move is not None
    assert status.move.cause == "its anchor was deleted"


def test_a_cause_that_is_too_long_for_the_status_is_cut() -> None:
    status = plan(domain(bound()), [anchor(deleting=True, disruption="x" * 2000)], World(**CORDONED), NOW).status
    assert status is not None and status.move is not None
    assert len(status.move.cause) == 1024


def test_the_fresh_anchor_after_an_uncordon_takes_over() -> None:
    anchors = [EVICTED, anchor("a2", "xen1"), pending("a3"), anchor("a4", "xen2", "Failed")]
    result = plan(domain(DRAINED), anchors, World(), NOW)
    assert result.status is not None
    assert (result.status.node_name, result.status.anchor_uid, result.status.move) == ("xen1", "a2", None)
    assert sorted(words(result)) == ["end a1", "end a3", "end a4"]
    assert [event.reason for event in result.events] == ["EvictionTakenBack"]
    settled = plan(domain(result.status), [anchor("a2", "xen1")], World(), NOW).status
    assert shows(settled, ConditionType.MIGRATABLE) == "False NotImplemented"


def test_an_anchor_that_stands_again_ends_what_was_pending() -> None:
    result = plan(domain(DRAINED), [anchor(), pending("a2")], World(), NOW)
    assert result.status is not None and result.status.move is None
    assert words(result) == ["end a2"]


@pytest.mark.parametrize("change", [{"power_state": "Halted"}, {"deleting": True}], ids=["halted", "deleted"])
def test_who_is_to_go_anyway_needs_no_place_elsewhere(change: dict[str, Any]) -> None:
    result = plan(domain(bound(), **change), [EVICTED], World(), NOW)
    assert words(result) == []
    assert shows(result.status) == "False Stopping"


def test_a_drain_of_a_claim_that_can_be_on_one_node_only() -> None:
    """The place is kept, the node gives the domain up, its anchor goes, and only then another anchor asks for the claim."""
    world = World(node=NodeState(cordoned=True), claims=(claim(),))
    old = anchor(deleting=True, disruption="EvictionByEvictionAPI", mounts=frozenset({"claim/data"}))
    place = anchor("a2", "xen2")
    before = bound(claims=[claim()], move=move(MovePhase.RELEASING, target="xen2"), released="a1", domid=None)
    left = plan(domain(before, disks=uses("data")), [old, place], world, NOW)
    assert left.status is not None
    assert (left.status.node_name, left.status.claims) == (None, [claim()])
    assert sorted(words(left)) == ["end a1", "end a2"]
    waiting = plan(domain(left.status, disks=uses("data")), [old], world, NOW)
    assert words(waiting) == ["end a1"]
    assert shows(waiting.status) == "False WaitingForDisk"
    found = domain(waiting.status, disks=uses("data"))
    assert words(plan(found, [], world, NOW)) == ["create with data"]


def test_a_drain_from_the_eviction_to_the_other_node() -> None:
    """Each pass sees what the one before wrote and did; the domain is bound to one node at every moment."""
    world = World(node=NodeState(cordoned=True))
    status = plan(domain(bound()), [EVICTED], world, NOW).status
    assert status is not None
    status = plan(domain(status), [EVICTED, anchor("a2", "xen2")], world, NOW).status
    assert status is not None and status.move is not None and status.move.phase is MovePhase.RELEASING
    status.released, status.domid = "a1", None
    status.conditions = [c for c in status.conditions if c.type != ConditionType.DOMAIN_READY]
    status.conditions.append(says(False, Reason.RELEASED))
    done = plan(domain(status), [EVICTED, anchor("a2", "xen2")], world, NOW)
    assert done.status is not None
    assert (done.status.node_name, done.status.anchor_uid, done.status.move) == ("xen2", "a2", None)
    assert words(done) == ["end a1"]
