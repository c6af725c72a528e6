"""What is special about the simulator as a driver; what all drivers do is in tests/contract."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kubexen.hypervisor.drivers import opener
from kubexen.hypervisor.drivers.sim.driver import SimDriver
from kubexen.hypervisor.drivers.sim.host import SimHost
from kubexen.hypervisor.errors import (
    Busy,
    Failed,
    HypervisorError,
    InvalidConfig,
    NoMemory,
    NotFound,
    TimedOut,
    Unreachable,
)
from kubexen.hypervisor.port import DiskConfig

from .sim_builders import MIB, config, eventually

FREE = 1024 * MIB


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sim://relative/dir", "ABSOLUTE"),
        ("sim:///", "ABSOLUTE"),
        ("sim:///tmp/x?colour=red", "no setting 'colour'"),
        ("sim:///tmp/x?cpus=many", "cpus='many'"),
        ("sim:///tmp/x?memory=8Qi", "memory='8Qi'"),
        ("sim:///tmp/x?create_ms=-1", "create_ms='-1'"),
    ],
)
def test_a_wrong_uri_is_told(uri: str, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        opener(uri)()


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable):
        opener(f"sim://{tmp_path}/file/host")()


def test_the_uri_gives_the_machine_its_size(tmp_path: Path) -> None:
    driver = SimDriver.open(f"sim://{tmp_path}/a%20b?cpus=16&memory=64Gi&dom0_memory=2Gi&version=4.19.0")
    host = driver.host()
    assert (host.cpus, host.total_memory_kib, host.dom0_memory_kib) == (16, 64 * 1024 * MIB, 2 * 1024 * MIB)
    assert (host.hypervisor_version, host.driver) == ("4.19.0", f"sim://{tmp_path}/a b")
    driver.close()


def test_what_was_set_by_hand_outlives_the_next_opening(tmp_path: Path) -> None:
    uri = f"sim://{tmp_path}/host"
    with SimHost(tmp_path / "host") as host:
        host.set(cpus=2)
        driver = SimDriver.open(f"{uri}?cpus=8&memory=4Gi")
        assert (driver.host().cpus, driver.host().total_memory_kib) == (2, 4096 * MIB)
        driver.close()
        driver = SimDriver.open(f"{uri}?cpus=8&memory=16Gi")
        assert (driver.host().cpus, driver.host().total_memory_kib) == (2, 16384 * MIB)
        host.reset()
        assert driver.host().cpus == 8
        driver.close()


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("no kernel", {"kernel": ""}),
    ("5 vCPUs on 4 physical CPUs", {"vcpus": 5, "max_vcpus": 5}),
    ("cpuset '0-'", {"affinity": "0-"}),
    ("cpuset 'all'", {"affinity": "all"}),
    ("two disks with one target", {"disks": (DiskConfig("/a", "xvda"), DiskConfig("/b", "xvda"))}),
]


@pytest.mark.parametrize(("message", "changes"), REFUSED)
def test_a_configuration_that_no_host_starts(sim: SimDriver, message: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match=message):
        sim.create(config(**changes))
    assert sim.domains() == []
    assert sim.host().free_memory_kib == FREE


def test_memory_is_given_and_taken_back_exactly(sim: SimDriver, sim_host: SimHost) -> None:
    assert sim.host().free_memory_kib == FREE
    big = config("big", memory_kib=1000 * MIB, max_memory_kib=1000 * MIB)
    first = sim.create(big)
    assert sim.host().free_memory_kib == 23 * MIB
    with pytest.raises(NoMemory, match="small needs 25600 KiB, 23552 KiB are free"):
        sim.create(config("small", memory_kib=24 * MIB, max_memory_kib=24 * MIB))
    sim_host.guest_poweroff("big")
    assert sim.host().free_memory_kib == 23 * MIB, "an ended domain holds its memory"
    sim.destroy(big.uuid, first.domid)
    assert sim.host().free_memory_kib == FREE


def test_a_balloon_changes_free_memory(sim: SimDriver) -> None:
    web = config("web")
    sim.create(web)
    sim.set_memory(web.uuid, 192 * MIB)
    assert sim.host().free_memory_kib == FREE - 193 * MIB
    sim.set_memory(web.uuid, 64 * MIB)
    assert sim.host().free_memory_kib == FREE - 65 * MIB


def test_create_takes_its_time_and_shows_the_domain_meanwhile(sim: SimDriver, sim_host: SimHost) -> None:
    sim_host.set(create_ms=400)
    web = config("web")
    began = time.monotonic()
    thread = threading.Thread(target=sim.create, args=[web])
    thread.start()
    building = eventually(sim.domains)[0]
    assert str(building.flags) == "--p---"
    for act in (sim.pause, sim.unpause, sim.shutdown, lambda uuid: sim.destroy(uuid, building.domid)):
        with pytest.raises(Busy, match="web is being built"):
            act(web.uuid)
    thread.join()
    assert time.monotonic() - began >= 0.4
    assert str(sim.domains()[0].flags) == "-b----"


def test_a_domain_destroyed_by_hand_while_it_is_built(sim: SimDriver, sim_host: SimHost) -> None:
    sim_host.set(create_ms=300)
    caught: list[HypervisorError] = []

    def create() -> None:
        try:
            sim.create(config("web"))
        except HypervisorError as error:
            caught.append(error)

    thread = threading.Thread(target=create)
    thread.start()
    eventually(sim.domains)
    sim_host.xl_destroy("web")
    thread.join()
    assert [type(error) for error in caught] == [Failed]


def test_a_destroyed_domain_is_dying_for_a_while(sim: SimDriver, sim_host: SimHost) -> None:
    sim_host.set(destroy_ms=300)
    web = config("web")
    domid = sim.create(web).domid
    thread = threading.Thread(target=sim.destroy, args=[web.uuid, domid])
    thread.start()
    eventually(lambda: [str(state.flags) for state in sim.domains()] == ["-----d"])
    assert sim.host().free_memory_kib < FREE
    thread.join()
    assert sim.domains() == []
    assert sim.host().free_memory_kib == FREE


def test_a_call_fails_as_it_was_told_once(sim: SimDriver, sim_host: SimHost) -> None:
    web = config("web")
    sim_host.fail_next("create", NoMemory, "no luck")
    sim_host.fail_next("create", "TimedOut")
    with pytest.raises(NoMemory, match="no luck"):
        sim.create(web)
    with pytest.raises(TimedOut, match="create was told to fail"):
        sim.create(web)
    assert sim.domains() == []
    sim.create(web)


def test_only_the_answer_is_lost(sim: SimDriver, sim_host: SimHost) -> None:
    web = config("web")
    sim_host.fail_next("create", TimedOut, after=True)
    with pytest.raises(TimedOut):
        sim.create(web)
    assert [state.uuid for state in sim.domains()] == [web.uuid]


def test_a_look_can_fail_too(sim: SimDriver, sim_host: SimHost) -> None:
    sim_host.fail_next("domains", Unreachable, times=2)
    for _ in range(2):
        with pytest.raises(Unreachable):
            sim.domains()
    assert sim.domains() == []


@pytest.mark.parametrize(("call", "error"), [("fly", "NoMemory"), ("create", "Nonsense"), ("create", "annotations")])
def test_a_fault_that_cannot_be(sim_host: SimHost, call: str, error: str) -> None:
    with pytest.raises(InvalidConfig):
        sim_host.fail_next(call, error)


def test_a_call_can_be_slow(sim: SimDriver, sim_host: SimHost) -> None:
    sim_host.set_latency("host", 200)
    began = time.monotonic()
    sim.host()
    assert time.monotonic() - began >= 0.2


def test_a_toolstack_that_is_away_harms_no_domain(sim: SimDriver, sim_host: SimHost) -> None:
    web = config("web")
    sim.create(web)
    hints: list[str | None] = []
    sim.subscribe(hints.append)
    sim_host.stop_toolstack()
    for call in (sim.host, sim.domains, lambda: sim.pause(web.uuid)):
        with pytest.raises(Unreachable):
            call()
    sim_host.guest_crash("web")
    assert str(sim_host.list()[0].flags) == "---sc-"
    assert hints == []
    sim_host.start_toolstack()
    eventually(lambda: hints == [None])
    assert sim.domains()[0].flags.crashed


def test_acts_are_logged_in_order(sim: SimDriver, sim_host: SimHost) -> None:
    web = config("web", note="hello")
    domid = sim.create(web).domid
    sim.domains()
    sim.pause(web.uuid)
    with pytest.raises(InvalidConfig):
        sim.set_memory(web.uuid, 193 * MIB)
    sim.destroy(web.uuid, domid)
    assert [call.name for call in sim_host.calls()] == ["create", "pause", "set_memory", "destroy"]
    assert {call.uuid for call in sim_host.calls()} == {web.uuid}
    (create,) = sim_host.calls("create")
    assert (create.args["note"], create.args["kernel"], create.args["paused"]) == ("hello", "/boot/vmlinux", False)
    assert sim_host.calls("set_memory")[0].args == {"kib": 193 * MIB}


def test_a_strangers_domain_cannot_be_acted_on(sim: SimDriver, sim_host: SimHost) -> None:
    stranger = sim_host.xl_create_unmanaged("stranger", 64 * MIB)
    (state,) = sim.domains()
    assert (state.uuid, state.owner) == (stranger, None)
    with pytest.raises(NotFound):
        sim.destroy(stranger, state.domid)
    with pytest.raises(NotFound):
        sim.pause(stranger)


def test_a_closed_driver_is_unreachable(sim: SimDriver) -> None:
    sim.subscribe(lambda uuid: None)
    sim.close()
    sim.close()
    for call in (sim.domains, sim.host, lambda: sim.create(config()), lambda: sim.subscribe(lambda uuid: None)):
        with pytest.raises(Unreachable):
            call()


def test_a_listener_may_close_its_driver(sim: SimDriver, tmp_path: Path) -> None:
    other = SimDriver.open(f"sim://{tmp_path}/host")
    done = threading.Event()

    def listener(_: str | None) -> None:
        other.close()
        done.set()

    other.subscribe(listener)
    sim.create(config())
    assert done.wait(5)


def test_a_driver_is_closed_whose_thread_ends_before_it_is_woken(
    sim: SimDriver, sim_host: SimHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.subscribe(lambda _: None)
    (thread,) = (thread for thread in threading.enumerate() if thread.name.startswith("sim-hints"))

    def late(file: int, data: bytes) -> int:
        monkeypatch.undo()
        sim_host.xl_create_unmanaged("stranger")  # for which the thread looks, and sees that it is to end
        thread.join(5)
        return os.write(file, data)

    monkeypatch.setattr(os, "write", late)
    sim.close()
    assert not thread.is_alive()


def test_a_failing_listener_does_not_stop_the_others(sim: SimDriver, caplog: pytest.LogCaptureFixture) -> None:
    hints: list[str | None] = []
    sim.subscribe(lambda _: 1 / 0)
    sim.subscribe(hints.append)
    web = config()
    sim.create(web)
    eventually(lambda: web.uuid in hints)
    assert "a listener failed" in caplog.text
