"""The work queue in front of every reconcile: keyed, coalescing, with a backoff a key.

Handlers and reflectors only `add()` a key; `run()` hands each key to one worker at a time. A key that is added while
it waits is the same work; one that is added while it is handled is handled once more. Belongs to one event loop: from
a thread, use `loop.call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from .backoff import Backoff
from .errors import ApiError

logger = logging.getLogger(__name__)

Reconcile = Callable[[str], Awaitable[float | None]]


class WorkQueue:
    """Keys to be handled, in the order in which they came. `len()`: those that wait for a worker or are with one,
    without the delayed ones.
    """

    def __init__(
        self, name: str = "queue", *, first_delay: float = 0.2, longest_delay: float = 60.0, jitter: float = 0.25
    ) -> None:
        self.name = name
        self._first_delay = first_delay
        self._longest_delay = longest_delay
        self._jitter = jitter
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()  # in _ready, or added while being handled
        self._handled: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._turns: list[Turns] = []

    def __len__(self) -> int:
        return len(self._waiting | self._handled)

    def add(self, key: str) -> None:
        """Handles the key as soon as a worker is free."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._handled:
            self._ready.put_nowait(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Adds the key in so many seconds; where it is to be added already, the earlier time wins."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def forget(self, key: str) -> None:
        """Drops the key's delayed adding and its failures: its object is gone. Does not stop what is being handled."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._backoffs.pop(key, None)

    def turns(self, count: int) -> Turns:
        """So many keys at once may do something slow: fewer than there are workers, so that others are handled meanwhile."""
        self._turns.append(Turns(self.add, count))
        return self._turns[-1]

    async def run(self, reconcile: Reconcile, workers: int) -> None:
        """For ever, until it is cancelled. `reconcile` returns the seconds after which to look again, or None; what
        it raises is logged and tried again.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(reconcile))
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    async def _work(self, reconcile: Reconcile) -> None:
        worker = asyncio.current_task()
        assert worker is not None
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._handled.add(key)
            try:
                again = await reconcile(key)
            except asyncio.CancelledError as error:
                if worker.cancelling():
                    raise
                # something that reconcile waited for was cancelled, not this worker, which must not vanish by it
                self.add_after(key, self._failed(key, error))
            except Exception as error:
                self.add_after(key, self._failed(key, error))
            else:
                self._backoffs.pop(key, None)
                if again is not None:
                    self.add_after(key, again)
            finally:
                self._handled.discard(key)
                if key in self._waiting:
                    self._ready.put_nowait(key)
                for turns in self._turns:
                    turns.handled(key)

    def _failed(self, key: str, error: BaseException) -> float:
        backoff = self._backoffs.get(key)
        if backoff is None:
            backoff = self._backoffs[key] = Backoff(self._first_delay, self._longest_delay, self._jitter)
        # any error may say when to come again; the hypervisor's do as well, which this layer does not know
        told = getattr(error, "retry_after", None)
        delay = max(backoff.next(), told if isinstance(told, int | float) else 0.0)
        text = "%s %s: failed %d times in a row, again in %.1f s: %s"
        expected = isinstance(error, ApiError) or told is not None
        logger.warning(text, self.name, key, backoff.failures, delay, error, exc_info=None if expected else error)
        return delay

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)


class Turns:
    """Turns at something slow. A reconcile that gets none leaves its worker to others: its key is added again when a turn is
    free, and what it decides then is fresh.
    """

    def __init__(self, add: Callable[[str], None], count: int) -> None:
        self._add = add
        self._count = count
        self._holders: set[str] = set()
        self._waiting: dict[str, None] = {}  # in the order in which they came

    def take(self, key: str) -> bool:
        """Whether the key has a turn now, until its reconcile returns."""
        if key in self._holders or len(self._holders) < self._count:
            self._holders.add(key)
            return True
        self._waiting[key] = None
        return False

    def handled(self, key: str) -> None:
        """The key's reconcile has returned. Whoever it was, the next one is tried: one that was added and took no turn after all
        must not be the last."""
        self._holders.discard(key)
        if self._waiting and len(self._holders) < self._count:
            first = next(iter(self._waiting))
            del self._waiting[first]
            self._add(first)
