"""What must hold of the agent's plan whatever it sees: random specs, statuses and states of the domain."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kubexen.api.domainstatus import MovePhase, Restarts, XenDomainStatus
from kubexen.api.xendomain import XenDomain
from kubexen.hypervisor.port import BackendState, Devices, DeviceState, ShutdownReason
from kubexen.plan.domain import owned, plan
from kubexen.plan.problem import Problem
from kubexen.plan.started import changed_fields, note
from kubexen.plan.step import Destroy, Observed, Start
from tests.unit.plan.builders import HOST, NOW, RUNNING, ago, bound, domain, ended, move, says, state

ACTIONS = st.sampled_from(
    ("destroy", "restart", "preserve", "rename-restart", "coredump-destroy", "coredump-restart")
)
ITEM = st.from_regex(r"[a-z]{1,3}", fullmatch=True)
specs: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({}, optional={
    "power_state": st.sampled_from(("Running", "Paused", "Halted", "Suspended")),
    "type": st.sampled_from(("pv", "pvh", "hvm")),
    "cpu": st.fixed_dictionaries({}, optional={
        "count": st.integers(1, 512), "max": st.integers(1, 512), "affinity": st.sampled_from(("all", "0-3,^1", "1-9")),
    }),
    "memory": st.fixed_dictionaries(
        {"size": st.integers(0, 2**63 - 1)}, optional={"max": st.integers(0, 2**63 - 1)}
    ),
    "disks": st.lists(st.fixed_dictionaries(
        {"name": ITEM, "disk": ITEM, "target": st.sampled_from(("xvda", "xvdb"))}), max_size=3),
    "interfaces": st.lists(st.fixed_dictionaries(
        {"name": ITEM, "network": ITEM}, optional={"address": st.just("192.0.2.1")}), max_size=3),
    "on_poweroff": ACTIONS, "on_reboot": ACTIONS, "on_crash": ACTIONS,
    "shutdown_grace_period_seconds": st.sampled_from((0, 60, 86400)),
    "boot": st.sampled_from(({}, {"firmware": {}}, {"direct": {"kernel": {"pool": "p", "file": "f"}, "root": "r"}})),
    "affinity": st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2),
})

flags = st.builds(lambda *bits: "".join(bits), *(st.sampled_from(("-", letter)) for letter in "rbpscd"))
states = st.none() | st.builds(
    state, flags, domid=st.sampled_from((7, 8)), reason=st.sampled_from((None, *ShutdownReason)),
    memory_target_kib=st.none() | st.integers(0, 2**40), max_memory_kib=st.integers(0, 2**40),
    note=st.sampled_from(("", "{}", note(domain()), '{"cpu":7,"disks":[1]}', "x")),
)
times = st.none() | st.integers(-5, 90000).map(ago)
exits = st.none() | st.builds(ended, st.sampled_from((*map(str, ShutdownReason), "odd")), st.integers(0, 900))
problems = st.sampled_from((None, None, Problem("NotEnoughMemory", "x", retry_after=10), Problem("Failed", "")))
observations = st.builds(
    Observed, states, st.builds(
        Devices, st.just(()) | st.tuples(st.builds(DeviceState, st.just("xvda"), st.sampled_from(BackendState))),
        st.just(()) | st.tuples(st.builds(DeviceState, st.just("00:16:3e:00:00:01"), st.sampled_from(BackendState))),
    ), times, times,
)


@st.composite
def statuses(draw: st.DrawFn) -> XenDomainStatus:
    count = draw(st.sampled_from((0, 1, 2, 7, 10**6)))
    return bound(
        draw(st.sampled_from((None, RUNNING, says(False, "Released")))),
        released=draw(st.sampled_from((None, "a0", "a1"))),
        move=draw(st.sampled_from((None, *(move(phase) for phase in MovePhase)))),
        domid=draw(st.sampled_from((None, 7))), boot_id=draw(st.sampled_from((None, "boot-0", "boot-1"))),
        stopping=draw(times), last_exit=draw(exits),
        restarts=Restarts(count=count, last=draw(times)) if count else None,
        mac_addresses={"a": "00:16:3e:00:00:01"},
    )


domains = st.builds(
    lambda status, spec, **kwargs: domain(status, **kwargs, **spec),
    statuses(), specs, deleting=st.booleans(), generation=st.integers(1, 3),
)


@given(domains, observations, problems)
@settings(max_examples=500, deadline=None)
def test_a_pass_never_raises_and_keeps_the_rules(found: XenDomain, seen: Observed, problem: Problem | None) -> None:
    result = plan(found, seen, HOST, problem, NOW)
    status = found.status
    given_up = status.released == status.anchor_uid
    if isinstance(result.step, Start):
        assert seen.state is None and not given_up
        assert not found.deleting and found.spec.power_state != "Halted"
        assert status.move is None or status.move.phase is MovePhase.PENDING
    if isinstance(result.step, Destroy):
        assert seen.state is not None and result.step == Destroy(seen.state.uuid, seen.state.domid)
    if result.status.released == status.anchor_uid and not given_up:
        assert seen.state is None, "given up while it is here"
    if given_up:
        assert result.status.released == status.anchor_uid, "taken back"
    if result.requeue_after is not None:
        assert 0 <= result.requeue_after <= 90000
    untouched = ("node_name", "anchor_uid", "move", "off", "fenced_boot_id", "mac_addresses", "replicas", "selector")
    assert all(getattr(result.status, name) == getattr(status, name) for name in untouched)


@given(domains, observations, problems)
@settings(max_examples=300, deadline=None)
def test_what_was_written_is_not_written_again(found: XenDomain, seen: Observed, problem: Problem | None) -> None:
    """While the host stands still, the status does too, after the writes that go before a step."""
    for number in range(6):
        result = plan(found, seen, HOST, problem, NOW + timedelta(seconds=40 * number))
        if owned(result.status) == owned(found.status):
            return
        found = found.model_copy(update={"status": result.status})
    raise AssertionError(f"still writing: {result}")


@given(specs, specs)
@settings(max_examples=200, deadline=None)
def test_changed_fields_are_named_only_when_something_changed(one: dict[str, Any], two: dict[str, Any]) -> None:
    before, after = domain(**one), domain(**two)
    assert changed_fields(note(before), before) == []
    assert bool(changed_fields(note(before), after)) == (note(before) != note(after))
