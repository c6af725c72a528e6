"""Gathers what the image runs into a folder: `python3 gather.py FOLDER`, in the first stage of the Dockerfile.

Python with its library, the packages of /opt/kubexen, libvirt's bindings, the anchor's program, and every shared library
that one of them links to. It uses nothing that a Debian base with Python does not have.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGES = Path("/opt/kubexen")
BINDINGS = ("libvirt.py", f"libvirtmod.cpython-3{sys.version_info.minor}-x86_64-linux-gnu.so")
# `sleep` under a name that tells in a list of processes what it is; and what the agent runs the host's programs by.
PROGRAMS = {"/usr/bin/sleep": "usr/bin/kubexen-anchor", "/usr/sbin/chroot": "usr/bin/chroot"}
SCRIPTS = {"kubexen-controller": "kubexen.controller.main", "kubexen-agent": "kubexen.agent.main"}
# Of Python's own library: tests, tools for people, and what installs packages.
UNUSED = ("test", "idlelib", "turtledemo", "tkinter", "ensurepip", "lib2to3", "pydoc_data", "config-*", "site-packages",
          "dist-packages", "turtle.py", "sitecustomize.py")
# kubernetes brings a typed class for each kind and call, 70 MB of them; Kubexen uses neither, and they load one by one.
TYPED = ("kubernetes/client/api", "kubernetes/client/models", "kubernetes/aio/client/api", "kubernetes/aio/client/models")
LINKED = re.compile(r"(?:=> )?(/\S+) \(0x")


def main(folder: Path) -> None:
    for name in ("bin", "lib", "lib64"):
        (folder / "usr" / name).mkdir(parents=True)
        (folder / name).symlink_to(f"usr/{name}")
    (folder / "tmp").mkdir(mode=0o1777)
    (folder / "tmp").chmod(0o1777)
    (folder / "var").mkdir()
    (folder / "var/run").symlink_to("/run")
    (folder / "etc").mkdir()
    shutil.copytree("/etc/ld.so.conf.d", folder / "etc/ld.so.conf.d")
    shutil.copy("/etc/ld.so.conf", folder / "etc/ld.so.conf")

    library = Path(sysconfig.get_path("stdlib"))
    _copy_tree(library, folder / library.relative_to("/"), UNUSED)
    _copy_tree(PACKAGES, folder / PACKAGES.relative_to("/"), ("tests", "test", "bin"))
    _thin(folder / PACKAGES.relative_to("/"))
    for name in BINDINGS:
        shutil.copy(f"/usr/lib/python3/dist-packages/{name}", folder / PACKAGES.relative_to("/"))
    python = Path(sys.executable).resolve()
    _copy(python, folder / python.relative_to("/"))
    (folder / "usr/bin/python3").symlink_to(python)
    for source, target in PROGRAMS.items():
        _copy(Path(source), folder / target)
    for name, module in SCRIPTS.items():
        script = folder / "usr/bin" / name
        script.write_text(f"#!/usr/bin/python3\nfrom {module} import main\n\nmain()\n")
        script.chmod(0o755)
    for linked in sorted(_closure(_binaries(folder))):
        _copy(linked, folder / linked.relative_to("/"))
    subprocess.run(["ldconfig", "-r", folder], check=True)
    # Compiled here, since a container's files are read-only; the files' times are not looked at again.
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(folder, quiet=1, stripdir=str(folder), workers=0, maxlevels=20, invalidation_mode=unchecked)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(source, target)


def _copy_tree(source: Path, target: Path, unused: Iterable[str]) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", *unused), symlinks=False)


def _thin(packages: Path) -> None:
    """Keep of kubernetes' typed classes what an import of Kubexen's own loads."""
    used = "import kubernetes.aio.config, kubernetes.aio.client.api_client, sys; print(*sys.modules, sep='\\n')"
    environment = os.environ | {"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    loaded = subprocess.run([sys.executable, "-c", used], env=environment, capture_output=True, text=True, check=True)
    modules = set(loaded.stdout.split())
    for part in TYPED:
        for file in (packages / part).glob("*.py"):
            if file.stem != "__init__" and f"{part.replace('/', '.')}.{file.stem}" not in modules:
                file.unlink()


def _binaries(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def _closure(binaries: Iterable[Path]) -> set[Path]:
    """The shared libraries that they link to, the loader among them, by the names that are looked for."""
    found = set()
    for binary in binaries:
        listed = subprocess.run(["ldd", binary], capture_output=True, text=True)
        for name in LINKED.findall(listed.stdout):
            path = Path(name)
            if not path.is_relative_to(PACKAGES):
                found.add(path.parent.resolve() / path.name)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
