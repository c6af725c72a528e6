"""Whether Kopf's watches live: each kind's is heard of again and again, or the process is not alive.

Kopf's own endpoint answers as long as its event loop does, watches or not. It gives each watch up after a while without a
bookmark and asks for the next one when the server ends it, so a kind whose watch works is asked for every few minutes:
`connection` notes each such request that the server accepts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import SimpleNamespace

import aiohttp
import kopf

from kubexen.kube.health import Pulse
from kubexen.kube.resources import Resource

GRACE = 120.0
"""Seconds that a watch may take longer than it lasts: a silent one is given up after 70, and asked for anew with backoff."""


class Watches:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._pulse = Pulse(clock)
        self._kinds: dict[str, str] = {}  # path of the collection: the kind's name

    def expect(self, kinds: Iterable[Resource], lasting: float) -> None:
        """From now on each of these kinds is watched, by watches that last so many seconds."""
        for res in kinds:
            self._kinds[res.path()] = str(res)
            self._pulse.expect(str(res), lasting + GRACE)

    def silent(self) -> list[str]:
        """A check for `kube.health`: which kinds are not watched any more."""
        return self._pulse.silent()

    def connection(self, info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
        """Kopf's way to the API server with these credentials, with an ear on it."""

        async def heard(_: aiohttp.ClientSession, __: SimpleNamespace, request: aiohttp.TraceRequestEndParams) -> None:
            kind = self._kinds.get(request.url.path)
            if kind is not None and request.response.status < 300:
                self._pulse.beat(kind)

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(heard)
        client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers=info.as_http_headers(),
            proxy=info.proxy_url,
            trust_env=info.trust_env,
            trace_configs=[trace],
        )
        return kopf.AiohttpSession(server=info.server, default_namespace=info.default_namespace, aiohttp_session=client)
