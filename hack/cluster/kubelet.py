"""A real node of a cluster on this machine: containerd and a kubelet, in namespaces of their own.

Made by `Cluster.add_kubelet`. Its mounts, links, processes and containers are in the namespaces that one process holds
(namespaces.sh) and end with it, however it ends; nothing of the machine's own is changed. What stays is a folder of the
cluster's state and the node's cgroups, which `stop` removes. Its pods reach the API server and nothing else.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from hack import needs
from hack.cluster import nodeconfig
from hack.cluster.process import ComponentFailed, Process
from hack.tools.build import binary

WAYS = Path(__file__).with_name("ways.py")
NAMESPACES = ("--mount", "--net", "--pid")
FORBIDDEN = (errno.EPERM, errno.EACCES, errno.EROFS)
READY_TIMEOUT = 60.0  # seconds, for one process on a busy machine
# In the order in which they are started: who holds the namespaces, the way to the API server, the node's own.
PARTS = ("namespaces", "to-api", "containerd", "kubelet")


@functools.cache
def lacking() -> str:
    """Which right this machine keeps from us that such a node needs, in words; '' if none. What is no matter of rights raises."""
    if os.geteuid() != 0:
        return "a kubelet needs root"
    tried = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "mount", "-t", "tmpfs", "tmpfs", "/run"]
    done = subprocess.run(tried, capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip()
        if not any(os.strerror(number) in said for number in FORBIDDEN):
            raise ComponentFailed(f"no namespaces can be made: {said}")
        return f"no namespaces can be made here: {said}"
    probe = f"kubexen-probe-{os.getpid()}"
    try:
        _make_cgroups(probe)
        _remove_cgroups(probe)
    except OSError as error:
        if error.errno not in FORBIDDEN:
            raise
        return f"no cgroup can be made here: {error}"
    return ""


class Kubelet:
    """The node of this name of the cluster in a state folder; a node that is there is found again."""

    def __init__(self, state: Path, name: str, cache: Path | None = None) -> None:
        self.name = name
        self.folder = state / "nodes" / name
        self._cache = cache
        self._cgroup = f"kubexen-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]}"
        self._processes = {part: Process(part, self.folder) for part in PARTS}

    # Life

    @property
    def address(self) -> str:
        """The node's own address, which it alone knows the way to."""
        return f"{self._subnet}.1"

    @property
    def _subnet(self) -> str:
        return f"10.244.{int(hashlib.sha256(self.name.encode()).hexdigest()[:2], 16)}"

    def start(self, files: dict[str, str], api_server: str, *, lease_seconds: int) -> None:
        """Start what does not run. `files`: kubeconfig and certificates; `api_server`: HOST:PORT, as seen from here.

        The kubelet runs when this returns; the Node is Ready later.
        """
        needs.ensure(needs.NODE)
        for part in ("", "log", "log/pods", "containerd", "kubelet", "cni"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self._write(files, lease_seconds)
        _make_cgroups(self._cgroup)
        (self.folder / "ready").unlink(missing_ok=True)
        held = self._processes["namespaces"]
        held.start([
            "unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", "--propagation=private",
            "sh", str(Path(__file__).with_name("namespaces.sh")), str(self.folder), f"{self.address}/24", nodeconfig.SERVICE,
        ])
        held.wait_ready((self.folder / "ready").exists, READY_TIMEOUT)
        first = str(self._first)
        self._processes["to-api"].start([sys.executable, str(WAYS), "to-api", first, f"{nodeconfig.SERVICE}:443", api_server])
        for part in ("containerd", "kubelet"):
            self.start_part(part)

    def stop(self) -> None:
        """End all of it, whatever state it is in, and remove what it left."""
        for part in reversed(PARTS):
            self._processes[part].stop(kill=True)
        _remove_cgroups(self._cgroup)
        shutil.rmtree(self.folder, ignore_errors=True)

    # Its parts, for tests of faults

    def start_part(self, part: str) -> None:
        """Start containerd or the kubelet."""
        command = {"containerd": self._containerd, "kubelet": self._kubelet}[part]()
        # nsenter stands between: a SIGTERM is for the process that it started, and it ends with that one.
        process = self._processes[part]
        path = f"{binary('containerd', self._cache).parent}:{needs.SYSTEM_PATH}"  # with the shim and runc
        process.start(["env", "--ignore-signal=TERM", *self._enter(), *command], {"PATH": path})
        process.wait_ready(lambda: self._answers(part), READY_TIMEOUT)

    def stop_part(self, part: str, *, kill: bool = False) -> None:
        """End containerd or the kubelet; containers run on."""
        self._processes[part].stop(20, kill=kill)

    def pid(self, part: str) -> int | None:
        return self._processes[part].pid

    def log_tail(self, part: str, lines: int = 15) -> str:
        return self._processes[part].log_tail(lines)

    def wait_log(self, part: str, text: str, timeout: float = 30) -> None:
        """Wait until a part's log has this text."""
        process = self._processes[part]
        process.wait_ready(lambda: text in process.log.read_text(errors="replace"), timeout)

    # Its use

    def run(self, *command: str, timeout: float = 300) -> str:
        """Run a command on the node, as root; its output. Raises RuntimeError with what it complained about."""
        done = subprocess.run([*self._enter(), *command], capture_output=True, text=True, timeout=timeout)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {(done.stderr or done.stdout).strip()[-2000:]}")
        return done.stdout

    def load_image(self, archive: Path) -> None:
        """Put the image of an archive (OCI's or Docker's) into the node, under the name that it has there."""
        self.run(str(binary("ctr", self._cache)), "--namespace=k8s.io", "images", "import", "--local", str(archive))

    # Within

    @property
    def way(self) -> str:
        """How the API server reaches the kubelet: see ways.py."""
        return f"within {self._first}"

    @property
    def _first(self) -> int:
        """The pid of the namespaces' first process, as this machine numbers it."""
        pid = self._processes["namespaces"].pid
        if pid is None:
            raise ComponentFailed(f"node {self.name} does not run")
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())

    def _enter(self) -> list[str]:
        return ["nsenter", f"--target={self._first}", *NAMESPACES]

    def _containerd(self) -> list[str]:
        return [str(binary("containerd", self._cache)), f"--config={self.folder / 'containerd.toml'}"]

    def _kubelet(self) -> list[str]:
        return [
            str(binary("kubelet", self._cache)),
            f"--config={self.folder / 'kubelet.yaml'}",
            f"--kubeconfig={self.folder / 'kubeconfig'}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
        ]

    def _answers(self, part: str) -> bool:
        command = {
            "containerd": [str(binary("ctr", self._cache)), "version"],
            "kubelet": [sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', 10248))"],
        }[part]
        return subprocess.run([*self._enter(), *command], capture_output=True).returncode == 0

    def _write(self, files: dict[str, str], lease_seconds: int) -> None:
        for name, text in files.items():
            _write_private(self.folder / name, text)
        containerd = nodeconfig.containerd(
            str(self.folder / "containerd"), str(self.folder / "cni"), systemd_cgroups=False, restrict_oom_score=True
        )
        (self.folder / "containerd.toml").write_text(containerd)
        network = nodeconfig.cni(f"{self._subnet}.0/24", "/run/cni-addresses")
        (self.folder / "cni" / "10-pods.conflist").write_text(network)
        kubelet = nodeconfig.kubelet(
            self.folder, cgroup_root=f"/{self._cgroup}", systemd_cgroups=False, pod_logs="/var/log/pods",
            lease_seconds=lease_seconds,
        )
        (self.folder / "kubelet.yaml").write_text(kubelet)


def nodes(state: Path, cache: Path | None = None) -> list[Kubelet]:
    """The real nodes of the cluster in a state folder."""
    folder = state / "nodes"
    return [Kubelet(state, path.name, cache) for path in sorted(folder.iterdir())] if folder.is_dir() else []


def _cgroup_trees() -> list[Path]:
    """The hierarchies of cgroups: one of version 2, each of version 1, or, as systemd likes to have it, both kinds."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return sorted({Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")})


def _make_cgroups(name: str) -> None:
    for tree in _cgroup_trees():
        available = tree / "cgroup.controllers"
        if available.exists():  # version 2: a cgroup has the controllers that the one above it hands down
            for controller in available.read_text().split():
                (tree / "cgroup.subtree_control").write_text(f"+{controller}")
        (tree / name).mkdir(exist_ok=True)


def _remove_cgroups(name: str) -> None:
    """Remove them with all below; that their processes are dead shows a moment later."""
    deadline = time.monotonic() + 10
    for tree in _cgroup_trees():
        for folder in sorted((tree / name).glob("**/"), reverse=True):
            while True:
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    pass
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
                    continue
                break


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
