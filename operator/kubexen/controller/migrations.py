"""Reconciles XenMigrations: none is carried out yet, and each is told so. Drains move domains by a restart."""

from __future__ import annotations

from datetime import UTC, datetime

from kubexen.api.conditions import Reason
from kubexen.api.fields import rfc3339
from kubexen.api.names import CONTROLLER_MANAGER
from kubexen.api.xenmigration import MigrationPhase, XenMigration
from kubexen.controller.cache import Cache
from kubexen.kube.client import Api
from kubexen.kube.kinds import XENMIGRATIONS

MESSAGE = "This version moves a domain only when its node is drained (kubectl drain), by a restart."


class MigrationReconciler:
    def __init__(self, api: Api, cache: Cache) -> None:
        self._api, self._cache = api, cache

    async def reconcile(self, key: str) -> float | None:
        document = self._cache.get(XENMIGRATIONS, key)
        if document is None:
            return None
        migration = XenMigration.parse(document)
        if migration.status.phase.finished:
            return None
        now = rfc3339(datetime.now(UTC))
        generation = migration.metadata.generation
        condition = {"type": "Ready", "status": "False", "reason": str(Reason.NOT_IMPLEMENTED), "message": MESSAGE,
                     "lastTransitionTime": now, "observedGeneration": generation}
        stalled = condition | {"type": "Stalled", "status": "True"}
        body = {
            "metadata": {"resourceVersion": migration.metadata.resource_version},
            "status": {"observedGeneration": generation, "phase": str(MigrationPhase.FAILED), "message": MESSAGE,
                       "completionTime": now, "conditions": [condition, stalled]},
        }
        answer = await self._api.apply(
            XENMIGRATIONS, migration.metadata.name, body, migration.metadata.namespace,
            manager=CONTROLLER_MANAGER, subresource="status",
        )
        self._cache.put(XENMIGRATIONS, answer)
        return None
