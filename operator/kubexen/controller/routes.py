"""Which keys to look at again when an object changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kubexen.api.names import DOMAIN_LABEL
from kubexen.controller.cache import Cache
from kubexen.kube.kinds import XENACTIONS, XENDISKS, XENDOMAINS, XENHOSTS, XENMIGRATIONS, XENNETWORKS, XENSTORAGEPOOLS
from kubexen.kube.queue import WorkQueue
from kubexen.kube.resources import NAMESPACES, NODES, PODS, Object, Resource
from kubexen.plan.anchor import claimed, observe


@dataclass(frozen=True)
class Queues:
    domains: WorkQueue = field(default_factory=lambda: WorkQueue("domains"))
    disks: WorkQueue = field(default_factory=lambda: WorkQueue("disks"))
    nodes: WorkQueue = field(default_factory=lambda: WorkQueue("nodes"))
    actions: WorkQueue = field(default_factory=lambda: WorkQueue("actions"))
    migrations: WorkQueue = field(default_factory=lambda: WorkQueue("migrations"))
    pools: WorkQueue = field(default_factory=lambda: WorkQueue("pools"))
    networks: WorkQueue = field(default_factory=lambda: WorkQueue("networks"))


class Routes:
    def __init__(self, cache: Cache, queues: Queues) -> None:
        self._cache, self._queues = cache, queues

    def everything(self) -> None:
        """At the start: look at each object once."""
        for res in (XENSTORAGEPOOLS, XENNETWORKS, NODES, XENDISKS, XENACTIONS, XENMIGRATIONS, XENDOMAINS, PODS):
            for key, obj in list(self._cache.all(res).items()):
                self.changed(res, key, None, obj)

    def changed(self, res: Resource, key: str, old: Object | None, new: Object | None) -> None:
        """A listener of the cache."""
        if res is XENDOMAINS:
            self._domain(key, old, new)
        elif res is PODS:
            self._pod(old, new)
        elif res is XENDISKS:
            self._queues.disks.add(key)
            self._domains(self._cache.domains_of_disk(key))
        elif res is NODES:
            self._queues.nodes.add(key)
            if _scheduling(old) != _scheduling(new):
                self._domains(self._cache.domains_on(key))
        elif res is XENHOSTS:
            self._queues.nodes.add(key)
            if _fence(old) != _fence(new):
                self._domains(self._cache.domains_on(key))
            self._domains(_orphans(old) ^ _orphans(new))
        elif res is XENACTIONS:
            self._queues.actions.add(key)
        elif res is XENMIGRATIONS:
            self._queues.migrations.add(key)
        elif res is NAMESPACES:
            if _namespace(old) != _namespace(new):
                self._domains(k for k in list(self._cache.all(XENDOMAINS)) if k.startswith(f"{key}/"))
        elif res is XENSTORAGEPOOLS or res is XENNETWORKS:
            queue = self._queues.pools if res is XENSTORAGEPOOLS else self._queues.networks
            queue.add(key)
            if (old or {}).get("spec") != (new or {}).get("spec"):
                self._unbound()

    def _domain(self, key: str, old: Object | None, new: Object | None) -> None:
        self._queues.domains.add(key)
        before, after = _node(old), _node(new)
        if before != after:
            for node in (before, after):
                if node:
                    self._queues.nodes.add(node)
        namespace = key.partition("/")[0]
        if new is None or before != after or _spec(old, "disks") != _spec(new, "disks"):
            for disk in {d.get("disk") for d in (*_spec(old, "disks"), *_spec(new, "disks"))}:
                self._queues.disks.add(f"{namespace}/{disk}")
        for freed in _identity(old) - _identity(new):
            self._domains(self._cache.domains_with_mac(freed) | self._cache.domains_with_uuid(freed))
        for claim in _claims(old) - _claims(new):
            self._domains(self._cache.domains_with_claim(f"{namespace}/{claim}"))
        if _off(old) != _off(new):
            for action in list(self._cache.all(XENACTIONS)):
                self._queues.actions.add(action)

    def _pod(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _anchor(old) == _anchor(new):
            return
        for pod in (old, new):
            if pod is not None:
                namespace, name = pod["metadata"]["namespace"], pod["metadata"].get("labels", {}).get(DOMAIN_LABEL)
                self._queues.domains.add(f"{namespace}/{name}")
        if new is None and old is not None:
            for claim in claimed(old):
                self._domains(self._cache.domains_with_claim(f"{old['metadata']['namespace']}/{claim}"))
        before, after = (_counted(pod) for pod in (old, new))
        if before != after:
            for node in {n for n in (before, after) if n}:
                self._queues.nodes.add(node)

    def _domains(self, keys: Iterable[str]) -> None:
        for key in list(keys):
            self._queues.domains.add(key)

    def _unbound(self) -> None:
        self._domains(key for key, obj in list(self._cache.all(XENDOMAINS).items()) if not _node(obj))


def _node(domain: Object | None) -> str:
    return (domain or {}).get("status", {}).get("nodeName") or ""


def _identity(domain: Object | None) -> set[str]:
    """What no two domains may have: a domain that waits for another's gets its turn when that is free."""
    if domain is None:
        return set()
    macs = {interface.get("mac", "") for interface in _spec(domain, "interfaces")}
    macs.update(domain.get("status", {}).get("macAddresses", {}).values())
    return (macs | {domain["spec"].get("uuid", "")}) - {""}


def _claims(domain: Object | None) -> set[str]:
    """What a domain names or holds."""
    held = (domain or {}).get("status", {}).get("claims") or ()
    return {disk["claimName"] for disk in _spec(domain, "disks") if disk.get("claimName")} | {c["name"] for c in held}


def _off(domain: Object | None) -> object:
    return (domain or {}).get("status", {}).get("off")


def _spec(domain: Object | None, field_: str) -> list[Object]:
    return (domain or {}).get("spec", {}).get(field_) or []


def _anchor(pod: Object) -> object:
    """All of a pod that a decision looks at."""
    metadata = pod["metadata"]
    return (observe(pod), metadata.get("labels", {}).get(DOMAIN_LABEL), metadata.get("ownerReferences"))


def _counted(pod: Object | None) -> str:
    phase = (pod or {}).get("status", {}).get("phase", "Pending")
    return (pod or {}).get("spec", {}).get("nodeName", "") if phase in ("Pending", "Running") else ""


def _scheduling(node: Object | None) -> object:
    spec = (node or {}).get("spec", {})
    return (spec.get("unschedulable"), [t["key"] for t in spec.get("taints") or ()])


def _fence(host: Object | None) -> object:
    spec, status = (host or {}).get("spec", {}), (host or {}).get("status", {})
    return (spec.get("fencedBootID"), status.get("bootID"))


def _orphans(host: Object | None) -> set[str]:
    return {f"{o.get('namespace')}/{o.get('name')}" for o in (host or {}).get("status", {}).get("orphaned") or ()}


def _namespace(namespace: Object | None) -> object:
    metadata = (namespace or {}).get("metadata", {})
    return (metadata.get("labels"), metadata.get("deletionTimestamp"))
