"""Reconciles XenDomains: looks, asks plan/placement.py what to do, and does it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime

from kubexen.api.base import InvalidObject
from kubexen.api.conditions import ConditionType, Reason, find
from kubexen.api.domainstatus import CONTROLLER_FIELDS, ClaimStatus, MovePhase, XenDomainStatus
from kubexen.api.fields import rfc3339
from kubexen.api.names import ANCHOR_FINALIZER, ANCHOR_READINESS_GATE, CONTROLLER_MANAGER, DOMAIN_FINALIZER
from kubexen.api.xendomain import XenDomain
from kubexen.controller import volumes
from kubexen.controller.cache import Cache
from kubexen.controller.nodes import barred, heard_of, largest, node_state, read_afresh
from kubexen.kube.client import Api
from kubexen.kube.errors import ApiError, Conflict, Forbidden, Invalid, NotFound
from kubexen.kube.events import EventRecorder
from kubexen.kube.kinds import XENDISKS, XENDOMAINS, XENSTORAGEPOOLS
from kubexen.kube.resources import NAMESPACES, PODS, Object
from kubexen.plan import placement
from kubexen.plan.addresses import assign
from kubexen.plan.anchor import Anchor
from kubexen.plan.order import comes_first
from kubexen.plan.problem import Problem
from kubexen.plan.report import reference
from kubexen.plan.resolve import domain_uuid, resolve
from kubexen.plan.world import CreateAnchor, DropFinalizer, EndAnchor, Plan, SetGate, Step, World

logger = logging.getLogger(__name__)

LONGEST_QUOTE = 2000
"""Characters of a refusal that are shown: it may quote the whole pod."""

REFUSED_AGAIN = 5.0
"""Seconds until an anchor that the API server refused is tried again."""

LONGEST_BETWEEN_ANCHORS = 60.0

ORPHAN_TOLD_WITHIN = 15.0
"""Seconds that a host's agent has to list a domain whose object is gone as an orphan."""


