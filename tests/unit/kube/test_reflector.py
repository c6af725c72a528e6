"""The reflector against a server that misbehaves; against a real one it is tested in tests/cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from kubexen.kube.backoff import Backoff
from kubexen.kube.client import Api
from kubexen.kube.reflector import FAILURES_BEFORE_RELIST, Reflector
from kubexen.kube.resources import NODES, Object
from tests.unit.kube.conftest import Answer, Server


def node(name: str, version: str) -> Object:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": version, "managedFields": ["long"]}}


def listing(version: str, *items: Object) -> Answer:
    return Answer({"metadata": {"resourceVersion": version}, "items": list(items)})


def by_verb(on_list: Callable[[], Answer], on_watch: Callable[[], Answer]) -> Callable[[web.Request], Answer]:
    return lambda request: on_watch() if "watch" in request.query else on_list()


def error(code: int) -> Answer:
    return Answer(events=[{"type": "ERROR", "object": {"kind": "Status", "code": code, "message": "not any more"}}])


def counts(server: Server) -> tuple[int, int]:
    """Lists and watches."""
    watches = sum("watch" in query for _, _, query, _, _ in server.requests)
    return len(server.requests) - watches, watches


@asynccontextmanager
async def running(reflector: Reflector) -> AsyncIterator[None]:
    task = asyncio.create_task(reflector.run())
    try:
        async with asyncio.timeout(10):
            await reflector.synced.wait()
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled(), "nothing else ends a reflector"


def ignore(key: str, old: Object | None, new: Object | None) -> None:
    pass


@pytest.mark.parametrize(
    ("answer", "relists"),
    [
        pytest.param(Answer(events=[]), False, id="each watch ends at once"),
        pytest.param(error(410), True, id="410 for ever"),
        pytest.param(error(500), False, id="errors for ever"),
        pytest.param(Answer("oops", 502), False, id="a proxy without its server"),
    ],
)
async def test_a_server_that_refuses_every_watch_is_not_asked_hot(
    api: Api, server: Server, answer: Answer, relists: bool
) -> None:
    server.answer = by_verb(lambda: listing("7", node("n1", "5")), lambda: answer)
    async with running(Reflector(api, NODES, on_change=ignore)):
        await asyncio.sleep(1.5)
    lists, watches = counts(server)
    # waits of 0.1-0.2, 0.2-0.4, 0.4-0.8, 0.8-1.6 s
    assert 2 <= watches <= 5
    assert lists in ((watches, watches + 1) if relists else (1,))


async def test_a_version_that_always_fails_is_given_up(api: Api, server: Server) -> None:
    server.answer = by_verb(lambda: listing("7", node("n1", "5")), lambda: error(500))
    async with running(Reflector(api, NODES, on_change=ignore, backoff=Backoff(first=0.01, longest=0.01))):
        async with asyncio.timeout(10):
            while counts(server)[0] < 2:
                await asyncio.sleep(0.01)
    verbs = ["watch" if "watch" in query else "list" for _, _, query, _, _ in server.requests]
    assert verbs[: FAILURES_BEFORE_RELIST + 2] == ["list", *["watch"] * FAILURES_BEFORE_RELIST, "list"]


async def test_it_goes_on_from_the_last_version_without_listing(api: Api, server: Server) -> None:
    watches = iter(
        [
            Answer(events=[{"type": "MODIFIED", "object": node("n1", "8")}]),
            Answer(events=[{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "20"}}}]),
        ]
    )
    done = asyncio.Event()

    def on_watch() -> Answer:
        answer = next(watches, None)
        if answer is None:
            done.set()
        return answer or error(500)

    server.answer = by_verb(lambda: listing("7", node("n1", "5")), on_watch)
    async with running(Reflector(api, NODES, on_change=ignore)), asyncio.timeout(10):
        await done.wait()
    assert [query["resourceVersion"] for _, _, query, _, _ in server.requests if "watch" in query][:3] == [
        "7",
        "8",
        "20",
    ]
    assert counts(server)[0] == 1


async def test_what_the_handler_raises_is_logged_and_the_store_is_right(
    api: Api, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[str, str | None, str | None]] = []
    both = asyncio.Event()

    def on_change(key: str, old: Object | None, new: Object | None) -> None:
        seen.append((key, old and old["metadata"]["resourceVersion"], new and new["metadata"]["resourceVersion"]))
        if len(seen) == 2:
            both.set()
        raise RuntimeError("a handler's bug")

    first = [Answer(events=[{"type": "MODIFIED", "object": node("n1", "8")}])]
    server.answer = by_verb(lambda: listing("7", node("n1", "5")), lambda: first.pop() if first else error(500))
    reflector = Reflector(api, NODES, on_change=on_change)
    async with running(reflector), asyncio.timeout(10):
        await both.wait()
    assert seen == [("n1", None, "5"), ("n1", "5", "8")]
    assert dict(reflector.store) == {
        "n1": {"metadata": {"name": "n1", "uid": "uid-n1", "resourceVersion": "8"}},
    }
    assert "a handler's bug" in caplog.text


async def test_health_follows_what_was_heard_last(api: Api, server: Server) -> None:
    loop = asyncio.get_running_loop()
    answer = listing("7")
    refused = asyncio.Event()

    def on_watch() -> Answer:
        refused.set()
        return Answer("oops", 502)

    server.answer = by_verb(lambda: answer, on_watch)
    reflector = Reflector(api, NODES, on_change=ignore)
    assert not reflector.healthy
    before = loop.time()
    async with running(reflector), asyncio.timeout(10):
        await refused.wait()
        while reflector.healthy:
            await asyncio.sleep(0.01)
        assert before <= reflector.last_contact <= loop.time()
