"""The agent's view of its hypervisor: opened as soon as the host lets it be, calls in bounded threads, the newest picture of
all domains, and what changed. What is asked never waits behind what is done.

Several parts of the agent share one. It decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

from kubexen.hypervisor.errors import Busy, HypervisorError, TimedOut, Unreachable
from kubexen.hypervisor.port import Devices, DomainState, Flags, HostInfo, Hypervisor, ShutdownReason

logger = logging.getLogger(__name__)

T = TypeVar("T")

ACTS, LOOKS = 4, 1
"""Threads. A libvirt daemon serves 5 calls of one client at a time; a start may take one of them for minutes."""

POLL_SECONDS = 1.0
"""How often the hypervisor is looked at: what is done with xl beside us brings no event. It costs about 1 ms."""

PAUSE_LOOKS, PAUSE_MAX_SECONDS = 3, 5.0
"""Where a look is slow (one by `xl` runs processes), so many times as long is waited after it: dom0's CPU is the guests' too."""

CALL_SECONDS = 60.0
START_SECONDS = 300.0

SAMPLES = 10
SETTLED = 7
"""r and b are samples: another letter is believed when it was seen this often in the last SAMPLES looks."""


class Host:
    def __init__(self, connect: Callable[[], Hypervisor], node: str, *, poll_seconds: float = POLL_SECONDS) -> None:
        """`connect` opens the driver; it is called again and again until the host lets it succeed."""
        self.node = node
        self.boot_id = ""  # known once it was opened; this process does not outlive the boot
        self.domains: Mapping[str, DomainState] = {}
        self.ended_at: dict[tuple[str, int], datetime] = {}
        self.error: HypervisorError | None = Unreachable("the hypervisor was not asked yet")
        self.asked = asyncio.Event()  # set with the first answer, or the first refusal
        self.looked = asyncio.Event()
        self._connect = connect
        self._opening: asyncio.Future[tuple[Hypervisor, str]] | None = None
        self._hypervisor: Hypervisor | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._poll_seconds = poll_seconds
        self._acts = ThreadPoolExecutor(ACTS, thread_name_prefix="hypervisor-acts")
        self._looks = ThreadPoolExecutor(LOOKS, thread_name_prefix="hypervisor-looks")
        self._running: dict[str, asyncio.Future[object]] = {}
        self._samples: dict[str, deque[str]] = {}
        self._settled: dict[str, str] = {}
        self._hint = asyncio.Event()
        self._tickets = self._newest = 0

    @property
    def hypervisor(self) -> Hypervisor:
        """Raises Unreachable while it could not be opened."""
        if self._hypervisor is None:
            raise self.error or Unreachable("the hypervisor was not opened yet")
        return self._hypervisor

    async def call(self, function: Callable[..., T], *arguments: object, about: str = "",
                   timeout: float = CALL_SECONDS, **options: object) -> T:
        """Run a driver's call that does something in a thread.

        Args:
            about: the uuid of the domain it acts on; a call that hangs keeps others off that domain.

        Raises:
            HypervisorError: TimedOut when there was no answer in time (the call may still end), Busy while such a
                call has not ended, or the driver's own.
        """
        if about and self.is_busy(about):
            raise Busy(f"an earlier call on domain {about} has not come back")
        future = asyncio.get_running_loop().run_in_executor(self._acts, lambda: function(*arguments, **options))
        if about:
            self._running[about] = future  # type: ignore[assignment]
        return await _answer(future, function.__name__, timeout)

    def is_busy(self, uuid: str) -> bool:
        """Whether a call on this domain is under way, be it one that was given up: nobody knows what it will have done."""
        return uuid in self._running and not self._running[uuid].done()

    async def info(self) -> HostInfo:
        """Raises Unreachable until all domains were seen once: without them the host's figures say something else."""
        if not self.looked.is_set():
            raise self.error or Unreachable("the hypervisor was not looked at yet")
        return await self._ask(self.hypervisor.host)

    async def devices(self, uuid: str) -> Devices:
        """Of a domain that is here; raises NotFound otherwise."""
        return await self._ask(self.hypervisor.devices, uuid)

    async def look(self) -> Mapping[str, DomainState]:
        """The newest picture of all domains, by uuid."""
        self._tickets += 1
        ticket = self._tickets
        found = await self._ask(self.hypervisor.domains)
        if ticket < self._newest:
            return self.domains  # looks overlap: one that began earlier must not hide what a later one has seen
        self._newest = ticket
        now = datetime.now(UTC)
        domains = {state.uuid: dataclasses.replace(state, flags=self._settle(state)) for state in found}
        ended = {(s.uuid, s.domid) for s in found if s.flags.shutdown}
        self.ended_at = {key: self.ended_at.get(key, now) for key in ended}
        for gone in set(self._samples) - set(domains):
            self._samples.pop(gone, None)
            self._settled.pop(gone, None)
        self.domains = domains
        return domains

    async def watch(self, changed: Callable[[DomainState], None]) -> None:
        """For ever: open the hypervisor, look every second or so, and at once on a hint; tell which domains are not as they were.

        Raises:
            HypervisorError: no driver can be opened like that, however often it is tried.
        """
        before: Mapping[str, DomainState] = {}
        now = asyncio.get_running_loop().time
        while True:
            self._hint.clear()
            began = now()
            try:
                if self._hypervisor is None:
                    await self._open()
                domains = await self.look()
                self.error = None
            except HypervisorError as error:
                if self._hypervisor is None and error.retry_after is None:
                    raise
                if self.error is None or not self.asked.is_set():
                    logger.warning("the hypervisor does not answer: %s", error)
                self.error = error
                self.asked.set()
            else:
                self.asked.set()
                self.looked.set()
                for uuid in {*before, *domains}:
                    old, new = before.get(uuid), domains.get(uuid)
                    if old is None or new is None or _facts(old) != _facts(new):
                        changed(new or old)  # type: ignore[arg-type]
                before = domains
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hint.wait(), pause_after(now() - began, self._poll_seconds))

    def hint(self) -> None:
        """Look at once. To be called in the event loop's thread."""
        self._hint.set()

    def close(self) -> None:
        """Let go of it; domains run on."""
        self._unsubscribe()
        for threads in (self._acts, self._looks):
            threads.shutdown(wait=False, cancel_futures=True)
        if self._hypervisor is not None:
            self._hypervisor.close()

    async def _ask(self, function: Callable[..., T], *arguments: object) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._looks, function, *arguments)
        return await _answer(future, function.__name__, CALL_SECONDS)

    async def _open(self) -> None:
        """Open it. An attempt that hangs (a daemon that takes the connection and says nothing) goes on; there is one at a time."""
        loop = asyncio.get_running_loop()
        if self._opening is None:
            self._opening = loop.run_in_executor(self._looks, _first_answer, self._connect)
        try:
            hypervisor, self.boot_id = await asyncio.wait_for(asyncio.shield(self._opening), CALL_SECONDS)
        except TimeoutError:
            raise TimedOut(f"the hypervisor gave no answer in {CALL_SECONDS:.0f} s") from None
        except HypervisorError:
            self._opening = None
            raise

        def hint(_: str | None) -> None:
            loop.call_soon_threadsafe(self.hint)

        self._hypervisor = hypervisor
        self._unsubscribe = hypervisor.subscribe(hint)

    def _settle(self, state: DomainState) -> Flags:
        """The flags with r and b as they mostly are, so that an idle domain's status does not flicker."""
        flags = state.flags
        letter = "r" if flags.running else "b" if flags.blocked else "-"
        samples = self._samples.setdefault(state.uuid, deque(maxlen=SAMPLES))
        samples.append(letter)
        settled = self._settled.setdefault(state.uuid, letter)
        if samples.count(letter) >= SETTLED or settled == "-":
            self._settled[state.uuid] = settled = letter
        if flags.paused or flags.shutdown or flags.dying:
            return flags
        return dataclasses.replace(flags, running=settled == "r", blocked=settled == "b")


