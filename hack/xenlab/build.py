"""Builds what a Xen host boots: dom0's disk image, its boot files, and the guests' kernel and initramfs.

Called by the lab and by `python -m hack.xenlab build`. Every stage has a folder of its own in the cache, named after a
hash of what goes into it, and gets its name only when it is whole, so a stage is made once and a broken one made again.
Needs root (debootstrap, chroot). It starts no host.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hack import needs
from hack.progress import step
from hack.xenlab.kernel import unpack_kernel

HERE = Path(__file__).parent
PYPROJECT = HERE.parent.parent / "pyproject.toml"
SUITE = "bookworm"
DOM0_PYTHON = "3.11"  # what SUITE has
CONTROLLER_ONLY = {"kopf"}  # dependencies that the agent does not import
GUEST_MODULES = (  # in the order in which guest/init loads them
    "drivers/block/xen-blkfront",
    "drivers/net/xen-netfront",
    "crypto/crc32c_generic",
    "lib/crc16",
    "fs/mbcache",
    "fs/jbd2/jbd2",
    "fs/ext4/ext4",
    "drivers/cdrom/cdrom",
    "fs/isofs/isofs",
)
MASKED_UNITS = (  # they cost boot time, or (libvirt-guests) act on domains behind the agent's back
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *("e2scrub_reap.service", "fstrim.timer", "logrotate.timer", "networking.service"),
    *("libvirt-guests.service", "systemd-pstore.service"),
    *("getty@tty1.service", "nfs-blkmap.service", "rpcbind.service", "rpcbind.socket", "rpc-statd.service"),
    "systemd-timesyncd.service",
)
DEBIAN_GUEST = ("cloud-init", "ifupdown", "iproute2")  # with dependencies, without what these recommend
LOCALE = "LANG=C.UTF-8\n"  # as Debian's own images for clouds have it; else cloud-init wants one that is not there
DISABLED_UNITS = ("xendomains.service", "nfs-server.service")
ENABLED_UNITS = ("xenlab-net.service", "xenlab-share.service", "xenlab-weight.service", "kubexen-agent.service")


class BuildError(RuntimeError):
    """A stage failed; the message says which, and ends with its output."""


@dataclass(frozen=True)
class Image:
    """A finished build."""

    path: Path

    @property
    def disk(self) -> Path:
        """dom0's root file system, raw."""
        return self.path / "dom0.img"

    @property
    def xen(self) -> Path:
        return self.path / "boot/xen"

    @property
    def vmlinux(self) -> Path:
        """The kernel of dom0 and of guests, as a bare ELF: Xen's builders start that fastest."""
        return self.path / "boot/vmlinux"

    @property
    def dom0_initrd(self) -> Path:
        return self.path / "boot/initrd.img"

    @property
    def guest_initrd(self) -> Path:
        return self.path / "guest/initrd.gz"

    @property
    def key(self) -> Path:
        """The ssh key of every host of this build."""
        return self.path / "id_ed25519"


