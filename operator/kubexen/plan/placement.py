"""Where a domain is, and may be: the controller's decisions about one XenDomain and its anchors.

A domain is *unbound* (status.nodeName empty: no node may run it) or *bound* to a node by an anchor. It is bound when an
anchor runs, and unbound or bound elsewhere only after the node's agent gave that anchor up (status.released), or the
node was fenced.

The controller calls `plan` with what it sees and carries out what comes back: first the status, in one write that
carries the resourceVersion it was decided on, then the steps. Each pass may be the first after a crash: nothing is
remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from kubexen.api.conditions import Condition, ConditionType, Reason, find
from kubexen.api.domainstatus import CONTROLLER_FIELDS, Move, MovePhase, XenDomainStatus
from kubexen.api.names import DOMAIN_FINALIZER, DOMAIN_LABEL
from kubexen.api.xendomain import EvictionStrategy, PowerState, XenDomain
from kubexen.plan import anchor as anchors_
from kubexen.plan import claims as claims_
from kubexen.plan.anchor import Anchor
from kubexen.plan.report import ORDERLY, Event, PlacementReport, how
from kubexen.plan.resolve import request, reservation
from kubexen.plan.unplaced import explain
from kubexen.plan.world import CreateAnchor, DropFinalizer, EndAnchor, Plan, SetGate, Step, World

CONDITIONS = (
    ConditionType.READY,
    ConditionType.SCHEDULED,
    ConditionType.MIGRATABLE,
    ConditionType.RECONCILING,
    ConditionType.STALLED,
)
"""The conditions of a XenDomain that are the controller's."""

PATIENCE = 2.0
"""Seconds that an anchor may take before the status says what it waits for: a quick start costs no such write."""

MOUNTING_AGAIN = 5.0
"""Seconds until an anchor that is placed and does not run is looked at again: what its kubelet says changes no object."""

ON_ITS_WAY = frozenset({Reason.DISK_NOT_FOUND, Reason.POOL_NOT_FOUND, Reason.NETWORK_NOT_FOUND})
"""What a new domain names may have been applied together with it, and be seen a moment later."""

LONGEST_CAUSE = 1024

CORDONED = "cordon: "
"""How the cause of a move begins that an uncordon takes back."""


def plan(domain: XenDomain, anchors: Sequence[Anchor], world: World, now: datetime) -> Plan:
    """Decide one pass. See the module's docstring."""
    return _Pass(domain, sorted(anchors, key=lambda a: (a.created, a.name)), world, now).run()


def wants_up(domain: XenDomain, world: World) -> bool:
    """Whether the domain is to be on a node at all."""
    leaving = domain.deleting or world.namespace_deleting
    return not leaving and domain.spec.power_state is not PowerState.HALTED


