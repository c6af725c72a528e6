"""A domain that no node may run yet, or any more: how it gets a place, and what its user reads meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from kubexen.api.conditions import ConditionType, Reason, find
from kubexen.api.domainstatus import XenDomainStatus
from kubexen.api.xendomain import XenDomain
from kubexen.plan.anchor import Anchor
from kubexen.plan.placement import plan
from kubexen.plan.problem import Problem
from kubexen.plan.world import World
from tests.unit.plan.acts import words
from tests.unit.plan.builders import NOW, SHARED, anchor, bound, claim, domain, ended, pending, says, shows, uses


@dataclass(frozen=True)
class Case:
    domain: XenDomain = field(default_factory=domain)
    anchors: tuple[Anchor, ...] = ()
    world: dict[str, Any] = field(default_factory=dict)
    want_ready: str | None = None  # None: nothing is written
    want_steps: tuple[str, ...] = ()
    want_stalled: str | None = None
    want_again: float | None = None


OFF = XenDomainStatus(off=ended("poweroff"))
CRASHED = XenDomainStatus(off=ended("crash"))
MISSING = Problem(Reason.DISK_NOT_FOUND, "spec.disks[root]: there is no XenDisk 'x'", retry_after=30)
TAKEN = Problem(Reason.MAC_TAKEN, "spec.interfaces[eth0].mac belongs to another", stalled=True)
SUSPENDED = Problem(Reason.NOT_IMPLEMENTED, "spec.powerState: not built yet", stalled=True)

CLAIMING = domain(disks=uses("data"))
HAS = frozenset({"claim/data"})

CASES = {
    "new: an anchor is made, quietly": Case(want_steps=("create",)),
    "paused takes a place as well": Case(domain(power_state="Paused"), want_steps=("create",)),
    "only one node has its disk": Case(world={"only_node": "xen2"}, want_steps=("create only xen2",)),
    "halted": Case(domain(power_state="Halted"), want_ready="True Halted"),
    "halted while its anchor was pending": Case(
        domain(power_state="Halted"), (pending(),), want_ready="True Halted", want_steps=("end a1",)
    ),
    "suspended is not built: it does not pass for halted": Case(
        domain(power_state="Suspended"), world={"problem": SUSPENDED},
        want_ready="False NotImplemented", want_stalled="True NotImplemented",
    ),
    "deleted, with an anchor": Case(
        domain(deleting=True), (anchor(),), want_ready="False Deleting", want_steps=("end a1",)
    ),
    "deleted, nothing left": Case(domain(deleting=True), want_steps=("drop",)),
    "deleted, our finalizer is off": Case(domain(deleting=True, finalizers=["other/thing"])),
    "its namespace is being deleted": Case(
        anchors=(anchor(),), world={"namespace_deleting": True}, want_ready="False Deleting", want_steps=("end a1",)
    ),
    "made before its maximum was raised: another": Case(
        domain(memory={"size": "512Mi", "max": "2Gi"}), (pending(age=1),), want_steps=("end a1", "create")
    ),
    "running, but made before its maximum was raised: another": Case(
        domain(memory={"size": "512Mi", "max": "2Gi"}), (anchor(),), want_steps=("end a1", "create")
    ),
    "pending for 1 s: still quiet": Case(anchors=(pending(age=1),), want_again=1.0),
    "pending for 2 s": Case(anchors=(pending(age=2),), want_ready="False WaitingForNode"),
    "placed, and its kubelet takes its time": Case(
        anchors=(pending(node="xen1", age=5),), want_ready="False WaitingForNode", want_again=5.0
    ),
    "unschedulable is told at once": Case(
        anchors=(pending(age=0, unschedulable="0/2 nodes are available"),), want_ready="False WaitingForNode"
    ),
    "too little memory": Case(
        anchors=(pending(age=0, unschedulable="0/2 nodes are available: 2 Insufficient kubexen.dev/memory-mib."),),
        want_ready="False WaitingForMemory",
    ),
    "its claim is one of the anchor's": Case(CLAIMING, world={"claims": (claim(),)}, want_steps=("create with data",)),
    "its anchor has the claim and runs": Case(
        CLAIMING, (anchor(mounts=HAS),), {"claims": (claim(),)}, want_ready="False Starting"
    ),
    "no volume was found for its claim yet": Case(
        CLAIMING, (anchor(mounts=HAS),), {"claims": (claim(volume=""),)}, want_ready="False WaitingForNode", want_again=5.0
    ),
    "a claim was added to a spec whose anchor runs": Case(
        CLAIMING, (anchor(),), {"claims": (claim(access=SHARED),)}, want_steps=("end a1", "create with data")
    ),
    "its claim is still with the anchor before": Case(
        CLAIMING, (anchor(mounts=HAS, deleting=True),), {"claims": (claim(),)},
        want_ready="False WaitingForDisk", want_steps=("end a1",),
    ),
    "a claim that many nodes can have waits for no other anchor": Case(
        CLAIMING, (anchor(mounts=HAS, deleting=True),), {"claims": (claim(access=SHARED),)},
        want_steps=("end a1", "create with data"),
    ),
    "its kubelet says what it waits for": Case(
        CLAIMING, (pending(node="xen1", age=5, mounts=HAS),),
        {"claims": (claim(),), "mounting": 'FailedMount: secret "web" not found'},
        want_ready="False WaitingForDisk", want_again=5.0,
    ),
    "its anchor failed: another, and it is told": Case(
        anchors=(anchor(phase="Failed"),), want_ready="False WaitingForNode", want_steps=("end a1", "create")
    ),
    "its anchor was evicted before it ran: another": Case(
        anchors=(pending(deleting=True),), want_steps=("end a1", "create")
    ),
    "of two anchors the running one is taken": Case(
        anchors=(pending("a1", age=9), anchor("a2", "xen2", age=1)), want_ready="False Starting", want_steps=("end a1",)
    ),
    "of two pending anchors the older one is kept": Case(
        anchors=(pending("a2", age=1), pending("a1", age=9)), want_ready="False WaitingForNode", want_steps=("end a2",)
    ),
    "a host runs it without being asked to: never a second time": Case(
        anchors=(anchor(),), world={"found_on": "xen9"}, want_ready="False FoundElsewhere", want_steps=("end a1",),
        want_stalled="True FoundElsewhere",
    ),
    "a problem that may pass": Case(
        anchors=(pending(),), world={"problem": MISSING}, want_ready="False DiskNotFound", want_steps=("end a1",),
        want_again=30,
    ),
    "a problem that only a person can mend": Case(
        world={"problem": TAKEN}, want_ready="False MacTaken", want_stalled="True MacTaken"
    ),
    "no quota": Case(
        world={"anchor_refused": "pods is forbidden: exceeded quota: small"}, want_ready="False WaitingForQuota",
        want_steps=("create",),
    ),
    "refused by an admission policy": Case(
        world={"anchor_refused": "denied by policy"}, want_ready="False AnchorRefused", want_steps=("create",),
        want_stalled="True AnchorRefused",
    ),
    "powered itself off: as the spec asks": Case(domain(OFF), want_ready="True PoweredOff"),
    "rebooted under onReboot destroy: as the spec asks": Case(
        domain(XenDomainStatus(off=ended("reboot"))), want_ready="True PoweredOff"
    ),
    "crashed under onCrash destroy: a person is needed": Case(
        domain(CRASHED), want_ready="False Crashed", want_stalled="True Crashed"
    ),
    "off, and a XenAction Start": Case(
        domain(OFF), world={"start_requested": True}, want_ready="False WaitingForNode", want_steps=("create",)
    ),
    "off, and powerState goes to Halted": Case(domain(CRASHED, power_state="Halted"), want_ready="True Halted"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_unbound(case: Case) -> None:
    result = plan(case.domain, case.anchors, World(**case.world), NOW)
    assert words(result) == list(case.want_steps)
    assert shows(result.status) == case.want_ready
    assert shows(result.status, ConditionType.STALLED) == case.want_stalled
    assert result.requeue_after == case.want_again
    if result.status and result.status.node_name:
        assert result.status.anchor_uid in [a.uid for a in case.anchors if a.running]


def test_binding_is_one_status_with_all_that_the_agent_needs() -> None:
    result = plan(domain(), [anchor("a1", "xen2")], World(mac_addresses={"eth0": "00:16:3e:00:00:01"}), NOW)
    assert result.status is not None
    assert (result.status.node_name, result.status.anchor_uid) == ("xen2", "a1")
    assert result.status.mac_addresses == {"eth0": "00:16:3e:00:00:01"}
    assert shows(result.status, ConditionType.SCHEDULED) == "True Scheduled"
    assert [event.reason for event in result.events] == ["Scheduled"]
    assert result.steps == ()


def test_halted_and_back_forgets_that_it_was_off() -> None:
    halted = plan(domain(CRASHED, power_state="Halted"), [], World(), NOW).status
    assert halted is not None and halted.off is None
    assert words(plan(domain(halted), [], World(), NOW)) == ["create"]


def test_a_start_that_was_asked_for_is_written_before_the_anchor_is_made() -> None:
    result = plan(domain(OFF), [], World(start_requested=True), NOW)
    assert result.status is not None and result.status.off is None


def test_a_status_that_says_it_already_is_not_written_again() -> None:
    first = plan(domain(power_state="Halted", generation=4), [], World(), NOW).status
    assert first is not None
    assert first.observed_generation == 4
    assert first.selector == "kubexen.dev/domain=web"
    assert plan(domain(first, power_state="Halted", generation=4), [], World(), NOW).status is None


@pytest.mark.parametrize(
    "earlier", [says(True, Reason.RUNNING), says(False, Reason.POWERED_OFF)], ids=lambda c: c.reason
)
def test_what_an_agent_said_in_an_earlier_life_is_not_taken_for_this_one(earlier: Any) -> None:
    status = bound(earlier, released="a0", domid=None)
    result = plan(domain(status), [anchor(ready=None)], World(), NOW)
    assert shows(result.status) == "False Starting"
    assert result.status is not None and result.status.replicas == 0
    assert words(result) == []


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.want_ready])
def test_a_minute_later_there_is_nothing_new_to_write(name: str) -> None:
    case = CASES[name]
    first = plan(case.domain, case.anchors, World(**case.world), NOW).status
    assert first is not None
    if first.node_name:
        return
    found = case.domain.model_copy(update={"status": first})
    world = World(**(case.world | {"start_requested": False}))
    assert plan(found, case.anchors, world, NOW + timedelta(minutes=1)).status is None


def test_what_it_is_bound_with_is_written_down() -> None:
    status = plan(CLAIMING, [anchor(mounts=HAS)], World(claims=(claim(),)), NOW).status
    assert status is not None and status.claims == [claim()]
    assert shows(status, ConditionType.MIGRATABLE) == "False ClaimOnOneNode"
    many = plan(CLAIMING, [anchor(mounts=HAS)], World(claims=(claim(access=SHARED),)), NOW).status
    assert shows(many, ConditionType.MIGRATABLE) == "False NotImplemented"


def test_a_claim_is_held_until_the_spec_names_it_no_more() -> None:
    held = XenDomainStatus(claims=[claim(), claim("other")])
    halted = plan(domain(held, power_state="Halted", disks=uses("data")), [], World(), NOW).status
    assert halted is not None and halted.claims == [claim()]


def test_the_failed_anchor_is_named_to_the_user() -> None:
    status = plan(domain(), [anchor(phase="Failed")], World(), NOW).status
    ready = find(status.conditions, ConditionType.READY) if status else None
    assert ready is not None
    assert "web-anchor-a1" in ready.message and "xen1" in ready.message


def test_an_anchor_on_a_host_that_is_lost_or_fenced_binds_nothing() -> None:
    """It runs, as far as anybody knows: nobody took it back when its host died."""
    result = plan(domain(), [anchor("a1", "xen1")], World(barred=frozenset({"xen1", "xen3"})), NOW)
    assert result.status is None or result.status.node_name is None
    assert words(result) == ["end a1", "create"]


def test_an_anchor_that_was_made_for_another_place_is_made_anew() -> None:
    """It waits for a node that the spec asks for no more."""
    waits = pending(unschedulable="0/2 nodes are available")
    assert words(plan(domain(node_selector={"zone": "b"}), [waits], World(), NOW)) == ["end a1", "create"]
    assert words(plan(domain(), [waits], World(), NOW)) == []
