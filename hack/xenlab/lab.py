"""A lab: N Xen hosts under QEMU on one wire, with all its state in one folder.

Used by the tests' fixtures, by hack/stack and by the command line. Several labs can run at once: ports are chosen free
and recorded. It builds the image if that is missing. What happens inside a host is XenHost's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from hack import needs
from hack.guard import Guard
from hack.progress import step
from hack.xenlab.booted import Booted
from hack.xenlab.build import Image, build
from hack.xenlab.host import HostError, XenHost

SHARED_DISK = 1 << 30  # bytes; every host's /dev/vdb
COMPLAINTS = "journalctl -u kubelet -o cat --no-pager -n 1000 | grep '^[EW]' | tail -n 20"


@dataclass
class LabState:
    """What is kept in lab.json."""

    nodes: int
    memory: str  # of one host, as QEMU's -m
    extra_disk: str  # the begin of one more disk of every host, or ''
    cpus: int
    image: str
    run: str  # a folder with a short path, for sockets (their paths may have 108 bytes at most)
    wire_port: int = 0
    wire_pid: int = 0


class Lab:
    """N hosts: `with Lab(folder, nodes=2) as lab:`, or start(), wait() and stop()."""

    def __init__(
        self, state: Path | str, nodes: int = 2, memory: str | None = None, cpus: int | None = None, *,
        extra_disk: Path | None = None,
    ) -> None:
        """The lab of this state folder; one that is there keeps the number and size of its hosts.

        `extra_disk`: a file from which every host's own disk /dev/vdc begins.
        """
        self.folder = Path(state).absolute()
        self._guard = Guard("hack.xenlab", self.folder)
        self._file = self.folder / "lab.json"
        self._to_keep: Booted | None = None
        if self._file.exists():
            self.state = LabState(**json.loads(self._file.read_text()))
        else:
            self.state = LabState(
                nodes=nodes,
                memory=memory or os.environ.get("XENLAB_MEM", "3584M"),
                extra_disk=str(extra_disk or ""),
                cpus=cpus or int(os.environ.get("XENLAB_CPUS", "1")),
                image="",
                run="",
            )

    def __enter__(self) -> Lab:
        try:
            self.start(survive=False)
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def exists(self) -> bool:
        """Whether the lab was started and not stopped since."""
        return self._file.exists()

    @property
    def hosts(self) -> list[XenHost]:
        """xen1, xen2, ... Host 1 has the share."""
        return [self.host(n) for n in range(1, self.state.nodes + 1)]

    def host(self, which: int | str) -> XenHost:
        """A host by number or by name."""
        n = int(str(which).removeprefix("xen"))
        if not 1 <= n <= self.state.nodes:
            raise ValueError(f"this lab has hosts 1 to {self.state.nodes}, not {which}")
        state = self.state
        return XenHost(
            number=n,
            hosts=state.nodes,
            folder=self.folder / f"xen{n}",
            run=Path(state.run),
            image=Image(Path(state.image)),
            shared_disk=self.folder / "shared.img",
            wire_port=state.wire_port,
            memory=state.memory,
            extra_disk=state.extra_disk,
            cpus=state.cpus,
        )

    def start(self, *, survive: bool = True) -> None:
        """Power on every host that is off. Building the image comes first, where it is missing. The hosts of a new lab go on from
        what an earlier one of the same shape had booted, if that is kept.

        Without `survive` the lab is stopped when this process ends, however it ends.
        """
        needs.ensure(needs.LAB)
        new = not self._file.exists()
        if new:
            self.state.image = str(build().path)
            self.state.run = tempfile.mkdtemp(prefix="xenlab-", dir="/tmp")
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / "shared.img", "wb") as disk:
                disk.truncate(SHARED_DISK)
        if not _runs(self.state.wire_pid, "wire.py"):
            self._start_wire()
        self._file.write_text(json.dumps(asdict(self.state), indent=1))
        if not survive:
            self._guard.start()
        if new and self.hosts[0].emulated:
            self._resume()
        for host in self.hosts:
            host.start()

    def _resume(self) -> None:
        booted = Booted(self.hosts)
        if booted.kept:
            try:
                booted.resume()
                return
            except HostError as error:
                print(f"hack: {error}", file=sys.stderr, flush=True)
        self._to_keep = booted

    def wait(self, timeout: float = 600) -> None:
        """Wait until every host is ready, the share included."""
        with step(f"wait for {self.state.nodes} hosts"), ThreadPoolExecutor(self.state.nodes) as pool:
            list(pool.map(lambda host: host.wait(timeout), self.hosts))
        if self._to_keep is not None:
            self._to_keep.keep()
            self._to_keep = None

    def last_words(self) -> list[tuple[str, str]]:
        """For a person who looks for the cause of a failure: (title, text) of the last lines of every host's and guest's console,
        of the agents, and what kubelets complain of."""
        found = []
        for host in self.hosts if self.exists else []:
            found.append((f"console of {host.name}", host.console_tail(15)))
            if not host.alive:
                continue
            try:
                found += [(f"console of {guest} on {host.name}", host.guest_console_tail(guest)) for guest in host.guest_consoles()]
                found.append((f"agent on {host.name}", host.agent_log(40)))
                found.append((f"what the kubelet of {host.name} complains of", host.ssh(COMPLAINTS, check=False).stdout))
            except (HostError, subprocess.TimeoutExpired) as error:
                found.append((f"{host.name} does not answer", str(error)))
        return found

    def stop(self) -> None:
        """Power off every host and forget its disks; the console logs stay. Calling it again is fine."""
        self._guard.stop()
        if not self._file.exists():
            return
        for host in self.hosts:
            host.stop()
            host.disk.unlink(missing_ok=True)
            host.own_extra_disk.unlink(missing_ok=True)
        if _runs(self.state.wire_pid, "wire.py"):
            os.kill(self.state.wire_pid, signal.SIGKILL)
        shutil.rmtree(self.state.run, ignore_errors=True)
        (self.folder / "shared.img").unlink(missing_ok=True)
        self._file.unlink()

    def _start_wire(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.state.wire_port = listener.getsockname()[1]
        with open(self.folder / "wire.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("wire.py")), str(listener.fileno())],
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.state.wire_pid = process.pid
        listener.close()


def _runs(pid: int, word: str) -> bool:
    """Whether the process is there, is no zombie, and is the one meant."""
    try:
        return bool(pid) and word in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
