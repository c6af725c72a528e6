"""Ending the processes of one anchor, and of nobody else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubexen.agent.anchors import Anchors

UID = "7d0c3a52-55c1-4f39-9a43-0a1b2c3d4e5f"
OTHER = "7d0c3a52-55c1-4f39-9a43-0a1b2c3d4e60"
CGROUPS = {
    "cgroupfs": f"0::/kubepods/pod{UID}/3f2a\n",
    "systemd": f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-3f2a.scope\n",
    "besteffort, version 1": f"12:memory:/kubepods/besteffort/pod{UID}/3f2a\n1:name=systemd:/kubepods/besteffort/pod{UID}/3f2a\n",
}
STRANGERS = {
    "another pod": f"0::/kubepods/pod{OTHER}/3f2a\n",
    "a pod whose uid begins alike": f"0::/kubepods/pod{UID}0/3f2a\n",
    "a service that is named so": f"0::/system.slice/{UID}.service\n",
    "nothing is known": "",
}


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def lay_out(root: Path, pid: int, cgroup: str) -> None:
    (root / f"proc/{pid}").mkdir(parents=True)
    (root / f"proc/{pid}/cgroup").write_text(cgroup)


@pytest.mark.parametrize("cgroup", CGROUPS.values(), ids=CGROUPS)
def test_its_processes_end(tmp_path: Path, process: subprocess.Popen[bytes], cgroup: str) -> None:
    lay_out(tmp_path, process.pid, cgroup)
    anchors = Anchors(tmp_path)
    anchors.end(UID)
    assert process.wait(10) == -9
    anchors.end(UID)


@pytest.mark.parametrize("cgroup", STRANGERS.values(), ids=STRANGERS)
def test_others_run_on(tmp_path: Path, process: subprocess.Popen[bytes], cgroup: str) -> None:
    lay_out(tmp_path, process.pid, cgroup)
    for uid in (UID, ""):
        Anchors(tmp_path).end(uid)
    assert process.poll() is None


def test_a_domain_that_has_another_anchor_leaves_none_behind(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    """As when an eviction is taken back: whoever asked for the end of the first anchor may have said after a year."""
    lay_out(tmp_path, process.pid, CGROUPS["systemd"])
    Anchors(tmp_path).follow("domain", UID)
    Anchors(tmp_path).follow("domain", UID)
    assert process.poll() is None
    Anchors(tmp_path).follow("domain", OTHER)  # as another agent
    assert process.wait(10) == -9


@pytest.mark.parametrize("last", [UID, OTHER], ids=["its anchor", "another anchor, which no agent has seen it with"])
def test_a_domain_that_leaves_leaves_none_behind(tmp_path: Path, process: subprocess.Popen[bytes], last: str) -> None:
    lay_out(tmp_path, process.pid, CGROUPS["systemd"])
    anchors = Anchors(tmp_path)
    anchors.follow("domain", UID)
    anchors.leave("domain", last)
    assert process.wait(10) == -9
    assert list((tmp_path / "run/kubexen/anchors").iterdir()) == []
    anchors.leave("domain", last)


def test_a_host_without_processes(tmp_path: Path) -> None:
    Anchors(tmp_path).end(UID)
