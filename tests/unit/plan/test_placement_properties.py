"""What must hold of the controller's plan whatever it sees: random statuses, anchors and worlds."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kubexen.api.conditions import Reason
from kubexen.api.domainstatus import MovePhase, XenDomainStatus
from kubexen.api.xendomain import XenDomain
from kubexen.plan.anchor import Anchor
from kubexen.plan.placement import plan
from kubexen.plan.problem import Problem
from kubexen.plan.world import CreateAnchor, DropFinalizer, EndAnchor, NodeState, Plan, SetGate, World
from tests.unit.plan.acts import constraints
from tests.unit.plan.builders import NOW, anchor, domain, ended, move, says

UIDS = ("a1", "a2", "a3", "a4")
NODES = ("xen1", "xen2", "xen3")
PROBLEMS = (
    None, None, Problem(Reason.DISK_NOT_FOUND, "x", retry_after=30), Problem(Reason.MAC_TAKEN, "x", stalled=True),
)
EXITS = (None, *(ended(r) for r in ("poweroff", "reboot", "crash", "of-a-later-version")))
AGENT = (
    None, says(True, Reason.RUNNING), says(True, Reason.PAUSED), says(False, Reason.RELEASED),
    says(False, Reason.STOPPING), says(False, Reason.POWERED_OFF), says(False, "NotEnoughMemory", generation=2),
)


@st.composite
def statuses(draw: st.DrawFn) -> XenDomainStatus:
    node = draw(st.sampled_from((None, *NODES)))
    agent = draw(st.sampled_from(AGENT))
    moves = (None, None, *(move(phase, cause) for phase in MovePhase for cause in ("cordon: x", "y")))
    return XenDomainStatus(
        node_name=node,
        anchor_uid=draw(st.sampled_from(UIDS)) if node else None,
        released=draw(st.sampled_from((None, *UIDS))),
        move=draw(st.sampled_from(moves)),
        off=draw(st.sampled_from(EXITS)) if node is None else None,
        last_exit=draw(st.sampled_from(EXITS)),
        domid=draw(st.sampled_from((None, 7))),
        conditions=[agent] if agent else [],
    )


@st.composite
def anchors(draw: st.DrawFn) -> list[Anchor]:
    result = []
    for uid in draw(st.lists(st.sampled_from(UIDS), unique=True)):
        phase = draw(st.sampled_from(("Pending", "Running", "Running", "Succeeded", "Failed", "Unknown")))
        node = draw(st.sampled_from((*NODES, ""))) if phase != "Running" else draw(st.sampled_from(NODES))
        result.append(anchor(
            uid, node, phase, age=draw(st.integers(-5, 60)), deleting=draw(st.booleans()),
            ready=draw(st.sampled_from((None, True, False))),
            unschedulable=draw(st.sampled_from(("", "no room"))) if not node else "",
        ))
    return result


worlds = st.builds(
    World,
    problem=st.sampled_from(PROBLEMS),
    node=st.builds(NodeState, exists=st.booleans(), cordoned=st.booleans(), lost=st.booleans(), fenced=st.booleans()),
    only_node=st.sampled_from((None, None, *NODES)),
    namespace_deleting=st.booleans(),
    start_requested=st.booleans(),
    found_on=st.sampled_from((None, None, "xen9")),
    anchor_refused=st.sampled_from(("", "", "exceeded quota", "denied")),
    barred=st.sampled_from((frozenset(), frozenset(), frozenset({"xen1"}), frozenset({"xen2", "xen3"}))),
)


@st.composite
def domains(draw: st.DrawFn) -> XenDomain:
    return domain(
        draw(statuses()), deleting=draw(st.booleans()), generation=draw(st.integers(1, 3)),
        power_state=draw(st.sampled_from(("Running", "Running", "Paused", "Suspended", "Halted"))),
        eviction_strategy=draw(st.sampled_from((["Restart"], ["LiveMigrate"], []))),
    )


def crd_allows(old: XenDomainStatus, new: XenDomainStatus) -> bool:
    """The CEL transition rule of XenDomain's status, by hand."""
    return (
        old.node_name is None
        or new.node_name == old.node_name
        or (old.released is not None and old.released == old.anchor_uid)
        or (old.move is not None and old.move.phase == "Fenced")
    )


