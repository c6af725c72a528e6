"""What a driver tells about its host and the domains on it."""

from __future__ import annotations

import re

import pytest

from kubexen.hypervisor.port import BackendState, Capability, DiskConfig, InterfaceConfig

from .guests import ADMINISTRATOR
from .lab import Lab

NOTES = ["", "plain", '{"started": "2031-05-01T10:00:00Z", "generation": 7}', "<a>&\"'\n\tü 中 </a>"]


@pytest.mark.parametrize("note", NOTES, ids=["empty", "plain", "json", "markup"])
def test_owner_and_note_come_back(lab: Lab, note: str) -> None:
    config = lab.config(note=note)
    created = lab.driver.create(config)
    assert (created.owner, created.note) == (config.owner, note)
    for driver in (lab.driver, lab.connect()):
        states = {state.uuid: state for state in driver.domains()}
        assert (states[config.uuid].owner, states[config.uuid].note) == (config.owner, note)


def test_a_strangers_domain_is_shown_without_an_owner(lab: Lab) -> None:
    name = lab.guests.unmanaged()
    config = lab.config()
    lab.driver.create(config)
    states = {state.name: state for state in lab.driver.domains()}
    assert states[name].owner is None
    assert states[name].note == ""
    assert states[config.name].owner == config.owner


def test_dom0_is_no_domain(lab: Lab) -> None:
    assert all(state.domid != 0 for state in lab.driver.domains())


def test_the_list_is_complete(lab: Lab) -> None:
    before = {state.uuid for state in lab.driver.domains()}
    domids = {config.uuid: lab.driver.create(config).domid for config in [lab.config() for _ in range(3)]}
    assert {state.uuid for state in lab.driver.domains()} - before == set(domids)
    gone = next(iter(domids))
    lab.driver.destroy(gone, domids[gone])
    lab.eventually(lambda: lab.find(gone) is None, "one is gone")
    assert {state.uuid for state in lab.driver.domains()} - before == set(domids) - {gone}


@pytest.mark.needs(Capability.FLAGS)
def test_flags_of_a_running_guest(lab: Lab) -> None:
    config = lab.start()
    seen = set()

    def sampled() -> bool:
        flags = lab.state(config.uuid).flags
        assert not (flags.paused or flags.shutdown or flags.crashed or flags.dying)
        assert not (flags.running and flags.blocked)
        seen.update(flags.names())
        return "blocked" in seen

    lab.eventually(sampled, "an idle guest is blocked at times")


def test_devices_are_named_as_configured(lab: Lab) -> None:
    config = lab.config(devices=True)
    lab.driver.create(config, paused=True)
    devices = lab.driver.devices(config.uuid)
    assert [device.key for device in devices.disks] == ["xvda"]
    assert [device.key for device in devices.interfaces] == [config.interfaces[0].mac]


@pytest.mark.needs(Capability.BACKENDS, Capability.LOOP_DEVICES)
def test_devices_become_connected(lab: Lab) -> None:
    config = lab.config(devices=True)
    more = lab.config(devices=True)
    with open(more.disks[0].path, "rb") as file:
        device = lab.driver.loop(more.uuid, file.fileno(), read_only=True)
    disks = (*config.disks, DiskConfig(device, "xvdb", read_only=True, block_device=True))
    interfaces = (*config.interfaces, InterfaceConfig(more.interfaces[0].mac, lab.options.bridge))
    config = lab.config(disks=disks, interfaces=interfaces)
    lab.driver.create(config, paused=True)
    assert not lab.connected(config.uuid), "no guest has run that could have connected"
    lab.driver.unpause(config.uuid)
    lab.eventually(lambda: lab.connected(config.uuid), "its devices are connected")
    devices = lab.driver.devices(config.uuid)
    assert [device.key for device in devices.disks] == ["xvda", "xvdb"]
    assert len(devices.interfaces) == 2
    assert devices.interfaces[0].backend is BackendState.CONNECTED


def test_the_host_tells_what_it_is(lab: Lab) -> None:
    host = lab.driver.host()
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", host.boot_id)
    assert host.hypervisor_version and host.toolstack_version
    assert host.driver.startswith(f"{lab.scheme}:")
    assert host.flags_source
    assert host.cpus >= 1 and host.nodes >= 1 and host.threads_per_core >= 1 and host.cores_per_socket >= 1
    assert 0 < host.total_memory_kib < 2**40
    assert 0 <= host.free_memory_kib <= host.total_memory_kib
    assert 0 <= host.dom0_memory_kib <= host.total_memory_kib
    assert lab.connect().host().boot_id == host.boot_id


@pytest.mark.needs(Capability.PERSISTENCE)
def test_domains_outlive_their_driver(lab: Lab) -> None:
    config = lab.start(note="kept")
    before = lab.state(config.uuid)
    lab.driver.close()
    lab.driver = lab.connect()
    after = lab.state(config.uuid)
    assert (after.domid, after.name, after.owner, after.note) == (before.domid, config.name, config.owner, "kept")
    lab.driver.pause(config.uuid)
    assert lab.state(config.uuid).flags.paused


def test_nothing_is_untidy(lab: Lab) -> None:
    lab.driver.create(lab.config())
    assert list(lab.driver.tidy()) == []


@pytest.mark.needs(ADMINISTRATOR)
def test_a_definition_that_somebody_made_of_ours_goes_and_its_domain_stays(lab: Lab) -> None:
    config, other = lab.start(), lab.start()
    before = lab.state(config.uuid).domid
    lab.guests.define(config.name)
    assert list(lab.driver.tidy()) == [config.owner]
    assert list(lab.driver.tidy()) == []
    assert lab.state(config.uuid).domid == before
    assert lab.find(other.uuid)
