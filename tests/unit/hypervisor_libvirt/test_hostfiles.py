"""The host's Xen below a root: from a container its own programs run in its own file system."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kubexen.hypervisor.drivers.libvirt import hostfiles
from kubexen.hypervisor.drivers.libvirt.hostfiles import HostFiles
from kubexen.hypervisor.drivers.libvirt.lowlevel import Commands
from kubexen.hypervisor.errors import Unreachable


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with Xen 4.17 and, for its chroot, this machine's `echo` with its loader and library: it tells what it was given."""
    version = tmp_path / "version"
    version.mkdir()
    (version / "major").write_text("4\n")
    (version / "minor").write_text("17\n")
    monkeypatch.setattr(hostfiles, "VERSION", version)
    folder = tmp_path / "host/usr/sbin"
    folder.mkdir(parents=True)
    shutil.copy("/bin/echo", folder / "chroot")
    linked = subprocess.run(["ldd", "/bin/echo"], capture_output=True, text=True, check=True).stdout.split()
    for library in (Path(word) for word in linked if word.startswith("/")):
        target = tmp_path / "host/usr/lib" / library.resolve().parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(library.resolve(), target / library.name)
    return tmp_path / "host"


def test_in_dom0_itself_a_program_is_called_by_its_name() -> None:
    assert HostFiles().command("xl") == ["xl"]


def test_from_a_container_the_hosts_program_runs_in_the_hosts_root(root: Path) -> None:
    files = HostFiles(root, Path("/proc/1/root"))
    assert all(str(root) in word for word in files.command("xl")[:-2] if word != "--library-path")
    assert Commands(files).run("xl", "destroy", "4") == "/proc/1/root xl destroy 4\n"


def test_without_the_way_there_the_host_does_not_answer(root: Path) -> None:
    (root / "usr/sbin/chroot").unlink()
    with pytest.raises(Unreachable, match="no program chroot"):
        Commands(HostFiles(root)).run("xl", "list")


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
