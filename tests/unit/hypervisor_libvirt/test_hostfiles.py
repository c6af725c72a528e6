"""The host's Xen below a root: in a container its own programs run by its own loader and libraries."""

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
    """A host with Xen 4.17 and, for its xl, this machine's `echo` with its loader and library."""
    version = tmp_path / "version"
    version.mkdir()
    (version / "major").write_text("4\n")
    (version / "minor").write_text("17\n")
    monkeypatch.setattr(hostfiles, "VERSION", version)
    folder = tmp_path / "host/usr/lib/xen-4.17/bin"
    folder.mkdir(parents=True)
    shutil.copy("/bin/echo", folder / "xl")
    linked = subprocess.run(["ldd", "/bin/echo"], capture_output=True, text=True, check=True).stdout.split()
    for library in (Path(word) for word in linked if word.startswith("/")):
        target = tmp_path / "host/usr/lib" / library.resolve().parent.name
        target.mkdir(exist_ok=True)
        shutil.copy(library.resolve(), target / library.name)
    return tmp_path / "host"


def test_in_dom0_itself_a_program_is_called_by_its_name() -> None:
    assert HostFiles().command("xl") == ["xl"]


def test_in_a_container_the_hosts_program_runs_with_the_hosts_libraries(root: Path) -> None:
    command = HostFiles(root).command("xl")
    assert all(str(root) in word for word in command if word != "--library-path")
    assert Commands(HostFiles(root)).run("xl", "list") == "list\n"


def test_a_wrapper_script_is_passed_over(root: Path) -> None:
    program = root / "usr/lib/xen-4.17/bin/xl"
    (root / "usr/sbin").mkdir()
    shutil.move(program, root / "usr/sbin/xl")
    program.write_text("#!/bin/sh\nexec no-such-shell-here\n")
    assert Commands(HostFiles(root)).run("xl", "list") == "list\n"


@pytest.mark.parametrize("name", ["xl", "xenstore-read"])
def test_a_program_that_is_not_there_is_a_host_that_does_not_answer(root: Path, name: str) -> None:
    shutil.rmtree(root / "usr/lib/xen-4.17")
    with pytest.raises(Unreachable, match=f"no program {name}"):
        Commands(HostFiles(root)).run(name)


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
