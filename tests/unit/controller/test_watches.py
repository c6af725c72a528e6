"""The ear on Kopf's requests: a kind is heard of when the server takes a request for all of it, and by nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kubexen.controller.watches import Watches
from kubexen.kube.resources import NODES, PODS


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer mine"
        return web.json_response({}, status=int(request.query.get("status", "200")))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as running:
        yield running


ASKED = {
    "its watch": ("/api/v1/pods?watch=true", ["nodes"]),
    "its list": ("/api/v1/pods?limit=500", ["nodes"]),
    "another kind": ("/api/v1/nodes?watch=true", ["pods"]),
    "one object": ("/api/v1/namespaces/a/pods/b", ["nodes", "pods"]),
    "a kind that nobody expects": ("/api/v1/secrets", ["nodes", "pods"]),
    "a refusal": ("/api/v1/pods?watch=true&status=403", ["nodes", "pods"]),
    "a server that cannot": ("/api/v1/pods?watch=true&status=429", ["nodes", "pods"]),
}


@pytest.mark.parametrize("path, still_silent", ASKED.values(), ids=ASKED)
async def test_only_a_kinds_own_request_that_is_accepted_counts(server: TestServer, path: str, still_silent: list[str]) -> None:
    now = [1000.0]
    watches = Watches(lambda: now[0])
    watches.expect([PODS, NODES], lasting=290)
    now[0] += 411
    assert [line.split(":")[0] for line in watches.silent()] == ["nodes", "pods"]
    url = str(server.make_url("")).rstrip("/")
    connection = watches.connection(kopf.ConnectionInfo(server=url, token="mine"))
    assert connection.server == url
    async with connection.aiohttp_session as client, client.get(url + path) as answer:
        await answer.read()
    assert [line.split(":")[0] for line in watches.silent()] == still_silent
