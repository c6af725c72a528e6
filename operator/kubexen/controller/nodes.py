"""Reconciles Nodes: publishes what each Xen host has for guests, and finds out which hosts are lost or fenced."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from kubexen.api.names import MEMORY_RESOURCE, VCPUS_RESOURCE
from kubexen.api.quantity import Quantity
from kubexen.controller.cache import Cache
from kubexen.kube.client import Api
from kubexen.kube.errors import NotFound
from kubexen.kube.kinds import XENHOSTS
from kubexen.kube.resources import LEASES, NODES
from kubexen.plan.capacity import Held, capacity
from kubexen.plan.resolve import request, reservation
from kubexen.plan.unplaced import Largest
from kubexen.plan.world import NodeState

logger = logging.getLogger(__name__)

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
LOOK_AGAIN = 5.0
CLOCK_SKEW = 5.0
"""Seconds that a host's clock may be behind ours before its Lease looks expired too early."""


class NodeReconciler:
    def __init__(
        self, api: Api, cache: Cache, *, namespace: str, vcpus_per_cpu: int, on_domain: Callable[[str], None]
    ) -> None:
        """`namespace`: the one where agents keep their Leases."""
        self._api, self._cache, self._namespace, self._on_domain = api, cache, namespace, on_domain
        self._vcpus_per_cpu = vcpus_per_cpu

    async def reconcile(self, name: str) -> float | None:
        node = self._cache.get(NODES, name)
        host = self._cache.host(name)
        if host is not None and node is not None:
            await self._publish(name, node)
        bound = self._cache.domains_on(name)
        if not bound and host is None:
            self._cache.set_lost(name, False)
            return None
        ready = node is not None and _ready(node)  # a deleted Node says nothing of its host
        lost = not ready and await self._lease_expired(name)
        if lost != self._cache.is_lost(name):
            self._cache.set_lost(name, lost)
            for key in bound:
                self._on_domain(key)
        return None if ready else LOOK_AGAIN

    async def _publish(self, name: str, node: dict[str, Any]) -> None:
        held = []
        for key in self._cache.domains_on(name):
            domain = self._cache.domain(key)
            if domain is not None:
                counted = sum(1 for a in self._cache.anchors(domain) if a.counted and a.node == name)
                held.append(Held(*request(domain.status.reserved or reservation(domain)), counted))
        wanted = capacity(self._cache.host(name), held, self._vcpus_per_cpu)
        status = node.get("status", {})
        current = [_amounts(status.get(part, {})) for part in ("capacity", "allocatable")]
        if current != [wanted, wanted]:
            # A kubelet copies capacity into allocatable; a node without one needs both.
            amounts = {name: str(amount) for name, amount in wanted.items()}
            patch = {"status": {"capacity": amounts, "allocatable": amounts}}
            self._cache.put(NODES, await self._api.merge(NODES, name, patch, subresource="status"))

    async def _lease_expired(self, name: str) -> bool:
        return await heard_of(self._api, self._namespace, name) is None


async def heard_of(api: Api, namespace: str, name: str) -> float | None:
    """Seconds since the agent of this host was started; None: it is silent. `namespace`: the one where agents keep their Leases."""
    try:
        spec = (await api.get(LEASES, name, namespace))["spec"]
    except NotFound:
        return None
    silent = _seconds_since(spec.get("renewTime")) > float(spec.get("leaseDurationSeconds") or 15) + CLOCK_SKEW
    return None if silent else _seconds_since(spec.get("acquireTime"))


def _seconds_since(time: str | None) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(time or "1970-01-01T00:00:00Z")).total_seconds()


def _amounts(resources: Mapping[str, str]) -> dict[str, int | None]:
    """Of a node's resources, those that domains take, as numbers: the API server writes 2000 as 2k."""
    return {name: Quantity.parse(resources[name]) if name in resources else None for name in (MEMORY_RESOURCE, VCPUS_RESOURCE)}


def _ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def node_state(cache: Cache, name: str) -> NodeState:
    """What the controller knows of a node."""
    node = cache.get(NODES, name)
    host = cache.host(name)
    spec = (node or {}).get("spec", {})
    return NodeState(
        exists=node is not None,
        cordoned=bool(spec.get("unschedulable")),
        lost=cache.is_lost(name),
        boot_id=host.status.boot_id if host is not None else None,
        fenced=(host is not None and host.fenced)
        or (cache.is_lost(name) and any(t["key"] == OUT_OF_SERVICE for t in spec.get("taints") or ())),
    )


async def read_afresh(api: Api, cache: Cache, name: str) -> None:
    """Bring the cache's picture of a node up to date: a fence that was taken back meanwhile must not move a domain."""
    for res in (NODES, XENHOSTS):
        found, version = await api.list(res, field_selector=f"metadata.name={name}")  # the rights to watch them are enough for this
        cache.replace(res, found, version, only=name)


def barred(cache: Cache, nodes: Iterable[str]) -> frozenset[str]:
    """Those of the nodes that are lost or fenced: none may be given a domain."""
    states = ((name, node_state(cache, name)) for name in nodes)
    return frozenset(name for name, state in states if state.lost or state.fenced)


def largest(cache: Cache) -> Largest:
    """The most memory and the most vCPUs that a node offers for anchors, as the scheduler sees it."""
    nodes = [_amounts(node.get("status", {}).get("allocatable", {})) for node in cache.all(NODES).values()]
    memory, vcpus = (max((n[name] or 0 for n in nodes), default=0) for name in (MEMORY_RESOURCE, VCPUS_RESOURCE))
    return Largest(memory, vcpus)
