"""How a domain ends: destroyed, shut down, or by its guest."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from kubexen.hypervisor.errors import HypervisorError, NotFound, WrongState
from kubexen.hypervisor.port import NOT_IN_XEN, Capability, DomainConfig, DomainState, Hypervisor, ShutdownReason

from .guests import ADMINISTRATOR, GUEST_ACTS
from .lab import Lab

NOWHERE = str(uuid.UUID(int=1))


def test_destroy_ends_it_at_once(lab: Lab) -> None:
    config = lab.config(devices=True)
    created = lab.driver.create(config)
    lab.driver.destroy(config.uuid, created.domid)
    lab.eventually(lambda: lab.find(config.uuid) is None, "it is gone")
    with pytest.raises(NotFound):
        lab.driver.destroy(config.uuid, created.domid)


def test_destroy_of_another_incarnation_hits_nothing(lab: Lab) -> None:
    config = lab.config()
    created = lab.driver.create(config)
    with pytest.raises(NotFound):
        lab.driver.destroy(config.uuid, created.domid + 1)
    assert lab.state(config.uuid).domid == created.domid


def test_a_destroyed_domain_can_be_made_again(lab: Lab) -> None:
    config = lab.config(devices=True)
    first = lab.driver.create(config)
    lab.driver.destroy(config.uuid, first.domid)
    lab.eventually(lambda: lab.find(config.uuid) is None, "it is gone")
    second = lab.driver.create(config)
    assert second.domid > first.domid
    with pytest.raises(NotFound):
        lab.driver.destroy(config.uuid, first.domid)
    assert lab.state(config.uuid).domid == second.domid


def test_a_paused_domain_can_be_destroyed(lab: Lab) -> None:
    config = lab.config()
    created = lab.driver.create(config, paused=True)
    lab.driver.destroy(config.uuid, created.domid)
    lab.eventually(lambda: lab.find(config.uuid) is None, "it is gone")


ACTS: list[tuple[str, Callable[[Hypervisor, str], object]]] = [
    ("devices", lambda driver, uuid: driver.devices(uuid)),
    ("destroy", lambda driver, uuid: driver.destroy(uuid, 1)),
    ("shutdown", lambda driver, uuid: driver.shutdown(uuid)),
    ("pause", lambda driver, uuid: driver.pause(uuid)),
    ("unpause", lambda driver, uuid: driver.unpause(uuid)),
    ("set_memory", lambda driver, uuid: driver.set_memory(uuid, 131072)),
]


@pytest.mark.parametrize("act", [pytest.param(act, id=name) for name, act in ACTS])
def test_an_act_on_a_domain_that_is_not_there(lab: Lab, act: Callable[[Hypervisor, str], object]) -> None:
    with pytest.raises(NotFound):
        act(lab.driver, NOWHERE)


def test_shutdown_ends_it(lab: Lab) -> None:
    config = lab.start(devices=True)
    lab.driver.shutdown(config.uuid)
    lab.eventually(lambda: lab.ended(config.uuid), "the guest has powered off")


def _ended(lab: Lab, config: DomainConfig, reason: ShutdownReason) -> DomainState:
    """It stays, with the reason, until it is destroyed."""
    lab.eventually(lambda: lab.ended(config.uuid), "it has ended")
    state = lab.state(config.uuid)
    assert state.flags.shutdown
    assert state.flags.crashed == (reason is ShutdownReason.CRASH)
    assert state.shutdown_reason is reason
    assert state.owner == config.owner
    return state


@pytest.mark.needs(Capability.SHUTDOWN_REASON)
def test_after_a_shutdown_the_domain_stays_with_its_reason(lab: Lab) -> None:
    config = lab.start(devices=True)
    lab.driver.shutdown(config.uuid)
    state = _ended(lab, config, ShutdownReason.POWEROFF)
    lab.driver.destroy(config.uuid, state.domid)
    lab.eventually(lambda: lab.find(config.uuid) is None, "it is gone")


@pytest.mark.needs(Capability.SHUTDOWN_DELAY)
def test_shutdown_does_not_wait_for_the_guest(lab: Lab) -> None:
    config = lab.start()
    lab.driver.pause(config.uuid)
    lab.driver.shutdown(config.uuid)  # a paused guest cannot answer
    lab.driver.shutdown(config.uuid)
    state = lab.state(config.uuid)
    assert state.flags.paused and not state.flags.shutdown
    lab.driver.unpause(config.uuid)
    lab.eventually(lambda: lab.ended(config.uuid), "the guest has answered")


@pytest.mark.needs(Capability.SHUTDOWN_DELAY)
def test_a_guest_that_does_not_answer_can_be_destroyed(lab: Lab) -> None:
    config = lab.start()
    lab.driver.pause(config.uuid)
    lab.driver.shutdown(config.uuid)
    lab.driver.destroy(config.uuid, lab.state(config.uuid).domid)
    lab.eventually(lambda: lab.find(config.uuid) is None, "it is gone")


@pytest.mark.needs(GUEST_ACTS, Capability.SHUTDOWN_REASON)
def test_a_guest_powers_off(lab: Lab) -> None:
    config = lab.start()
    lab.guests.poweroff(config.name)
    _ended(lab, config, ShutdownReason.POWEROFF)


@pytest.mark.needs(GUEST_ACTS, Capability.SHUTDOWN_REASON)
def test_a_guest_crashes(lab: Lab) -> None:
    config = lab.start()
    lab.guests.crash(config.name)
    _ended(lab, config, ShutdownReason.CRASH)


@pytest.mark.needs(GUEST_ACTS, Capability.GUEST_REBOOT)
def test_a_guest_reboots_and_the_host_starts_it_again(lab: Lab) -> None:
    config = lab.start(devices=True, restart_on_reboot=True, note="kept")
    before = lab.state(config.uuid)
    lab.guests.reboot(config.name)

    def restarted() -> bool:
        state = lab.find(config.uuid)
        return state is not None and state.domid > before.domid

    lab.eventually(restarted, "it runs as another domain")
    after = lab.state(config.uuid)
    assert (after.name, after.owner, after.note) == (config.name, config.owner, "kept")
    lab.wait_up(config)


@pytest.mark.needs(GUEST_ACTS, Capability.GUEST_REBOOT)
def test_a_domain_that_its_host_reboots_is_there_all_the_time_also_for_a_driver_that_has_never_seen_it(lab: Lab) -> None:
    """Whoever took it for gone would start it a second time, or give it up: as an agent that was started just now."""
    config = lab.start(devices=True, restart_on_reboot=True)
    before = lab.state(config.uuid)
    lab.guests.reboot(config.name)

    def restarted() -> bool:
        stranger = lab.connect()
        states = [state for state in stranger.domains() if state.uuid == config.uuid]
        stranger.close()
        assert states, "it was taken for gone"
        assert states[0].owner == config.owner
        assert states[0].domid != NOT_IN_XEN or states[0].flags.dying
        return states[0].domid > before.domid

    lab.eventually(restarted, "it runs as another domain", every_moment=True)


@pytest.mark.needs(GUEST_ACTS, Capability.SHUTDOWN_REASON)
def test_a_guest_reboots_and_is_left_to_the_caller(lab: Lab) -> None:
    config = lab.start(restart_on_reboot=False)
    before = lab.state(config.uuid)
    lab.guests.reboot(config.name)
    assert _ended(lab, config, ShutdownReason.REBOOT).domid == before.domid


@pytest.mark.needs(GUEST_ACTS, Capability.SHUTDOWN_REASON)
def test_an_ended_domain_takes_no_orders(lab: Lab) -> None:
    config = lab.start()
    lab.guests.poweroff(config.name)
    state = _ended(lab, config, ShutdownReason.POWEROFF)
    for name, act in ACTS[2:]:
        with pytest.raises(WrongState):
            act(lab.driver, config.uuid)
            pytest.fail(f"{name} was accepted")
    assert lab.state(config.uuid).domid == state.domid


@pytest.mark.needs(ADMINISTRATOR)
def test_an_administrators_destroy_is_seen(lab: Lab) -> None:
    config = lab.start(devices=True)
    before = lab.state(config.uuid)
    lab.guests.xl("destroy", config.name)
    lab.eventually(lambda: lab.find(config.uuid) is None, "it is gone")

    def made_again() -> DomainState | None:
        # libvirt notices a little later than Xen that it is gone
        try:
            return lab.driver.create(config)
        except HypervisorError:
            if lab.find(config.uuid) is not None:
                raise
            return None

    assert lab.eventually(made_again, "it can be made again").domid > before.domid
