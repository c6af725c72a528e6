"""A local copy of a kind's objects (all, or those of a selector), kept in step with the API server for ever.

The controller and each agent run one a kind. A change is told by `on_change`, which only puts a key into a queue: the
copy may be behind the server, so whoever acts by it reads the object again first. In particular a removal says 'not
in the selection any more', never 'destroy'.

Lists in pages and compares with the copy, so that changes and deletions missed meanwhile are told as well; then
watches with bookmarks. 410: lists again. Anything else that fails: waits (exponential, with jitter) and goes on from
the last version seen. Every `relist_seconds` it lists in any case.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType

from .backoff import Backoff
from .client import Api
from .errors import ApiError, TooManyRequests, Unavailable
from .resources import Object, Resource, key_of

logger = logging.getLogger(__name__)

WATCH_SECONDS = (240.0, 300.0)
INACTIVITY_TIMEOUT = 100.0
"""Seconds. The API server's bookmarks come about once a minute (at most 75 s apart)."""

TOO_SHORT = 1.0
"""Seconds. A watch that ends sooner, without an event, counts as a failure: else a server that ends each at once is
asked without a pause.
"""

FAILURES_BEFORE_RELIST = 5
"""A version that the server cannot go on from, without saying 410, is given up after that many failures in a row."""

OnChange = Callable[[str, Object | None, Object | None], None]


def without_managed_fields(obj: Object) -> Object:
    """Drops what nobody reads and what is often the largest part of a small object."""
    obj["metadata"].pop("managedFields", None)
    return obj


class Reflector:
    """Keeps `store` like the server's objects and tells each change as `on_change(key, old, new)`, with the store
    changed already.

    `transform` makes the kept object from the server's, which it may change; metadata's uid and resourceVersion have
    to stay.

    Attributes:
        store: key (`namespace/name`, or `name`) to object; read-only, and the objects are to be left as they are.
        synced: set after the first complete list.
        healthy: the last thing heard from the server was no failure.
        last_contact: the event loop's (monotonic) time at which the server was last heard.
    """

    def __init__(
        self,
        api: Api,
        res: Resource,
        *,
        on_change: OnChange,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        page: int = 500,
        relist_seconds: float = 600.0,
        inactivity_timeout: float = INACTIVITY_TIMEOUT,
        transform: Callable[[Object], Object] = without_managed_fields,
        backoff: Backoff | None = None,
    ) -> None:
        self._api = api
        self._res = res
        self._on_change = on_change
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._page = page
        self._relist_seconds = relist_seconds
        self._inactivity_timeout = inactivity_timeout
        self._transform = transform
        self._backoff = backoff or Backoff(first=0.2, longest=30.0, jitter=0.5)
        self._objects: dict[str, Object] = {}
        self._version: str | None = None  # None: list before the next watch
        self._relist_at = 0.0
        self.store: Mapping[str, Object] = MappingProxyType(self._objects)
        self.synced = asyncio.Event()
        self.healthy = False
        self.last_contact = float("-inf")

    async def run(self) -> None:
        """For ever, until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                if self._version is None or loop.time() >= self._relist_at:
                    self._version = await self._list()
                if await self._watch(self._version):
                    continue
                logger.warning("%s: the server ended the watch at once", self._res)
            except ApiError as error:
                self.healthy = False
                logger.warning("%s: %s", self._res, error)
                delay = max(self._backoff.next(), error.retry_after or 0.0)
                passing = isinstance(error, Unavailable | TooManyRequests)
                if not passing or self._backoff.failures >= FAILURES_BEFORE_RELIST:
                    self._version = None
                await asyncio.sleep(delay)
            else:
                await asyncio.sleep(self._backoff.next())

    async def _list(self) -> str:
        """Makes the store like the server's list; returns the list's version."""
        # the store changes only once the list is complete: what is not on the first page may be on the second
        listed: dict[str, Object] = {}
        version = ""
        pages = self._api.pages(
            self._res,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            page=self._page,
        )
        async with aclosing(pages):
            async for items, version in pages:  # noqa: B007 - the last page's version is the result
                self._heard()
                for item in items:
                    key = key_of(item)
                    old = self._objects.get(key)
                    # what is known is not kept twice
                    listed[key] = old if old is not None and _same_version(old, item) else self._transform(item)
        for key in [key for key in self._objects if key not in listed]:
            self._remove(key)
        for key, obj in listed.items():
            self._set(key, obj)
        self._relist_at = asyncio.get_running_loop().time() + self._relist_seconds * random.uniform(0.9, 1.1)
        self.synced.set()
        return version

    async def _watch(self, version: str) -> bool:
        """Follows the changes until the server ends the watch; whether it was a working one."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        working = False
        events = self._api.watch(
            self._res,
            self._namespace,
            resource_version=version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            timeout_seconds=min(random.uniform(*WATCH_SECONDS), max(1.0, self._relist_at - started)),
            inactivity_timeout=self._inactivity_timeout,
        )
        async with aclosing(events):
            async for event in events:
                self._heard()
                self._backoff.reset()
                working = True
                obj: Object = event["object"]
                match event["type"]:
                    case "ADDED" | "MODIFIED":
                        self._set(key_of(obj), self._transform(obj))
                    case "DELETED":
                        self._remove(key_of(obj))
                self._version = obj["metadata"]["resourceVersion"]
        self._heard()
        if loop.time() - started >= TOO_SHORT:
            self._backoff.reset()
            working = True
        return working

    def _heard(self) -> None:
        self.healthy = True
        self.last_contact = asyncio.get_running_loop().time()

    def _set(self, key: str, obj: Object) -> None:
        old = self._objects.get(key)
        if old is not None and old["metadata"]["uid"] != obj["metadata"]["uid"]:
            self._remove(key)  # deleted and made again while nobody looked: two changes, as if seen
            old = None
        self._objects[key] = obj
        if old is None or not _same_version(old, obj):
            self._tell(key, old, obj)

    def _remove(self, key: str) -> None:
        if (old := self._objects.pop(key, None)) is not None:
            self._tell(key, old, None)

    def _tell(self, key: str, old: Object | None, new: Object | None) -> None:
        try:
            self._on_change(key, old, new)
        except Exception:
            logger.exception("%s %s: a change was not taken", self._res, key)


def _same_version(one: Object, other: Object) -> bool:
    same: bool = one["metadata"]["resourceVersion"] == other["metadata"]["resourceVersion"]
    return same
