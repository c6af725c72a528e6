"""libvirt's default event loop in one thread of its own, and the listeners that its events reach.

libvirtaio is not thread-safe (measured: with calls from other threads no event arrived in 4 s); this way one takes
0.5 ms. An event is only a hint to look again: a guest's reboot tells 'started' before 'stopped'.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import libvirt

from kubexen.hypervisor.port import Listener

logger = logging.getLogger(__name__)

_starting = threading.Lock()
_loop: threading.Thread | None = None


def start_loop() -> None:
    """Register and run the loop, once a process; libvirt wants that before the first connection is opened."""
    global _loop
    with _starting:
        if _loop is None:
            libvirt.registerErrorHandler(lambda _context, _error: None, None)  # else each error goes to stderr, too
            libvirt.virEventRegisterDefaultImpl()
            _loop = threading.Thread(target=_run, name="libvirt-events", daemon=True)
            _loop.start()


def _run() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            logger.exception("libvirt's event loop")


class Listeners:
    """Who wants to hear of changes. Thread-safe; a listener that fails hurts nobody else."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[object, Listener] = {}

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        key = object()
        with self._lock:
            self._listeners[key] = listener

        def stop() -> None:
            with self._lock:
                self._listeners.pop(key, None)

        return stop

    def tell(self, uuid: str | None) -> None:
        with self._lock:
            listeners = list(self._listeners.values())
        for listener in listeners:
            try:
                listener(uuid)
            except Exception:
                logger.exception("a listener failed on %s", uuid)
