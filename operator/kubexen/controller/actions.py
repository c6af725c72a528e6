"""Reconciles XenActions. The phase is written before the act, so an act happens at most once.

Of the acts only Start is the controller's (it lets a domain be placed again); the others are not built yet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kubexen.api.fields import rfc3339
from kubexen.api.names import CONTROLLER_MANAGER
from kubexen.api.notimplemented import notimplemented
from kubexen.api.xenaction import ActionPhase, XenAction
from kubexen.api.xendomain import LifecycleAction, XenDomain
from kubexen.controller.cache import Cache
from kubexen.kube.client import Api
from kubexen.kube.errors import NotFound
from kubexen.kube.kinds import XENACTIONS
from kubexen.plan.domain import what_follows


class ActionReconciler:
    def __init__(self, api: Api, cache: Cache, *, on_domain: Callable[[str], None]) -> None:
        self._api, self._cache, self._on_domain = api, cache, on_domain

    async def reconcile(self, key: str) -> float | None:
        document = self._cache.get(XENACTIONS, key)
        if document is None:
            return None
        action = XenAction.parse(document)
        if action.status.phase.finished:
            return await self._expire(action)
        domain_key = f"{action.metadata.namespace}/{action.spec.domain_name}"
        domain = self._cache.domain(domain_key)
        if missing := notimplemented(action.spec):
            await self._write(action, ActionPhase.FAILED, f"{', '.join(missing)}: not carried out by this version yet")
        elif domain is None:
            await self._write(action, ActionPhase.FAILED, f"There is no XenDomain {action.spec.domain_name!r}")
        elif domain.status.off is None:
            return await self._start_of_one_that_is_not_off(action, domain)
        elif action.status.phase is ActionPhase.PENDING:
            await self._write(action, ActionPhase.RUNNING, "")
            self._on_domain(domain_key)
        else:
            self._on_domain(domain_key)
            return 1.0
        return 0.0

    async def _start_of_one_that_is_not_off(self, action: XenAction, domain: XenDomain) -> float | None:
        ended = domain.status.last_exit
        follows = what_follows(domain, ended.reason) if ended is not None else None
        if action.status.phase is ActionPhase.RUNNING:
            await self._write(action, ActionPhase.SUCCEEDED, "It starts again")
        elif follows is LifecycleAction.DESTROY:
            return 1.0  # its guest has ended and its node is about to give it up: only then it is off, and can be started
        elif follows in (None, LifecycleAction.RESTART):
            await self._write(action, ActionPhase.SUCCEEDED, "It was not off")
        else:
            await self._write(action, ActionPhase.FAILED, f"It ended and is kept as it is ({follows}): to start it again, set "
                              "powerState to Halted and back to Running")
        return 0.0

    async def _expire(self, action: XenAction) -> float | None:
        ended = action.status.completion_time or datetime.now(UTC)
        left = action.spec.ttl_seconds_after_finished - (datetime.now(UTC) - ended).total_seconds()
        if left > 0:
            return left
        with contextlib.suppress(NotFound):
            await self._api.delete(XENACTIONS, action.metadata.name, action.metadata.namespace, uid=action.metadata.uid)
        return None

    async def _write(self, action: XenAction, phase: ActionPhase, message: str) -> None:
        now = datetime.now(UTC)
        start = action.status.start_time or now
        finished = phase.finished
        status: dict[str, Any] = {
            "observedGeneration": action.metadata.generation,
            "phase": str(phase),
            "message": message,
            "startTime": rfc3339(start),
            "conditions": [{
                "type": "Ready",
                "status": {ActionPhase.SUCCEEDED: "True", ActionPhase.FAILED: "False"}.get(phase, "Unknown"),
                "reason": str(phase),
                "message": message,
                "lastTransitionTime": rfc3339(now),
                "observedGeneration": action.metadata.generation,
            }],
        }
        if finished:
            status["completionTime"] = rfc3339(now)
        body = {"metadata": {"resourceVersion": action.metadata.resource_version}, "status": status}
        answer = await self._api.apply(
            XENACTIONS, action.metadata.name, body, action.metadata.namespace,
            manager=CONTROLLER_MANAGER, subresource="status",
        )
        self._cache.put(XENACTIONS, answer)