def cache_dir() -> Path:
    """KUBEXEN_CACHE, or kubexen in the user's cache folder."""
    if chosen := os.environ.get("KUBEXEN_CACHE"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "kubexen"


def agent_requirements() -> list[str]:
    """The project's dependencies that the agent in dom0 needs."""
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    return [d for d in dependencies if d.split("=")[0] not in CONTROLLER_ONLY]


def fingerprint(*parts: Path | str) -> str:
    """A short hash of texts, and of files with their names and modes."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode() + b"\0")
            continue
        for path in sorted(part.rglob("*")) if part.is_dir() else [part]:
            if path.is_file() and path.suffix != ".pyc":
                executable = bool(path.stat().st_mode & 0o100)
                digest.update(f"{path.relative_to(HERE)} {executable}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def image() -> Image:
    """Where the build of this tree is, or will be."""
    key = fingerprint(
        HERE / "dom0", HERE / "guest", HERE / "build.py", HERE / "kernel.py", *agent_requirements()
    )
    return Image(cache_dir() / f"xenlab-{key}")


def build() -> Image:
    """Build what is not built yet. Calling it again returns at once; a second caller waits for the first."""
    target = image()
    if target.path.is_dir():
        return target
    with _building(), step(f"build {target.path}"):
        _stage(target.path, "dom0 image", _build_image)
    return target


def debian_guest() -> Path:
    """The disk of a guest that is a distribution with the real cloud-init, raw: made now if it is not there yet."""
    key = fingerprint(SUITE, LOCALE, HERE / "guest/debian-init", *DEBIAN_GUEST)
    target = cache_dir() / f"xenlab-guest-{key}"
    if not target.is_dir():
        with _building():
            _stage(target, "the Debian guest", _debian_guest)
    return target / "disk.img"


@contextmanager
def _building() -> Iterator[None]:
    """One build at a time, by root (debootstrap, chroot), with what it needs at hand."""
    if os.geteuid() != 0:
        raise needs.MissingTools("building the Xen lab's images needs root (debootstrap, chroot)")
    needs.ensure(needs.LAB_BUILD)
    os.umask(0o022)
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "xenlab.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _stage(target: Path, what: str, make: Callable[[Path], None]) -> Path:
    """Make a folder under a temporary name, and give it its own name when it is whole."""
    if not target.is_dir():
        work = target.with_name(target.name + ".part")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        with step(what):
            make(work)
        work.rename(target)
    return target


def _run(*command: str | Path, log: Path) -> None:
    """Run a command with its output in a log file, whose end is shown if it fails."""
    with open(log, "ab") as output:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {"PATH": os.environ.get("PATH", "") + ":" + needs.SYSTEM_PATH},
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        words = " ".join(map(str, command))[:200]
        raise BuildError(f"{words}: exit code {done.returncode}\n{tail}\n(whole log: {log})")


def _in_root(root: Path, *command: str | Path, log: Path) -> None:
    _run("chroot", root, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", *command, log=log)


def _mirror() -> str:
    """XENLAB_MIRROR, or the Debian mirror that this machine's own apt uses."""
    if chosen := os.environ.get("XENLAB_MIRROR"):
        return chosen
    if shutil.which("apt-get"):
        command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
        listed = subprocess.run(command, capture_output=True, text=True).stdout.split()
        for uri in listed:
            if uri.endswith("/debian/"):
                return uri
    raise BuildError("no Debian mirror is known here: set XENLAB_MIRROR to the address of one")


# --- stage 1 and 2: a Debian system, and the packages of dom0 in it


def debian() -> Path:
    """The root of a small Debian system, made now if it is not there yet; nobody changes it."""
    return _stage(cache_dir() / f"xenlab-debian-{SUITE}", "debootstrap", _debian) / "rootfs"


def _debian(work: Path) -> None:
    _run("debootstrap", "--variant=minbase", SUITE, work / "rootfs", _mirror(), log=work / "log")


def _packages(work: Path) -> None:
    """apt installs the packages: debootstrap's --include cannot resolve "a | b" dependencies."""
    root, log = work / "rootfs", work / "log"
    _run("cp", "-a", "--reflink=auto", debian(), root, log=log)
    _run("cp", "-rT", HERE / "dom0/base", root, log=log)
    names = [word for line in (HERE / "dom0/packages").read_text().splitlines() for word in line.split("#")[0].split()]
    _install(root, names, log)


def _install(root: Path, names: Sequence[str], log: Path, *options: str) -> None:
    """Install packages, and start nothing."""
    no_services = root / "usr/sbin/policy-rc.d"
    no_services.write_text("#!/bin/sh\nexit 101\n")
    no_services.chmod(0o755)
    _in_root(root, "apt-get", "update", log=log)
    with step(f"install {len(names)} packages and what they depend on"):
        keep_ours = ("-o", "Dpkg::Options::=--force-confold")
        _in_root(root, "apt-get", "install", "-y", *keep_ours, *options, *names, log=log)
    _in_root(root, "apt-get", "clean", log=log)
    shutil.rmtree(root / "var/lib/apt/lists")
    no_services.unlink()


# --- stage 3: the agent's Python packages, as wheels for dom0's Python


def _agent_packages(work: Path) -> None:
    _run(
        *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"),
        *("--target", work / "lib"),
        *("--python-version", DOM0_PYTHON, "--implementation", "cp", "--only-binary=:all:"),
        *("--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_28_x86_64"),
        *agent_requirements(),
        log=work / "log",
    )


# --- the image


def _build_image(work: Path) -> None:
    cache, log = cache_dir(), work / "log"
    base_key = fingerprint(SUITE, HERE / "dom0/base", HERE / "dom0/packages")
    base = _stage(cache / f"xenlab-base-{base_key}", "dom0's packages", _packages)
    lib_key = fingerprint(DOM0_PYTHON, *agent_requirements())
    lib = _stage(cache / f"xenlab-lib-{lib_key}", "the agent's Python packages", _agent_packages)

    root = work / "rootfs"
    _run("cp", "-a", "--reflink=auto", base / "rootfs", root, log=log)
    _run("cp", "-rT", HERE / "dom0/root", root, log=log)
    _agent(root, lib / "lib", log)
    _ssh_key(root, work / "id_ed25519", log)
    _settings(root, log)

    (work / "boot").mkdir()
    kernel = max((root / "lib/modules").iterdir(), key=lambda p: [int(n) for n in p.name.split("-")[0].split(".")])
    hypervisor = next((root / "boot").glob("xen-4.*-amd64.gz"))
    with open(work / "boot/xen", "wb") as output:
        subprocess.run(["gzip", "-dc", str(hypervisor)], stdout=output, check=True)
    shutil.copy(root / f"boot/initrd.img-{kernel.name}", work / "boot/initrd.img")
    (work / "boot/vmlinux").write_bytes(unpack_kernel((root / f"boot/vmlinuz-{kernel.name}").read_bytes()))
    _guest(root, kernel, work, log)

    _disk(work / "dom0.img", root, 4 << 30, log)
    shutil.rmtree(root)


def _agent(root: Path, lib: Path, log: Path) -> None:
    """Bake in what the agent imports, compiled: compiling under an emulated CPU takes minutes."""
    home = root / "opt/kubexen"
    (home / "src").mkdir(parents=True)
    _run("cp", "-r", lib, home / "lib", log=log)
    bindings = next(root.glob("usr/lib/xen-*/lib/python"))
    (home / "xen").symlink_to("/" + str(bindings.relative_to(root)))
    for folder in ("/opt/kubexen/lib", "/usr/lib/python3/dist-packages", "/opt/kubexen/xen/"):
        _in_root(root, "python3", "-m", "compileall", "-q", "-j2", folder, log=log)


def _ssh_key(root: Path, key: Path, log: Path) -> None:
    """One key for everything: lab to dom0, and dom0 to dom0."""
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "xenlab", "-f", key, log=log)
    folder = root / "root/.ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(key, folder / "id_ed25519")
    shutil.copy(key.with_suffix(".pub"), folder / "authorized_keys")
    (folder / "config").write_text("StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n")
    for path in folder.iterdir():
        path.chmod(0o600)


