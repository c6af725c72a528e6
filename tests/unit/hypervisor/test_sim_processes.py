"""One simulated host, open in several processes: what is told between them, and what survives one that is killed."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubexen.hypervisor.drivers.sim.driver import SimDriver
from kubexen.hypervisor.drivers.sim.host import SimHost

from .sim_builders import MIB, config, eventually

PRELUDE = """
import json, os, sys, time
from tests.unit.hypervisor.sim_builders import config
from kubexen.hypervisor import errors
from kubexen.hypervisor.drivers.sim.driver import SimDriver
uri = sys.argv[1]
"""


@contextlib.contextmanager
def process(code: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Python beside this one; killed, not ended."""
    root = Path(__file__).parents[3]
    running = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, *args],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={"PYTHONPATH": f"{root}:{root / 'operator'}", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def line(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sim://{tmp_path}/host?create_ms=0"


LISTENER = """
driver = SimDriver.open(uri)
driver.subscribe(lambda uuid: print(uuid, flush=True))
print("listens", flush=True)
sys.stdin.read()
"""


def test_a_change_is_told_to_other_processes(uri: str) -> None:
    with process(LISTENER, uri) as listener:
        assert line(listener) == "listens"
        driver = SimDriver.open(uri)
        web = config("web")
        driver.create(web)
        assert line(listener) == web.uuid
        with SimHost(uri) as host:
            host.guest_crash("web")
        assert line(listener) == web.uuid
        driver.close()


def test_what_takes_time_is_told_when_it_has_happened(uri: str, tmp_path: Path) -> None:
    with SimHost(tmp_path / "host") as host:
        host.set(shutdown_ms=300)
    with process(LISTENER, uri) as listener:
        assert line(listener) == "listens"
        driver = SimDriver.open(uri)
        web = config("web")
        driver.create(web)
        assert line(listener) == web.uuid
        driver.shutdown(web.uuid)
        asked = time.monotonic()
        while not driver.domains()[0].flags.shutdown:
            assert line(listener) == web.uuid
        assert 0.2 < time.monotonic() - asked < 5
        driver.close()


CREATOR = """
driver = SimDriver.open(uri)
print("creates", flush=True)
driver.create(config("web"))
print("created", flush=True)
"""


def test_domains_run_on_when_the_process_that_builds_one_is_killed(tmp_path: Path) -> None:
    uri = f"sim://{tmp_path}/host?create_ms=1000"
    driver = SimDriver.open(uri)
    with process(CREATOR, uri) as creator:
        assert line(creator) == "creates"
        eventually(driver.domains)
    assert creator.returncode == -9
    (state,) = driver.domains()
    assert str(state.flags) == "--p---"
    eventually(lambda: not driver.domains()[0].flags.paused)
    driver.destroy(state.uuid, state.domid)
    driver.close()


def test_time_passes_also_while_nobody_looks(tmp_path: Path) -> None:
    directory = tmp_path / "host"
    driver = SimDriver.open(f"sim://{directory}?create_ms=0&boot_ms=0&shutdown_ms=100&reboot_ms=100")
    web, db = config("web"), config("db")
    driver.create(web)
    domid = driver.create(db).domid
    driver.shutdown(web.uuid)
    with SimHost(directory) as host:
        host.guest_reboot("db")
    driver.close()
    time.sleep(0.25)  # nothing is open that could be awaited
    with SimHost(directory) as host:
        states = {state.name: state for state in host.list()}
    assert states["web"].shutdown_reason == "poweroff"
    assert states["db"].domid > domid and not states["db"].flags.shutdown


RACER = """
driver = SimDriver.open(uri)
print("ready", flush=True)
sys.stdin.readline()
made = []
for number in range(20):
    try:
        made.append(driver.create(config(f"domain-{number}")).domid)
    except errors.AlreadyExists:
        pass
print(json.dumps(made), flush=True)
"""


def test_processes_that_race_make_each_domain_once(tmp_path: Path) -> None:
    uri = f"sim://{tmp_path}/host?create_ms=0&memory=32Gi"
    with contextlib.ExitStack() as stack:
        racers = [stack.enter_context(process(RACER, uri)) for _ in range(4)]
        assert [line(racer) for racer in racers] == ["ready"] * 4
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        domids = [domid for racer in racers for domid in json.loads(line(racer))]
    assert len(domids) == len(set(domids)) == 20
    driver = SimDriver.open(uri)
    assert {state.name for state in driver.domains()} == {f"domain-{number}" for number in range(20)}
    host = driver.host()
    assert host.free_memory_kib == host.total_memory_kib - host.dom0_memory_kib - 64 * MIB - 20 * 129 * MIB
    driver.close()


WRITER = """
driver = SimDriver.open(uri)
print("writes", flush=True)
while True:
    web = config("web")
    state = driver.create(web)
    driver.pause(web.uuid)
    driver.destroy(web.uuid, state.domid)
"""


def test_a_kill_at_any_moment_leaves_a_sound_host(uri: str) -> None:
    driver = SimDriver.open(uri)
    free = driver.host().free_memory_kib
    for moment in range(8):
        with process(WRITER, uri) as writer:
            assert line(writer) == "writes"
            time.sleep(0.01 * moment)  # the moment of the kill is what varies
        for state in driver.domains():
            assert state.name == "web"
            driver.destroy(state.uuid, state.domid)
        assert driver.host().free_memory_kib == free
    driver.close()


def test_a_killed_listener_is_forgotten(uri: str, tmp_path: Path) -> None:
    with process(LISTENER, uri) as listener:
        assert line(listener) == "listens"
        assert len(list((tmp_path / "host/watch").iterdir())) == 1
    driver = SimDriver.open(uri)
    driver.create(config())
    assert list((tmp_path / "host/watch").iterdir()) == []
    driver.close()


IDLER = """
driver = SimDriver.open(uri)
driver.create(config("web"))
driver.subscribe(print)
driver.domains()
before = time.process_time()
time.sleep(1)
print(time.process_time() - before, flush=True)
"""


def test_an_idle_driver_costs_nothing(uri: str) -> None:
    with process(IDLER, uri) as idler:
        assert float(line(idler)) < 0.02


def test_a_look_at_many_domains_is_cheap(tmp_path: Path) -> None:
    driver = SimDriver.open(f"sim://{tmp_path}/host?create_ms=0&memory=1Ti")
    for _ in range(300):
        driver.create(config(memory_kib=64 * MIB))
    took = []
    for _ in range(5):
        began = time.process_time()
        assert len(driver.domains()) == 300
        took.append(time.process_time() - began)
    assert min(took) < 0.1
    driver.close()
