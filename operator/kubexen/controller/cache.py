"""What the controller knows of the cluster: the newest document of each object that it watches, and who refers to whom.

Fed by handlers.py (events), by relists, and by the answers to our own writes, so that a reconciler never decides on a state
older than its own last write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from kubexen.api.base import InvalidObject
from kubexen.api.names import ANCHOR_FINALIZER, DOMAIN_LABEL
from kubexen.api.xenaction import Act, ActionPhase
from kubexen.api.xendisk import XenDisk
from kubexen.api.xendomain import XenDomain
from kubexen.api.xenhost import XenHost
from kubexen.api.xennetwork import XenNetwork
from kubexen.api.xenstoragepool import XenStoragePool
from kubexen.kube.kinds import XENACTIONS, XENDISKS, XENDOMAINS, XENHOSTS, XENNETWORKS, XENSTORAGEPOOLS
from kubexen.kube.resources import NAMESPACES, PODS, Object, Resource, key_of
from kubexen.plan import claims
from kubexen.plan.anchor import Anchor, claimed, observe, owner
from kubexen.plan.resolve import References, domain_uuid

Change = Callable[[Resource, str, Object | None, Object | None], None]
"""Called with the resource, the key, the object before and the object now (None: it is not there)."""


class Cache:
    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Object]] = {}
        self._domains: dict[str, XenDomain] = {}  # parsed, by key
        self._invalid: dict[str, InvalidObject] = {}
        self._models: dict[tuple[str, str], Any] = {}  # parsed when first asked for: the few that many look at
        self._by_node: dict[str, set[str]] = {}
        self._by_mac: dict[str, set[str]] = {}
        self._by_uuid: dict[str, set[str]] = {}
        self._by_disk: dict[str, set[str]] = {}
        self._by_claim: dict[str, set[str]] = {}
        self._anchors: dict[str, set[str]] = {}  # domain key -> pod keys
        self._made: set[str] = set()  # uids of pods that this process made
        self._orphans: dict[str, set[str]] = {}  # domain uid, UUID, or key -> hosts
        self._starts: dict[str, set[str]] = {}  # domain key -> XenActions Start that run
        self._held: dict[str, set[str]] = {}  # domain uid -> disks
        self._mounted: dict[str, set[str]] = {}  # claim key -> pod keys
        self._by_reference: dict[str, tuple[tuple[dict[str, set[str]], Callable[[Object], set[str]]], ...]] = {
            PODS.plural: ((self._anchors, _anchored), (self._mounted, _mounted)),
            XENHOSTS.plural: ((self._orphans, _orphaned),),
            XENACTIONS.plural: ((self._starts, _started),),
            XENDISKS.plural: ((self._held, _holder),),
        }
        self._lost: set[str] = set()
        self._listeners: list[Change] = []

    def subscribe(self, listener: Change) -> None:
        self._listeners.append(listener)

    # --- feeding

    def put(self, res: Resource, obj: Object) -> None:
        """Take a newer document; an older one than what is known is dropped."""
        key = key_of(obj)
        objects = self._objects.setdefault(res.plural, {})
        old = objects.get(key)
        if old is not None and old["metadata"]["uid"] == obj["metadata"]["uid"] and _version(old) >= _version(obj):
            return
        obj["metadata"].pop("managedFields", None)
        objects[key] = obj
        self._index(res, key, old, obj)
        self._tell(res, key, old, obj)

    def remove(self, res: Resource, obj: Object) -> None:
        """Forget an object; one of another uid is a new object under the old name and stays."""
        key = key_of(obj)
        old = self._objects.get(res.plural, {}).get(key)
        if old is None or old["metadata"]["uid"] != obj["metadata"]["uid"]:
            return
        del self._objects[res.plural][key]
        self._made.discard(old["metadata"]["uid"])
        self._index(res, key, old, None)
        self._tell(res, key, old, None)

    def made(self, pod: Object) -> None:
        """Take a pod that this process has made; it may have been heard of before, and told as nobody's."""
        self._made.add(pod["metadata"]["uid"])
        self.put(PODS, pod)
        self._tell(PODS, key_of(pod), None, self.get(PODS, key_of(pod)))

    def replace(self, res: Resource, objects: list[Object], version: str, only: str | None = None) -> None:
        """Take a whole list, or the list of what has the key `only`: what is not in it, and is not younger than it, is gone."""
        present = {key_of(obj): obj for obj in objects}
        for key, old in list(self._objects.get(res.plural, {}).items()):
            if only in (None, key) and key not in present and _version(old) <= int(version):
                self.remove(res, old)
        for obj in objects:
            self.put(res, obj)

    def _tell(self, res: Resource, key: str, old: Object | None, new: Object | None) -> None:
        for listener in self._listeners:
            listener(res, key, old, new)

    def _index(self, res: Resource, key: str, old: Object | None, new: Object | None) -> None:
        self._models.pop((res.plural, key), None)
        for index, values in self._by_reference.get(res.plural, ()):
            for obj, add in ((old, False), (new, True)):
                for value in values(obj) if obj is not None else ():
                    _put(index, value, key, add=add)
        if res is XENDOMAINS:
            before = self._domains.pop(key, None)
            self._invalid.pop(key, None)
            if before is not None:
                self._index_domain(key, before, add=False)
            if new is not None:
                try:
                    after = XenDomain.parse(new)
                except InvalidObject as error:
                    self._invalid[key] = error
                else:
                    self._domains[key] = after
                    self._index_domain(key, after, add=True)

    def _index_domain(self, key: str, domain: XenDomain, *, add: bool) -> None:
        if domain.status.node_name:
            _put(self._by_node, domain.status.node_name, key, add=add)
        macs = {i.mac for i in domain.spec.interfaces if i.mac} | set(domain.status.mac_addresses.values())
        for mac in macs:
            _put(self._by_mac, mac, key, add=add)
        _put(self._by_uuid, domain_uuid(domain), key, add=add)
        for disk in domain.spec.disks:
            _put(self._by_disk, f"{domain.metadata.namespace}/{disk.disk}", key, add=add)
        for claim in {*claims.named(domain), *(claim.name for claim in domain.status.claims)}:
            _put(self._by_claim, f"{domain.metadata.namespace}/{claim}", key, add=add)

    # --- reading

    def get(self, res: Resource, key: str) -> Object | None:
        return self._objects.get(res.plural, {}).get(key)

    def all(self, res: Resource) -> Mapping[str, Object]:
        return self._objects.get(res.plural, {})

    def domain(self, key: str) -> XenDomain | None:
        return self._domains.get(key)

    def invalid(self, key: str) -> InvalidObject | None:
        """Why the object of this key is none that we can read."""
        return self._invalid.get(key)

    def domains_on(self, node: str) -> frozenset[str]:
        return frozenset(self._by_node.get(node, ()))

    def domains_with_mac(self, mac: str) -> frozenset[str]:
        return frozenset(self._by_mac.get(mac, ()))

    def domains_with_uuid(self, uuid: str) -> frozenset[str]:
        return frozenset(self._by_uuid.get(uuid, ()))

    def domains_of_disk(self, key: str) -> frozenset[str]:
        return frozenset(self._by_disk.get(key, ()))

    def domains_with_claim(self, key: str) -> frozenset[str]:
        """The domains that name the claim, or hold it."""
        return frozenset(self._by_claim.get(key, ()))

    def anchored_with_claim(self, key: str) -> list[tuple[str, str]]:
        """Name and uid of each domain, also of one that is gone, of which an anchor mounts the claim."""
        pods = (self.get(PODS, pod) for pod in self._mounted.get(key, ()))
        return [(found["name"], found["uid"]) for pod in pods if pod and (found := owner(pod))]

    def anchors(self, domain: XenDomain) -> list[Anchor]:
        """The domain's anchors: pods that this process made for it, or whose uid its status has recorded, be they still owned
        by it (`kubectl delete --cascade=orphan` takes the owner off) or not."""
        return [observe(pod) for pod in self._labelled(domain.key) if self._known(pod, domain)]

    def strangers(self, domain: XenDomain) -> list[Anchor]:
        """Pods that look like the domain's anchors and are none: owned by this very object, which whoever may make pods in
        the namespace can say, and made by who knows whom, or by a controller that ended before it could bind the domain
        to them."""
        return [observe(pod) for pod in self._labelled(domain.key)
                if owner(pod).get("uid") == domain.metadata.uid and not self._known(pod, domain)]

    def abandoned(self, key: str) -> list[Anchor]:
        """The anchors under this name of an object that was torn away, or that was made again: of another owner, or of none
        any more."""
        domain = self.domain(key)
        uid = domain.metadata.uid if domain else ""
        pods = [pod for pod in self._labelled(key) if not (domain and self._known(pod, domain))]
        return [observe(pod) for pod in pods
                if owner(pod).get("uid", uid) != uid or (not owner(pod) and _has_finalizer(pod))]

    def _labelled(self, key: str) -> list[Object]:
        return [pod for name in self._anchors.get(key, ()) if (pod := self.get(PODS, name))]

    def _known(self, pod: Object, domain: XenDomain) -> bool:
        uid = pod["metadata"]["uid"]
        return uid == domain.status.anchor_uid or (uid in self._made and owner(pod).get("uid") == domain.metadata.uid)

    def references(self, namespace: str) -> References:
        found = self.get(NAMESPACES, namespace)
        return References(
            disks=_Parsed(self.all(XENDISKS), XenDisk.parse, prefix=f"{namespace}/"),
            pools=_Parsed(self.all(XENSTORAGEPOOLS), partial(self._model, XENSTORAGEPOOLS, XenStoragePool.parse)),
            networks=_Parsed(self.all(XENNETWORKS), partial(self._model, XENNETWORKS, XenNetwork.parse)),
            namespace_labels=(found or {}).get("metadata", {}).get("labels") or {},
        )

    def host(self, name: str) -> XenHost | None:
        found = self.get(XENHOSTS, name)
        host: XenHost | None = self._model(XENHOSTS, XenHost.parse, found) if found else None
        return host

    def _model(self, res: Resource, parse: Callable[[Object], Any], obj: Object) -> Any:
        key = (res.plural, key_of(obj))
        if key not in self._models:
            self._models[key] = parse(obj)
        return self._models[key]

    def found_on(self, domain: XenDomain) -> str | None:
        """The host that runs a domain of this object, of its name or of its UUID, which no object holds there."""
        words = (domain.metadata.uid, domain.key, domain_uuid(domain))
        return min((host for word in words for host in self._orphans.get(word, ())), default=None)

    def runs_orphan(self, key: str) -> bool:
        """Whether a host runs a domain of this name without being bound to it, of whichever object."""
        return bool(self._orphans.get(key))

    def start_requested(self, key: str) -> bool:
        """Whether a XenAction Start of the domain runs."""
        return key in self._starts

    def disks_held(self, uid: str) -> frozenset[str]:
        """The disks that the domain of this uid has claimed."""
        return frozenset(self._held.get(uid, ()))

    def is_lost(self, node: str) -> bool:
        """Whether the node was last seen not ready and its agent silent."""
        return node in self._lost

    def set_lost(self, node: str, lost: bool) -> None:
        (self._lost.add if lost else self._lost.discard)(node)


