"""One process of the control plane: started in a session of its own, found again by its pid file, and ended.

Called by cluster.py, in the process that started the component or in any later one. It does not know what it runs.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL_S = 0.05


class ComponentFailed(RuntimeError):
    """A component ended, or did not get ready in time; the message holds the end of its log."""


class Process:
    def __init__(self, name: str, state: Path) -> None:
        self.name = name
        self.log = state / "logs" / f"{name}.log"
        self._pid_file = state / "run" / f"{name}.pid"
        self._child: subprocess.Popen[bytes] | None = None  # only where this process is the parent

    @property
    def pid(self) -> int | None:
        """The pid while the process runs, else None."""
        try:
            pid, started = self._pid_file.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        # The start time tells the process from a later one that was given the same pid.
        return int(pid) if _start_time(int(pid)) == started else None

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start it if it does not run. It outlives the caller."""
        if self.pid:
            return
        for file in (self.log, self._pid_file):
            file.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | (environment or {}),
                start_new_session=True,
            )
        self._pid_file.write_text(f"{self._child.pid} {_start_time(self._child.pid)}")

    def signal(self, number: signal.Signals) -> None:
        if pid := self.pid:
            os.killpg(pid, number)  # the leader of its session, thus of its group

    def wait_ended(self, timeout: float) -> bool:
        """Wait for its end; whether it has ended."""
        if (pid := self.pid) and not _ended(pid, timeout):
            return False
        if self._child:
            self._child.wait()  # else it stays a zombie
            self._child = None
        self._pid_file.unlink(missing_ok=True)
        return True

    def stop(self, timeout: float = 5, *, kill: bool = False) -> None:
        """End it: SIGTERM, and SIGKILL if that was asked for or SIGTERM does not end it in time."""
        if not kill:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)  # it may have been paused
            if self.wait_ended(timeout):
                return
        self.signal(signal.SIGKILL)
        if not self.wait_ended(10):
            raise ComponentFailed(f"{self.name} (pid {self.pid}) does not end")

    def wait_ready(self, ready: Callable[[], bool], timeout: float) -> None:
        """Return once `ready` is true; raise ComponentFailed when the process ends before, or the time is over."""
        deadline = time.monotonic() + timeout
        while not ready():
            if (pid := self.pid) is None or _ended(pid, POLL_S):
                raise ComponentFailed(f"{self.name} ended at its start. {self.log_tail()}")
            if time.monotonic() > deadline:
                raise ComponentFailed(f"{self.name} was not ready within {timeout:.0f} s. {self.log_tail()}")

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of the log, with its path, for a message."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"The end of {self.log}:\n" + "\n".join(f"    {line[:400]}" for line in text.splitlines()[-lines:])


def _start_time(pid: int) -> str | None:
    """When the process started, in clock ticks after the boot; None if there is none, or it only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def _ended(pid: int, timeout: float) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout)[0])
    finally:
        os.close(descriptor)
