"""What the agent tells of its host: the XenHost's status, as `xl info` and `xl list` show it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from kubexen.agent.host import Host
from kubexen.agent.network.bridges import Bridges
from kubexen.agent.storage.directory import Directory
from kubexen.api.conditions import Condition, set_condition
from kubexen.api.names import AGENT_MANAGER
from kubexen.api.quantity import Quantity
from kubexen.api.xenhost import (
    ForeignDomain,
    HostCpus,
    HostMemory,
    HostNetwork,
    HostPool,
    OrphanedDomain,
    XenHostStatus,
    XenInfo,
)
from kubexen.api.xennetwork import XenNetwork
from kubexen.api.xenstoragepool import XenStoragePool
from kubexen.hypervisor.errors import HypervisorError
from kubexen.hypervisor.port import DomainState, HostInfo
from kubexen.kube.client import Api
from kubexen.kube.errors import ApiError
from kubexen.kube.kinds import XENHOSTS

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
COUNTERS_EVERY = 60.0
"""Seconds between two writes that tell nothing but free memory and space."""

ROUND_KIB = 16 * 1024
"""What Xen keeps for itself is rounded up to this, so that the capacity does not flicker."""


class HostReporter:
    def __init__(
        self, api: Api, host: Host, *, orphans: Mapping[str, str], pools: Callable[[], Mapping[str, XenStoragePool]],
        networks: Callable[[], Mapping[str, XenNetwork]], storage: Directory, bridges: Bridges,
    ) -> None:
        self._api, self._host, self._orphans = api, host, orphans
        self._pools, self._networks, self._storage, self._bridges = pools, networks, storage, bridges
        self._conditions: list[Condition] = []
        self._written: dict[str, Any] = {}
        self._written_at = 0.0
        self._overhead_kib: int | None = None

    async def run(self) -> None:
        """For ever."""
        made = False
        while True:
            try:
                if not made:
                    found = await self._api.apply(XENHOSTS, self._host.node, {}, manager=AGENT_MANAGER)
                    self._conditions = XenHostStatus.parse(found.get("status") or {}).conditions
                    made = True
                await self._report()
            except (ApiError, HypervisorError) as error:
                logger.warning("XenHost: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _report(self) -> None:
        try:
            info = await self._host.info()
            status = self.status(info, self._host.domains)
            verdict = (True, "Ready", "The hypervisor answers.")
        except HypervisorError as error:
            status = XenHostStatus(node_name=self._host.node)
            verdict = (False, error.reason, f"{error}. Running domains run on; check libvirtd in dom0.")
        self._conditions = set_condition(self._conditions, "Ready", *verdict, None, datetime.now(UTC))
        document = status.to_dict()
        if not verdict[0]:
            document = {**self._written, "nodeName": self._host.node}
        document["conditions"] = [c.to_dict() for c in self._conditions]
        loop = asyncio.get_running_loop()
        if document == self._written:
            return
        if _without_counters(document) == _without_counters(self._written) \
                and loop.time() < self._written_at + COUNTERS_EVERY:
            return
        await self._api.apply(XENHOSTS, self._host.node, {"status": document}, manager=AGENT_MANAGER,
                              subresource="status")
        self._written, self._written_at = document, loop.time()

    def status(self, info: HostInfo, domains: Mapping[str, DomainState]) -> XenHostStatus:
        """The status without conditions."""
        unmanaged = [s for s in domains.values() if s.owner is None]
        orphaned = [s for s in domains.values() if s.owner is not None and s.uuid in self._orphans]
        used = sum(s.memory_kib for s in domains.values())
        if self._overhead_kib is None:
            rest = info.total_memory_kib - info.free_memory_kib - info.dom0_memory_kib - used
            self._overhead_kib = -(-max(rest, 0) // ROUND_KIB) * ROUND_KIB
        strangers = sum(max(s.memory_kib, s.max_memory_kib) for s in (*unmanaged, *orphaned))
        guests = info.total_memory_kib - info.dom0_memory_kib - self._overhead_kib - strangers
        return XenHostStatus(
            node_name=self._host.node,
            bootID=info.boot_id,
            xen=XenInfo(version=info.hypervisor_version, caps=" ".join(info.capabilities)),
            kernel=os.uname().release,
            cpus=HostCpus(physical=info.cpus, nodes=info.nodes, cores_per_socket=info.cores_per_socket,
                          threads_per_core=info.threads_per_core),
            memory=HostMemory(total=_mib(info.total_memory_kib), free=_mib(info.free_memory_kib), for_guests=_mib(guests)),
            scheduler=info.scheduler,
            capabilities=sorted(str(c) for c in self._host.hypervisor.capabilities),
            driver=info.driver,
            flags_source=info.flags_source,
            toolstack={"libvirt" if not info.driver.startswith("sim") else "simulator": info.toolstack_version},
            domains=sum(1 for s in domains.values() if s.owner is not None),
            unmanaged=[ForeignDomain(name=s.name, domid=s.domid, uuid=s.uuid, memory=_mib(s.memory_kib),
                                     vcpus=s.vcpus) for s in sorted(unmanaged, key=lambda s: s.name)],
            orphaned=[OrphanedDomain(namespace=s.owner.namespace, name=s.owner.name, uid=s.owner.uid, uuid=s.uuid,
                                     memory=_mib(s.memory_kib), vcpus=s.vcpus)
                      for s in sorted(orphaned, key=lambda s: s.name) if s.owner],
            pools=[self._pool(pool) for _, pool in sorted(self._pools().items())],
            networks=[self._network(network) for _, network in sorted(self._networks().items())],
        )

    def _pool(self, pool: XenStoragePool) -> HostPool:
        name = pool.metadata.name
        if pool.spec.directory is None:
            return HostPool(name=name, ready=False, message="only directories are carried out yet")
        try:
            space = self._storage.space(pool.spec.directory.path)
        except OSError as error:
            return HostPool(name=name, ready=False, message=f"{pool.spec.directory.path}: {error.strerror}")
        return HostPool(name=name, ready=True, total=Quantity(space.total), free=Quantity(space.free))

    def _network(self, network: XenNetwork) -> HostNetwork:
        ready = self._bridges.exists(network.spec.bridge)
        return HostNetwork(name=network.metadata.name, ready=ready,
                           message="" if ready else f"there is no bridge {network.spec.bridge!r}")


def _mib(kib: int) -> Quantity:
    """Whole MiB, as xl info and xl list show them."""
    return Quantity.from_mib(max(kib, 0) // 1024)


def _without_counters(document: dict[str, Any]) -> dict[str, Any]:
    result = dict(document)
    result.pop("domains", None)
    result["memory"] = {k: v for k, v in (document.get("memory") or {}).items() if k != "free"}
    result["pools"] = [{k: v for k, v in pool.items() if k not in ("free", "total")}
                       for pool in document.get("pools") or ()]
    return result