class _Parsed(Mapping[str, Any]):
    """Objects of one kind by name, parsed when they are looked at."""

    def __init__(self, objects: Mapping[str, Object], parse: Callable[[Object], Any], prefix: str = "") -> None:
        self._objects, self._parse, self._prefix = objects, parse, prefix

    def __getitem__(self, name: str) -> Any:
        return self._parse(self._objects[self._prefix + name])

    def __iter__(self) -> Iterator[str]:
        return (key.removeprefix(self._prefix) for key in self._objects if key.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _anchored(pod: Object) -> set[str]:
    name = pod["metadata"].get("labels", {}).get(DOMAIN_LABEL)
    return {f"{pod['metadata']['namespace']}/{name}"} if name else set()


def _mounted(pod: Object) -> set[str]:
    return {f"{pod['metadata']['namespace']}/{name}" for name in claimed(pod)}


def _has_finalizer(pod: Object) -> bool:
    """Ours, which nobody but the controller can put on a pod."""
    return ANCHOR_FINALIZER in (pod["metadata"].get("finalizers") or ())


def _orphaned(host: Object) -> set[str]:
    """Each orphan by its object's uid, by its UUID and by its name."""
    orphans = host.get("status", {}).get("orphaned") or ()
    return {word for o in orphans for word in (o.get("uid"), o.get("uuid"), f"{o.get('namespace')}/{o.get('name')}") if word}


def _started(action: Object) -> set[str]:
    spec, phase = action["spec"], action.get("status", {}).get("phase")
    if spec.get("action") != Act.START or phase != ActionPhase.RUNNING:
        return set()
    return {f"{action['metadata']['namespace']}/{spec.get('domainName')}"}


def _holder(disk: Object) -> set[str]:
    uid = (disk.get("status", {}).get("usedBy") or {}).get("uid")
    return {uid} if uid else set()


def _version(obj: Object) -> int:
    return int(obj["metadata"].get("resourceVersion") or 0)


def _put(index: dict[str, set[str]], value: str, key: str, *, add: bool) -> None:
    keys = index.setdefault(value, set())
    if add:
        keys.add(key)
    else:
        keys.discard(key)
        if not keys:
            del index[value]
