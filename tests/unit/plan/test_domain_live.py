"""A domain that is up on its host: what is told of it, and what is changed while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from kubexen.api.conditions import Condition, ConditionType, Reason, find
from kubexen.api.domainstatus import Exit
from kubexen.hypervisor.port import BackendState, Devices, DeviceState, DomainState
from kubexen.plan.domain import owned, plan
from kubexen.plan.problem import Problem
from kubexen.plan.started import changed_fields, note
from kubexen.plan.step import Observed, Pause, SetMemory, Step, Unpause
from tests.unit.plan.builders import HOST, NOW, RUNNING, UID, ago, bound, domain, says, shows, state

READY = ConditionType.DOMAIN_READY
MIB = 1024
GIB = 1024 * MIB


@dataclass(frozen=True)
class Case:
    state: DomainState = field(default_factory=state)
    spec: dict[str, Any] = field(default_factory=dict)
    agent: Condition = RUNNING
    want_step: Step | None = None
    want_ready: str = "True Running"
    want_events: tuple[str, ...] = ()


def memory(target: int | None, *, now: int = 512 * MIB, max: int = GIB) -> DomainState:
    return state(memory_kib=now, memory_target_kib=target, max_memory_kib=max, note="")


UP_TO_1G = {"memory": {"size": "768Mi", "max": "1Gi"}}
PAUSED = {"power_state": "Paused"}

CASES = {
    "as it should be": Case(),
    "to be paused": Case(spec=PAUSED, want_step=Pause(UID)),
    "paused, as it should be": Case(state("--p---"), PAUSED, want_ready="True Paused"),
    "to run again": Case(state("--p---"), agent=says(True, Reason.PAUSED), want_step=Unpause(UID),
                         want_ready="True Paused"),
    "paused by hand": Case(
        state("--p---"), want_step=Unpause(UID), want_ready="True Paused", want_events=("PausedByHand",)
    ),
    "suspended is not built: it runs on": Case(spec={"power_state": "Suspended"}),
    "more memory": Case(memory(512 * MIB), UP_TO_1G, want_step=SetMemory(UID, 768 * MIB)),
    "less memory": Case(memory(GIB), UP_TO_1G, want_step=SetMemory(UID, 768 * MIB)),
    "told already, and still ballooning": Case(memory(768 * MIB), UP_TO_1G),
    "told 1 MiB less": Case(memory(767 * MIB), UP_TO_1G, want_step=SetMemory(UID, 768 * MIB)),
    "told a page less than 1 MiB less: Xen's own rounding": Case(memory(767 * MIB + 4), UP_TO_1G),
    "nobody knows what it was told": Case(memory(None, now=600 * MIB), UP_TO_1G, want_step=SetMemory(UID, 768 * MIB)),
    "nobody knows what it was told, and it has it": Case(memory(None, now=768 * MIB - 100), UP_TO_1G),
    "more than it was started with: to that": Case(
        memory(512 * MIB, max=600 * MIB), UP_TO_1G, want_step=SetMemory(UID, 600 * MIB)
    ),
    "a paused domain's memory changes too": Case(
        state("--p---", memory_target_kib=256 * MIB), PAUSED, want_step=SetMemory(UID, 512 * MIB),
        want_ready="True Paused",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_up(case: Case) -> None:
    result = plan(domain(bound(case.agent), **case.spec), Observed(case.state), HOST, None, NOW)
    assert result.step == case.want_step
    assert shows(result.status, READY) == case.want_ready
    assert tuple(event.reason for event in result.events) == case.want_events


def test_an_idle_domain_has_nothing_to_write() -> None:
    first = plan(domain(bound()), Observed(state()), HOST, None, NOW).status
    again = plan(domain(first), Observed(state()), HOST, None, NOW.replace(hour=13))
    assert (again.step, again.requeue_after, again.events) == (None, None, ())
    assert owned(again.status) == owned(first)


def test_what_xl_list_shows_is_in_the_status() -> None:
    disks = [{"name": "root", "disk": "root", "target": "xvda"}, {"name": "new", "disk": "b", "target": "xvdb"}]
    interfaces = [{"name": "eth0", "network": "lan", "address": "192.0.2.10"}]
    status = bound(mac_addresses={"eth0": "00:16:3e:00:00:01"}, last_exit=Exit(reason="reboot", time=ago(3)))
    devices = Devices(
        (DeviceState("xvda", BackendState.CONNECTED),), (DeviceState("00:16:3e:00:00:01", BackendState.INIT_WAIT),)
    )
    seen = Observed(state("r-----", domid=9, vcpus=4, vcpus_online=2, memory_kib=500 * MIB), devices)
    told = plan(domain(status, disks=disks, interfaces=interfaces), seen, HOST, None, NOW).status
    document = owned(told)
    assert (document["domid"], document["state"], document["flags"]) == (9, "r-----", ["running"])
    assert (document["cpu"], document["memory"]) == ({"configured": 4, "online": 2}, {"current": "500Mi"})
    assert document["disks"] == [{"name": "root", "target": "xvda", "backendState": "Connected"}]
    assert document["interfaces"] == [
        {"name": "eth0", "mac": "00:16:3e:00:00:01", "address": "192.0.2.10", "backendState": "InitWait"}
    ]
    assert (document["bootID"], document["uuid"]) == ("boot-1", UID)
    assert "lastExit" not in document
    assert not {"nodeName", "anchorUID", "move", "off"} & document.keys()


NOT_READY = {
    "an act failed": (Devices(), Problem("WrongState", "no", retry_after=1), "False WrongState"),
    "its host could not make a disk's backend": (
        Devices((DeviceState("xvda", BackendState.UNKNOWN),)), None, "False DeviceLost"
    ),
    "its host lost a disk's backend": (Devices((DeviceState("xvda", BackendState.CLOSED),)), None, "False DeviceLost"),
    "its host lost an interface's backend": (
        Devices((), (DeviceState("00:16:3e:00:00:01", BackendState.CLOSING),)), None, "False DeviceLost"
    ),
    "a device that still connects is none lost": (
        Devices((DeviceState("xvda", BackendState.INITIALISING),)), None, "True Running"
    ),
}


@pytest.mark.parametrize("devices, problem, want", NOT_READY.values(), ids=NOT_READY)
def test_up_but_not_as_it_should_be(devices: Devices, problem: Problem | None, want: str) -> None:
    result = plan(domain(bound()), Observed(state(), devices), HOST, problem, NOW)
    assert shows(result.status, READY) == want
    assert result.requeue_after == (problem.retry_after if problem else None)


CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "what is carried out live": (
        {"power_state": "Paused", "on_crash": "destroy", "shutdown_grace_period_seconds": 5,
         "node_selector": {"a": "b"}, "affinity": {"x": {}}, "priority_class_name": "high"}, [],
    ),
    "memory within the maximum": ({"memory": {"size": "256Mi", "max": "512Mi"}}, []),
    "the memory's maximum": ({"memory": {"size": "512Mi", "max": "1Gi"}}, ["spec.memory.max"]),
    "vCPUs": ({"cpu": {"count": 2}}, ["spec.cpu.count"]),
    "onReboot, which the host carries out": ({"on_reboot": "destroy"}, ["spec.onReboot"]),
    "the command line": (
        {"boot": {"direct": {"kernel": {"pool": "images", "file": "vmlinuz"}, "cmdline": "quiet"}}},
        ["spec.boot.direct.cmdline"],
    ),
    "a disk and the type": (
        {"type": "pv", "disks": [{"name": "d", "disk": "d", "target": "xvdb"}]}, ["spec.disks", "spec.type"]
    ),
}


@pytest.mark.parametrize("spec, fields", CHANGES.values(), ids=CHANGES)
def test_what_waits_for_the_next_start_is_named(spec: dict[str, Any], fields: list[str]) -> None:
    result = plan(domain(bound(), **spec), Observed(state()), HOST, None, NOW)
    told = find(result.status.conditions, ConditionType.RESTART_REQUIRED)
    assert (told is not None) == bool(fields)
    if told:
        assert told.message == f"Waits for the next start: {', '.join(fields)}."
        back = plan(domain(result.status), Observed(state()), HOST, None, NOW).status
        assert find(back.conditions, ConditionType.RESTART_REQUIRED) is None


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "7", "null"])
def test_a_note_that_is_none_of_ours_names_nothing(text: str) -> None:
    assert changed_fields(text, domain(cpu={"count": 4})) == []


def test_a_note_says_the_same_of_the_same_spec() -> None:
    assert note(domain(power_state="Paused")) == note(domain())
    assert changed_fields(note(domain()), domain()) == []
