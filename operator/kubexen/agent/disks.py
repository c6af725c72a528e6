"""The disks of this node: made and claimed before a domain starts, removed when the controller lets them go.

A disk belongs to one domain (status.usedBy), claimed in a write that carries the resourceVersion it was checked on, so that two
agents cannot both win. It stays claimed until the controller frees it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from kubexen.agent.devices import FileDevices
from kubexen.agent.host import Host
from kubexen.agent.storage.directory import Directory
from kubexen.api.conditions import ConditionType, Reason, find, set_condition
from kubexen.api.names import AGENT_MANAGER
from kubexen.api.quantity import Quantity
from kubexen.api.xendisk import DiskData, DiskUser, ReclaimPolicy, XenDisk
from kubexen.api.xendomain import XenDomain
from kubexen.api.xenstoragepool import XenStoragePool
from kubexen.kube.client import Api
from kubexen.kube.errors import Conflict, NotFound
from kubexen.kube.kinds import XENDISKS
from kubexen.kube.resources import Object
from kubexen.plan import started
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import References, Resolved, ResolvedDisk, directory, disk_path, domain_uuid, pool_file

logger = logging.getLogger(__name__)


class Disks:
    def __init__(self, api: Api, storage: Directory, node: str, pools: Callable[[], Mapping[str, XenStoragePool]],
                 host: Host, devices: FileDevices) -> None:
        self._api, self._storage, self._node = api, storage, node
        self._pools, self._host, self._devices = pools, host, devices

    async def prepare(self, domain: XenDomain, resolved: Resolved, refs: References) -> None:
        """Make and claim every disk of a domain; all are checked before the first is made.

        Raises:
            Problem: why the domain cannot have them.
            HypervisorError: one that is read-only cannot be made a device.
        """
        sources = [self._check(disk, refs) for disk in resolved.disks]
        for disk, source in zip(resolved.disks, await asyncio.gather(*sources), strict=True):
            size = await asyncio.to_thread(self._storage.make, disk.path, disk.disk.spec.size, source)
            await self._claim(domain, disk.disk, size)
            if disk.read_only:
                with self._storage.opened(disk.path) as file:
                    await self._devices.make(domain_uuid(domain), disk.target, file)

    async def _check(self, entry: ResolvedDisk, refs: References) -> Path | None:
        disk = entry.disk
        if disk.status.node_name not in (None, self._node):
            if not entry.pool.spec.shared:
                raise Problem(Reason.WAITING_FOR_NODE, f"XenDisk {disk.metadata.name!r} is on node {disk.status.node_name}")
            raise Problem(Reason.WAITING_FOR_DISK, f"XenDisk {disk.metadata.name!r} is node {disk.status.node_name}'s until the "
                          "controller hands it over", retry_after=0.5)
        if disk.status.data is DiskData.PRESENT and self._storage.size(entry.path) is None:
            raise Problem(
                "DiskLost", f"XenDisk {disk.metadata.name!r}: its data is not in pool {disk.spec.pool!r} on this host; "
                "bring it back (is the pool mounted?), it is not made anew", retry_after=10)
        if disk.status.data is DiskData.PRESENT:
            return None
        if not self._storage.exists(str(directory(entry.pool))):
            raise Problem(
                "PoolUnusable", f"XenDisk {disk.metadata.name!r} spec.pool: the directory of pool {disk.spec.pool!r} is not "
                f"there on host {self._node}; ask an administrator to make or mount it", retry_after=30)
        if entry.source is None:
            return None
        field = f"XenDisk {disk.metadata.name!r} spec.source.file"
        path = pool_file(entry.source, field, refs)
        in_pool = str(directory(refs.pools[entry.source.pool]))
        source = await asyncio.to_thread(self._storage.file, path, in_pool, field)
        length = source.stat().st_size
        if disk.spec.size is not None and disk.spec.size < length:
            raise Problem(
                Reason.INVALID_SPEC, f"XenDisk {disk.metadata.name!r} spec.size is {disk.spec.size} and its source has "
                f"{Quantity(length)}: raise it to at least that", stalled=True)
        return source

    async def _claim(self, domain: XenDomain, disk: XenDisk, size: int) -> None:
        status = disk.status
        # Under each anchor anew, so that it is a write: whoever would free the disk by an older picture of it then cannot.
        mine = DiskUser(name=domain.metadata.name, uid=domain.metadata.uid, anchorUID=domain.status.anchor_uid)
        if (status.used_by, status.node_name, status.data, status.size) == (mine, self._node, DiskData.PRESENT, size):
            return
        status.used_by, status.node_name, status.data, status.size = mine, self._node, DiskData.PRESENT, Quantity(size)
        try:
            await self._write(disk, True, Reason.READY, f"Its data is in pool {disk.spec.pool!r}.")
        except Conflict:
            raise Problem(Reason.WAITING_FOR_DISK, f"XenDisk {disk.metadata.name!r} changed meanwhile; looking again",
                          retry_after=0.2) from None

    async def reconcile(self, document: Object) -> float | None:
        """Remove a deleted disk's data, once the controller has seen that no domain uses it."""
        name, namespace = document["metadata"]["name"], document["metadata"]["namespace"]
        if "deletionTimestamp" not in document["metadata"]:
            return None
        try:
            disk = XenDisk.parse(await self._api.get(XENDISKS, name, namespace))
        except NotFound:
            return None
        free = find(disk.status.conditions, ConditionType.IN_USE)
        if (
            not disk.deleting
            or disk.status.node_name != self._node
            or disk.status.data is not DiskData.PRESENT
            or disk.spec.reclaim_policy is not ReclaimPolicy.DELETE
            or free is None
            or free.is_true
        ):
            return None
        await self._host.look()
        if user := next((state.name for state in self._host.domains.values() if started.may_have(state, namespace, name)), None):
            logger.warning("%s: its data stays while the domain %s is on this host, which may have it", disk.key, user)
            return 2.0
        pool = self._pools().get(disk.spec.pool)
        if pool is None:
            logger.warning("%s: its pool %s is gone; its data stays", disk.key, disk.spec.pool)
        else:
            await asyncio.to_thread(self._storage.remove, disk_path(disk, pool))
        disk.status.data, disk.status.used_by = DiskData.REMOVED, None
        try:
            await self._write(disk, False, Reason.DELETING, "Its data was removed.")
        except Conflict:
            return 0.2
        return None

    async def _write(self, disk: XenDisk, ready: bool, reason: str, message: str) -> None:
        conditions = set_condition(
            disk.status.conditions, ConditionType.READY, ready, reason, message, disk.metadata.generation,
            datetime.now(UTC),
        )
        status = disk.status.to_dict(only={"node_name", "size", "used_by", "data"})
        status["observedGeneration"] = disk.metadata.generation
        status["conditions"] = [c.to_dict() for c in conditions if c.type == ConditionType.READY]
        body = {"metadata": {"resourceVersion": disk.metadata.resource_version}, "status": status}
        await self._api.apply(XENDISKS, disk.metadata.name, body, disk.metadata.namespace,
                              manager=AGENT_MANAGER, subresource="status")
