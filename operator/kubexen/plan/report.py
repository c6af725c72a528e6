"""What a user reads of a domain: conditions and Events. placement.py and domain.py say what is; the words are here, where several
decisions share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubexen.api.conditions import Condition, ConditionType, Reason, set_condition
from kubexen.api.domainstatus import XenDomainStatus
from kubexen.api.meta import ObjectMeta
from kubexen.api.names import API_VERSION
from kubexen.api.xendomain import PowerState, XenDomain
from kubexen.hypervisor.port import Owner, ShutdownReason
from kubexen.plan import claims
from kubexen.plan.problem import Problem

ORDERLY = (ShutdownReason.POWEROFF, ShutdownReason.REBOOT)
"""Ends that a guest chose: to stay off after one of them is as the spec asks."""

STALLING = frozenset({
    Reason.NOT_IMPLEMENTED, Reason.INVALID_SPEC, "InvalidConfig", "Unsupported", Reason.FILE_NOT_FOUND, Reason.CRASHED,
})
"""Reasons of the agent's that only a person can mend."""


@dataclass(frozen=True)
class Event:
    """What a person should hear about the domain."""

    reason: str
    message: str
    warning: bool = False


def reference(of: ObjectMeta | Owner) -> dict[str, Any]:
    """The XenDomain, as Events name it."""
    return {
        "apiVersion": API_VERSION,
        "kind": XenDomain.info.kind,
        "metadata": {"name": of.name, "namespace": of.namespace, "uid": of.uid},
    }


class Report:
    """The conditions of a status that is being made: they are replaced, never changed in place."""

    def __init__(self, status: XenDomainStatus, generation: int, now: datetime) -> None:
        self.status, self.generation, self.now = status, generation, now

    def set(self, type_: ConditionType, status: bool, reason: str, message: str) -> None:
        self.status.conditions = set_condition(
            self.status.conditions, type_, status, reason, message, self.generation, self.now
        )

    def drop(self, *types: ConditionType) -> None:
        self.status.conditions = [c for c in self.status.conditions if c.type not in types]


class PlacementReport(Report):
    """The controller's: Ready, and beside it Reconciling or Stalled, and Migratable."""

    def ready(self, reason: str, message: str) -> None:
        self.set(ConditionType.READY, True, reason, message)
        self.drop(ConditionType.RECONCILING, ConditionType.STALLED)

    def not_ready(self, reason: str, message: str, *, stalled: bool = False) -> None:
        self.set(ConditionType.READY, False, reason, message)
        if stalled:
            self.set(ConditionType.STALLED, True, reason, message)
            self.drop(ConditionType.RECONCILING)
        else:
            self.set(ConditionType.RECONCILING, True, reason, message)
            self.drop(ConditionType.STALLED)

    def settled(self, *, leaving: bool) -> None:
        """It is off, as it should be."""
        self.drop(ConditionType.SCHEDULED, ConditionType.MIGRATABLE)
        off = self.status.off
        again = "To start it: a XenAction Start, or powerState Halted and back to Running."
        if leaving:
            self.set(ConditionType.READY, False, Reason.DELETING, "Being deleted.")
            self.drop(ConditionType.RECONCILING, ConditionType.STALLED)
        elif off is None:
            self.ready(Reason.HALTED, "Halted, as the spec asks.")
        elif off.reason not in ORDERLY:
            self.not_ready(
                Reason.CRASHED, f"The guest ended ({off.reason}) and the spec says destroy. {again}", stalled=True
            )
        else:
            self.ready(Reason.POWERED_OFF, f"The guest {how(off.reason)}, as the spec allows. {again}")

    def follow(self, agent: Condition, power: PowerState, problem: Problem | None) -> None:
        """What the agent says, held against what the spec asks."""
        wanted = Reason.PAUSED if power is PowerState.PAUSED else Reason.RUNNING
        if power is PowerState.SUSPENDED and problem is not None:  # not built: it runs on
            self.not_ready(problem.reason, problem.message, stalled=problem.stalled)
        elif agent.is_true and agent.reason == wanted:
            self.ready(wanted, agent.message)
        elif agent.reason == Reason.POWERED_OFF:  # as its spec asks: kept as it is, or about to be given up
            self.ready(Reason.POWERED_OFF, agent.message)
        elif agent.is_true:
            self.not_ready(Reason.PAUSING if wanted == Reason.PAUSED else Reason.RESUMING, agent.message)
        else:
            self.not_ready(agent.reason, agent.message, stalled=agent.reason in STALLING)

    def lost(self, node: str) -> None:
        self.drop(ConditionType.RECONCILING, ConditionType.STALLED)
        self.set(
            ConditionType.READY, False, Reason.NODE_LOST,
            f"Node {node} is not heard of. If it is really off, say so with the taint "
            "node.kubernetes.io/out-of-service on the Node, or spec.fencedBootID on the XenHost: then the domain is "
            "started elsewhere.",
        )

    def no_live_migration(self) -> None:
        if one := claims.exclusive(self.status.claims):
            self.set(ConditionType.MIGRATABLE, False, Reason.CLAIM_ON_ONE_NODE,
                     f"Claim {one[0]!r} can be on one node only: it leaves its node by a restart, after the claim is free.")
        else:
            self.set(ConditionType.MIGRATABLE, False, Reason.NOT_IMPLEMENTED,
                     "It leaves its node by a restart; live migration is not built yet.")


def how(reason: str) -> str:
    """Of a guest that ended for this reason (Xen's)."""
    return "powered itself off" if reason == ShutdownReason.POWEROFF else f"ended ({reason})"
