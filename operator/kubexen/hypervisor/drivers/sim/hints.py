"""Tells every open driver of a simulated host, in any process, that something changed.

The changes themselves are numbered in the store; what travels is only a byte that wakes the reader. Each watcher has a
named pipe in the directory (a unix socket's path would be limited to 107 bytes), and sleeps while nothing happens.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import select
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kubexen.hypervisor.port import Listener

if TYPE_CHECKING:
    from kubexen.hypervisor.drivers.sim.machine import Machine

_log = logging.getLogger(__name__)
_numbers = itertools.count()


def wake(directory: Path) -> None:
    """Wake all watchers of the directory; a pipe whose reader has died is removed."""
    try:
        pipes = list(os.scandir(directory / "watch"))
    except FileNotFoundError:
        return
    for pipe in pipes:
        if pipe.name.startswith("."):
            continue
        try:
            fd = os.open(pipe.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ENXIO:
                Path(pipe.path).unlink(missing_ok=True)
            continue
        try:
            os.write(fd, b".")
        except (BlockingIOError, BrokenPipeError):
            pass  # it is full, so its reader will wake; or it has just gone
        finally:
            os.close(fd)


class Watcher:
    """A driver's thread that hands changes to its listeners, and takes the machine through the steps that fall due."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self._machine = machine
        self._listeners: dict[int, Listener] = {}
        self._stopped = False
        folder = directory / "watch"
        folder.mkdir(exist_ok=True)
        name = f"{os.getpid()}-{next(_numbers)}"
        # Under a hidden name until it has a reader: a pipe without one is taken for a dead watcher's.
        os.mkfifo(folder / f".{name}")
        self._fd = os.open(folder / f".{name}", os.O_RDWR | os.O_NONBLOCK)
        self._pipe = (folder / f".{name}").rename(folder / name)
        self._seen = machine.last_change()
        self._thread = threading.Thread(target=self._run, name=f"sim-hints-{name}", daemon=True)
        self._thread.start()

    def add(self, listener: Listener) -> Callable[[], None]:
        number = next(_numbers)
        self._listeners[number] = listener
        return lambda: self._listeners.pop(number, None) and None

    def stop(self) -> None:
        """The pipe is closed here: the thread may have ended by itself, or see that it is to end before it is woken."""
        self._listeners.clear()
        self._stopped = True
        os.write(self._fd, b".")
        if threading.current_thread() is not self._thread:
            self._thread.join()
        os.close(self._fd)

    def _run(self) -> None:
        try:
            while True:
                self._seen, changes = self._machine.changes(self._seen)
                for uuid in [None] if None in changes else changes:
                    self._tell(uuid)
                if self._stopped:  # by a listener perhaps, and the pipe is closed then
                    return
                due = self._machine.next_due()
                ready, _, _ = select.select([self._fd], [], [], None if due is None else max(0.0, due - time.time()))
                if ready:
                    os.read(self._fd, 4096)
        except sqlite3.Error as error:
            if not self._stopped:
                _log.warning("the simulated host is gone, no more hints: %s", error)
        finally:
            self._pipe.unlink(missing_ok=True)

    def _tell(self, uuid: str | None) -> None:
        for listener in list(self._listeners.values()):
            try:
                listener(uuid)
            except Exception:
                _log.exception("a listener failed")
