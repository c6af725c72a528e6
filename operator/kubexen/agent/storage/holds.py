"""Files of the host that are kept open, so that nobody can unmount what they are on. agent/claims.py says which.

Under systemd a small service of the host's keeps them open: it outlives the agent, the agent's pod and its container, which
may all go together with the mounts that are to be held (a deleted Node takes every pod along). Without systemd it is this process.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from kubexen.hypervisor.hostpath import in_host

logger = logging.getLogger(__name__)

UNIT = "kubexen-hold"
SECONDS = 30.0
# Descriptors 3 to 9 are all that a shell can name.
KEEP_OPEN = 'i=3; for file; do eval "exec $i<\\$file"; i=$((i+1)); done; exec sleep infinity'
MOST_FILES = 7


class Holds(Protocol):
    def hold(self, name: str, paths: Sequence[str]) -> None:
        """Keep these files of the host open under this name, instead of what was. Again: nothing. Errors: OSError."""

    def drop(self, name: str) -> None:
        """Let go of them. Again: nothing. Errors: OSError."""


def holds(root: Path, local: Callable[[str], Path]) -> Holds:
    """As the host allows. `local`: where this process sees a path of the host."""
    return ServiceHolds(root) if (root / "run/systemd/system").is_dir() else OwnHolds(local)


class OwnHolds:
    def __init__(self, local: Callable[[str], Path]) -> None:
        self._local = local
        self._open: dict[str, tuple[tuple[str, ...], list[int]]] = {}

    def hold(self, name: str, paths: Sequence[str]) -> None:
        if self._open.get(name, ((), []))[0] == tuple(paths):
            return
        descriptors: list[int] = []
        try:
            for path in paths:
                descriptors.append(os.open(self._local(path), os.O_PATH | os.O_CLOEXEC))
        except OSError:
            _close(descriptors)
            raise  # what was held stays so
        self.drop(name)
        self._open[name] = (tuple(paths), descriptors)

    def drop(self, name: str) -> None:
        _close(self._open.pop(name, ((), []))[1])


class ServiceHolds:
    """One transient service a name and set of files."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, str] = {}  # by name: the unit that this process has seen running

    def hold(self, name: str, paths: Sequence[str]) -> None:
        digest = hashlib.sha256("\0".join(paths).encode()).hexdigest()[:8]
        unit = f"{UNIT}-{name}-{digest}.service"
        if self._known.get(name) == unit:
            return
        running = self._units(name)
        if unit not in running:
            self._run(
                "systemd-run", "--quiet", "--collect", f"--unit={unit}", "--service-type=exec", "--property=SendSIGHUP=yes",
                f"--description=Keeps a claim of a Xen domain mounted ({name})", "/bin/sh", "-c", KEEP_OPEN, "hold",
                *paths[:MOST_FILES],
            )  # fmt: skip
        self._stop(running - {unit})
        self._known[name] = unit

    def drop(self, name: str) -> None:
        self._known.pop(name, None)
        self._stop(self._units(name))

    def _units(self, name: str) -> set[str]:
        listed = self._run("systemctl", "list-units", "--plain", "--no-legend", f"{UNIT}-{name}-*")
        return {line.split()[0] for line in listed.splitlines() if line.strip()}

    def _stop(self, units: set[str]) -> None:
        if units:
            self._run("systemctl", "stop", *sorted(units))

    def _run(self, *command: str) -> str:
        try:
            done = subprocess.run(in_host(self._root, *command), capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise OSError(110, f"{command[0]} does not answer") from None
        if done.returncode:
            raise OSError(5, f"{command[0]}: {done.stderr.strip() or done.returncode}")
        return done.stdout


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
