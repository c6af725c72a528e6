"""What the agent tells of its host: the XenHost's status, as `xl info` and `xl list` show it, and what is wrong with the host.

Ready says whether the hypervisor answers, Healthy whether the host is set up for domains (checks.py); an Event tells each trouble
when it comes, and when it is mended. While the hypervisor does not answer, the last that it said stays.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Set
from datetime import UTC, datetime
from typing import Any

from kubexen import VERSION
from kubexen.agent import checks
from kubexen.agent.checks import Trouble
from kubexen.agent.host import Host
from kubexen.agent.network.bridges import Bridges
from kubexen.agent.storage.directory import Directory
from kubexen.api.conditions import Condition, ConditionType, set_condition
from kubexen.api.names import AGENT_MANAGER
from kubexen.api.quantity import Quantity
from kubexen.api.xenhost import (
    ForeignDomain,
    HostCheck,
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
from kubexen.kube.errors import ApiError, NotFound
from kubexen.kube.events import EventRecorder
from kubexen.kube.kinds import XENHOSTS
from kubexen.kube.resources import Object

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
COUNTERS_EVERY = 60.0
"""Seconds between two writes that tell nothing but free memory and space."""

ROUND_KIB = 16 * 1024
"""What Xen keeps for itself is rounded up to this, so that the capacity does not flicker."""


class HostReporter:
    def __init__(
        self, api: Api, host: Host, events: EventRecorder, *, orphans: Mapping[str, str | None],
        pools: Callable[[], Mapping[str, XenStoragePool]], networks: Callable[[], Mapping[str, XenNetwork]],
        storage: Directory, bridges: Bridges, look: Callable[[HostInfo | None], list[HostCheck]],
        unreachable: Callable[[HypervisorError], tuple[str, str]],
    ) -> None:
        """`orphans`: by uuid, of each domain of ours that was judged, why its object does not hold it; None: it does.
        `look` and `unreachable` are those of checks.py, for this host's files."""
        self._api, self._host, self._events, self._orphans = api, host, events, orphans
        self._pools, self._networks, self._storage, self._bridges = pools, networks, storage, bridges
        self._look, self._unreachable = look, unreachable
        self._object: Object = {}
        self._conditions: list[Condition] = []
        self._written: dict[str, Any] = {}
        self._written_at = 0.0
        self._overhead_kib: int | None = None
        self._troubles: dict[str, Trouble] = {}

    async def run(self) -> None:
        """For ever."""
        await self._host.asked.wait()
        while True:
            try:
                if not self._object:
                    await self._find()
                await self._report()
            except NotFound:
                self._object = {}  # somebody deleted it: make it again
            except (ApiError, HypervisorError) as error:
                logger.warning("XenHost: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _find(self) -> None:
        """Make the object, or take up what an agent before this one has written: it stays until the hypervisor answers."""
        self._object = await self._api.apply(XENHOSTS, self._host.node, {}, manager=AGENT_MANAGER)
        self._written = self._object.get("status") or {}
        self._conditions = XenHostStatus.parse(self._written).conditions

    async def _report(self) -> None:
        document, troubles = await self._document()
        loop = asyncio.get_running_loop()
        if document != self._written and (
            _without_counters(document) != _without_counters(self._written)
            or loop.time() >= self._written_at + COUNTERS_EVERY
        ):
            await self._api.apply(XENHOSTS, self._host.node, {"status": document}, manager=AGENT_MANAGER,
                                  subresource="status")
            self._written, self._written_at = document, loop.time()
        self._tell({trouble.key: trouble for trouble in troubles})

    async def _document(self) -> tuple[dict[str, Any], list[Trouble]]:
        """The status as it is to be, and what is wrong."""
        try:
            info = await self._host.info()
        except HypervisorError as error:
            reason, message = self._unreachable(error)
            troubles = [Trouble("hypervisor", reason, message)]
            document = self._without_answer(reason) | self._of_files(None)
            ready = (False, reason, message)
        else:
            status = self.status(info, self._host.domains)
            document = status.to_dict() | self._of_files(info)
            troubles = []
            ready = (True, "Ready", "The hypervisor answers.")
        troubles += checks.troubles(XenHostStatus.parse(document))
        now = datetime.now(UTC)
        self._conditions = set_condition(self._conditions, ConditionType.READY, *ready, None, now)
        self._conditions = set_condition(self._conditions, ConditionType.HEALTHY, *_verdict(troubles), None, now)
        document["agentVersion"] = VERSION
        document["conditions"] = [c.to_dict() for c in self._conditions]
        return document, troubles

    def _without_answer(self, reason: str) -> dict[str, Any]:
        """What was last known of it. Where no Xen runs there is no memory for guests; the boot id is kept, for a fence."""
        known = self._written if reason != checks.NO_XEN else {"bootID": self._written.get("bootID")}
        return {key: value for key, value in known.items() if value is not None} | {"nodeName": self._host.node}

    def _of_files(self, info: HostInfo | None) -> dict[str, Any]:
        """What the host's files tell, whether the hypervisor answers or not."""
        found = self._look(info)
        names = {check.name for check in found}
        old = [check for check in XenHostStatus.parse(self._written).checks if check.name not in names]
        return XenHostStatus(
            pools=[self._pool(pool) for _, pool in sorted(self._pools().items())],
            networks=[self._network(network) for _, network in sorted(self._networks().items())],
            checks=found if info is not None else sorted([*found, *old], key=lambda check: check.name),
        ).to_dict(only={"pools", "networks", "checks"})

    def _tell(self, troubles: dict[str, Trouble]) -> None:
        """An Event for each trouble that is new, and for each that is over."""
        for key, trouble in troubles.items():
            old = self._troubles.get(key)
            if old is None or old.reason != trouble.reason:
                self._events.event(self._object, "Warning", trouble.reason, trouble.message)
                logger.warning("%s: %s", trouble.reason, trouble.message)
        for key in self._troubles.keys() - troubles.keys():
            self._events.event(self._object, "Normal", "Mended", f"No more: {self._troubles[key].message}")
        self._troubles = troubles

    def status(self, info: HostInfo, domains: Mapping[str, DomainState]) -> XenHostStatus:
        """What the hypervisor tells."""
        unmanaged = [s for s in domains.values() if s.owner is None]
        told = {orphan.get("uuid") for orphan in self._written.get("orphaned") or ()}
        orphaned = [s for s in domains.values() if s.owner is not None and self._is_orphan(s.uuid, told)]
        used = sum(s.memory_kib for s in domains.values())
        if self._overhead_kib is None:
            rest = info.total_memory_kib - info.free_memory_kib - info.dom0_memory_kib - used
            self._overhead_kib = -(-max(rest, 0) // ROUND_KIB) * ROUND_KIB
        strangers = sum(max(s.memory_kib, s.max_memory_kib) for s in (*unmanaged, *orphaned))
        guests = info.total_memory_kib - info.dom0_memory_kib - self._overhead_kib - strangers
        return XenHostStatus(
            node_name=self._host.node,
            bootID=info.boot_id,
            xen=XenInfo(version=info.hypervisor_version, caps=" ".join(info.capabilities),
                        command_line=info.command_line[:2048]),
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
        )

    def _is_orphan(self, uuid: str, told: Set[str]) -> bool:
        """As this agent has judged it; until then as the one before it has told: who takes back that a domain runs here
        lets it be started elsewhere."""
        return self._orphans[uuid] is not None if uuid in self._orphans else uuid in told

    def _pool(self, pool: XenStoragePool) -> HostPool:
        name = pool.metadata.name
        if pool.spec.directory is None:
            return HostPool(name=name, ready=False, message="only directories are carried out yet",
                            mend="use a pool with a directory")
        try:
            space = self._storage.space(pool.spec.directory.path)
        except OSError as error:
            return HostPool(name=name, ready=False,
                            message=f"{pool.spec.directory.path}: {error.strerror}",
                            mend="make it on this host, or mount it")
        return HostPool(name=name, ready=True, total=Quantity(space.total), free=Quantity(space.free))

    def _network(self, network: XenNetwork) -> HostNetwork:
        ready = self._bridges.exists(network.spec.bridge)
        return HostNetwork(name=network.metadata.name, ready=ready,
                           message="" if ready else f"there is no bridge {network.spec.bridge!r}",
                           mend=None if ready else f"make it on this host (ip link add {network.spec.bridge} type bridge), "
                           "or change spec.bridge")


def _verdict(troubles: list[Trouble]) -> tuple[bool, str, str]:
    """Of Healthy. A warning alone is no illness, and is told all the same."""
    text = " ".join(trouble.message for trouble in troubles) or "Every check passes."
    reason = troubles[0].reason if troubles else "ChecksPass"
    return all(trouble.warning for trouble in troubles), reason, text


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
