"""The host's Xen below a root: from a container its own programs run in its own file system."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kubexen.hypervisor.drivers.libvirt import hostfiles
from kubexen.hypervisor.drivers.libvirt.hostfiles import HostFiles
from kubexen.hypervisor.drivers.libvirt.lowlevel import Commands
from kubexen.hypervisor.errors import Unreachable
from kubexen.hypervisor.hostpath import in_host


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with Xen 4.17."""
    version = tmp_path / "version"
    version.mkdir()
    (version / "major").write_text("4\n")
    (version / "minor").write_text("17\n")
    monkeypatch.setattr(hostfiles, "VERSION", version)
    return tmp_path / "host"


def test_in_dom0_itself_a_program_is_called_by_its_name() -> None:
    assert in_host(Path("/"), "xl", "list") == ["xl", "list"]
    assert Commands().run("echo", "list") == "list\n"


def test_from_a_container_the_hosts_program_runs_in_the_hosts_root() -> None:
    assert in_host(Path("/proc/1/root"), "xl", "destroy", "4") == ["chroot", "/proc/1/root", "xl", "destroy", "4"]


def test_without_the_way_there_the_host_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="xl list: chroot: "):
        Commands(tmp_path / "none").run("xl", "list")


@pytest.mark.parametrize("name", ["xl-of-nobody", "xenstore-of-nobody"])
def test_a_program_that_is_not_there_is_a_host_that_does_not_answer(name: str) -> None:
    with pytest.raises(Unreachable, match=f"{name}: .*[Nn]o such file"):
        Commands().run(name)


def test_bindings_for_another_python_are_no_bindings(root: Path) -> None:
    package = root / "usr/lib/xen-4.17/lib/python/xen/lowlevel"
    package.mkdir(parents=True)
    (package / "xc.cpython-27-x86_64-linux-gnu.so").write_bytes(b"")
    with pytest.raises(ImportError):
        HostFiles(root).bindings("xc")


def test_without_xen_there_are_no_bindings(root: Path) -> None:
    shutil.rmtree(hostfiles.VERSION)
    with pytest.raises(ImportError, match="no Xen runs here"):
        HostFiles(root).bindings("xc")
