"""One connection to libvirt that heals itself; driver.py and host.py make all their libvirt calls through it.

The daemon may restart or be away at any moment. A call then raises Unreachable, and the next one opens the connection
anew. A thread does so too when nobody calls, because without a connection no events arrive.
Opening to a daemon that hangs blocks; bounding that is the caller's (port.py: bounded threads).
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import libvirt

from kubexen.hypervisor.drivers.libvirt.events import start_loop
from kubexen.hypervisor.drivers.libvirt.mapping import translate
from kubexen.hypervisor.errors import Unreachable

logger = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 10
KEEPALIVE_MISSES = 6  # a daemon that is silent for a minute is away
FIRST_RETRY_SECONDS = 0.2
LAST_RETRY_SECONDS = 5.0


class Connection:
    """`hint` is called with a domain's uuid on its lifecycle events, and with None after a loss and after healing."""

    def __init__(self, uri: str, hint: Callable[[str | None], None]) -> None:
        self.uri = uri
        self._hint = hint
        self._opening = threading.Lock()  # one open at a time
        self._state = threading.Lock()  # guards the two below; never held over a libvirt call
        self._conn: Any = None
        self._dead: list[Any] = []
        self._lost = threading.Event()
        self._closed = threading.Event()
        self._healer = threading.Thread(target=self._heal, name="libvirt-reconnect", daemon=True)
        self._get()
        self._healer.start()

    @contextlib.contextmanager
    def calls(self, act: str) -> Iterator[Any]:
        """The virConnect, for calls that `act` names; libvirt's errors leave as ours."""
        conn = self._get()
        try:
            yield conn
        except libvirt.libvirtError as error:
            ours = translate(error, act)
            if isinstance(ours, Unreachable):
                self._drop(conn)
            raise ours from error
        except Unreachable:
            self._drop(conn)
            raise

    def close(self) -> None:
        self._closed.set()
        self._lost.set()
        self._healer.join()
        with self._state:
            conns, self._conn, self._dead = [*self._dead, self._conn], None, []
        for conn in conns:
            _close(conn)

    def _get(self) -> Any:
        with self._opening:
            if self._closed.is_set():
                raise Unreachable("the connection was closed")
            with self._state:
                if self._conn is not None:
                    return self._conn
            try:
                conn = self._open()
            except libvirt.libvirtError as error:
                raise Unreachable(f"connect to {self.uri}: {error.get_error_message()}") from error
            with self._state:
                self._conn = conn
            return conn

    def _open(self) -> Any:
        start_loop()
        conn = libvirt.open(self.uri)
        try:
            conn.registerCloseCallback(self._on_close, None)
            conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle, None)
            if not conn.getURI().startswith("test:"):  # that one lives in this process
                conn.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_MISSES)
        except libvirt.libvirtError:
            _close(conn)
            raise
        return conn

    def _on_close(self, conn: Any, reason: int, _opaque: Any) -> None:
        logger.warning("the connection to %s was lost (reason %d)", self.uri, reason)
        self._drop(conn)

    def _on_lifecycle(self, _conn: Any, domain: Any, _event: int, _detail: int, _opaque: Any) -> None:
        self._hint(domain.UUIDString())

    def _drop(self, conn: Any) -> None:
        """Forget a broken connection; the healer closes it, as that must not be done in libvirt's own callback."""
        with self._state:
            if self._conn is None or self._conn != conn:
                return
            self._dead.append(self._conn)
            self._conn = None
        self._lost.set()

    def _heal(self) -> None:
        while self._lost.wait() and not self._closed.is_set():
            self._lost.clear()
            self._hint(None)
            with self._state:
                dead, self._dead = self._dead, []
            for conn in dead:
                _close(conn)
            self._reopen()

    def _reopen(self) -> None:
        delay = FIRST_RETRY_SECONDS
        while not self._closed.is_set():
            try:
                self._get()
            except Unreachable as error:
                level = logging.WARNING if delay == FIRST_RETRY_SECONDS else logging.DEBUG  # once a loss
                logger.log(level, "%s; again in %.1f s", error, delay)
                self._closed.wait(delay)
                delay = min(2 * delay, LAST_RETRY_SECONDS)
            else:
                logger.info("connected to %s again", self.uri)
                self._hint(None)
                return


def _close(conn: Any) -> None:
    if conn is not None:
        with contextlib.suppress(libvirt.libvirtError):
            conn.close()
