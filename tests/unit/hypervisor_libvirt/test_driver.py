"""What the contract suite does not look at, on libvirt's own test driver: leftovers, strangers, healing, events."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from kubexen.hypervisor.drivers.libvirt.config import to_xml
from kubexen.hypervisor.drivers.libvirt.connection import Connection
from kubexen.hypervisor.drivers.libvirt.driver import LibvirtDriver
from kubexen.hypervisor.drivers.libvirt.flags import LibvirtProbe, Sample
from kubexen.hypervisor.drivers.libvirt.identity import STRANGER_SECONDS, Identities, Identity
from kubexen.hypervisor.drivers.libvirt.platform import needed_kib
from kubexen.hypervisor.errors import AlreadyExists, InvalidConfig, NoMemory, NotFound, Unreachable
from kubexen.hypervisor.port import NOT_IN_XEN, DomainState, DomainType, Flags, Owner
from tests.unit.hypervisor_libvirt.builders import fresh

URI = "test:///default"
OWN = "its own"
SECONDS = 10.0


class Dom0:
    """As libvirt lists it on a Xen host."""

    def UUIDString(self) -> str:
        return "00000000-0000-0000-0000-000000000000"

    def ID(self) -> int:
        return 0

    def isActive(self) -> bool:
        return True


@pytest.fixture
def driver() -> Iterator[LibvirtDriver]:
    driver = LibvirtDriver.open(URI)
    yield driver
    driver.close()


@pytest.fixture
def by_hand(driver: LibvirtDriver) -> Iterator[Any]:
    """Somebody with virsh, on the same host."""
    conn = libvirt.open(URI)
    yield conn
    conn.close()


def states(driver: LibvirtDriver) -> dict[str, DomainState]:
    return {state.uuid: state for state in driver.domains()}


def test_a_domain_that_is_not_ours_has_no_owner(driver: LibvirtDriver) -> None:
    assert {state.name: state.owner for state in driver.domains()}["test"] is None


def test_a_domain_that_libvirt_does_not_answer_for_is_not_taken_for_gone(
    driver: LibvirtDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host may be rebooting it: it is not in Xen then, and only libvirt knows of it."""
    config = fresh()
    driver.create(config)

    @contextlib.contextmanager
    def calls(what: str) -> Iterator[Any]:
        raise Unreachable(f"{what}: the connection was lost")
        yield

    with monkeypatch.context() as broken:
        broken.setattr(driver._platform.probe, "samples", list)
        broken.setattr(driver._connection, "calls", calls)
        with pytest.raises(Unreachable):
            driver.domains()
    assert config.uuid in states(driver)


