"""Builds the image by buildah and writes it as an archive that nodes load: `python -m hack.image [--tag TAG] [--output FILE]`.

Called by hack/stack and tests through `archive()`. The base is a Debian made by debootstrap, wheels are made outside the
build, and every stage is kept in the cache, so that a change of Kubexen alone takes seconds. Needs root.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack import needs
from hack.progress import step
from hack.tools.golang import cache_folder
from hack.xenlab.build import DOM0_PYTHON, SUITE, debian

ROOT = Path(__file__).parents[2]
NAME = "localhost/kubexen"
BASE = f"localhost/kubexen-base:{SUITE}"
# What the Dockerfile copies.
SOURCES = ("Dockerfile", "hack/image/gather.py", "requirements/image.txt", "operator/kubexen")
BASE_DOCKERFILE = """\
FROM scratch
ADD base.tar /
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends python3 python3-pip >/dev/null
"""
KEPT = 8  # archives in the cache
STORE_MOST_MIB = 4096  # buildah's store, which every build adds a layer to; above that it begins anew


class BuildFailed(RuntimeError):
    """A step of the build failed; the message ends with its output."""


def archive(tag: str = "dev", source: Path = ROOT) -> Path:
    """The image of this source as an archive with its name and tag in it; built now if it is not there yet."""
    folder = cache_folder() / "image"
    target = folder / f"kubexen-{tag}-{_fingerprint(source)}.tar"
    if target.exists():
        return target
    if os.geteuid() != 0:
        raise needs.MissingTools("building the image without Docker needs root (debootstrap, buildah)")
    needs.ensure(needs.IMAGE)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_builder(folder):
        if not target.exists():  # another process may have built it while this one waited
            with step(f"build the image {NAME}:{tag}"):
                _build(folder, tag, source)
                _export(folder, f"{NAME}:{tag}", target)
                if int(_run(["du", "-sm", str(folder / "store")]).split()[0]) > STORE_MOST_MIB:
                    _buildah(folder, "rmi", "--all", "--force")
    return target


def copy_source(target: Path, source: Path = ROOT) -> None:
    """Copy all that the image is made of to a folder that has none of it."""
    for name in SOURCES:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source / name, target / name)


def _export(folder: Path, name: str, target: Path) -> None:
    partial = target.with_suffix(".part")
    partial.unlink(missing_ok=True)
    # Docker's format, which is not compressed: to unpack it would take a node with an emulated CPU a minute.
    _buildah(folder, "push", "--quiet", name, f"docker-archive:{partial}:{name}")
    partial.rename(target)
    for old in sorted(folder.glob("*.tar"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
        old.unlink()


def _build(folder: Path, tag: str, source: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="kubexen-image-") as made:
        context = Path(made)
        copy_source(context, source)
        shutil.copytree(_wheels(folder, source / "requirements/image.txt"), context / "wheels")
        _base(folder)
        _buildah(folder, "build", "--layers", f"--build-arg=BASE={BASE}", "--build-arg=PIP_NO_INDEX=1", f"--tag={NAME}:{tag}",
                 str(context))


def _base(folder: Path) -> None:
    """What stands for a registry's python image: a small Debian with Python and pip."""
    if _buildah(folder, "images", "--noheading", "--filter", f"reference={BASE}"):
        return
    with step("make the image's base"), tempfile.TemporaryDirectory(prefix="kubexen-base-") as context:
        (Path(context) / "Dockerfile").write_text(BASE_DOCKERFILE)
        subprocess.run(["tar", "-C", str(debian()), "-cf", f"{context}/base.tar", "."], check=True)
        _buildah(folder, "build", f"--tag={BASE}", context)


def _wheels(folder: Path, pinned: Path) -> Path:
    """A folder with the wheels of the packages that the image has."""
    target = folder / f"wheels-{hashlib.sha256(pinned.read_bytes()).hexdigest()[:8]}"
    if not target.is_dir():
        partial = Path(tempfile.mkdtemp(prefix=".wheels-", dir=folder))
        _run([
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps",
            f"--dest={partial}", f"--python-version={DOM0_PYTHON}", "--implementation=cp", "--only-binary=:all:",
            "--platform=manylinux2014_x86_64", "--platform=manylinux_2_28_x86_64", "-r", str(pinned),
        ])
        partial.chmod(0o755)
        partial.rename(target)
    return target


def _buildah(folder: Path, *arguments: str) -> str:
    """Run buildah with a store of its own. chroot: containers' namespaces are not to be had everywhere."""
    store = [f"--root={folder / 'store'}", f"--runroot={folder / 'run'}", "--storage-driver=overlay"]
    return _run(["buildah", *store, *arguments], {"BUILDAH_ISOLATION": "chroot"})


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=os.environ | (environment or {}), capture_output=True, text=True)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise BuildFailed(f"{' '.join(command)[:200]}: exit code {done.returncode}\n{tail}")
    return done.stdout


def _fingerprint(source: Path) -> str:
    digest = hashlib.sha256()
    for name in SOURCES:
        path = source / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(f"{file.relative_to(source)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:8]


@contextmanager
def _only_builder(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
