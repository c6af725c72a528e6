"""What the controller sees when it decides about a domain (the world), and what it can do (steps): the terms of placement.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubexen.api.domainstatus import ClaimStatus, XenDomainStatus
from kubexen.plan.problem import Problem
from kubexen.plan.report import Event
from kubexen.plan.unplaced import Largest


@dataclass(frozen=True)
class NodeState:
    """What the controller knows of a node."""

    exists: bool = True
    cordoned: bool = False
    lost: bool = False  # not ready, and its agent's Lease has expired
    boot_id: str | None = None  # of its dom0, as its agent told last
    fenced: bool = False  # the out-of-service taint, or a person's word on the XenHost


@dataclass(frozen=True)
class World:
    """All that a decision needs besides the domain and its anchors."""

    problem: Problem | None = None  # what keeps it from starting
    mac_addresses: Mapping[str, str] = field(default_factory=dict)
    node: NodeState = NodeState()  # the node it is bound to
    only_node: str | None = None  # the only node that can run it
    namespace_deleting: bool = False
    start_requested: bool = False  # a XenAction Start waits
    found_on: str | None = None  # a host that runs a domain of this object, name or UUID, which no object holds there
    anchor_refused: str = ""  # why the API server refused the last anchor (quota, admission)
    largest: Largest | None = None  # what the largest node offers; needed where an anchor finds no node
    claims: tuple[ClaimStatus, ...] = ()  # those that the spec names, as they are now
    places: tuple[Mapping[str, Any], ...] = ()  # terms of a node selector: where their volumes can be; none: anywhere
    mounting: str = ""  # what its kubelet says of an anchor that is placed and does not run
    barred: frozenset[str] = frozenset()  # nodes that are lost or fenced: none may be given a domain


@dataclass(frozen=True)
class CreateAnchor:
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class EndAnchor:
    """Take the finalizer off, and delete the pod if nobody did. Only where no domain depends on it."""

    name: str
    uid: str


@dataclass(frozen=True)
class SetGate:
    """Write the anchor's readiness gate."""

    name: str
    uid: str
    ready: bool


@dataclass(frozen=True)
class DropFinalizer:
    """Let the XenDomain go."""


Step = CreateAnchor | EndAnchor | SetGate | DropFinalizer


@dataclass(frozen=True)
class Plan:
    """`status` is the whole of what the controller owns; None: leave it as it is."""

    status: XenDomainStatus | None
    steps: tuple[Step, ...] = ()
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
