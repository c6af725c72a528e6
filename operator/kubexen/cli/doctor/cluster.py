"""What is wrong with the cluster's side of Kubexen: policies, the controller, the scheduler, clocks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from kubexen.api.names import CONTROLLER_LEASE, SCHEDULER_NAME
from kubexen.cli.doctor.documents import SKEW, age, condition, silence, status, words
from kubexen.cli.doctor.finding import Finding, error, note, ok, warning
from kubexen.cli.doctor.rights import AGENT
from kubexen.cli.doctor.snapshot import (
    ACCOUNTS,
    MUTATING,
    MUTATING_BINDINGS,
    VALIDATING,
    VALIDATING_BINDINGS,
    Snapshot,
)
from kubexen.kube.resources import LEASES, PODS, Object, Resource

SUBJECT = "Cluster"

FINALIZER_POLICIES = ("kubexen-domain-finalizer", "kubexen-disk-finalizer")
"""They spare the controller a write an object."""

GUARDS = (
    *("kubexen-agent-node", "kubexen-agent-host", "kubexen-agent-domain", "kubexen-agent-disk", "kubexen-agent-event"),
    *("kubexen-controller-pod", "kubexen-controller-node", "kubexen-controller-object", "kubexen-anchor", "kubexen-finalizer"),
)
"""They keep an agent to its own node, and a tenant from what is ours."""

UNSCHEDULED = 30.0
"""Seconds after which a scheduler has said something of a pod."""


def check(snapshot: Snapshot) -> Iterator[Finding]:
    yield from _unread(snapshot)
    yield from _policies(snapshot)
    yield from _controller(snapshot)
    yield from _scheduler(snapshot)
    yield from _clocks(snapshot)


def _unread(snapshot: Snapshot) -> Iterator[Finding]:
    for name, why in sorted(snapshot.unread.items()):
        yield warning(SUBJECT, "unread", f"{name} could not be read, so what depends on them was not checked: {why}",
                      "ask for the right to list them; a kind that is not served needs its definition (or a newer Kubernetes)")


def _policies(snapshot: Snapshot) -> Iterator[Finding]:
    cost = "each new XenDomain and XenDisk costs the controller a write more"
    if snapshot.read(MUTATING, MUTATING_BINDINGS):
        for name in FINALIZER_POLICIES:
            yield _policy(snapshot, name, MUTATING, MUTATING_BINDINGS) or warning(
                SUBJECT, "policy", f"the admission policy {name} or its binding is missing: {cost}", "helm upgrade installs it")
    installed = any(account["metadata"]["name"] == AGENT for account in snapshot.of(ACCOUNTS))
    if not installed or not snapshot.read(VALIDATING, VALIDATING_BINDINGS):
        if snapshot.read(ACCOUNTS) and not installed:
            yield note(SUBJECT, "policy", f"there is no ServiceAccount {AGENT}: agents use other credentials, and neither their "
                       "rights nor the policies that keep one to its own node were checked")
        return
    for name in GUARDS:
        yield _policy(snapshot, name, VALIDATING, VALIDATING_BINDINGS) or error(
            SUBJECT, "policy", f"the admission policy {name} or its binding is missing: an agent or a tenant may do too much",
            "helm upgrade installs it")


def _policy(snapshot: Snapshot, name: str, policies: Resource, bindings: Resource) -> Finding | None:
    """That it is there and bound; None: it is not."""
    bound = any(binding["spec"].get("policyName") == name for binding in snapshot.of(bindings))
    there = name in snapshot.by_name(policies)
    return ok(SUBJECT, "policy", f"the admission policy {name} is in force") if there and bound else None


def _controller(snapshot: Snapshot) -> Iterator[Finding]:
    if not snapshot.read(LEASES):
        return
    lease = snapshot.lease(CONTROLLER_LEASE)
    late = silence(lease, snapshot.now)
    if late is None:
        yield ok(SUBJECT, "controller", f"a controller leads: {(lease or {})['spec']['holderIdentity']}")
        return
    since = "there is none, or it gave its Lease back" if late == float("inf") else f"it is silent for {words(late)}"
    yield error(SUBJECT, "controller", f"no controller leads ({since}): domains run on, and nothing new is placed or moved",
                f"kubectl get deploy,pod -n {snapshot.system}, and kubectl logs -n {snapshot.system} deploy/kubexen-controller")


def _scheduler(snapshot: Snapshot) -> Iterator[Finding]:
    """A pod that no scheduler looks at has no condition PodScheduled; one that does not fit has one that says so."""
    if not snapshot.read(PODS):
        return
    unseen = [pod for pod in snapshot.of(PODS) if _unseen(pod, snapshot.now)]
    if not unseen:
        yield ok(SUBJECT, "scheduler", "no anchor waits for a scheduler to look at it")
        return
    names = ", ".join(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in unseen[:3])
    yield error(SUBJECT, "scheduler", f"{len(unseen)} anchors wait and no scheduler has looked at them ({names}): "
                f"is there one with the profile {SCHEDULER_NAME}?",
                f"kubectl get pod -n {snapshot.system} -l app.kubernetes.io/component=scheduler; or give the cluster's own "
                "scheduler the profile of charts/kubexen/files/scheduler-profiles.yaml")


def _unseen(pod: Object, now: datetime) -> bool:
    return (
        pod["spec"].get("schedulerName") == SCHEDULER_NAME
        and not pod["spec"].get("nodeName")
        and not condition(pod, "PodScheduled")
        and status(pod).get("phase") == "Pending"
        and age(pod["metadata"].get("creationTimestamp"), now) > UNSCHEDULED
    )


def _clocks(snapshot: Snapshot) -> Iterator[Finding]:
    """A Lease from the future: then neither 'silent' nor 'alive' can be believed."""
    for lease in snapshot.of(LEASES):
        ahead = -age((lease.get("spec") or {}).get("renewTime"), snapshot.now)
        if ahead > SKEW:
            yield warning(SUBJECT, "clock", f"the Lease {lease['metadata']['name']} was renewed {words(ahead)} in the future: the "
                          "clock of its holder, or of this machine, is wrong",
                          "let both follow a time server (chrony, systemd-timesyncd)")
