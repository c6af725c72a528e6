"""Leases: an agent's sign of life, and the controller's leader election.

`kubernetes.aio.leaderelection` (37.0.2) is not used: a request that hangs holds up its renewal beyond the deadline
(two leaders), an error of the connection ends it, it goes by the wall clock, it does not give the lease back, and it
loads the typed models.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from .client import Api
from .errors import AlreadyExists, ApiError, Conflict, NotFound
from .resources import LEASES, Object

logger = logging.getLogger(__name__)


def micro_time() -> str:
    """Now, as the API's MicroTime."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _now() -> float:
    return asyncio.get_running_loop().time()


class LeaseHolder:
    """Renews the Lease that says that this host's agent lives. Nobody competes for it: an agent that starts again
    takes it over.

    It is not given back at the end: an agent that is restarted is no dead host.
    """

    def __init__(
        self, api: Api, namespace: str, name: str, identity: str, *, duration: float = 15.0, renew_every: float = 5.0
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._renew_every = renew_every
        self._renewed = float("-inf")
        self._acquire_time = micro_time()

    @property
    def held(self) -> bool:
        """Whether others must still see the Lease as valid: the last successful renewal was sent less than its
        duration ago.
        """
        return _now() < self._renewed + self._duration

    async def run(self) -> None:
        """For ever, until it is cancelled. Where the API is away it keeps trying, every `renew_every` seconds."""
        due = _now()
        while True:
            started = _now()
            try:
                # one that hangs must not keep the next one, over a new connection, from succeeding in time
                async with asyncio.timeout(self._renew_every):
                    await self._renew()
                self._renewed = started
            except (ApiError, TimeoutError) as error:
                logger.warning("lease %s/%s was not renewed: %s", self._namespace, self._name, str(error) or "no answer")
            due = max(due + self._renew_every, _now())
            await asyncio.sleep(due - _now())

    async def _renew(self) -> None:
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._duration),
            "acquireTime": self._acquire_time,
            "renewTime": micro_time(),
        }
        try:
            await self._api.merge(LEASES, self._name, {"spec": spec}, self._namespace)
        except NotFound:
            await self._api.create(LEASES, {"metadata": {"name": self._name}, "spec": spec}, self._namespace)


