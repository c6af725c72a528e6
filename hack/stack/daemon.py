"""A process that outlives the command that started it: found again by its pid file, told from others by its start time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class Daemon:
    def __init__(self, folder: Path, name: str) -> None:
        self._pid, self.log = folder / f"{name}.pid", folder / f"{name}.log"
        self.name = name

    def start(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start it, unless it runs."""
        if self.running:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **(env or {})},
            )
        self._pid.write_text(f"{process.pid} {_started(process.pid)}")

    @property
    def pid(self) -> int | None:
        """The process, if it is still the one that was started."""
        try:
            pid, started = self._pid.read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if _started(int(pid)) == started else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def stop(self, number: int = signal.SIGTERM, seconds: float = 15.0) -> None:
        """End it and wait until it is gone; SIGKILL when it takes longer."""
        pid = self.pid
        if pid is None:
            return
        for step in (number, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, step)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                if self.pid is None:
                    self._pid.unlink(missing_ok=True)
                    return
                time.sleep(0.02)
        raise RuntimeError(f"{self.name} ({pid}) does not end")

    def kill(self) -> None:
        """As if it had died."""
        self.stop(signal.SIGKILL)

    def tail(self, lines: int = 40) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


def _started(pid: int) -> str:
    """When a process was started, in clock ticks since boot; '' for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
