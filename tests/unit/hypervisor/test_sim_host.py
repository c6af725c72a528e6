"""The other side of a simulated host: guests, an administrator, the machine; also from the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kubexen.hypervisor.drivers.sim.driver import SimDriver
from kubexen.hypervisor.drivers.sim.host import SimHost
from kubexen.hypervisor.errors import AlreadyExists, InvalidConfig, NoMemory, NotFound, WrongState

from .sim_builders import MIB, config, eventually


def test_a_reboot_of_the_host_takes_every_domain(sim: SimDriver, sim_host: SimHost) -> None:
    sim.create(config())
    sim_host.xl_create_unmanaged("stranger")
    hints: list[str | None] = []
    sim.subscribe(hints.append)
    before = sim.host()
    sim_host.reboot_host()
    after = sim.host()
    assert sim.domains() == []
    assert after.boot_id != before.boot_id
    assert after.free_memory_kib > before.free_memory_kib
    eventually(lambda: None in hints)
    assert sim.create(config()).domid == 1, "domids count from the boot"


def test_what_xl_does_is_seen_but_only_a_destroy_is_told(sim: SimDriver, sim_host: SimHost) -> None:
    web = config("web")
    sim.create(web)
    hints: list[str | None] = []
    sim.subscribe(hints.append)
    sim_host.xl_pause("web")
    assert sim.domains()[0].flags.paused
    sim_host.xl_unpause("web")
    sim_host.xl_create_unmanaged("stranger")
    sim_host.xl_destroy("web")
    eventually(lambda: hints == [web.uuid])
    assert [state.name for state in sim.domains()] == ["stranger"]


def test_hints_can_be_lost(sim: SimDriver, sim_host: SimHost) -> None:
    hints: list[str | None] = []
    sim.subscribe(hints.append)
    sim_host.set(hints=0)
    lost, told = config(), config()
    sim.create(lost)
    eventually(lambda: sim_host.list())
    sim_host.set(hints=1)
    sim.create(told)
    eventually(lambda: told.uuid in hints)


@pytest.mark.parametrize("act", ["guest_poweroff", "guest_reboot", "guest_crash"])
def test_a_guest_that_does_not_run_does_nothing(sim: SimDriver, sim_host: SimHost, act: str) -> None:
    sim.create(config("paused"), paused=True)
    sim.create(config("ended"))
    sim_host.guest_poweroff("ended")
    with pytest.raises(WrongState, match="paused is paused"):
        getattr(sim_host, act)("paused")
    with pytest.raises(WrongState, match="ended has ended: poweroff"):
        getattr(sim_host, act)("ended")
    with pytest.raises(NotFound, match="no domain 'nobody'"):
        getattr(sim_host, act)("nobody")


def test_a_guest_that_ignores_shutdown_runs_on_until_it_listens(sim: SimDriver, sim_host: SimHost) -> None:
    web = config("web")
    sim.create(web)
    sim_host.ignore_shutdown("web")
    sim.shutdown(web.uuid)
    assert str(sim.domains()[0].flags) == "-b----"
    sim_host.ignore_shutdown("web", False)
    assert str(sim.domains()[0].flags) == "-b----", "the request was lost"
    sim.shutdown(web.uuid)
    assert str(sim.domains()[0].flags) == "---s--"


def test_a_busy_guest_runs(sim: SimDriver, sim_host: SimHost) -> None:
    sim.create(config("web"))
    sim_host.set_busy("web")
    assert str(sim.domains()[0].flags) == "r-----"


def test_free_memory_can_be_set(sim: SimDriver, sim_host: SimHost) -> None:
    sim.create(config())
    sim_host.set_free(100 * MIB)
    assert sim.host().free_memory_kib == 100 * MIB
    with pytest.raises(NoMemory):
        sim.create(config())
    with pytest.raises(NoMemory):
        sim_host.xl_create_unmanaged("stranger", 100 * MIB)


def test_names_are_unique_on_the_host(sim: SimDriver, sim_host: SimHost) -> None:
    sim_host.xl_create_unmanaged("web")
    with pytest.raises(AlreadyExists, match="name 'web'"):
        sim.create(config("web"))
    with pytest.raises(AlreadyExists):
        sim_host.xl_create_unmanaged("web")


def test_settings_are_checked(sim_host: SimHost) -> None:
    with pytest.raises(InvalidConfig, match="no setting 'ram'"):
        sim_host.set(ram="2Gi")


def test_reset_forgets_all_but_the_machine(sim: SimDriver, sim_host: SimHost) -> None:
    before = sim.host()
    sim.create(config())
    sim_host.set(cpus=64)
    sim_host.set_latency("host", 60_000)
    sim_host.fail_next("domains", "Failed")
    sim_host.stop_toolstack()
    sim_host.reset()
    assert sim.domains() == []
    assert sim.host() == before
    assert sim_host.calls() == []


def test_the_list_reads_like_xls(sim: SimDriver, sim_host: SimHost) -> None:
    sim.create(config("shop-web"))
    sim.create(config("shop-db"), paused=True)
    sim_host.xl_create_unmanaged("stranger", 64 * MIB)
    sim_host.guest_crash("stranger")
    rows = [line.split() for line in sim_host.xl_list().splitlines()]
    assert rows[0] == ["Name", "ID", "Mem", "VCPUs", "State", "Time(s)"]
    assert [row[:5] for row in rows[1:]] == [
        ["Domain-0", "0", "1024", "4", "r-----"],
        ["shop-web", "1", "128", "1", "-b----"],
        ["shop-db", "2", "128", "1", "--p---"],
        ["stranger", "3", "64", "1", "---sc-"],
    ]


def _xl(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kubexen.hypervisor.drivers.sim", str(directory), *command],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_the_command_line_plays_a_host(sim: SimDriver, sim_host: SimHost) -> None:
    sim.create(config("web"))
    directory = sim_host.directory
    assert "web " in _xl(directory, "list").stdout
    assert _xl(directory, "pause", "web").returncode == 0
    assert sim.domains()[0].flags.paused
    refused = _xl(directory, "crash", "web")
    assert (refused.returncode, refused.stderr) == (1, "WrongState: web is paused: its guest cannot act\n")
    assert _xl(directory, "set", "cpus", "2").returncode == 0
    assert sim.host().cpus == 2
    assert _xl(directory, "calls").stdout.split()[1] == "create"


def test_the_command_line_makes_no_host(tmp_path: Path) -> None:
    refused = _xl(tmp_path / "nothing", "list")
    assert refused.returncode == 1
    assert "is no simulated host" in refused.stderr
    assert not (tmp_path / "nothing").exists()
