"""Hosts as they were when they had booted, kept in the cache: a lab of the same shape goes on from there, in seconds, where the
boot of an emulated host takes minutes.

All hosts are stopped, saved and go on together: what they have said to each other by then fits. Used by lab.py for a new lab.
What is kept is of one build, one QEMU and one boot of this machine, for Xen has measured the speed of its clock.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hack.progress import step
from hack.xenlab.build import HERE, cache_dir, fingerprint
from hack.xenlab.host import HostError, XenHost
from hack.xenlab.monitor import MonitorError

PREFIX = "xenlab-booted-"


class Booted:
    """Of hosts that have never been powered on, or have just booted."""

    def __init__(self, hosts: Sequence[XenHost]) -> None:
        self._hosts = hosts
        one = hosts[0]
        qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        sources = (HERE / "host.py", HERE / "monitor.py", HERE / "booted.py")
        self._basis = f"{PREFIX}{fingerprint(str(one.image.path), *one.platform, qemu, boot, *sources)}-"
        self._folder = cache_dir() / f"{self._basis}{len(hosts)}x{one.memory}-{one.cpus}"

    @property
    def kept(self) -> bool:
        return self._folder.is_dir()

    def resume(self) -> None:
        """Power on every host as it was kept. One that does not go on from there boots, as if nothing had been kept.

        Errors: HostError, with every host off and without a disk, and nothing kept any more.
        """
        try:
            with step(f"resume {len(self._hosts)} hosts"):
                for host in self._hosts:
                    host.folder.mkdir(parents=True, exist_ok=True)
                    shutil.copy(_disk(self._folder, host), host.disk)
                    host.start(_memory(self._folder, host))
                self._each(lambda host: host.monitor.wait_loaded())
                self._each(lambda host: host.monitor.go_on())
        except (HostError, MonitorError, OSError) as error:
            for host in self._hosts:
                host.stop()
                host.disk.unlink(missing_ok=True)
            shutil.rmtree(self._folder, ignore_errors=True)
            raise HostError(f"the hosts did not go on from {self._folder}: {error}") from error

    def keep(self) -> None:
        """Keep the hosts as they are now, unless another process keeps some. They stand still for some seconds, and go on.

        Errors: MonitorError, OSError, and nothing is kept.
        """
        with open(cache_dir() / "xenlab-booted.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            work = self._folder.with_suffix(".part")
            for old in cache_dir().glob(f"{PREFIX}*/"):
                if old == work or not old.name.startswith(self._basis):
                    shutil.rmtree(old)
            work.mkdir()
            with step(f"keep {len(self._hosts)} booted hosts"):
                self._each(lambda host: host.monitor.stop())
                try:
                    self._each(lambda host: host.monitor.save(_memory(work, host)))
                    for host in self._hosts:
                        shutil.copy(host.disk, _disk(work, host))
                finally:
                    self._each(lambda host: host.monitor.go_on())
            work.rename(self._folder)

    def _each(self, do: Callable[[XenHost], None]) -> None:
        with ThreadPoolExecutor(len(self._hosts)) as pool:
            list(pool.map(do, self._hosts))


def _memory(folder: Path, host: XenHost) -> Path:
    return folder / f"{host.name}.memory"


def _disk(folder: Path, host: XenHost) -> Path:
    return folder / f"{host.name}.qcow2"