class DomainReconciler:
    """Handles one key at a time; `reconcile` is called by the queue's workers."""

    def __init__(self, api: Api, cache: Cache, events: EventRecorder, *, image: str, namespace: str) -> None:
        """`image`: of anchors. `namespace`: the one where agents keep their Leases."""
        self._api, self._cache, self._events, self._image, self._namespace = api, cache, events, image, namespace
        self._refused: dict[str, str] = {}
        self._created: dict[str, tuple[float, int]] = {}  # when an anchor was last made, and how many in a row
        self._gone: dict[str, float] = {}  # since when anchors stand whose domain has no object

    async def reconcile(self, key: str) -> float | None:
        domain = self._cache.domain(key)
        if domain is None:
            self._refused.pop(key, None)
            self._created.pop(key, None)
            if (error := self._cache.invalid(key)) is not None:
                return await self._unreadable(key, error)
            return await self._abandoned(key)
        if not domain.deleting and DOMAIN_FINALIZER not in domain.metadata.finalizers:
            await self._add_finalizer(domain)
            return 0.0
        now = datetime.now(UTC)
        seen = self._cache.anchors(domain)
        found = await volumes.read(self._api, domain, seen)
        mounting = await volumes.mounting(self._api, domain, seen, now)
        if self._cache.domain(key) is not domain or (anchors := self._cache.anchors(domain)) != seen:
            return 0.0  # it changed meanwhile
        plan = placement.plan(domain, anchors, self._look(domain, anchors, found, mounting), now)
        if _fences(plan, domain) and domain.status.node_name:
            await read_afresh(self._api, self._cache, domain.status.node_name)
            plan = placement.plan(domain, anchors, self._look(domain, anchors, found, mounting), now)
        try:
            if not domain.status.node_name:
                # Before it can be bound, and in this one worker: no agent can be taking the disk meanwhile.
                await self._release_disks(domain, {disk.disk for disk in domain.spec.disks})
            await self._hand_over_disks(domain, (plan.status or domain.status).node_name)
            if plan.status is not None:
                await self._write(domain, plan)
            for event in plan.events:
                self._events.event(reference(domain.metadata), "Warning" if event.warning else "Normal",
                                   event.reason, event.message)
            await self._end_strangers(domain)  # before the object goes, and the garbage collector asks for theirs in its own way
            waits = [plan.requeue_after, *[await self._execute(domain, step) for step in plan.steps]]
            waits.append(await self._abandoned(key))
        except (Conflict, NotFound):
            await self._refresh(domain)
            return 0.05
        return min((wait for wait in waits if wait is not None), default=None)

    # --- looking

    def _look(self, domain: XenDomain, anchors: Sequence[Anchor], found: volumes.Volumes, mounting: str) -> World:
        problem: Problem | None = None
        macs: dict[str, str] = dict(domain.status.mac_addresses)
        only_node = None
        held: tuple[ClaimStatus, ...] = ()
        try:
            self._check_uuid(domain)
            volumes.check(self._cache, domain)
            resolved = resolve(domain, replace(self._cache.references(domain.metadata.namespace), claims=found.claims))
            only_node = resolved.node()
            held = tuple(claim.claim for claim in resolved.claims)
            macs = dict(assign(domain, lambda mac: self._mac_owner(domain, mac)))
        except Problem as error:
            problem = error
        namespace = self._cache.get(NAMESPACES, domain.metadata.namespace) or {}
        return World(
            problem=problem,
            mac_addresses=macs,
            node=node_state(self._cache, domain.status.node_name or ""),
            only_node=only_node,
            namespace_deleting=bool(namespace.get("metadata", {}).get("deletionTimestamp")),
            start_requested=self._cache.start_requested(domain.key),
            found_on=self._cache.found_on(domain),
            anchor_refused=self._refused.get(domain.key, ""),
            largest=largest(self._cache) if any(anchor.unschedulable for anchor in anchors) else None,
            claims=held,
            places=found.places,
            mounting=mounting,
            barred=barred(self._cache, {anchor.node for anchor in anchors}),
        )

    def _check_uuid(self, domain: XenDomain) -> None:
        uuid = domain_uuid(domain)
        for key in self._cache.domains_with_uuid(uuid) - {domain.key}:
            other = self._cache.domain(key)
            if other is not None and comes_first(other, domain):
                raise Problem(Reason.UUID_TAKEN, f"spec.uuid {uuid} belongs to XenDomain {key}; make this object "
                              "again with another one", stalled=True, retry_after=30)

    def _mac_owner(self, domain: XenDomain, mac: str) -> str | None:
        for key in self._cache.domains_with_mac(mac) - {domain.key}:
            other = self._cache.domain(key)
            if other is not None and (_holds_mac(other, mac), comes_first(other, domain)) > (
                _holds_mac(domain, mac), False
            ):
                return key
        return None

    # --- doing

    async def _write(self, domain: XenDomain, plan: Plan) -> None:
        assert plan.status is not None
        body: Object = {
            "metadata": {"resourceVersion": domain.metadata.resource_version},
            "status": placement.owned(plan.status),
        }
        answer = await self._api.apply(
            XENDOMAINS, domain.metadata.name, body, domain.metadata.namespace,
            manager=CONTROLLER_MANAGER, subresource="status",
        )
        self._cache.put(XENDOMAINS, answer)

    async def _execute(self, domain: XenDomain, step: Step) -> float | None:
        match step:
            case CreateAnchor():
                return await self._create(domain, step)
            case EndAnchor():
                await self._end(domain.metadata.namespace, step.name, step.uid)
            case SetGate():
                await self._gate(domain, step)
            case DropFinalizer():
                await self._release_disks(domain, set())
                await self._drop_finalizer(domain)
        return None

    async def _create(self, domain: XenDomain, step: CreateAnchor) -> float | None:
        at, count = self._created.get(domain.key, (0.0, 0))
        since = time.monotonic() - at
        count = 0 if since > 2 * LONGEST_BETWEEN_ANCHORS else count
        wait = min(LONGEST_BETWEEN_ANCHORS, 2.0 ** (count - 2)) if count > 2 else 0.0
        if since < wait:
            return wait - since
        manifest = {**step.manifest, "metadata": dict(step.manifest["metadata"]), "spec": dict(step.manifest["spec"])}
        manifest["spec"]["containers"] = [{**manifest["spec"]["containers"][0], "image": self._image}]
        try:
            pod = await self._api.create(PODS, manifest, domain.metadata.namespace)
        except (Forbidden, Invalid) as error:
            why = error.message[:LONGEST_QUOTE]
            told = self._refused.get(domain.key) == why
            self._refused[domain.key] = why
            return REFUSED_AGAIN if told else 0.0  # at once, to tell the user
        self._created[domain.key] = (time.monotonic(), count + 1)
        self._refused.pop(domain.key, None)
        self._cache.made(pod)
        return None

    async def _end(self, namespace: str, name: str, uid: str) -> None:
        try:
            # On a node that is known to be dead nobody is left to end it, and its claims would stay attached there.
            seconds = 0 if self._fenced(f"{namespace}/{name}") else 1
            await self._api.delete(PODS, name, namespace, uid=uid, grace_period_seconds=seconds)
            pod = await self._api.get(PODS, name, namespace)
            left = [f for f in pod["metadata"].get("finalizers") or () if f != ANCHOR_FINALIZER]
            if pod["metadata"]["uid"] == uid and left != (pod["metadata"].get("finalizers") or []):
                patch = {"metadata": {"finalizers": left, "resourceVersion": pod["metadata"]["resourceVersion"]}}
                self._cache.put(PODS, await self._api.merge(PODS, name, patch, namespace))
        except NotFound:
            old = self._cache.get(PODS, f"{namespace}/{name}")
            if old is not None and old["metadata"]["uid"] == uid:
                self._cache.remove(PODS, old)

    def _fenced(self, pod: str) -> bool:
        node = (self._cache.get(PODS, pod) or {}).get("spec", {}).get("nodeName")
        return bool(node) and node_state(self._cache, node).fenced

    async def _end_strangers(self, domain: XenDomain) -> None:
        """Pods that look like anchors and are none hold a place at most. Another controller may just have bound the domain to
        one of them, so the object is read afresh first."""
        strangers = self._cache.strangers(domain)
        if not strangers:
            return
        self._cache.put(XENDOMAINS, await self._api.get(XENDOMAINS, domain.metadata.name, domain.metadata.namespace))
        for stranger in self._cache.strangers(self._cache.domain(domain.key) or domain):
            logger.info("%s: ending pod %s, which is none of its anchors", domain.key, stranger.name)
            await self._end(domain.metadata.namespace, stranger.name, stranger.uid)

    async def _abandoned(self, key: str) -> float | None:
        """Anchors whose domain's object was torn away: each stays while a host runs that domain, as an orphan."""
        anchors = self._cache.abandoned(key)
        if not anchors or self._cache.invalid(key):
            self._gone.pop(key, None)
            return None
        namespace, _, name = key.partition("/")
        known = self._cache.domain(key)
        with contextlib.suppress(NotFound):
            self._cache.put(XENDOMAINS, await self._api.get(XENDOMAINS, name, namespace))
        if self._cache.domain(key) is not known:
            return 0.0
        since = time.monotonic() - self._gone.setdefault(key, time.monotonic())
        for anchor in anchors:
            if since > ORPHAN_TOLD_WITHIN and not self._cache.runs_orphan(key) and await self._vouched_for(anchor.node):
                await self._end(namespace, anchor.name, anchor.uid)
        return ORPHAN_TOLD_WITHIN

    async def _vouched_for(self, node: str) -> bool:
        """Whether the node's agent would have told of an orphan by now: it lives, for long enough, and so does its
        hypervisor. Its silence means nothing."""
        if not node or node_state(self._cache, node).fenced:
            return True
        host = self._cache.host(node)
        ready = find(host.status.conditions, ConditionType.READY) if host else None
        age = await heard_of(self._api, self._namespace, node)
        return ready is not None and ready.is_true and age is not None and age > ORPHAN_TOLD_WITHIN

    async def _gate(self, domain: XenDomain, step: SetGate) -> None:
        status = "True" if step.ready else "False"
        body: Object = {"metadata": {"uid": step.uid},
                        "status": {"conditions": [{"type": ANCHOR_READINESS_GATE, "status": status}]}}
        answer = await self._api.apply(PODS, step.name, body, domain.metadata.namespace,
                                       manager=CONTROLLER_MANAGER, subresource="status")
        self._cache.put(PODS, answer)

    async def _add_finalizer(self, domain: XenDomain) -> None:
        """Where the admission policy that sets it at creation is missing."""
        patch = {"metadata": {"finalizers": [*domain.metadata.finalizers, DOMAIN_FINALIZER],
                              "resourceVersion": domain.metadata.resource_version}}
        answer = await self._api.merge(XENDOMAINS, domain.metadata.name, patch, domain.metadata.namespace)
        self._cache.put(XENDOMAINS, answer)

    async def _drop_finalizer(self, domain: XenDomain) -> None:
        left = [f for f in domain.metadata.finalizers if f != DOMAIN_FINALIZER]
        patch = {"metadata": {"finalizers": left, "resourceVersion": domain.metadata.resource_version}}
        await self._api.merge(XENDOMAINS, domain.metadata.name, patch, domain.metadata.namespace)

    async def _release_disks(self, domain: XenDomain, kept: Set[str | None]) -> None:
        """Free the disks that a domain on no node holds, but those kept: what its spec names stays its own."""
        held = (self._cache.get(XENDISKS, key) for key in self._cache.disks_held(domain.metadata.uid))
        freed = [disk["metadata"] for disk in held if disk and disk["metadata"]["namespace"] == domain.metadata.namespace
                 and disk["metadata"]["name"] not in kept]
        if freed:
            await self._check_unbound(domain)
        for metadata in freed:
            patch = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": {"usedBy": None}}
            answer = await self._api.merge(XENDISKS, metadata["name"], patch, metadata["namespace"], subresource="status")
            self._cache.put(XENDISKS, answer)

    async def _check_unbound(self, domain: XenDomain) -> None:
        """That our picture of the domain is no older one. What follows must carry a version of what was read before: an agent's
        claim under a new anchor is a write. Raises Conflict."""
        document = await self._api.get(XENDOMAINS, domain.metadata.name, domain.metadata.namespace)
        status = document.get("status", {})
        if document["metadata"]["uid"] != domain.metadata.uid or status.get("nodeName"):
            raise Conflict(message=f"{domain.key} was bound meanwhile")

    async def _hand_over_disks(self, domain: XenDomain, node: str | None) -> None:
        """Give the node the disks of shared pools that the domain is to use there. An agent takes a disk only from no node or
        from its own: it cannot tell whether another one still writes to it, and a policy refuses it."""
        for name in {disk.disk for disk in domain.spec.disks if disk.disk} if node else ():
            key = f"{domain.metadata.namespace}/{name}"
            disk = self._cache.get(XENDISKS, key) or {}
            status: Object = disk.get("status", {})
            if status.get("nodeName") in (None, node) or not self._is_shared(disk) or not self._may_take(domain, key, status):
                continue
            patch = {"metadata": {"resourceVersion": disk["metadata"]["resourceVersion"]}, "status": {"nodeName": node}}
            answer = await self._api.merge(XENDISKS, name, patch, domain.metadata.namespace, subresource="status")
            self._cache.put(XENDISKS, answer)

    def _may_take(self, domain: XenDomain, key: str, status: Object) -> bool:
        """It is this domain's; of those on a node that would all like a free one, one gets it."""
        if (user := status.get("usedBy")) is not None:
            return bool(user["uid"] == domain.metadata.uid)
        bound = (k for k in self._cache.domains_of_disk(key) if (d := self._cache.domain(k)) and d.status.node_name)
        return domain.key == min((domain.key, *bound))

    def _is_shared(self, disk: Object) -> bool:
        pool = self._cache.get(XENSTORAGEPOOLS, disk["spec"]["pool"])
        return pool is not None and bool(pool["spec"].get("shared"))

    async def _unreadable(self, key: str, error: InvalidObject) -> float | None:
        """The API server took an object (under an older CRD) that this version cannot read: say so, and let it be deleted."""
        document = self._cache.get(XENDOMAINS, key)
        if document is None:
            return None
        metadata, status = document["metadata"], document.get("status", {})
        namespace, name = metadata["namespace"], metadata["name"]
        if "deletionTimestamp" in metadata and not status.get("nodeName"):
            left = [f for f in metadata.get("finalizers") or () if f != DOMAIN_FINALIZER]
            patch = {"metadata": {"finalizers": left, "resourceVersion": metadata["resourceVersion"]}}
            await self._api.merge(XENDOMAINS, name, patch, namespace)
            return None
        ready: Object = next((c for c in status.get("conditions") or () if c["type"] == "Ready"), {})
        told, generation = f"{error.field}: {error.message}", metadata["generation"]
        if [ready.get(key) for key in ("reason", "message", "observedGeneration")] == [Reason.INVALID_SPEC, told, generation]:
            return None
        condition = {"status": "False", "reason": str(Reason.INVALID_SPEC), "message": told,
                     "observedGeneration": generation, "lastTransitionTime": rfc3339(datetime.now(UTC))}
        kept = {XenDomainStatus.model_fields[name].alias for name in CONTROLLER_FIELDS} - {"observedGeneration", "replicas"}
        own = {k: v for k, v in status.items() if k in kept}
        conditions = [{"type": "Ready", **condition}, {"type": "Stalled", **condition, "status": "True"}]
        body: Object = {"metadata": {"resourceVersion": metadata["resourceVersion"]},
                        "status": {**own, "observedGeneration": generation, "replicas": 0, "conditions": conditions}}
        answer = await self._api.apply(XENDOMAINS, name, body, namespace, manager=CONTROLLER_MANAGER, subresource="status")
        self._cache.put(XENDOMAINS, answer)
        return None

    async def _refresh(self, domain: XenDomain) -> None:
        """Our picture was older than the server's: take the server's."""
        namespace = domain.metadata.namespace
        try:
            self._cache.put(XENDOMAINS, await self._api.get(XENDOMAINS, domain.metadata.name, namespace))
        except NotFound:
            self._cache.remove(XENDOMAINS, {"metadata": {"name": domain.metadata.name, "namespace": namespace,
                                                         "uid": domain.metadata.uid}})
        except ApiError as error:
            logger.warning("%s: %s", domain.key, error)


def _holds_mac(domain: XenDomain, mac: str) -> bool:
    return mac in domain.status.mac_addresses.values()


def _fences(plan: Plan, domain: XenDomain) -> bool:
    """Whether the plan lets the domain go from a node that has not given it up."""
    new, old = (status.move.phase if status and status.move else None for status in (plan.status, domain.status))
    return new is MovePhase.FENCED and old is not new