class LeaderElection:
    """At most one of several processes leads; decided by one Lease, by the rules and defaults of client-go's leader
    election.

    Another's lease is taken when it did not change for its duration, by this process' own clock, so clocks need not
    agree. `identity` must be the process' own (a pod's name). A process that was frozen can believe in its lead for a
    moment after it wakes: whatever two leaders may never both do carries a resourceVersion besides.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        *,
        duration: float = 15.0,
        renew_deadline: float = 10.0,
        retry: float = 2.0,
    ) -> None:
        if not retry < renew_deadline < duration:
            raise ValueError("leader election needs retry < renew_deadline < duration")
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._renew_deadline = renew_deadline
        self._retry = retry
        self._lease: Object | None = None  # as last written by us
        self._observed: tuple[object, object] = (None, None)
        self._observed_at = float("-inf")
        self._until = float("-inf")
        self._in_touch = float("-inf")

    @property
    def leading(self) -> bool:
        return _now() < self._until

    def out_of_touch(self) -> list[str]:
        """A check for `kube.health`: whether the Lease could not be read or written lately, so that this process could
        neither keep nor take the lead.
        """
        silent = _now() - self._in_touch
        return [f"lease {self._name}: the API server did not answer for {silent:.0f} s"] if silent > self._duration else []

    async def run(
        self, on_started: Callable[[], Awaitable[None]], on_stopped: Callable[[], None] | None = None
    ) -> None:
        """Waits for the lead, then runs `on_started()` as long as it has it. Returns when the lead was lost
        (on_started is cancelled first) or when on_started has ended; its exception is raised. When it ends otherwise
        than by losing the lead, also by being cancelled, it gives the Lease back, so that the next leader need not
        wait.
        """
        await self._acquire()
        logger.info("%s leads (lease %s/%s)", self._identity, self._namespace, self._name)
        renewing = asyncio.create_task(self._renew())
        work = asyncio.ensure_future(on_started())
        try:
            await asyncio.wait({work, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not work.done():  # while the lead lasts, it is kept up until the work has ended
                work.cancel()
                await asyncio.wait({work, renewing}, return_when=asyncio.FIRST_COMPLETED)
            lost = renewing.done()
            if not work.done():
                await asyncio.wait({work}, timeout=self._duration - self._renew_deadline)
            renewing.cancel()
            await asyncio.wait({renewing})
            self._until = float("-inf")
            logger.log(logging.ERROR if lost else logging.INFO, "%s leads no more", self._identity)
            if on_stopped is not None:
                on_stopped()
            if not lost:
                await self._release()
        if lost:
            renewing.result()
        if not work.done():
            raise TimeoutError(f"{self._identity} lost the lead, and its work did not end")
        if not work.cancelled():
            work.result()

    async def _acquire(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._renew_deadline):
                    if await self._try():
                        return
            except (ApiError, TimeoutError) as error:
                logger.warning("leader election %s/%s: %s", self._namespace, self._name, str(error) or "no answer")
            await asyncio.sleep(self._retry)

    async def _renew(self) -> None:
        """Keeps the lead up; returns when it is lost."""
        while True:
            await asyncio.sleep(self._retry)
            try:
                async with asyncio.timeout_at(self._until):
                    if not await self._try():
                        return
            except (ApiError, TimeoutError) as error:
                logger.warning("leader election %s/%s: %s", self._namespace, self._name, str(error) or "no answer")
                if not self.leading:
                    return

    async def _try(self) -> bool:
        """Takes or renews the Lease, where nobody else holds it."""
        started = _now()
        now = micro_time()
        spec: Object = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._duration),
            "renewTime": now,
        }
        try:
            lease = self._lease or await self._api.get(LEASES, self._name, self._namespace)
            self._in_touch = started
            held = lease.get("spec") or {}
            holder = held.get("holderIdentity")
            if holder != self._identity:
                if holder and not self._expired(held):
                    return False
                spec |= {"acquireTime": now, "leaseTransitions": held.get("leaseTransitions", 0) + 1}
            version = lease["metadata"]["resourceVersion"]
            patch = {"metadata": {"resourceVersion": version}, "spec": spec}
            self._lease = await self._api.merge(LEASES, self._name, patch, self._namespace)
        except NotFound:
            self._lease = None
            spec |= {"acquireTime": now, "leaseTransitions": 0}
            try:
                body = {"metadata": {"name": self._name}, "spec": spec}
                self._lease = await self._api.create(LEASES, body, self._namespace)
            except AlreadyExists:
                return False
        except Conflict:
            self._lease = None  # somebody else wrote: read it in the next try, which says who holds it
            raise
        self._until = started + self._renew_deadline
        self._in_touch = started
        return True

    def _expired(self, held: Object) -> bool:
        record = (held.get("holderIdentity"), held.get("renewTime"))
        if record != self._observed:
            self._observed, self._observed_at = record, _now()
        return _now() >= self._observed_at + (held.get("leaseDurationSeconds") or self._duration)

    async def _release(self) -> None:
        try:
            # as patient as client-go: where nothing is given back, the next leader waits for longer than this
            async with asyncio.timeout(self._renew_deadline):
                try:
                    await self._give_back(self._lease or await self._api.get(LEASES, self._name, self._namespace))
                except Conflict:  # a renewal that was cancelled was carried out nevertheless
                    await self._give_back(await self._api.get(LEASES, self._name, self._namespace))
        except (ApiError, TimeoutError) as error:
            logger.warning("lease %s/%s was not given back: %s", self._namespace, self._name, str(error) or "no answer")
        self._lease = None

    async def _give_back(self, lease: Object) -> None:
        if (lease.get("spec") or {}).get("holderIdentity") != self._identity:
            return
        version = lease["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": None, "renewTime": micro_time()}}
        await self._api.merge(LEASES, self._name, patch, self._namespace)
