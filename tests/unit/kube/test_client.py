"""The client against answers that a real API server gives only now and then."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from kubexen.kube.client import TRIES_OF_429, Api
from kubexen.kube.errors import Forbidden, Gone, NotConfigured, TooManyRequests, Unavailable
from kubexen.kube.resources import NODES, PODS, Object
from tests.unit.kube.conftest import Answer, Server, write_kubeconfig

NODE: Object = {"metadata": {"name": "n1", "resourceVersion": "7"}}


def busy(seconds: str) -> Answer:
    return Answer({"kind": "Status", "code": 429, "reason": "TooManyRequests"}, 429, {"Retry-After": seconds})


async def watch(api: Api, *, inactivity: float = 5.0) -> list[Object]:
    events = api.watch(NODES, resource_version="7", timeout_seconds=60.4, inactivity_timeout=inactivity)
    async with aclosing(events):
        return [event async for event in events]


async def test_429_is_tried_again_after_what_the_server_says(api: Api, server: Server) -> None:
    server.answers(busy("1"), Answer(NODE))
    started = time.monotonic()
    assert await api.get(NODES, "n1") == NODE
    assert time.monotonic() - started >= 1.0
    assert len(server.requests) == 2


@pytest.mark.parametrize(("seconds", "requests"), [("0", TRIES_OF_429), ("60", 1)])
async def test_429_is_given_back_when_it_does_not_end(api: Api, server: Server, seconds: str, requests: int) -> None:
    server.answers(busy(seconds))
    with pytest.raises(TooManyRequests) as error:
        await api.get(NODES, "n1")
    assert error.value.retry_after == float(seconds)
    assert len(server.requests) == requests


async def test_a_write_whose_answer_was_an_error_is_not_sent_twice(api: Api, server: Server) -> None:
    server.answers(Answer("oops", 502))
    with pytest.raises(Unavailable):
        await api.create(PODS, {"metadata": {"name": "p"}}, "shop")
    assert len(server.requests) == 1


async def test_no_server_is_unavailable(tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1", {})
    api = await Api.connect(kubeconfig, user_agent="kubexen-test/1")
    try:
        with pytest.raises(Unavailable, match="GET /api/v1/nodes/n1"):
            await api.get(NODES, "n1")
    finally:
        await api.close()


async def test_a_server_that_is_silent_is_unavailable(tmp_path: Path) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    api = await Api.connect(write_kubeconfig(tmp_path / "k", url, {}), user_agent="kubexen-test/1", timeout=0.3)
    try:
        with pytest.raises(Unavailable):
            await api.get(NODES, "n1")
        with pytest.raises(Unavailable):
            await watch(api, inactivity=0.3)
    finally:
        await api.close()
        silent.close()


async def test_what_is_sent(api: Api, server: Server) -> None:
    server.answers(Answer(NODE))
    body: Object = {"metadata": {"resourceVersion": "7"}, "status": {"x": 1}}
    await api.apply(NODES, "n1", body, manager="kubexen", subresource="status")
    await api.merge(NODES, "n1", {"a": None})
    await api.json_patch(NODES, "n1", [{"op": "test", "path": "/a", "value": 1}])
    await api.delete(NODES, "n1", uid="u", resource_version="7", grace_period_seconds=0)
    assert body == {"metadata": {"resourceVersion": "7"}, "status": {"x": 1}}  # the caller's stays as it was
    sent = [
        (method, path, query, headers["Content-Type"], json.loads(text))
        for method, path, query, headers, text in server.requests
    ]
    assert sent == [
        (
            "PATCH",
            "/api/v1/nodes/n1/status",
            {"fieldManager": "kubexen", "force": "true"},
            "application/apply-patch+yaml",
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": "n1", "resourceVersion": "7"},
                "status": {"x": 1},
            },
        ),
        ("PATCH", "/api/v1/nodes/n1", {}, "application/merge-patch+json", {"a": None}),
        (
            "PATCH",
            "/api/v1/nodes/n1",
            {},
            "application/json-patch+json",
            [{"op": "test", "path": "/a", "value": 1}],
        ),
        (
            "DELETE",
            "/api/v1/nodes/n1",
            {},
            "application/json",
            {
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "preconditions": {"uid": "u", "resourceVersion": "7"},
                "gracePeriodSeconds": 0,
            },
        ),
    ]
    assert {headers["User-Agent"] for *_, headers, _ in server.requests} == {"kubexen-test/1"}


async def test_a_list_is_read_in_pages(api: Api, server: Server) -> None:
    server.answers(
        Answer({"metadata": {"continue": "more+/=", "resourceVersion": "9"}, "items": [{"metadata": {"name": "a"}}]}),
        Answer({"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "b"}}]}),
    )
    objects, version = await api.list(PODS, "shop", label_selector="a=b,c!=d", field_selector="spec.nodeName=n", page=1)
    assert version == "9"
    assert [(obj["kind"], obj["apiVersion"], obj["metadata"]["name"]) for obj in objects] == [
        ("Pod", "v1", "a"),
        ("Pod", "v1", "b"),
    ]
    selectors = {"labelSelector": "a=b,c!=d", "fieldSelector": "spec.nodeName=n", "limit": "1"}
    assert [query for _, _, query, _, _ in server.requests] == [selectors, {**selectors, "continue": "more+/="}]


async def test_a_watch_gives_raw_events_and_ends_with_the_stream(api: Api, server: Server) -> None:
    events = [{"type": "ADDED", "object": NODE}, {"type": "BOOKMARK", "object": NODE}]
    server.answers(Answer(events=events))
    assert await watch(api) == events
    assert server.requests[0][2] == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": "7",
        "timeoutSeconds": "60",
    }


async def test_an_error_in_the_stream_is_raised(api: Api, server: Server) -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 7 (9)"}
    server.answers(Answer(events=[{"type": "ERROR", "object": status}]))
    with pytest.raises(Gone, match="too old"):
        await watch(api)


@pytest.mark.parametrize("where", ["token", "tokenFile"])
async def test_credentials_are_loaded_again_when_they_are_refused(server: Server, tmp_path: Path, where: str) -> None:
    def rotate(token: str) -> str:
        (tmp_path / "token").write_text(token)
        user = {"token": token} if where == "token" else {"tokenFile": str(tmp_path / "token")}
        return write_kubeconfig(tmp_path / "kubeconfig", server.url, user)

    def answer(request: object) -> Answer:
        allowed = server.requests[-1][3]["Authorization"] == "Bearer second"
        return Answer(NODE) if allowed else Answer({"kind": "Status", "code": 401, "reason": "Unauthorized"}, 401)

    server.answer = answer
    api = await Api.connect(rotate("first"), user_agent="kubexen-test/1")
    try:
        with pytest.raises(Forbidden):
            await api.get(NODES, "n1")
        assert len(server.requests) == 1  # the same token again would be refused again
        rotate("second")
        assert await asyncio.gather(*(api.get(NODES, "n1") for _ in range(5))) == [NODE] * 5
    finally:
        await api.close()


@pytest.mark.parametrize("content", [None, "", "{", "kind: Config", "[]"])
async def test_an_unusable_kubeconfig_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    with pytest.raises(NotConfigured, match=str(file)):
        await Api.connect(str(file), user_agent="kubexen-test/1")


async def test_the_environment_names_the_kubeconfig(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers(Answer(NODE))
    monkeypatch.setenv("KUBECONFIG", write_kubeconfig(tmp_path / "kubeconfig", server.url, {}))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:3128")  # never for loopback
    api = await Api.connect(user_agent="kubexen-test/1", timeout=5)
    try:
        assert await api.get(NODES, "n1") == NODE
    finally:
        await api.close()


async def test_a_context_is_chosen_by_its_name(server: Server, tmp_path: Path) -> None:
    server.answers(Answer(NODE))
    file = tmp_path / "kubeconfig"
    written = json.loads(Path(write_kubeconfig(file, server.url, {})).read_text())
    written["clusters"].append({"name": "elsewhere", "cluster": {"server": "http://127.0.0.1:1"}})
    written["contexts"].append({"name": "elsewhere", "context": {"cluster": "elsewhere", "user": "test"}})
    file.write_text(json.dumps(written | {"current-context": "elsewhere"}))
    api = await Api.connect(str(file), context="test", user_agent="kubexen-test/1", timeout=5)
    try:
        assert await api.get(NODES, "n1") == NODE
    finally:
        await api.close()
    with pytest.raises(NotConfigured, match="nowhere"):
        await Api.connect(str(file), context="nowhere", user_agent="kubexen-test/1")


async def test_a_text_is_given_as_it_is(api: Api, server: Server) -> None:
    server.answers(Answer("a line\nhalf a li"))
    assert await api.text("/api/v1/namespaces/n/pods/p/log", container="c", tailLines="2") == "a line\nhalf a li"
    method, path, query, _, _ = server.requests[0]
    assert (method, path, query) == ("GET", "/api/v1/namespaces/n/pods/p/log", {"container": "c", "tailLines": "2"})
