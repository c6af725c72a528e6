"""QEMU's monitor of one host: stand still, be written to a file, go on."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

LOADING = ("inmigrate", "prelaunch")
SAVING = ("none", "setup", "active", "device")
BANDWIDTH = 1 << 40  # bytes a second: no limit
PATIENCE = 300.0  # seconds for some GiB


class MonitorError(RuntimeError):
    """QEMU is not there, or has refused or failed to do something; the message says what."""


class Monitor:
    """By the socket of QEMU's QMP. Errors of every method: MonitorError."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def stop(self) -> None:
        """The host stands still: its CPUs, clocks and disks."""
        with self._connected() as qemu:
            qemu.cmd("stop")

    def go_on(self) -> None:
        with self._connected() as qemu:
            qemu.cmd("cont")

    def save(self, file: Path) -> None:
        """Write what a host that stands still has in memory and in its devices to a file, for QEMU's -incoming."""
        with self._connected() as qemu:
            qemu.cmd("migrate-set-parameters", **{"max-bandwidth": BANDWIDTH})
            qemu.cmd("migrate", uri=f"exec:cat >{shlex.quote(str(file))}")
            state = _while(SAVING, qemu, "query-migrate")
        if state != "completed":
            raise MonitorError(f"the host's memory was not written to {file}: {state}")

    def wait_loaded(self) -> None:
        """Wait until a host that was started with such a file stands as that one stood."""
        with self._connected() as qemu:
            _while(LOADING, qemu, "query-status")

    @contextmanager
    def _connected(self) -> Iterator[QEMUMonitorProtocol]:
        try:
            with QEMUMonitorProtocol(str(self.socket)) as qemu:
                qemu.settimeout(PATIENCE)
                qemu.connect()
                yield qemu
        except (QMPError, OSError, TimeoutError) as error:
            raise MonitorError(f"QEMU's monitor {self.socket}: {error or type(error).__name__}") from error


def _while(states: tuple[str, ...], qemu: QEMUMonitorProtocol, query: str) -> str:
    """The first state that is none of these."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found: Any = qemu.cmd(query)
        if (state := str(found.get("status", "none"))) not in states:
            return state
        time.sleep(0.1)
    raise MonitorError(f"QEMU is {state} after {PATIENCE:.0f} s")