class _Pass:
    """One pass over one domain. `next` is the status that is being made."""

    def __init__(self, domain: XenDomain, anchors: Sequence[Anchor], world: World, now: datetime) -> None:
        self.domain, self.anchors, self.world, self.now = domain, anchors, world, now
        self.status = domain.status
        self.next = domain.status.model_copy()  # its fields are replaced, never changed in place
        self.say = PlacementReport(self.next, domain.metadata.generation, now)
        self.next.selector = f"{DOMAIN_LABEL}={domain.metadata.name}"
        self.steps: list[Step] = []
        self.events: list[Event] = []
        self.requeue: float | None = None
        self.quiet = False  # nothing a user needs to read yet

    def run(self) -> Plan:
        if self.domain.spec.power_state is PowerState.HALTED or self.world.start_requested:
            self.next.off = None
        self.up = wants_up(self.domain, self.world) and self.next.off is None
        if self.status.node_name:
            self._bound()
        else:
            self._unbound()
        self.next.observed_generation = self.say.generation
        if self.domain.deleting and not self.next.node_name and not self.anchors:
            return Plan(None, (DropFinalizer(),) if DOMAIN_FINALIZER in self.domain.metadata.finalizers else ())
        changed = owned(self.next) != owned(self.status) and not self.quiet
        return Plan(self.next if changed else None, tuple(self.steps), tuple(self.events), self.requeue)

    # --- unbound: no node may run it, so every anchor may come and go

    def _unbound(self) -> None:
        self.next.replicas = 0
        self.next.move = None
        self.next.claims = [c for c in self.status.claims if c.name in claims_.named(self.domain)]
        if not self.up:
            self._end(self.anchors)
            self.say.settled(leaving=self.domain.deleting or self.world.namespace_deleting)
            return
        if self.world.found_on:
            self._end(self.anchors)
            self.say.not_ready(
                Reason.FOUND_ELSEWHERE,
                f"Host {self.world.found_on} runs a domain of this object, or of one of this name or UUID before it, that is "
                "bound to no node; it is not started a second time. Look there with `xl list`, and destroy that one if it is "
                "not wanted.",
                stalled=True,
            )
            return
        if self.world.problem:
            self._end(self.anchors)
            problem = self.world.problem
            self.say.not_ready(problem.reason, problem.message, stalled=problem.stalled)
            self.requeue = problem.retry_after
            if problem.reason in ON_ITS_WAY and (left := PATIENCE - self._age()) > 0:
                self.quiet = self.next.off == self.status.off
                self.requeue = left
            return
        live = [a for a in self.anchors if a.live and self._fits(a) and a.node not in self.world.barred]
        chosen = next((a for a in live if a.running), live[0] if live else None)
        self._end(a for a in self.anchors if a is not chosen)
        if chosen is None and self.anchors and (one := claims_.exclusive(self.world.claims)):
            # The next anchor would wait for the claim, and hold its place meanwhile.
            message = f"Claim {one[0]!r} can be on one node only: the anchor {self.anchors[0].name} has to be gone first."
            self.say.set(ConditionType.SCHEDULED, False, Reason.WAITING_FOR_DISK, message)
            self.say.not_ready(Reason.WAITING_FOR_DISK, message)
        elif chosen is None:
            self._create(only=self.world.only_node or "")
            self._tell_of_failed()
        elif chosen.running and all(claim.volume_name for claim in self.world.claims):
            self._bind(chosen)
        else:
            self._waiting(chosen)

    def _bind(self, anchor: Anchor) -> None:
        self.next.node_name = anchor.node
        self.next.anchor_uid = anchor.uid
        self.next.reserved = reservation(self.domain)
        self.next.move = None
        self.next.mac_addresses = dict(self.world.mac_addresses)
        self.next.claims = list(self.world.claims)
        self.say.set(ConditionType.SCHEDULED, True, Reason.SCHEDULED, f"The anchor {anchor.name} runs on {anchor.node}.")
        self.say.not_ready(Reason.STARTING, f"Starting on {anchor.node}.")
        self.say.no_live_migration()  # said with the binding, so that it costs no write of its own
        self.events.append(Event("Scheduled", f"Bound to {anchor.node} by anchor {anchor.name}"))

    def _tell_of_failed(self) -> None:
        """A node refused the anchor, and may do so again: not a quick start any more."""
        failed = next((a for a in self.anchors if a.phase not in anchors_.LIVE and not a.deleting), None)
        if failed is None or self.world.anchor_refused:
            return
        self.quiet = False
        message = f"The anchor {failed.name} ended on {failed.node or 'no node'} before it ran; another one is made."
        self.say.set(ConditionType.SCHEDULED, False, Reason.WAITING_FOR_NODE, message)
        self.say.not_ready(Reason.WAITING_FOR_NODE, message)

    def _waiting(self, anchor: Anchor) -> None:
        """An anchor that does not run yet: the status says so only when it takes longer."""
        left = PATIENCE - anchors_.age(anchor, self.now)
        if not anchor.unschedulable and left > 0:
            self.quiet = self.next.off == self.status.off
            self.requeue = left
            return
        if anchor.node:
            self.requeue = MOUNTING_AGAIN
        reason, message = explain(self.domain, anchor, self.world.largest, self.world.mounting)
        self.say.set(ConditionType.SCHEDULED, False, reason, message)
        self.say.not_ready(reason, message)

    # --- bound: the node's agent holds the domain until it has given the anchor up

    def _bound(self) -> None:
        node = self.status.node_name or ""
        current = next((a for a in self.anchors if a.uid == self.status.anchor_uid), None)
        others = [a for a in self.anchors if a is not current]
        given_up = bool(self.status.released) and self.status.released == self.status.anchor_uid
        phase = self.status.move.phase if self.status.move else None
        if given_up or phase is MovePhase.FENCED:
            self._leave(others)
            return
        if self.world.node.fenced:
            self._move(MovePhase.FENCED, cause="the node was fenced")
            self.next.fenced_boot_id = self.status.boot_id
            self.say.not_ready(Reason.NODE_LOST, f"Node {node} was fenced; the domain is started elsewhere.")
            return
        if not self.up:
            self._let_go(node, others)
            return
        agent = self._agent()
        if agent is not None and agent.observed_generation is not None:
            self.say.generation = min(self.say.generation, agent.observed_generation)  # what was acted upon
        if phase is MovePhase.RELEASING:
            pass  # the agent is at it, whatever becomes of the anchor meanwhile
        elif current is None or not (current.live or (current.deleting and current.counted)):
            self._anchor_lost(current, others, node)
        elif current.deleting:
            self._evict(current, others, node)
        else:
            self._stay(others)
        self._report(node, current, agent)

    def _agent(self) -> Condition | None:
        """What the agent says of the domain; None: nothing yet.

        `released` names an earlier anchor until an agent takes up the new one: all it said is of an earlier life.
        """
        here = self.world.node.boot_id is None or self.status.boot_id in (None, self.world.node.boot_id)
        if self.status.released or not here:  # said by an agent of a host, or of a boot, that is no more
            return None
        return find(self.status.conditions, ConditionType.DOMAIN_READY)

    def _leave(self, others: Sequence[Anchor]) -> None:
        """The node has given it up: bind it to the anchor that waits elsewhere, or unbind it."""
        exit_ = self.status.last_exit
        if self.up and self.status.move is None and exit_ is not None:
            self.next.off = exit_  # it ended by itself, and stays off
            self.up = False
            self.events.append(Event("DomainEnded", f"The guest {how(exit_.reason)}", warning=exit_.reason not in ORDERLY))
        barred = {self.status.node_name, *self.world.barred}
        waiting = next((a for a in others if a.running and self._fits(a) and a.node not in barred), None)
        if self.up and waiting is not None and self.world.problem is None and not self.world.found_on:
            self._bind(waiting)
        else:
            self.next.node_name = self.next.anchor_uid = self.next.reserved = self.next.move = None
            self.next.replicas = 0
            if self.up:
                message = f"{self.status.node_name} has let it go; a place is looked for."
                self.say.set(ConditionType.SCHEDULED, False, Reason.WAITING_FOR_NODE, message)
                self.say.not_ready(Reason.WAITING_FOR_NODE, message)
            else:
                self.say.settled(leaving=self.domain.deleting or self.world.namespace_deleting)
        kept = waiting if self.up else None
        self._end(a for a in self.anchors if a is not kept)

    def _let_go(self, node: str, others: Sequence[Anchor]) -> None:
        """It is to be off: the agent reads that from the object, but cannot see that the namespace goes."""
        self._end(others)
        if self.world.namespace_deleting and not self.domain.deleting:
            self._move(MovePhase.RELEASING, cause="the namespace is being deleted")
        if self.world.node.lost:
            self.say.lost(node)
            return
        self.say.set(ConditionType.READY, False, Reason.STOPPING, f"Shutting down on {node}.")
        self.say.set(ConditionType.RECONCILING, True, Reason.STOPPING, f"Shutting down on {node}.")
        self.say.drop(ConditionType.STALLED)

    def _stay(self, others: Sequence[Anchor]) -> None:
        """Its anchor stands. What is left of a move that was taken back goes."""
        if self.status.move is not None and self.status.move.phase is MovePhase.PENDING:
            self.next.move = None
        if self.next.move is None:
            self._end(others)
        self.say.no_live_migration()

    def _evict(self, current: Anchor, others: Sequence[Anchor], node: str) -> None:
        """Somebody asked for the anchor's end: find another place first, and let go of this one only then."""
        move = self.status.move
        cause = current.disruption or "its anchor was deleted"
        apart = bool(claims_.exclusive(self.world.claims))  # no second anchor can have its claims yet
        barred = {node, *self.world.barred}
        elsewhere = [a for a in others if a.live and self._fits(a, place=apart) and a.node not in barred]
        here = next((a for a in others if a.live and a.node == node), None)
        if here is not None:  # taken back, see below: the fresh anchor holds the domain now
            if here.running:
                self._adopt(here)
                self.next.move = None
                self._end(a for a in self.anchors if a is not here)
                self.events.append(Event("EvictionTakenBack", f"{node} takes pods again: the domain stays"))
            return
        if move is not None and move.cause.startswith(CORDONED) and not self.world.node.cordoned:
            self._end(others)
            self._again(node)
            return
        if move is None:
            prefix = CORDONED if self.world.node.cordoned else ""
            self._move(MovePhase.PENDING, cause=prefix + cause)
            self.events.append(Event("Evicting", f"To leave {node}: {cause}"))
        if EvictionStrategy.RESTART not in self.domain.spec.eviction_strategy:
            self._nowhere("none of its evictionStrategy is possible: only Restart is built yet")
        elif self.world.only_node == node:
            self._nowhere(f"a node-local disk of it is on {node}")
        elif self.world.problem is not None:
            self._nowhere(f"it could not start again: {self.world.problem.message}")
        elif not elsewhere:
            self._end(others)
            self._create(off=node, only=self.world.only_node or "")
        elif (place := next((a for a in elsewhere if a.running), None)) is not None:
            self._move(MovePhase.RELEASING, cause=move.cause if move else cause, target=place.node)
            self.events.append(Event("Moving", f"Shutting down on {node}, to start on {place.node}"))
        elif elsewhere[0].unschedulable:
            self._nowhere(f"no other node takes it: {elsewhere[0].unschedulable}")

    def _nowhere(self, why: str) -> None:
        message = f"It was asked to leave {self.status.node_name} but {why}. It runs on; the drain waits."
        before = find(self.status.conditions, ConditionType.MIGRATABLE)
        if before is None or before.reason != Reason.NOWHERE_TO_GO:
            self.events.append(Event("EvictionBlocked", message, warning=True))
        self.say.set(ConditionType.MIGRATABLE, False, Reason.NOWHERE_TO_GO, message)

    def _anchor_lost(self, current: Anchor | None, others: Sequence[Anchor], node: str) -> None:
        """The pod is gone or ended, the domain is not: make it again where the domain is."""
        here = next((a for a in others if a.live and a.node == node), None)
        self._end(a for a in (current, *others) if a is not None and a is not here)
        if here is None and not self.world.node.exists:
            pass  # a pod bound to a Node that is gone would be collected at once
        elif here is None:
            self.events.append(
                Event("AnchorLost", f"The anchor is gone; the domain runs on. Making it again on {node}", warning=True)
            )
            self._again(node)
        elif here.running:
            self._adopt(here)
        self.next.move = None

    def _adopt(self, anchor: Anchor) -> None:
        """A fresh anchor where the domain is. It may mount less than the one before: then the next start is under another."""
        self.next.anchor_uid = anchor.uid
        if self.status.reserved is not None:
            self.next.reserved = self.status.reserved.model_copy(update={"mounts": sorted(anchor.mounts)})

    # --- what a user reads

    def _report(self, node: str, current: Anchor | None, agent: Condition | None) -> None:
        """Ready from what the agent says, for a domain that is bound and wanted."""
        self.next.replicas = int(agent is not None and agent.is_true)
        if self.world.node.lost:
            self.say.lost(node)
            return
        if agent is None:
            self.say.not_ready(Reason.STARTING, f"Starting on {node}.")
        else:
            self.say.follow(agent, self.domain.spec.power_state, self.world.problem)
        ready = bool(agent and agent.is_true)
        if current is not None and current.live and (current.ready or False) != ready:
            self.steps.append(SetGate(current.name, current.uid, ready))

    # --- small hands

    def _fits(self, anchor: Anchor, *, place: bool = False) -> bool:
        """Whether it asks for, and mounts, what a start with the spec as it is now takes, where that may be; `place`: it need
        not mount it, but was made for nodes where that can be."""
        where = self._place if place else self._placement
        fits = anchor.request == request(reservation(self.domain)) and anchor.placement == where
        return fits and (place or anchor.mounts_all(self.domain))

    @cached_property
    def _placement(self) -> str:
        return anchors_.placement(self.domain)

    @cached_property
    def _place(self) -> str:
        return anchors_.placement(self.domain, self.world.places)

    def _age(self) -> float:
        created = self.domain.metadata.creation_timestamp
        return (self.now - created).total_seconds() if created else PATIENCE

    def _create(self, *, off: str = "", only: str = "") -> None:
        if self.world.anchor_refused:
            quota = "exceeded quota" in self.world.anchor_refused
            reason = Reason.WAITING_FOR_QUOTA if quota else Reason.ANCHOR_REFUSED
            if off:
                self._nowhere(f"no second anchor can be made: {self.world.anchor_refused}")
            else:
                self.say.not_ready(reason, f"The anchor pod was refused: {self.world.anchor_refused}", stalled=not quota)
        elif not off:
            self.say.not_ready(Reason.WAITING_FOR_NODE, "A place is looked for.")
            self.quiet = self.next.off == self.status.off and self.status.node_name is None
        place = None
        if off and claims_.exclusive(self.world.claims):
            # Mounting nothing: an anchor with the claim would wait until this node has given it up.
            place = [dict(term) for term in self.world.places]
        self.steps.append(CreateAnchor(
            anchors_.manifest(self.domain, claims=self.world.claims, only=only, off=off, place=place)
        ))

    def _again(self, node: str) -> None:
        """A fresh anchor where the domain is, with the claims that it has."""
        self.steps.append(CreateAnchor(anchors_.manifest(self.domain, claims=self.status.claims, on=node)))

    def _end(self, anchors: Any) -> None:
        self.steps += [EndAnchor(a.name, a.uid) for a in anchors]

    def _move(self, phase: MovePhase, *, cause: str, target: str | None = None) -> None:
        uid = self.status.move.uid if self.status.move else (self.status.anchor_uid or "")
        self.next.move = Move(uid=uid, phase=phase, cause=cause[:LONGEST_CAUSE], target=target)


def owned(status: XenDomainStatus) -> dict[str, Any]:
    """What the controller applies: its own fields and conditions, as a document."""
    document = status.to_dict(only=CONTROLLER_FIELDS)
    document["conditions"] = [c.to_dict() for c in status.conditions if c.type in CONDITIONS]
    return document