def check(found: XenDomain, seen: list[Anchor], world: World, result: Plan) -> None:
    """The invariants of one pass."""
    new = result.status or found.status
    assert crd_allows(found.status, new)
    assert (new.node_name is None) == (new.anchor_uid is None)
    by_uid = {a.uid: a for a in seen}
    if new.node_name and new.anchor_uid != found.status.anchor_uid:
        taken = by_uid[new.anchor_uid or ""]
        assert taken.running and taken.node == new.node_name
        assert new.node_name == found.status.node_name or new.node_name not in world.barred
    for step in result.steps:
        if isinstance(step, EndAnchor) and new.node_name and step.uid == new.anchor_uid:
            # Only the dead pod of a domain that runs on (or one that never had a node); a new one is made in its place.
            assert not by_uid[step.uid].counted
        if isinstance(step, DropFinalizer):
            assert not seen and (found.status.node_name is None or crd_allows(found.status, XenDomainStatus()))
    ended_ = [step.uid for step in result.steps if isinstance(step, EndAnchor)]
    assert len(ended_) == len(set(ended_))
    assert sum(isinstance(step, CreateAnchor) for step in result.steps) <= 1


@given(domains(), anchors(), worlds)
@settings(max_examples=500, deadline=None)
def test_a_pass_never_raises_and_keeps_the_rules(found: XenDomain, seen: list[Anchor], world: World) -> None:
    check(found, seen, world, plan(found, seen, world, NOW))


def carry_out(result: Plan, seen: list[Anchor], world: World, number: int, fenced: str | None) -> list[Anchor]:
    """What the API server, a scheduler with room on every node but a fenced one, and a kubelet make of a pass."""
    left = list(seen)
    for step in result.steps:
        match step:
            case EndAnchor(_, uid):
                left = [a for a in left if a.uid != uid]
            case SetGate(_, uid, ready):
                left = [dataclasses.replace(a, ready=ready) if a.uid == uid else a for a in left]
            case CreateAnchor(manifest) if not world.anchor_refused:
                wanted = constraints(manifest)
                barred = {wanted.get("off"), fenced, *world.barred}
                free = [n for n in NODES if n not in barred and n == wanted.get("only", n)]
                node = wanted.get("on") or (free[number % len(free)] if free else "")
                left.append(anchor(f"new-{number}", node, "Running" if node else "Pending", age=0, ready=None))
    return left


@given(domains(), anchors(), worlds)
@settings(max_examples=300, deadline=None)
def test_passes_settle(found: XenDomain, seen: list[Anchor], world: World) -> None:
    """While nothing else changes, a plan comes to an end: nothing more to write, and no step but a refused one."""
    home = found.status.node_name
    seen = [a for a in seen if a.phase != "Pending"]  # the rest of the world stands still: nobody would run them
    for number in range(20):
        elsewhere = found.status.node_name != home
        current = dataclasses.replace(world, node=NodeState()) if elsewhere else world
        result = plan(found, seen, current, NOW + timedelta(minutes=number))
        check(found, seen, world, result)
        if any(isinstance(step, DropFinalizer) for step in result.steps):
            return
        quiet = all(isinstance(step, CreateAnchor) and world.anchor_refused for step in result.steps)
        if result.status is None and quiet:
            return
        seen = carry_out(result, seen, world, number, home if world.node.fenced else None)
        if result.status is not None:
            found = found.model_copy(update={"status": result.status})
    raise AssertionError(f"still at it after 20 passes: {result}")


@given(st.dictionaries(st.text(max_size=8), st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from((
            "nodeAffinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms",
            "preferredDuringSchedulingIgnoredDuringExecution", "podAffinityTerm", "matchFields", "labelSelector",
        )), inner, max_size=3), max_leaves=8)))
@settings(max_examples=200, deadline=None)
def test_an_affinity_that_is_none_never_stops_a_plan(affinity: dict[str, Any]) -> None:
    for world in (World(), World(only_node="xen1")):
        assert any(isinstance(step, CreateAnchor) for step in plan(domain(affinity=affinity), [], world, NOW).steps)
