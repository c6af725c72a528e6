"""A server on loopback that answers as a real API server does only now and then: 429, 410 for ever, short watches."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kubexen.kube.client import Api


@dataclass
class Answer:
    """Either one JSON (or text) body, or the events of a watch."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    events: list[Any] | None = None

    async def send(self, request: web.Request) -> web.StreamResponse:
        if self.events is None:
            text = self.body if isinstance(self.body, str) else json.dumps(self.body)
            return web.Response(text=text, status=self.status, headers=self.headers)
        response = web.StreamResponse()
        await response.prepare(request)
        for event in self.events:
            await response.write(json.dumps(event).encode() + b"\n")
        return response


@dataclass
class Server:
    """`answer(request)` decides; `requests` are what came, as `(method, path, query, headers, body)`."""

    url: str = ""
    answer: Callable[[web.Request], Answer] = lambda _: Answer("no answer was set", status=500)
    requests: list[tuple[str, str, dict[str, str], dict[str, str], str]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        self.requests.append((request.method, request.path, dict(request.query), dict(request.headers), body))
        return await self.answer(request).send(request)

    def answers(self, *answers: Answer) -> None:
        """Gives them one after the other, the last one for ever."""
        left = list(answers)
        self.answer = lambda _: left.pop(0) if len(left) > 1 else left[0]


def write_kubeconfig(path: Path, url: str, user: dict[str, Any]) -> str:
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": url}}],
                "users": [{"name": "test", "user": user}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            }
        )
    )
    return str(path)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    async with TestServer(app) as running:
        server.url = str(running.make_url("")).rstrip("/")
        yield server


@pytest.fixture
async def api(server: Server, tmp_path: Path) -> AsyncIterator[Api]:
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", server.url, {"token": "first"})
    api = await Api.connect(kubeconfig, user_agent="kubexen-test/1", timeout=5)
    yield api
    await api.close()