def _settings(root: Path, log: Path) -> None:
    # TCG has no VME, which every libvirt CPU model asks for; without a matching model the libxl driver does not start.
    cpu_map = root / "usr/share/libvirt/cpu_map/x86_486.xml"
    cpu_map.write_text(_without("name='vme'", cpu_map))
    # A program for each interface of a pod or a domain, to apply settings that no file has.
    rules = "udev/rules.d/99-systemd.rules"
    (root / "etc" / rules).write_text(_without("systemd-sysctl", root / "lib" / rules))
    for folder in ("srv/shared", "srv/pool", "srv/images", "etc/kubexen", "var/log/journal", "var/log/xen/console"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    _in_root(root, "systemctl", "-q", "mask", *MASKED_UNITS, log=log)
    _in_root(root, "systemctl", "-q", "disable", *DISABLED_UNITS, log=log)
    _in_root(root, "systemctl", "-q", "enable", *ENABLED_UNITS, log=log)


def _without(word: str, file: Path) -> str:
    """A file's text, but the lines with this word."""
    return "".join(line for line in file.read_text().splitlines(True) if word not in line)


def _guest(root: Path, kernel: Path, work: Path, log: Path) -> None:
    """The guests' kernel (as bzImage and as bare ELF) and initramfs, beside dom0's image and in it (/srv/images)."""
    tree = root / "tmp/guest"
    for folder in ("bin", "sbin", "lib", "dev", "proc", "sys", "mnt"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", tree / "bin/busybox")
    (tree / "bin/sh").symlink_to("busybox")
    for module in GUEST_MODULES:
        shutil.copy(kernel / f"kernel/{module}.ko", tree / "lib")
    for source, target in (("init", "init"), ("poweroff", "sbin/poweroff"), ("poweroff", "sbin/reboot")):
        shutil.copy(HERE / "guest" / source, tree / target)
        (tree / target).chmod(0o755)
    pack = "cd /tmp/guest && find . | sort | cpio --quiet -o -H newc -R 0:0 | gzip -1 >/srv/images/initrd.gz"
    _in_root(root, "sh", "-c", pack, log=log)
    shutil.rmtree(tree)
    images = root / "srv/images"
    shutil.copy(root / f"boot/vmlinuz-{kernel.name}", images / "vmlinuz")
    shutil.copy(work / "boot/vmlinux", images / "vmlinux")
    shutil.copytree(images, work / "guest")


def _debian_guest(work: Path) -> None:
    root, log = work / "rootfs", work / "log"
    _run("cp", "-a", "--reflink=auto", debian(), root, log=log)
    _install(root, DEBIAN_GUEST, log, "--no-install-recommends")
    init = root / "sbin/init"
    init.unlink(missing_ok=True)  # systemd's, where something depends on it
    shutil.copy(HERE / "guest/debian-init", init)
    init.chmod(0o755)
    for name in ("poweroff", "reboot"):
        (root / "sbin" / name).unlink(missing_ok=True)
        (root / "sbin" / name).symlink_to("init")
    (root / "etc/default/locale").write_text(LOCALE)
    _disk(work / "disk.img", root, 1 << 30, log)
    shutil.rmtree(root)


def _disk(path: Path, root: Path, size: int, log: Path) -> None:
    """An image of so many bytes, sparse, with an ext4 that holds this tree."""
    with step("write the disk image"):
        with open(path, "wb") as disk:
            disk.truncate(size)
        # A journal, since hosts lose power here; e2fsck would not come into play on a root that is mounted rw at once.
        _run("mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", root, path, log=log)
