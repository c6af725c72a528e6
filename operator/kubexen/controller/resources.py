"""Reconciles what administrators give (XenNetworks, XenStoragePools): Ready when this version can carry them out."""

from __future__ import annotations

from datetime import UTC, datetime

from kubexen.api.conditions import ConditionType, Reason, set_condition
from kubexen.api.names import CONTROLLER_MANAGER
from kubexen.api.notimplemented import notimplemented
from kubexen.api.xennetwork import XenNetwork
from kubexen.api.xenstoragepool import XenStoragePool
from kubexen.controller.cache import Cache
from kubexen.kube.client import Api
from kubexen.kube.resources import Resource


class ResourceReconciler:
    def __init__(self, api: Api, cache: Cache, res: Resource, kind: type[XenNetwork] | type[XenStoragePool]) -> None:
        self._api, self._cache, self._res, self._kind = api, cache, res, kind

    async def reconcile(self, name: str) -> float | None:
        document = self._cache.get(self._res, name)
        if document is None:
            return None
        found = self._kind.parse(document)
        missing = notimplemented(found.spec)
        nobody = found.spec.namespace_selector is None
        if missing:
            verdict = (False, str(Reason.NOT_IMPLEMENTED), f"{', '.join(missing)}: not carried out by this version yet")
        elif nobody:
            verdict = (True, str(Reason.READY), "No namespace may use it yet: spec.namespaceSelector is not given.")
        else:
            verdict = (True, str(Reason.READY), "Namespaces that its selector admits may use it.")
        before = found.status.conditions
        conditions = set_condition(
            before, ConditionType.READY, *verdict, found.metadata.generation, datetime.now(UTC)
        )
        if conditions != before or found.status.observed_generation != found.metadata.generation:
            body = {"status": {"observedGeneration": found.metadata.generation,
                               "conditions": [c.to_dict() for c in conditions]}}
            answer = await self._api.apply(self._res, name, body, manager=CONTROLLER_MANAGER, subresource="status")
            self._cache.put(self._res, answer)
        return None
