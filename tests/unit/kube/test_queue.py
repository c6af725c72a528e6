"""The work queue, in virtual time: every delay is exact."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from kubexen.kube.errors import TooManyRequests
from kubexen.kube.queue import WorkQueue

pytestmark = pytest.mark.looptime(start=0)


class Log:
    """A reconcile that notes when it began which key; `does` says what else it does."""

    def __init__(self, does: Callable[[str], Awaitable[float | None]] | None = None) -> None:
        self.begun: list[tuple[float, str]] = []
        self._does = does

    async def __call__(self, key: str) -> float | None:
        self.begun.append((round(asyncio.get_running_loop().time(), 6), key))
        return await self._does(key) if self._does else None


def raising(*errors: Exception | None) -> Callable[[str], Awaitable[float | None]]:
    """Raises them one after the other; None: succeeds; afterwards it always succeeds."""
    left = list(errors)

    async def reconcile(_: str) -> float | None:
        if left and (error := left.pop(0)) is not None:
            raise error
        return None

    return reconcile


@asynccontextmanager
async def working(
    queue: WorkQueue, reconcile: Callable[[str], Awaitable[float | None]], workers: int = 1
) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run(reconcile, workers))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled(), "nothing else ends a queue"


def queue() -> WorkQueue:
    return WorkQueue("test", jitter=0.0)


async def test_keys_come_in_their_order_and_once() -> None:
    q, log = queue(), Log()
    for key in ("b", "a", "b", "c", "a"):
        q.add(key)
    assert len(q) == 3
    async with working(q, log):
        await asyncio.sleep(1)
    assert log.begun == [(0, "b"), (0, "a"), (0, "c")]
    assert len(q) == 0


async def test_a_key_is_with_one_worker_at_a_time_and_runs_once_more() -> None:
    q = queue()
    log = Log(lambda _: asyncio.sleep(10, result=None))
    async with working(q, log, workers=3):
        q.add("a")
        await asyncio.sleep(3)
        for _ in range(5):
            q.add("a")
        q.add("b")
        assert len(q) == 2
        await asyncio.sleep(30)
    assert log.begun == [(0, "a"), (3, "b"), (10, "a")]


async def test_as_many_at_once_as_there_are_workers() -> None:
    q = queue()
    log = Log(lambda _: asyncio.sleep(10, result=None))
    async with working(q, log, workers=2):
        for key in "abc":
            q.add(key)
        await asyncio.sleep(30)
    assert log.begun == [(0, "a"), (0, "b"), (10, "c")]


async def test_what_reconcile_returns_is_when_it_comes_again() -> None:
    q = queue()
    answers = iter([5.0, 0.0, None])

    async def reconcile(_: str) -> float | None:
        return next(answers)

    log = Log(reconcile)
    async with working(q, log):
        q.add("a")
        await asyncio.sleep(100)
    assert log.begun == [(0, "a"), (5, "a"), (5, "a")]


@pytest.mark.parametrize(("delays", "at"), [((5, 3), 3), ((3, 5), 3), ((3, 3), 3), ((3, 0), 0), ((3, -1), 0)])
async def test_the_earlier_time_wins(delays: tuple[float, float], at: float) -> None:
    q, log = queue(), Log()
    async with working(q, log):
        for delay in delays:
            q.add_after("a", delay)
        await asyncio.sleep(1 if at == 0 else 100)
    assert log.begun == [(at, "a")]


async def test_failures_back_off_by_key_up_to_a_minute() -> None:
    q = queue()
    log = Log(raising(*[RuntimeError("no")] * 11))
    async with working(q, log):
        q.add("a")
        await asyncio.sleep(300)
    times = [time for time, _ in log.begun]
    waits = [round(later - sooner, 6) for sooner, later in pairwise(times)]
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0]


async def test_success_resets_the_backoff_and_another_key_has_its_own() -> None:
    q = queue()
    log = Log(raising(RuntimeError("a"), RuntimeError("a"), None, RuntimeError("a"), RuntimeError("b")))
    async with working(q, log):
        q.add("a")
        await asyncio.sleep(1)  # 0, 0.2, 0.6: success
        q.add("a")  # fails: again 0.2 later
        q.add("b")
        await asyncio.sleep(1)
    assert log.begun == [(0, "a"), (0.2, "a"), (0.6, "a"), (1, "a"), (1, "b"), (1.2, "a"), (1.2, "b")]


async def test_jitter_only_shortens() -> None:
    q = WorkQueue("test", first_delay=10, jitter=0.5)
    log = Log(raising(RuntimeError("no")))
    async with working(q, log):
        for key in map(str, range(20)):
            q.add(key)
        await asyncio.sleep(0)
        q.add("0")
        await asyncio.sleep(100)
    again = [time for time, key in log.begun if key == "0" and time > 1]
    assert all(5 <= time <= 10 for time in again)


async def test_the_servers_retry_after_is_respected() -> None:
    q = queue()
    log = Log(raising(TooManyRequests(429, retry_after=17)))
    async with working(q, log):
        q.add("a")
        await asyncio.sleep(100)
    assert log.begun == [(0, "a"), (17, "a")]


async def test_what_was_added_during_a_failing_run_does_not_wait() -> None:
    q = queue()
    done = False

    async def reconcile(key: str) -> float | None:
        nonlocal done
        await asyncio.sleep(1)
        if not done:
            done = True
            q.add(key)
            raise RuntimeError("no")
        return None

    log = Log(reconcile)
    async with working(q, log):
        q.add("a")
        await asyncio.sleep(100)
    assert log.begun[:2] == [(0, "a"), (1, "a")]


async def test_forgetting_drops_the_delay_and_the_failures() -> None:
    q = queue()
    log = Log(raising(RuntimeError("no"), RuntimeError("no"), RuntimeError("no")))
    async with working(q, log):
        q.add("a")
        await asyncio.sleep(0.3)  # failed at 0 and 0.2
        q.forget("a")
        await asyncio.sleep(99.7)
        assert log.begun == [(0, "a"), (0.2, "a")]
        q.add("a")
        await asyncio.sleep(1)
    assert log.begun[2:] == [(100, "a"), (100.2, "a")]


async def test_failures_are_logged_with_their_key(caplog: pytest.LogCaptureFixture) -> None:
    q = queue()
    async with working(q, Log(raising(RuntimeError("the reason"), TooManyRequests(429, message="busy")))):
        q.add("shop/web")
        await asyncio.sleep(10)
    unknown, known = (record for record in caplog.records if record.name == "kubexen.kube.queue")
    assert "shop/web" in unknown.getMessage() and "the reason" in unknown.getMessage()
    assert unknown.exc_info is not None
    assert known.exc_info is None
    assert known.levelno == logging.WARNING


async def test_a_worker_survives_a_cancelled_wait_inside_reconcile() -> None:
    q = queue()
    first = True

    async def reconcile(_: str) -> float | None:
        nonlocal first
        if first:
            first = False
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        return None

    log = Log(reconcile)
    async with working(q, log):
        q.add("a")
        await asyncio.sleep(1)
    assert log.begun == [(0, "a"), (0.2, "a")]


async def test_nothing_is_left_when_it_was_cancelled() -> None:
    q, log = queue(), Log()
    async with working(q, log):
        q.add_after("a", 5)
        await asyncio.sleep(1)
    await asyncio.sleep(100)
    assert (log.begun, len(q)) == ([], 0)


async def test_what_is_slow_leaves_workers_to_others() -> None:
    """Four keys want one of two turns, of three workers; the key that does not is handled at once."""
    q = queue()
    turns = q.turns(2)
    got: list[tuple[float, str]] = []

    async def reconcile(key: str) -> None:
        if key.startswith("slow"):
            if not turns.take(key):
                return
            assert turns.take(key), "it has one already"
        got.append((asyncio.get_running_loop().time(), key))
        await asyncio.sleep(10 if key.startswith("slow") else 0)

    for key in ("slow1", "slow2", "slow3", "slow4", "quick"):
        q.add(key)
    async with working(q, reconcile, workers=3):
        await asyncio.sleep(30)
    assert got == [(0, "slow1"), (0, "slow2"), (0, "quick"), (10, "slow3"), (10, "slow4")]


async def test_a_turn_goes_on_when_who_was_next_does_not_want_it_any_more_or_fails() -> None:
    q = queue()
    turns = q.turns(1)
    got: list[tuple[float, str]] = []
    unwanted = set[str]()

    async def reconcile(key: str) -> None:
        if key in unwanted or not turns.take(key):
            return
        got.append((asyncio.get_running_loop().time(), key))
        await asyncio.sleep(10)
        if key == "a":
            raise ValueError(key)

    for key in ("a", "b", "c", "d"):
        q.add(key)
    async with working(q, reconcile, workers=2):
        await asyncio.sleep(5)
        unwanted |= {"a", "b", "c"}
        await asyncio.sleep(20)
    assert got == [(0, "a"), (10, "d")]
