"""Reconciles XenDisks: says what is wrong with one, and lets one go only when no domain holds it."""

from __future__ import annotations

from datetime import UTC, datetime

from kubexen.api.base import InvalidObject
from kubexen.api.conditions import ConditionType, Reason, set_condition
from kubexen.api.names import CONTROLLER_MANAGER, DISK_FINALIZER
from kubexen.api.xendisk import DiskData, ReclaimPolicy, XenDisk
from kubexen.api.xendomain import XenDomain
from kubexen.controller.cache import Cache
from kubexen.kube.client import Api
from kubexen.kube.errors import Conflict, NotFound
from kubexen.kube.kinds import XENDISKS, XENDOMAINS
from kubexen.kube.resources import NAMESPACES
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import pool, pool_file

CONDITIONS = (ConditionType.IN_USE, ConditionType.STALLED)
"""The conditions of a XenDisk that are the controller's."""


class DiskReconciler:
    def __init__(self, api: Api, cache: Cache) -> None:
        self._api, self._cache = api, cache

    async def reconcile(self, key: str) -> float | None:
        document = self._cache.get(XENDISKS, key)
        if document is None:
            return None
        disk = XenDisk.parse(document)
        try:
            if disk.deleting:
                await self._delete(disk)
                return None
            if DISK_FINALIZER not in disk.metadata.finalizers:
                await self._finalizers(disk, [*disk.metadata.finalizers, DISK_FINALIZER])
                return 0.0
            return await self._check(disk)
        except (Conflict, NotFound):
            return 0.2

    async def _check(self, disk: XenDisk) -> float | None:
        """Say early what would keep a domain from using it."""
        refs = self._cache.references(disk.metadata.namespace)
        try:
            pool(disk.spec.pool, "spec.pool", refs)
            if disk.spec.source and disk.spec.source.file:
                pool_file(disk.spec.source.file, "spec.source.file", refs)
        except Problem as problem:
            await self._condition(disk, ConditionType.STALLED, True, problem.reason, problem.message)
            return problem.retry_after
        if disk.spec.size is not None and disk.status.size is not None and disk.spec.size > disk.status.size:
            await self._condition(
                disk, ConditionType.STALLED, True, Reason.NOT_IMPLEMENTED,
                f"spec.size: this version does not grow a disk; it stays at {disk.status.size}.",
            )
            return None
        await self._drop_condition(disk, ConditionType.STALLED)
        return None

    async def _delete(self, disk: XenDisk) -> None:
        if DISK_FINALIZER not in disk.metadata.finalizers:
            return
        user = await self._user(disk)
        if user is not None:
            await self._condition(
                disk, ConditionType.IN_USE, True, Reason.IN_USE,
                f"XenDomain {user!r} uses it; it is deleted once that is halted, deleted or no longer names it.",
            )
            return
        made = disk.status.data is DiskData.PRESENT and disk.spec.reclaim_policy is ReclaimPolicy.DELETE
        if made and not self._namespace_forced(disk):
            # The agent of status.nodeName removes the data when it reads this, and says so in status.data.
            await self._condition(disk, ConditionType.IN_USE, False, Reason.DELETING, "Its data is being removed.")
            return
        await self._finalizers(disk, [f for f in disk.metadata.finalizers if f != DISK_FINALIZER])

    async def _user(self, disk: XenDisk) -> str | None:
        """A domain that is on a node and names the disk. Asked of the server: our own picture may be a moment old."""
        domains, _ = await self._api.list(XENDOMAINS, disk.metadata.namespace)
        for document in domains:
            try:
                domain = XenDomain.parse(document)
            except InvalidObject:
                return str(document["metadata"]["name"])
            named = any(d.disk == disk.metadata.name for d in domain.spec.disks)
            holds = disk.status.used_by is not None and disk.status.used_by.uid == domain.metadata.uid
            if (named or holds) and domain.status.node_name:
                return domain.metadata.name
        return None

    def _namespace_forced(self, disk: XenDisk) -> bool:
        return self._cache.get(NAMESPACES, disk.metadata.namespace) is None

    async def _finalizers(self, disk: XenDisk, finalizers: list[str]) -> None:
        patch = {"metadata": {"finalizers": finalizers, "resourceVersion": disk.metadata.resource_version}}
        answer = await self._api.merge(XENDISKS, disk.metadata.name, patch, disk.metadata.namespace)
        if answer["metadata"].get("finalizers") or "deletionTimestamp" not in answer["metadata"]:
            self._cache.put(XENDISKS, answer)

    async def _condition(self, disk: XenDisk, type_: ConditionType, status: bool, reason: str, message: str) -> None:
        disk.status.conditions = set_condition(
            before := disk.status.conditions, type_, status, reason, message, disk.metadata.generation,
            datetime.now(UTC),
        )
        if disk.status.conditions != before:
            await self._write(disk)

    async def _drop_condition(self, disk: XenDisk, type_: ConditionType) -> None:
        if any(c.type == type_ for c in disk.status.conditions):
            disk.status.conditions = [c for c in disk.status.conditions if c.type != type_]
            await self._write(disk)

    async def _write(self, disk: XenDisk) -> None:
        body = {"status": {"conditions": [c.to_dict() for c in disk.status.conditions if c.type in CONDITIONS]}}
        answer = await self._api.apply(
            XENDISKS, disk.metadata.name, body, disk.metadata.namespace,
            manager=CONTROLLER_MANAGER, subresource="status",
        )
        self._cache.put(XENDISKS, answer)
