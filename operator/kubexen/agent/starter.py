"""Starts a domain: what its spec names is looked up and checked, its disks and its seed are made, and the hypervisor is told.

Called by domains.py, which has read the object afresh and looked whether the domain is there. It writes nothing to the API
server but what belongs to disks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from kubexen.agent.claims import Claims
from kubexen.agent.disks import Disks
from kubexen.agent.host import START_SECONDS, Host
from kubexen.agent.network.bridges import Bridges
from kubexen.agent.seeds import Seeds
from kubexen.agent.storage.directory import Directory
from kubexen.api.conditions import Reason
from kubexen.api.xendisk import XenDisk
from kubexen.api.xendomain import PowerState, XenDomain
from kubexen.api.xennetwork import XenNetwork
from kubexen.api.xenstoragepool import XenStoragePool
from kubexen.kube.client import Api
from kubexen.kube.errors import NotFound
from kubexen.kube.kinds import XENDISKS, XENDOMAINS
from kubexen.kube.resources import NAMESPACES
from kubexen.plan import affinity, claims
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import References, config, directory, domain_uuid, resolve
from kubexen.plan.started import note


class Starter:
    def __init__(
        self, api: Api, host: Host, *, pools: Callable[[], Mapping[str, XenStoragePool]],
        networks: Callable[[], Mapping[str, XenNetwork]], disks: Disks, claims: Claims, seeds: Seeds, storage: Directory,
        bridges: Bridges,
    ) -> None:
        self._api, self._host, self._pools, self._networks = api, host, pools, networks
        self._disks, self._claims, self._seeds = disks, claims, seeds
        self._storage, self._bridges = storage, bridges

    async def start(self, domain: XenDomain) -> None:
        """Check everything, make the disks, start. Nothing is made before all was checked.

        Raises:
            Problem: the spec cannot be carried out here, or not yet.
            HypervisorError: the host refused.
        """
        refs = await self._references(domain)
        resolved = resolve(domain, refs)
        direct = domain.spec.boot.direct
        assert direct is not None  # resolve() has said so
        for file, path, field in ((direct.kernel, resolved.kernel, "kernel"), (direct.initrd, resolved.initrd, "initrd")):
            if file is not None:
                await asyncio.to_thread(
                    self._storage.file, path, str(directory(refs.pools[file.pool])), f"spec.boot.direct.{field}"
                )
        for interface in resolved.interfaces:
            self._bridges.check(interface.network.spec.bridge, interface.network.metadata.name)
        if domain.spec.cpu.affinity:
            affinity.check(domain, self._host.node, (await self._host.info()).cpus)
        missing = [i.name for i in domain.spec.interfaces if i.name not in domain.status.mac_addresses]
        if missing:
            raise Problem(Reason.STARTING, f"The new interface {missing[0]} gets its MAC address at the next placement: "
                          "powerState Halted and back to Running", retry_after=30)
        await self._check_sole(domain)
        seed = await asyncio.to_thread(self._seeds.read, domain, resolved)
        async with self._claims.opened(domain, resolved) as opened:
            await self._disks.prepare(domain, resolved, refs)
            await self._claims.attach(opened)
        if seed is not None:
            await self._seeds.write(domain, seed)
        await self._host.call(
            self._host.hypervisor.create, config(domain, resolved, note=note(domain)),
            about=domain_uuid(domain), timeout=START_SECONDS, paused=domain.spec.power_state is PowerState.PAUSED,
        )

    async def _references(self, domain: XenDomain) -> References:
        """The objects that the spec names: disks and the namespace read afresh, pools and networks as watched."""
        names = {entry.disk for entry in domain.spec.disks if entry.disk}
        found, disks = await asyncio.gather(
            self._api.get(NAMESPACES, domain.metadata.namespace),
            asyncio.gather(*(self._disk(name, domain.metadata.namespace) for name in names)),
        )
        present = {disk.metadata.name: disk for disk in disks if disk is not None}
        labels = found["metadata"].get("labels") or {}
        return References(present, self._pools(), self._networks(), labels, claims.recorded(domain))

    async def _check_sole(self, domain: XenDomain) -> None:
        """That no other domain on a node has one of its claims, of all domains of the namespace as they are now."""
        if domain.status.claims:
            documents, _ = await self._api.list(XENDOMAINS, domain.metadata.namespace)
            others = [XenDomain.parse(document) for document in documents]
            claims.check_sole(domain, domain.status.claims, others)

    async def _disk(self, name: str, namespace: str) -> XenDisk | None:
        try:
            return XenDisk.parse(await self._api.get(XENDISKS, name, namespace))
        except NotFound:
            return None
