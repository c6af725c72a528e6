"""The loop over this node's XenDomains: looks, asks plan/domain.py what to do, does one step, looks again.

What starts or ends a domain is done only on an object read afresh. A domain that runs here although its object is bound to another
node, or was fenced in this very boot, is ended; one whose object is gone or bound nowhere is left alone and told on the XenHost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import Any

from kubexen.agent.anchors import Anchors
from kubexen.agent.claims import Claims
from kubexen.agent.devices import FileDevices
from kubexen.agent.host import Host
from kubexen.agent.seeds import Seeds
from kubexen.agent.starter import Starter
from kubexen.api.base import InvalidObject
from kubexen.api.names import AGENT_MANAGER
from kubexen.api.xendomain import XenDomain
from kubexen.hypervisor.errors import HypervisorError
from kubexen.hypervisor.errors import NotFound as DomainNotFound
from kubexen.hypervisor.port import Devices, DomainState
from kubexen.kube.client import Api
from kubexen.kube.errors import ApiError, Conflict, NotFound
from kubexen.kube.events import EventRecorder
from kubexen.kube.kinds import XENDOMAINS
from kubexen.kube.queue import Turns
from kubexen.kube.resources import Object
from kubexen.plan import domain as planning
from kubexen.plan import step
from kubexen.plan.problem import Problem
from kubexen.plan.report import Event, reference
from kubexen.plan.resolve import domain_name, domain_uuid
from kubexen.plan.step import Destroy, Observed, Pause, Plan, SetMemory, Shutdown, Start, Unpause

logger = logging.getLogger(__name__)

SAMPLES_EVERY = 60.0
"""Seconds between two writes that tell nothing but r and b, or that a device's frontend has connected."""

SHOWN_AFTER = 1.0
"""Seconds that a start or a destroy may take before the status shows what is not there any more, or is dying."""

STEPS = 6
"""Steps in one pass; more are left to the next."""


