"""What a process answers to the kubelet's probes: `/livez` and `/readyz`, over HTTP.

The controller and the agent have one each, and say what is wrong as lines of text: none is 200, any is 503. A probe that is
not answered at all means that the event loop hangs. `Pulse` is for what has to be heard of again and again, as a watch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

logger = logging.getLogger(__name__)

Check = Callable[[], list[str]]
"""What is wrong now, a line each."""


class Pulse:
    """Things that must be heard of within a bound of their own, each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expected: dict[str, tuple[float, float]] = {}  # by name: the bound, and when it was last heard

    def expect(self, name: str, within: float) -> None:
        """From now on it is to be heard of every `within` seconds."""
        self._expected[name] = (within, self._clock())

    def beat(self, name: str) -> None:
        """It was heard of; what nobody expects is ignored."""
        if name in self._expected:
            self._expected[name] = (self._expected[name][0], self._clock())

    def silent(self) -> list[str]:
        """A `Check`: what was not heard of for longer than its bound."""
        now = self._clock()
        return [
            f"{name}: not heard of for {now - heard:.0f} s, at most {within:.0f} s are expected"
            for name, (within, heard) in sorted(self._expected.items())
            if now - heard > within
        ]


async def serve(address: str, *, alive: Check, ready: Check) -> None:
    """Answer at `HOST:PORT` (no host: every address) for ever, until it is cancelled."""
    host, _, port = address.rpartition(":")
    app = web.Application()
    app.router.add_get("/livez", _answer("not alive", alive))
    app.router.add_get("/readyz", _answer("not ready", ready))
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _answer(verdict: str, check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    said: list[str] = []

    async def answer(_: web.Request) -> web.Response:
        wrong = check()
        if wrong and not said:  # the kubelet's Events tell no more than the status
            logger.warning("%s: %s", verdict, "; ".join(wrong))
        said[:] = wrong
        return web.Response(text="\n".join(wrong or ["ok"]) + "\n", status=503 if wrong else 200)

    return answer