def test_dom0_is_not_taken_for_a_domain_that_has_just_come(driver: LibvirtDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is worth another look at Xen."""
    before, seen, looks = states(driver), driver._platform.probe.samples(), []

    @contextlib.contextmanager
    def calls(what: str) -> Iterator[Any]:
        yield SimpleNamespace(listAllDomains=lambda: [Dom0()])

    with monkeypatch.context() as shown:
        shown.setattr(driver._platform.probe, "samples", lambda: looks.append(1) or seen)
        shown.setattr(driver._connection, "calls", calls)
        assert states(driver) == before
    assert len(looks) == 1


@pytest.mark.parametrize(("name", "removed"), [("", True), (OWN, True), ("another", False)])
def test_what_is_left_of_a_build_is_removed_before_the_next(
    driver: LibvirtDriver, monkeypatch: pytest.MonkeyPatch, name: str, removed: bool
) -> None:
    """A destroy that was cut short leaves a domain without its name."""
    config, domid = fresh(), 4711
    samples = {domid: Sample(config.uuid, domid, Flags(paused=True), 0, 0, 0, 1, ran=False)}
    others = driver._platform.probe.samples
    monkeypatch.setattr(driver._platform.probe, "samples", lambda: [*others(), *samples.values()])
    monkeypatch.setattr(driver._platform, "name", lambda _: config.name if name == OWN else name)
    monkeypatch.setattr(driver._platform, "destroy", samples.pop)
    with contextlib.nullcontext() if removed else pytest.raises(AlreadyExists):
        driver.create(config)
    assert (domid in samples) != removed


def test_what_libvirt_is_at_work_on_is_there_though_xen_does_not_show_it(
    driver: LibvirtDriver, by_hand: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a guest's reboot is; the driver has never seen this one."""
    config = fresh(note="kept")
    domain = by_hand.defineXML(to_xml(config))
    assert config.uuid not in states(driver)
    monkeypatch.setattr(driver._platform, "is_busy", lambda d: not d.isActive())
    state = states(driver)[config.uuid]
    assert (state.name, state.owner, state.note) == (config.name, config.owner, "kept")
    assert (state.domid, str(state.flags), state.memory_kib) == (NOT_IN_XEN, "-----d", 0)
    with pytest.raises(AlreadyExists):
        driver.create(config)
    with pytest.raises(NotFound):
        driver.destroy(config.uuid, NOT_IN_XEN)
    domain.undefine()


def test_what_has_come_between_the_looks_at_xen_and_at_libvirt_is_seen(
    driver: LibvirtDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = fresh()
    driver.create(config)
    looks = iter([[], driver._platform.probe.samples()])
    monkeypatch.setattr(driver._platform.probe, "samples", lambda: next(looks))
    state = states(driver)[config.uuid]
    assert state.domid > 0


def test_tidy_undefines_what_was_made_persistent(driver: LibvirtDriver, by_hand: Any) -> None:
    config = fresh()
    state = driver.create(config)
    by_hand.defineXML(to_xml(config))
    assert driver.tidy() == [config.owner]
    assert driver.tidy() == []
    assert states(driver)[config.uuid].domid == state.domid
    driver.destroy(config.uuid, state.domid)
    with pytest.raises(libvirt.libvirtError):
        by_hand.lookupByUUIDString(config.uuid)
    assert by_hand.lookupByName("test").isPersistent()


def test_create_replaces_a_definition_of_the_same_domain(driver: LibvirtDriver, by_hand: Any) -> None:
    config = fresh()
    by_hand.defineXML(to_xml(config))
    driver.create(config)
    assert not by_hand.lookupByUUIDString(config.uuid).isPersistent()


@pytest.mark.parametrize("changes", [{"name": "else"}, {"owner": Owner("other", "web", "uid")}], ids=["name", "owner"])
def test_create_keeps_off_a_definition_that_is_not_the_same(driver: LibvirtDriver, by_hand: Any, changes: dict[str, Any]) -> None:
    config = fresh()
    other = by_hand.defineXML(
        to_xml(config)
        .replace(config.name, changes.get("name", config.name))
        .replace('namespace="shop"', f'namespace="{changes["owner"].namespace if "owner" in changes else "shop"}"')
    )
    with pytest.raises(AlreadyExists, match="definition"):
        driver.create(config)
    assert other.isPersistent() and not other.isActive()
    other.undefine()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"vcpus": 3}, InvalidConfig),
        ({"vcpus": 0}, InvalidConfig),
        ({"memory_kib": 999_999_999}, InvalidConfig),
        ({"memory_kib": 2**40, "max_memory_kib": 2**40}, NoMemory),
        ({"affinity": "no cpuset"}, InvalidConfig),
        ({"note": "\x00"}, InvalidConfig),
    ],
    ids=lambda value: str(value),
)
def test_a_refused_create_leaves_nothing(driver: LibvirtDriver, changes: dict[str, Any], error: type[Exception]) -> None:
    config = fresh(**changes)
    before = driver.domains()
    with pytest.raises(error):
        driver.create(config)
    assert driver.domains() == before


