"""A domain that should be on this host and is not: when it is started, when not, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from kubexen.api.conditions import ConditionType, Reason, find
from kubexen.api.domainstatus import Reservation, Restarts, XenDomainStatus
from kubexen.api.quantity import Quantity
from kubexen.plan.domain import plan
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import reservation
from kubexen.plan.step import Observed, Plan, Start
from tests.unit.plan.builders import HOST, NOW, UID, ago, bound, domain, ended, says, shows, state, uses

ABSENT = Observed(None)
READY = ConditionType.DOMAIN_READY


@dataclass(frozen=True)
class Case:
    status: XenDomainStatus
    spec: dict[str, Any] = field(default_factory=dict)
    problem: Problem | None = None
    want_start: bool = True
    want_ready: str = "False Starting"
    want_again: float | None = None
    want_events: tuple[str, ...] = ()


FIRST = {"domid": None, "boot_id": None}

CASES = {
    "for the first time": Case(bound(None, **FIRST)),
    "paused: it is started as well": Case(bound(None, **FIRST), {"power_state": "Paused"}),
    "the last try failed: the next says so until it worked": Case(
        bound(None, **FIRST), problem=Problem("NotEnoughMemory", "x", retry_after=10),
        want_ready="False NotEnoughMemory", want_again=10,
    ),
    "destroyed by hand": Case(bound(), want_events=("DestroyedByHand",)),
    "the host was booted anew": Case(bound(boot_id="boot-0"), want_events=("HostRebooted",)),
    "the host was booted anew, after it came there by a fence": Case(
        bound(boot_id="boot-0", fenced_boot_id="boot-of-xen2"), want_events=("HostRebooted",)
    ),
    "it was on a host that was fenced": Case(bound(boot_id="boot-of-xen2", fenced_boot_id="boot-of-xen2")),
    "a start after a start that was not written yet": Case(bound(says(False, Reason.STARTING), **FIRST)),
    "it crashed and was destroyed, to start again": Case(bound(last_exit=ended("crash"))),
    "it rebooted 5 s ago: its host does that": Case(
        bound(last_exit=ended("reboot", 5)), want_start=False, want_ready="False Restarting", want_again=25
    ),
    "it rebooted 30 s ago and its host did nothing": Case(bound(last_exit=ended("reboot", 30))),
    "it rebooted and then its host did": Case(bound(last_exit=ended("reboot", 5), boot_id="boot-0")),
    "it powered off under onPoweroff restart": Case(bound(last_exit=ended()), {"on_poweroff": "restart"}),
    "its end has a name of a later version": Case(bound(last_exit=ended("of-a-later-version"))),
    "it was kept after a crash, and destroyed by hand": Case(bound(last_exit=ended("crash")), {"on_crash": "preserve"}),
}


MORE = {"memory": {"size": "512Mi", "max": "2Gi"}}
NARROW = Reservation(memory=Quantity.from_mib(512), vcpus=1)


@pytest.mark.parametrize("status", [
    bound(reserved=NARROW), bound(reserved=NARROW, boot_id="boot-0"), bound(None, **FIRST, reserved=NARROW),
    bound(reserved=NARROW, last_exit=ended("crash"), restarts=Restarts(count=4, last=ago(1))),
], ids=["destroyed by hand", "the host was booted anew", "for the first time", "it crashed"])
def test_a_start_that_takes_more_than_its_anchor_was_made_for_waits_for_another(status: XenDomainStatus) -> None:
    result = plan(domain(status, **MORE), ABSENT, HOST, None, NOW)
    assert (result.step, result.status.released) == (None, "a1")
    assert (result.status.last_exit, result.status.restarts) == (None, None)
    assert shows(result.status, READY) == "False Released"


VOLUMES: dict[str, dict[str, Any]] = {
    "a claim was added": {"disks": uses("data", "more")},
    "a claim was taken out": {"disks": []},
    "cloud-init was added": {"disks": uses("data"), "cloud_init": {"userData": {"secretName": "s", "key": "k"}}},
}


@pytest.mark.parametrize("spec", VOLUMES.values(), ids=VOLUMES)
def test_a_start_with_other_volumes_than_its_anchor_mounts_waits_for_another(spec: dict[str, Any]) -> None:
    status = bound(reserved=reservation(domain(disks=uses("data"))))
    result = plan(domain(status, **spec), ABSENT, HOST, None, NOW)
    assert (result.step, result.status.released) == (None, "a1")
    assert plan(domain(status, disks=uses("data")), ABSENT, HOST, None, NOW).step == Start()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_absent(case: Case) -> None:
    result = plan(domain(case.status, **case.spec), ABSENT, HOST, case.problem, NOW)
    assert result.step == (Start() if case.want_start else None)
    assert shows(result.status, READY) == case.want_ready
    assert result.requeue_after == case.want_again
    assert tuple(event.reason for event in result.events) == case.want_events
    assert (result.status.domid, result.status.state, result.status.released) == (None, None, None)


OFF = {
    "powered off": ("poweroff", {}, "False PoweredOff"),
    "rebooted under onReboot destroy": ("reboot", {"on_reboot": "destroy"}, "False PoweredOff"),
    "crashed under onCrash destroy": ("crash", {"on_crash": "destroy"}, "False Crashed"),
    "its watchdog bit under onCrash destroy": ("watchdog", {"on_crash": "destroy"}, "False Crashed"),
}


@pytest.mark.parametrize("reason, spec, want", OFF.values(), ids=OFF)
def test_an_end_that_the_spec_lets_stand_gives_the_anchor_up(reason: str, spec: dict[str, Any], want: str) -> None:
    result = plan(domain(bound(last_exit=ended(reason)), **spec), ABSENT, HOST, None, NOW)
    assert result.step is None
    assert result.status.released == "a1"
    assert shows(result.status, READY) == want
    assert result.status.last_exit == ended(reason)


BACKOFF = [  # restarts in a row, seconds since the last, seconds to wait
    (1, 0, 0), (2, 0, 10), (2, 4, 6), (2, 10, 0), (3, 0, 20), (4, 0, 40), (5, 0, 80), (6, 0, 160), (7, 0, 300),
    (8, 299, 1), (8, 300, 0), (100, 0, 300), (5000, 1, 299),
]


@pytest.mark.parametrize("count, since, want", BACKOFF)
def test_restarts_are_spaced_out(count: int, since: int, want: int) -> None:
    status = bound(last_exit=ended("crash", since), restarts=Restarts(count=count, last=ago(since)))
    result = plan(domain(status), ABSENT, HOST, None, NOW)
    if want:
        assert (result.step, result.requeue_after) == (None, want)
        assert shows(result.status, READY) == "False CrashLoop"
        ready = find(result.status.conditions, READY)
        assert ready is not None and f"{count} times" in ready.message
    else:
        assert result.step == Start()


def test_the_user_is_told_what_is_wrong_in_the_words_of_the_problem() -> None:
    missing = Problem(Reason.FILE_NOT_FOUND, "spec.boot.direct.kernel: put it there")
    ready = find(plan(domain(bound(None)), ABSENT, HOST, missing, NOW).status.conditions, READY)
    assert ready is not None and ready.message == missing.message


# --- released, and what comes after


def given_up(**fields: Any) -> XenDomainStatus:
    return bound(says(False, Reason.RELEASED), **({"released": "a1", **FIRST} | fields))


def test_what_was_given_up_is_never_started_for_the_same_anchor() -> None:
    for status in (given_up(), given_up(last_exit=ended()), given_up(restarts=Restarts(count=3, last=ago(900)))):
        assert plan(domain(status), ABSENT, HOST, None, NOW) == Plan(status)


def test_another_anchor_is_a_new_life() -> None:
    old = {"last_exit": ended("crash"), "restarts": Restarts(count=9, last=ago(1)), "stopping": ago(5)}
    result = plan(domain(given_up(released="a0", **old)), ABSENT, HOST, None, NOW)
    assert result.step == Start()
    status = result.status
    assert (status.released, status.last_exit, status.restarts, status.stopping) == (None, None, None, None)
    assert result.events == ()


def test_a_domain_that_is_here_although_it_was_given_up_is_shut_down() -> None:
    result = plan(domain(given_up()), Observed(state()), HOST, None, NOW)
    assert type(result.step).__name__ == "Shutdown"
    gone = plan(domain(result.status), ABSENT, HOST, None, NOW).status
    assert (gone.released, gone.domid, gone.stopping) == ("a1", None, None)
    assert shows(gone, READY) == "False Released"
    assert plan(domain(gone), ABSENT, HOST, None, NOW) == Plan(gone)


def test_the_uuid_is_told_before_the_domain_is_there() -> None:
    assert plan(domain(bound(None)), ABSENT, HOST, None, NOW).status.uuid == UID
