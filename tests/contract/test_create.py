"""How a domain begins, and what is refused."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest

from kubexen.hypervisor.errors import AlreadyExists, HypervisorError, InvalidConfig, NoMemory
from kubexen.hypervisor.port import Capability, DiskConfig, DomainConfig, DomainState, DomainType, InterfaceConfig

from .lab import Lab

TYPES = [
    pytest.param(DomainType.PV, id="pv"),
    pytest.param(DomainType.PVH, id="pvh", marks=pytest.mark.needs(Capability.PVH)),
]


@pytest.mark.parametrize("paused", [pytest.param(False, id="running"), pytest.param(True, id="paused")])
@pytest.mark.parametrize("kind", TYPES)
def test_a_domain_is_there_when_create_returns(lab: Lab, kind: DomainType, paused: bool) -> None:
    config = lab.config(type=kind)
    created = lab.driver.create(config, paused=paused)
    state = lab.state(config.uuid)
    assert created.domid == state.domid > 0
    assert (state.uuid, state.name) == (config.uuid, config.name)
    assert state.flags.paused == paused
    assert not (state.flags.shutdown or state.flags.crashed or state.flags.dying)
    assert state.shutdown_reason is None
    assert abs(state.memory_kib - config.memory_kib) <= lab.slack_kib
    assert abs(state.max_memory_kib - config.max_memory_kib) <= lab.slack_kib
    assert (state.vcpus_online, state.vcpus) == (1, 1)


@pytest.mark.parametrize("kind", TYPES)
def test_a_guest_comes_up(lab: Lab, kind: DomainType) -> None:
    config = lab.start(devices=True, type=kind)
    assert not lab.state(config.uuid).flags.paused


def test_creating_again_makes_no_second_one(lab: Lab) -> None:
    config = lab.config()
    first = lab.driver.create(config)
    with pytest.raises(AlreadyExists):
        lab.driver.create(config)
    assert lab.state(config.uuid).domid == first.domid


def test_a_name_is_used_once(lab: Lab) -> None:
    config = lab.config()
    lab.driver.create(config)
    other = dataclasses.replace(lab.config(), name=config.name)
    with pytest.raises(AlreadyExists):
        lab.driver.create(other)
    assert lab.find(other.uuid) is None


def test_a_strangers_name_is_taken_too(lab: Lab) -> None:
    config = lab.config(name=lab.guests.unmanaged())
    with pytest.raises(AlreadyExists):
        lab.driver.create(config)
    assert lab.find(config.uuid) is None


def test_a_uuid_is_used_once(lab: Lab) -> None:
    config = lab.config()
    lab.driver.create(config)
    with pytest.raises(AlreadyExists):
        lab.driver.create(dataclasses.replace(lab.config(), uuid=config.uuid))
    assert lab.state(config.uuid).name == config.name


def test_more_memory_than_the_host_has(lab: Lab) -> None:
    total = lab.driver.host().total_memory_kib
    config = lab.config(memory_kib=total + 1024, max_memory_kib=total + 1024)
    with pytest.raises(NoMemory):
        lab.driver.create(config)
    assert lab.find(config.uuid) is None


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("more memory than its maximum", {"memory_kib": 131073, "max_memory_kib": 131072}),
    ("no memory", {"memory_kib": 0}),
    ("no vCPU", {"vcpus": 0, "max_vcpus": 1}),
    ("more vCPUs than its maximum", {"vcpus": 2, "max_vcpus": 1}),
]


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in REFUSED])
def test_what_no_host_can_start(lab: Lab, changes: dict[str, Any]) -> None:
    config = lab.config(**changes)
    with pytest.raises(InvalidConfig):
        lab.driver.create(config)
    assert lab.find(config.uuid) is None


MISSING: list[tuple[str, dict[str, Any]]] = [
    ("kernel", {"kernel": "/nowhere/vmlinux"}),
    ("initrd", {"initrd": "/nowhere/initrd"}),
    ("disk", {"disks": (DiskConfig("/nowhere/disk.raw", "xvda"),)}),
    ("bridge", {"interfaces": (InterfaceConfig("00:16:3e:7f:ff:ff", "nobridge0"),)}),
]


@pytest.mark.parametrize("changes", [pytest.param(changes, id=name) for name, changes in MISSING])
def test_what_is_not_on_the_host(lab: Lab, changes: dict[str, Any]) -> None:
    config = lab.config(**changes)
    with pytest.raises(InvalidConfig, match=r"nowhere|nobridge0"):
        lab.driver.create(config)
    assert lab.find(config.uuid) is None


def test_after_a_refusal_the_same_domain_can_start(lab: Lab) -> None:
    config = lab.config()
    with pytest.raises(InvalidConfig):
        lab.driver.create(dataclasses.replace(config, vcpus=0))
    lab.driver.create(config)
    assert lab.state(config.uuid).name == config.name


def test_a_file_is_never_read_only(lab: Lab) -> None:
    """A host that takes it starts the domain without that disk."""
    config = lab.config(devices=True)
    (disk,) = config.disks
    with pytest.raises(InvalidConfig, match=r"xvda.*read-only"):
        lab.driver.create(dataclasses.replace(config, disks=(dataclasses.replace(disk, read_only=True),)))
    assert lab.find(config.uuid) is None


def test_several_start_at_once(lab: Lab) -> None:
    configs = [lab.config(devices=True) for _ in range(3)]
    failed: list[HypervisorError] = []

    def create(config: DomainConfig) -> None:
        try:
            lab.driver.create(config)
        except HypervisorError as error:
            failed.append(error)

    threads = [threading.Thread(target=create, args=[config]) for config in configs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    states: list[DomainState] = [lab.state(config.uuid) for config in configs]
    assert len({state.domid for state in states}) == 3


def test_a_domain_without_devices(lab: Lab) -> None:
    config = lab.config()
    lab.driver.create(config)
    devices = lab.driver.devices(config.uuid)
    assert (devices.disks, devices.interfaces) == ((), ())