def test_needed_memory() -> None:
    """A PVH domain's page tables count, too."""
    assert needed_kib(fresh()) == 96 * 1024 + 2048
    assert needed_kib(fresh(type=DomainType.PVH)) == 96 * 1024 + 2048 + 2 * 1024 + 128 * 8


def test_the_weight_may_be_given(driver: LibvirtDriver) -> None:
    config = fresh(weight=512, cap=50)
    assert str(driver.create(config).flags) == "r-----"


def test_whoever_lets_a_domain_run_gives_it_its_share(driver: LibvirtDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent that made it may have died in between."""
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(driver._platform, "set_share", lambda domain, weight, cap: given.append((weight, cap)))
    config, plain = fresh(weight=512, cap=50), fresh()
    for made in (config, plain):
        driver.create(made, paused=True)
        given.clear()
    driver.unpause(plain.uuid)
    assert given == []
    driver.unpause(config.uuid)
    assert given == [(512, 50)]


def test_events(driver: LibvirtDriver) -> None:
    heard: queue.Queue[str | None] = queue.Queue()

    def broken(_uuid: str | None) -> None:
        raise RuntimeError("a listener of somebody else")

    driver.subscribe(broken)
    stop = driver.subscribe(heard.put)
    config = fresh()
    state = driver.create(config)
    while heard.get(timeout=SECONDS) != config.uuid:  # an earlier test's domains may still be heard of
        pass
    stop()
    later: queue.Queue[str | None] = queue.Queue()
    driver.subscribe(later.put)
    other = fresh()
    driver.create(other)
    while later.get(timeout=SECONDS) != other.uuid:
        pass
    driver.destroy(config.uuid, state.domid)
    while later.get(timeout=SECONDS) != config.uuid:
        pass
    assert other.uuid not in list(heard.queue)


def test_a_lost_connection_is_opened_again() -> None:
    heard: queue.Queue[str | None] = queue.Queue()
    connection = Connection(URI, heard.put)
    with connection.calls("look") as conn:
        lost = conn
    connection._on_close(lost, libvirt.VIR_CONNECT_CLOSE_REASON_EOF, None)  # as libvirt calls it
    assert [heard.get(timeout=SECONDS), heard.get(timeout=SECONDS)] == [None, None]  # lost, and there again
    with connection.calls("look") as conn:
        assert conn is not lost
        assert conn.isAlive()
    connection.close()
    with pytest.raises(Unreachable), connection.calls("look"):
        pass


def test_a_daemon_that_is_away_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="connect to xen"):
        LibvirtDriver.open("xen:///system")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_identities_are_looked_up_once(by_hand: Any) -> None:
    """Known domains cost no call; strangers are asked for again after a while; the gone are forgotten."""
    connection = Connection(URI, lambda _uuid: None)
    clock = Clock()
    identities = Identities(connection, lambda domid: f"stranger-{domid}", clock)
    config = fresh()
    domain = by_hand.createXML(to_xml(config))
    samples = [sample for sample in LibvirtProbe(connection).samples() if sample.uuid == config.uuid]
    known = [Identity(config.name, config.owner, "")]
    assert identities.of(samples) == known
    domain.destroy()
    assert identities.of(samples) == known
    assert identities.of([]) == []
    assert identities.of(samples) == [Identity(f"stranger-{samples[0].domid}")]
    by_hand.createXML(to_xml(config))
    clock.now += STRANGER_SECONDS - 0.1
    assert identities.of(samples)[0].owner is None
    clock.now += 0.1
    assert identities.of(samples) == known
    connection.close()
    assert identities.of(samples) == known
    identities.of([])
    with pytest.raises(Unreachable):
        identities.of(samples)


def test_a_domain_that_is_not_there(driver: LibvirtDriver) -> None:
    for act in (driver.devices, driver.shutdown, driver.pause, driver.unpause):
        with pytest.raises(NotFound):
            act("5f0c1c8e-6f35-4e0c-9a53-1d2f0b1c9fff")