def pause_after(took: float, least: float) -> float:
    """Seconds until the next look, after one that took so many: it costs a quarter of the time at most, up to a limit."""
    return max(least, min(PAUSE_LOOKS * took, PAUSE_MAX_SECONDS))


async def _answer(future: asyncio.Future[T], name: str, timeout: float) -> T:
    """What the call gives, or TimedOut; then it goes on, and nobody hears how it ends."""
    try:
        return await asyncio.wait_for(asyncio.shield(future), timeout)
    except TimeoutError:
        future.add_done_callback(lambda done: done.exception())
        raise TimedOut(f"{name}: no answer in {timeout:.0f} s") from None


def _first_answer(connect: Callable[[], Hypervisor]) -> tuple[Hypervisor, str]:
    """The driver, once it has answered, and the host's boot id."""
    hypervisor = connect()
    try:
        return hypervisor, hypervisor.host().boot_id
    except HypervisorError:
        hypervisor.close()
        raise


def _facts(state: DomainState) -> tuple[int, str, int, int, int | None, ShutdownReason | None]:
    """What of a domain is worth a look, r and b being samples."""
    flags = dataclasses.replace(state.flags, running=False, blocked=False)
    return (state.domid, str(flags), state.memory_kib, state.vcpus_online, state.memory_target_kib,
            state.shutdown_reason)
