"""Kubernetes Events: what a person reads under `kubectl describe`. Never the place for state: they may be lost.

The controller and the agent have one recorder each. `event()` returns at once; `run()` writes behind it. The same
event again within ten minutes of the last one is no new object but a count (`series`), written at most once a minute.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass
from typing import Literal

from .client import Api
from .errors import ApiError, NotFound, TooManyRequests, Unavailable
from .lease import micro_time
from .queue import WorkQueue
from .resources import EVENTS, Object

logger = logging.getLogger(__name__)

SAME_FOR = 600.0
COUNT_EVERY = 60.0
"""Seconds."""

LIMIT = 1000
"""Different events that are kept at once; what comes beyond is dropped, with a line in the log."""

NOTE_LENGTH = 1024
NAME_LENGTH = 253
"""The API server's limits, in characters."""


@dataclass
class _Recorded:
    """An event that happened once or more often, and what of it is written."""

    body: Object
    last_seen: float
    last_time: str
    count: int = 1
    written: int = 0
    written_at: float = float("-inf")


class EventRecorder:
    """Records events in the name of one component (`kubexen-agent`) and instance (the node's or the pod's name)."""

    def __init__(self, api: Api, component: str, instance: str) -> None:
        self._api = api
        self._component = component
        self._instance = instance
        self._recorded: dict[str, _Recorded] = {}
        self._queue = WorkQueue("events")
        self._writing = asyncio.Lock()

    def event(
        self,
        obj: Object,
        type_: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        related: Object | None = None,
    ) -> None:
        """Says that something happened to `obj` (its apiVersion, kind and metadata are read). Never waits, never
        raises; in the event loop's thread.
        """
        try:
            self._record(obj, type_, reason, message, related)
        except Exception:
            logger.exception("event %s was not recorded: %s", reason, message)

    async def run(self) -> None:
        """Writes what is recorded; for ever, until it is cancelled."""
        await self._queue.run(self._write, workers=1)

    async def flush(self) -> None:
        """Writes what is not written yet, each once; for the end of a process, also after `run()` was cancelled."""
        for key, recorded in list(self._recorded.items()):
            if recorded.count > recorded.written:
                try:
                    recorded.written_at = float("-inf")
                    await self._write(key)
                except ApiError as error:
                    logger.warning("event %s was not written: %s", recorded.body["reason"], error)

    def _record(self, obj: Object, type_: str, reason: str, message: str, related: Object | None) -> None:
        now = asyncio.get_running_loop().time()
        metadata = obj["metadata"]
        key = "\n".join((metadata.get("uid", ""), reason, message))
        recorded = self._recorded.get(key)
        if recorded is not None and now < recorded.last_seen + SAME_FOR:
            recorded.count += 1
            recorded.last_seen = now
            recorded.last_time = micro_time()
            if recorded.written:  # else it is on its way
                self._queue.add_after(key, recorded.written_at + COUNT_EVERY - now)
            return
        if recorded is None and len(self._recorded) >= LIMIT:
            logger.warning("event dropped, for %d are kept already: %s %s", LIMIT, reason, message)
            return
        time = micro_time()
        # a cluster-scoped object's events are in `default`, as the core components' are
        namespace = metadata.get("namespace") or "default"
        body: Object = {
            "metadata": {"name": _event_name(metadata["name"]), "namespace": namespace},
            "eventTime": time,
            "type": type_,
            "reason": reason,
            "action": reason,
            "note": message if len(message) <= NOTE_LENGTH else message[: NOTE_LENGTH - 3] + "...",
            "regarding": _reference(obj),
            "reportingController": self._component,
            "reportingInstance": self._instance,
        }
        if related is not None:
            body["related"] = _reference(related)
        self._recorded[key] = _Recorded(body, now, time)
        self._queue.add(key)

    async def _write(self, key: str) -> float | None:
        """Brings one event to the server; returns when to look at it again."""
        async with self._writing:
            recorded = self._recorded.get(key)
            if recorded is None:
                return None
            now = asyncio.get_running_loop().time()
            if recorded.count > recorded.written:
                if recorded.written and (early := recorded.written_at + COUNT_EVERY - now) > 0:
                    return early
                count = recorded.count
                try:
                    await self._send(recorded)
                except (Unavailable, TooManyRequests):
                    if now < recorded.last_seen + SAME_FOR:
                        raise  # the queue tries again
                    logger.warning("event given up: %s %s", recorded.body["reason"], recorded.body["note"])
                except ApiError as error:  # no right, namespace gone: trying again would not help
                    logger.warning("event %s was refused: %s", recorded.body["reason"], error)
                recorded.written = count
                recorded.written_at = now
                if recorded.count > count:
                    return COUNT_EVERY
            left = recorded.last_seen + SAME_FOR - now
            if left > 0:
                return left
            del self._recorded[key]
            self._queue.forget(key)
            return None

    async def _send(self, recorded: _Recorded) -> None:
        metadata = recorded.body["metadata"]
        if recorded.written:
            series = {"count": recorded.count, "lastObservedTime": recorded.last_time}
            try:
                await self._api.merge(EVENTS, metadata["name"], {"series": series}, metadata["namespace"])
                return
            except NotFound:  # the server drops Events after an hour
                metadata["name"] = _event_name(recorded.body["regarding"]["name"])
        body = dict(recorded.body)
        if recorded.count > 1:  # a series counts from two
            body["series"] = {"count": recorded.count, "lastObservedTime": recorded.last_time}
        await self._api.create(EVENTS, body, metadata["namespace"])


def _event_name(name: str) -> str:
    suffix = uuid.uuid4().hex[:16]
    return f"{name[: NAME_LENGTH - len(suffix) - 1].rstrip('.-')}.{suffix}"


def _reference(obj: Object) -> Object:
    metadata = obj["metadata"]
    reference = {
        "apiVersion": obj.get("apiVersion"),
        "kind": obj.get("kind"),
        "namespace": metadata.get("namespace"),
        "name": metadata.get("name"),
        "uid": metadata.get("uid"),
        "resourceVersion": metadata.get("resourceVersion"),
    }
    return {field: value for field, value in reference.items() if value}
