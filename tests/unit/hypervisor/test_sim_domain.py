"""A simulated domain over time, with exact times and without a host."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubexen.hypervisor.drivers.sim.domain import SimDomain
from kubexen.hypervisor.drivers.sim.settings import Settings
from kubexen.hypervisor.errors import Busy, HypervisorError, WrongState
from kubexen.hypervisor.port import BackendState, Owner, ShutdownReason

SETTINGS = Settings(
    create_ms=50, boot_ms=100, shutdown_ms=200, reboot_ms=300, balloon_ms=1000, destroy_ms=400, flicker=0
)


def built(*, paused: bool = False, restart: bool = True) -> SimDomain:
    domain = SimDomain(
        uuid="u", name="web", domid=1, memory_kib=100_000, max_memory_kib=300_000, vcpus=1, max_vcpus=2, started=0.0,
        owner=Owner("shop", "web", "uid"), disks=["xvda"], restart_on_reboot=restart,
    )  # fmt: skip
    domain.build(0.0, SETTINGS, paused=paused)
    return domain


def at(domain: SimDomain, now: float) -> SimDomain:
    """The domain at `now`, as the machine brings it there."""
    domids = itertools.count(domain.domid + 1)
    while domain.due is not None and domain.due <= now:
        assert domain.advance(SETTINGS, lambda: next(domids)), "it is gone"
    return domain


def shown(domain: SimDomain) -> str:
    return str(domain.flags(1.0, SETTINGS.flicker))


def asked(domain: SimDomain) -> None:
    domain.ask_shutdown(1.0, SETTINGS)


def asked_twice(domain: SimDomain) -> None:
    domain.ask_shutdown(1.0, SETTINGS)
    domain.ask_shutdown(1.15, SETTINGS)


def asked_when_paused(domain: SimDomain) -> None:
    domain.pause(0.5, SETTINGS)
    domain.ask_shutdown(1.0, SETTINGS)


def unpaused_later(domain: SimDomain) -> None:
    asked_when_paused(domain)
    domain.unpause(2.0, SETTINGS)


def paused_on_its_way(domain: SimDomain) -> None:
    domain.ask_shutdown(1.0, SETTINGS)
    domain.pause(1.1, SETTINGS)


def ignored(domain: SimDomain) -> None:
    domain.ignore_shutdown(True)
    domain.ask_shutdown(1.0, SETTINGS)


def rebooted(domain: SimDomain) -> None:
    domain.end(ShutdownReason.REBOOT, 1.0, SETTINGS)


def crashed(domain: SimDomain) -> None:
    domain.end(ShutdownReason.CRASH, 1.0, SETTINGS)


def crashed_on_its_way(domain: SimDomain) -> None:
    domain.ask_shutdown(1.0, SETTINGS)
    domain.end(ShutdownReason.CRASH, 1.1, SETTINGS)


@pytest.mark.parametrize(
    ("act", "times"),
    [
        (lambda domain: None, {9.9: "-b----"}),
        (asked, {1.19: "-b----", 1.2: "---s--", 9.9: "---s--"}),
        (asked_twice, {1.19: "-b----", 1.2: "---s--"}),
        (asked_when_paused, {9.9: "--p---"}),
        (unpaused_later, {2.19: "-b----", 2.2: "---s--"}),
        (paused_on_its_way, {9.9: "--p---"}),
        (ignored, {9.9: "-b----"}),
        (rebooted, {1.0: "---s--", 1.29: "---s--", 1.3: "-b----"}),
        (crashed, {1.0: "---sc-", 9.9: "---sc-"}),
        (crashed_on_its_way, {1.1: "---sc-", 9.9: "---sc-"}),
    ],
)
def test_flags_over_time(act: Callable[[SimDomain], None], times: dict[float, str]) -> None:
    domain = at(built(), 0.05)
    act(domain)
    assert {now: shown(at(domain, now)) for now in times} == times


@pytest.mark.parametrize("paused", [False, True])
def test_a_domain_is_built_paused(paused: bool) -> None:
    domain = at(built(paused=paused), 0.049)
    assert shown(domain) == "--p---"
    assert domain.state(0.049, SETTINGS, 1.0).memory_kib == 100_000
    for act in (domain.pause, domain.unpause, domain.ask_shutdown):
        with pytest.raises(Busy):
            act(0.049, SETTINGS)
    assert shown(at(domain, 0.05)) == ("--p---" if paused else "-b----")


def test_backends_connect_when_the_guest_has_booted() -> None:
    domain = built(paused=True)
    seen = [domain.devices(0.01).disks[0].backend]
    at(domain, 1.0)
    seen.append(domain.devices(1.0).disks[0].backend)
    domain.unpause(1.0, SETTINGS)
    seen += [domain.devices(now).disks[0].backend for now in (1.09, 1.1)]
    domain.end(ShutdownReason.POWEROFF, 2.0, SETTINGS)
    seen.append(domain.devices(2.0).disks[0].backend)
    assert seen == [
        BackendState.INITIALISING, BackendState.INIT_WAIT, BackendState.INIT_WAIT, BackendState.CONNECTED,
        BackendState.CLOSED,
    ]  # fmt: skip


def test_memory_balloons_in_its_own_time() -> None:
    domain = at(built(), 1.0)
    domain.balloon(300_000, 10**9, 1.0, SETTINGS)
    assert [domain.memory(now, SETTINGS) for now in (1.0, 1.5, 2.0, 9.0)] == [100_000, 200_000, 300_000, 300_000]
    assert domain.state(1.0, SETTINGS, 1.0).memory_target_kib == 300_000
    domain.balloon(100_000, 0, 3.0, SETTINGS)
    domain.pause(3.5, SETTINGS)
    assert domain.memory(9.0, SETTINGS) == 200_000, "a paused guest stays as it is"
    domain.unpause(10.0, SETTINGS)
    assert [domain.memory(now, SETTINGS) for now in (10.0, 11.0)] == [200_000, 100_000]


def test_a_guest_grows_only_into_free_memory() -> None:
    domain = at(built(), 1.0)
    domain.balloon(300_000, 50_000, 1.0, SETTINGS)
    assert domain.memory(9.0, SETTINGS) == 150_000
    assert domain.state(9.0, SETTINGS, 1.0).memory_target_kib == 300_000
    assert domain.reserved(1.0, SETTINGS) >= 150_000, "what it is about to take is not free for others"


def test_a_reboot_starts_afresh() -> None:
    domain = at(built(), 1.0)
    domain.balloon(300_000, 10**9, 1.0, SETTINGS)
    domain.end(ShutdownReason.REBOOT, 5.0, SETTINGS)
    at(domain, 5.3)
    state = domain.state(5.3, SETTINGS, 1.0)
    assert (state.domid, state.memory_kib, state.shutdown_reason) == (2, 100_000, None)
    assert domain.devices(5.39).disks[0].backend is BackendState.INIT_WAIT
    assert domain.devices(5.4).disks[0].backend is BackendState.CONNECTED


def test_without_restart_a_reboot_is_an_end() -> None:
    domain = at(built(restart=False), 1.0)
    domain.end(ShutdownReason.REBOOT, 5.0, SETTINGS)
    assert shown(at(domain, 99.0)) == "---s--"
    assert domain.state(99.0, SETTINGS, 1.0).shutdown_reason is ShutdownReason.REBOOT
    with pytest.raises(WrongState, match="web has ended: reboot"):
        domain.pause(99.0, SETTINGS)


def test_a_destroyed_domain_is_dying_until_its_memory_is_scrubbed() -> None:
    domain = at(built(), 1.0)
    domain.destroy(2.0, SETTINGS)
    assert shown(domain) == "-----d"
    assert domain.due == 2.4
    assert domain.advance(SETTINGS, lambda: 2) is False


def test_samples_of_a_guest() -> None:
    domain = at(built(), 1.0)
    samples = [number / 1000 for number in range(1000)]
    idle = [str(domain.flags(sample, 0.1)) for sample in samples]
    assert {text: idle.count(text) for text in set(idle)} == {"-b----": 900, "r-----": 50, "------": 50}
    domain.busy = True
    busy = [str(domain.flags(sample, 0.1)) for sample in samples]
    assert {text: busy.count(text) for text in set(busy)} == {"r-----": 900, "-b----": 50, "------": 50}


ACTS: dict[str, Callable[[SimDomain, float], object]] = {
    "pause": lambda domain, now: domain.pause(now, SETTINGS),
    "unpause": lambda domain, now: domain.unpause(now, SETTINGS),
    "shutdown": lambda domain, now: domain.ask_shutdown(now, SETTINGS),
    "ignore": lambda domain, now: domain.ignore_shutdown(True),
    "listen": lambda domain, now: domain.ignore_shutdown(False),
    "up": lambda domain, now: domain.check_acts() or domain.balloon(300_000, 50_000, now, SETTINGS),
    "down": lambda domain, now: domain.check_acts() or domain.balloon(50_000, 0, now, SETTINGS),
    "reboot": lambda domain, now: domain.check_acts() or domain.end(ShutdownReason.REBOOT, now, SETTINGS),
    "crash": lambda domain, now: domain.check_acts() or domain.end(ShutdownReason.CRASH, now, SETTINGS),
    "wait": lambda domain, now: None,
}


@given(st.lists(st.tuples(st.sampled_from(sorted(ACTS)), st.floats(0, 2)), max_size=30), st.booleans())
def test_no_order_of_acts_makes_nonsense(acts: list[tuple[str, float]], paused: bool) -> None:
    domain, now = built(paused=paused), 0.0
    for name, wait in acts:
        now += wait
        at(domain, now)
        try:
            ACTS[name](domain, now)
        except HypervisorError:
            assert domain.building or domain.reason is not None
        state = domain.state(now, SETTINGS, 0.5)
        assert 50_000 <= state.memory_kib <= 300_000
        assert (state.shutdown_reason is not None) == state.flags.shutdown
        assert len({"paused", "shutdown", "running", "blocked"} & set(state.flags.names())) <= 1
        assert domain.due is None or domain.due >= now
        assert dataclasses.asdict(SimDomain.load(domain.dump())) == dataclasses.asdict(domain)
