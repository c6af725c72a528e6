"""Ends what this process has started when this process ends, however it ends: Ctrl-C, SIGKILL, a crash.

Used by cluster, xenlab and stack, each for what it starts; their command `down --after-stdin` does the ending.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


AFTER = "--after-stdin"


def add_option(down: argparse.ArgumentParser) -> None:
    """What a guard tells the command `down`."""
    down.add_argument(AFTER, action="store_true", help="down: wait for the end of the input first")


def wait(options: argparse.Namespace) -> None:
    """Until the process at the other end of the input has ended, if a guard has asked for it."""
    if options.after_stdin:
        sys.stdin.buffer.read()


class Guard:
    def __init__(self, module: str, state: Path) -> None:
        """`module`: whose command `down` ends what is recorded in the folder `state`."""
        self._command = [sys.executable, "-m", module, "down", AFTER, "--state", str(state)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Its input ends with this process."""
        if self._process is None:
            self._process = subprocess.Popen(self._command, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True)

    def stop(self) -> None:
        """There is nothing left to end."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