class Domains:
    def __init__(
        self, api: Api, host: Host, events: EventRecorder, *, store: Mapping[str, Object], starter: Starter,
        claims: Claims, devices: FileDevices, seeds: Seeds, anchors: Anchors, starts: Turns, ends: Turns,
    ) -> None:
        self._api, self._host, self._events = api, host, events
        self._store, self._starter = store, starter
        self._claims, self._devices, self._seeds, self._anchors = claims, devices, seeds, anchors
        self._turns: dict[type, Turns] = {Start: starts, Destroy: ends}
        self._newest: dict[str, Object] = {}  # read or written by ourselves, until the store has it
        self._problems: dict[str, tuple[int, Problem]] = {}  # by key: generation, and what went wrong
        self._asked: dict[str, datetime] = {}  # by uuid: when it was last asked to shut down
        self._wrote: dict[str, float] = {}  # by key: when its status was last written
        self.orphans: dict[str, str | None] = {}  # by uuid: why the domain's object does not hold it; None: it does

    async def reconcile(self, key: str) -> float | None:
        document = self._document(key)
        if document is None:
            return await self._stranger(key)
        try:
            domain = XenDomain.parse(document)
        except InvalidObject as error:
            logger.warning("%s: %s", key, error)
            return 30.0
        if self._host.is_busy(domain_uuid(domain)):
            return 1.0  # a call that did not answer may still start it: its absence proves nothing now
        await self._host.look()
        self._judge(domain)
        plan = await self._plan(domain)
        for _ in range(STEPS):
            if plan.step is None:
                break
            turns = self._turns.get(type(plan.step))
            if turns is not None and not turns.take(key):  # it comes here again when it has a turn
                if isinstance(plan.step, Start):
                    if domain.status.domid is None:
                        return None  # nothing to tell
                    self._tell(domain, plan.events)  # of what is gone nobody knows any more after this pass
                break
            if isinstance(plan.step, Start | Destroy | Shutdown):
                fresh = await self._fresh(domain)
                if fresh is None:
                    return 0.1
                again = await self._plan(fresh)
                if again.step != plan.step or fresh.metadata.generation != domain.metadata.generation:
                    domain, plan = fresh, again
                    continue
                domain = fresh
            failed = await self._execute(domain, plan)
            await self._host.look()
            done, plan = plan, await self._plan(domain)
            if failed or (plan.step == done.step and not isinstance(plan.step, Start)):
                break
        self._tell(domain, plan.events if plan.step is None else ())
        if self._state(domain) is not None:
            await self._claims.follow(domain)
            await asyncio.to_thread(self._anchors.follow, domain_uuid(domain), domain.status.anchor_uid or "")
        elif plan.status.released == domain.status.anchor_uid and plan.status.released != domain.status.released:
            # Before it is told: the next thing that happens to the anchor is its end. And never again: once it was told,
            # another domain may have what was given back.
            await self._give_back(domain)
        return await self._save(domain, plan)

    async def _give_back(self, domain: XenDomain) -> None:
        """Let go of what a domain that has left had on this host.

        Raises:
            HypervisorError, OSError: something is held still, which is told; nothing may be said to be released.
        """
        try:
            await self._claims.release(claim.uid for claim in domain.status.claims)
            await self._devices.remove(domain_uuid(domain))
        except (HypervisorError, OSError) as error:
            what = f"The domain has left {self._host.node}, but not all that it had there is let go of yet: {error}"
            self._events.event(reference(domain.metadata), "Warning", "StillHeld", what)
            raise
        await asyncio.to_thread(self._seeds.remove, domain_uuid(domain))
        await asyncio.to_thread(self._anchors.leave, domain_uuid(domain), domain.status.anchor_uid or "")

    async def sweep(self) -> None:
        """Let go of what no domain has that is here or may come: what an agent that died in between, or a domain that was
        bound elsewhere, left behind. Of an object that cannot be read nobody knows what it has: then nothing is swept."""
        try:
            await self._sweep()
        except InvalidObject as error:
            logger.warning("nothing is swept while an object cannot be read: %s", error)

    async def _sweep(self) -> None:
        known = {domain.metadata.uid for domain in self._bound()}
        if any(state.owner is not None and state.owner.uid not in known for state in self._host.domains.values()):
            return  # an orphan: which claims it has is not known any more
        await self._claims.sweep(lambda: {claim.uid for domain in self._bound() for claim in domain.status.claims})
        await self._devices.sweep(lambda: {domain_uuid(domain) for domain in self._bound()})
        await self._seeds.sweep(lambda: {domain_uuid(domain) for domain in self._bound()})

    def _bound(self) -> list[XenDomain]:
        """The objects that are bound to this node, each as new as it is known."""
        documents = (self._document(key) for key in list(self._store))
        return [XenDomain.parse(document) for document in documents if document is not None]

    # --- looking

    def _document(self, key: str) -> Object | None:
        """The newest document of an object that is bound to this node."""
        stored, own = self._store.get(key), self._newest.get(key)
        if stored is None:
            self._newest.pop(key, None)
            return None
        if own is not None and _version(own) > _version(stored) and own["metadata"]["uid"] == stored["metadata"]["uid"]:
            return own
        self._newest.pop(key, None)
        return stored

    async def _fresh(self, domain: XenDomain) -> XenDomain | None:
        """The object as the server has it; None when it is not ours to act on any more."""
        try:
            document = await self._api.get(XENDOMAINS, domain.metadata.name, domain.metadata.namespace)
        except NotFound:
            return None
        fresh = XenDomain.parse(document)
        if fresh.metadata.uid != domain.metadata.uid or fresh.status.node_name != self._host.node:
            return None
        document["metadata"].pop("managedFields", None)
        self._newest[domain.key] = document
        return fresh

    async def _plan(self, domain: XenDomain) -> Plan:
        state = self._state(domain)
        devices = Devices()
        if state is not None and not (state.flags.shutdown or state.flags.dying):
            with contextlib.suppress(DomainNotFound):
                devices = await self._host.devices(state.uuid)
        seen = Observed(
            state=state,
            devices=devices,
            ended_at=self._host.ended_at.get((state.uuid, state.domid)) if state else None,
            asked_at=self._asked.get(state.uuid) if state else None,
            unclaimed=self._unclaimed(domain),
        )
        generation, problem = self._problems.get(domain.key, (0, None))
        if generation != domain.metadata.generation:
            problem = None
        return planning.plan(
            domain, seen, step.Host(self._host.node, self._host.boot_id), problem, datetime.now(UTC)
        )

    def _state(self, domain: XenDomain) -> DomainState | None:
        state = self._host.domains.get(domain_uuid(domain))
        ours = state is not None and state.owner is not None and state.owner.uid == domain.metadata.uid
        return state if ours else None

    def _unclaimed(self, domain: XenDomain) -> int | None:
        """The domid of a domain that can only be this one, though libvirt has lost all it knew of it."""
        state = self._host.domains.get(domain_uuid(domain))
        lost = state is not None and state.owner is None and state.name == domain_name(domain)
        return state.domid if state is not None and lost else None

    def _judge(self, domain: XenDomain) -> None:
        """Which domains of this name the object holds: one of another uid is of an object that was deleted."""
        for state in self._of(domain.key):
            ours = state.owner is not None and state.owner.uid == domain.metadata.uid
            self.orphans[state.uuid] = None if ours else "its object was deleted and made again"

    def _of(self, key: str) -> list[DomainState]:
        """The domains on this host that are, or were, of an object of this key."""
        return [s for s in self._host.domains.values() if s.owner and s.owner.key == key]

    async def _stranger(self, key: str) -> float | None:
        """A domain of ours on this host whose object is not bound to it."""
        await self._host.look()
        namespace, _, name = key.partition("/")
        self._problems.pop(key, None)
        self._wrote.pop(key, None)
        for state in self._of(key):
            assert state.owner is not None
            try:
                document = await self._api.get(XENDOMAINS, name, namespace)
            except NotFound:
                self.orphans[state.uuid] = "its object is gone"
                continue
            status = document.get("status", {})
            node, fenced = status.get("nodeName"), status.get("fencedBootID") == self._host.boot_id
            if document["metadata"]["uid"] != state.owner.uid:
                self.orphans[state.uuid] = "its object was deleted and made again"
            elif not node and not fenced:
                self.orphans[state.uuid] = "its object is bound to no node"
            elif node != self._host.node:
                logger.warning("%s is bound to %s: ending the domain that is left here", key, node or "no node since a fence")
                await self._host.call(self._host.hypervisor.destroy, state.uuid, state.domid, about=state.uuid)
                self._events.event(document, "Warning", "DestroyedLeftover",
                                   f"Ended the domain that was left on {self._host.node}")
            else:
                return 1.0  # the store will have it soon
        return None

    # --- doing

    async def _execute(self, domain: XenDomain, plan: Plan) -> bool:
        """Carry out the plan's step. Returns whether it failed; then the problem is kept for the next plan."""
        try:
            await self._step(domain, plan)
        except DomainNotFound:
            return False
        except (Problem, HypervisorError) as error:
            problem = error if isinstance(error, Problem) else Problem(
                error.reason, str(error), retry_after=error.retry_after or 30.0
            )
            before = self._problems.get(domain.key)
            self._problems[domain.key] = (domain.metadata.generation, problem)
            if before is None or before[1].reason != problem.reason:
                self._events.event(reference(domain.metadata), "Warning", problem.reason, problem.message)
                logger.info("%s: %s", domain.key, problem)
            return True
        self._problems.pop(domain.key, None)
        self._tell(domain, plan.events)
        return False

    async def _step(self, domain: XenDomain, plan: Plan) -> None:
        hypervisor = self._host.hypervisor
        match plan.step:
            case Start() if domain.status.domid is None:
                await self._starter.start(domain)
            case Start():
                await self._tell_meanwhile(domain, self._starter.start(domain), plan)
            case Destroy(uuid, domid):
                ending = self._host.call(hypervisor.destroy, uuid, domid, about=uuid)
                await self._tell_meanwhile(domain, ending)
                self._asked.pop(uuid, None)
            case Shutdown(uuid):
                await self._host.call(hypervisor.shutdown, uuid, about=uuid)
                self._asked[uuid] = datetime.now(UTC)
            case Pause(uuid):
                await self._host.call(hypervisor.pause, uuid, about=uuid)
            case Unpause(uuid):
                await self._host.call(hypervisor.unpause, uuid, about=uuid)
            case SetMemory(uuid, kib):
                await self._host.call(hypervisor.set_memory, uuid, kib, about=uuid)

    async def _tell_meanwhile(self, domain: XenDomain, act: Awaitable[None], plan: Plan | None = None) -> None:
        """Do what may take long (Xen builds a domain, or scrubs its memory); then the status does not wait for its end: it
        says what the plan does, or what a look finds then."""
        acting = asyncio.ensure_future(act)
        done, _ = await asyncio.wait({acting}, timeout=SHOWN_AFTER)
        if not done:
            try:
                if plan is None:
                    await self._host.look()
                    plan = await self._plan(domain)
                await self._save(domain, plan)
            except (ApiError, HypervisorError) as error:
                logger.warning("%s: nothing was told meanwhile: %s", domain.key, error)
        await acting

    # --- telling

    def _tell(self, domain: XenDomain, events: tuple[Event, ...]) -> None:
        for event in events:
            self._events.event(
                reference(domain.metadata), "Warning" if event.warning else "Normal", event.reason, event.message
            )

    async def _save(self, domain: XenDomain, plan: Plan) -> float | None:
        """Write the status if it says something new; mere samples only once in a while."""
        new, old = planning.owned(plan.status), planning.owned(domain.status)
        if new == old:
            return plan.requeue_after
        loop = asyncio.get_running_loop()
        wait = self._wrote.get(domain.key, 0.0) + SAMPLES_EVERY - loop.time()
        if _without_samples(new) == _without_samples(old) and wait > 0:
            return min(wait, plan.requeue_after or wait)
        body: Object = {"metadata": {"resourceVersion": domain.metadata.resource_version}, "status": new}
        try:
            answer = await self._api.apply(
                XENDOMAINS, domain.metadata.name, body, domain.metadata.namespace,
                manager=AGENT_MANAGER, subresource="status",
            )
        except Conflict:
            await self._fresh(domain)
            return 0.02
        except NotFound:
            return None
        answer["metadata"].pop("managedFields", None)
        self._newest[domain.key] = answer
        self._wrote[domain.key] = loop.time()
        return plan.requeue_after


def _without_samples(status: dict[str, Any]) -> dict[str, Any]:
    """Without what a healthy guest changes by itself: r and b, and how far its frontends are."""
    result = dict(status)
    for devices in ("disks", "interfaces"):
        result[devices] = [{k: v for k, v in device.items() if k != "backendState"}
                           for device in status.get(devices) or ()]
    result["state"] = "".join("-" if letter in "rb" else letter for letter in status.get("state") or "")
    result["flags"] = [flag for flag in status.get("flags") or () if flag not in ("running", "blocked")]
    return result


def _version(document: Object) -> int:
    return int(document["metadata"].get("resourceVersion") or 0)
