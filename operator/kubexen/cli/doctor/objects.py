"""What is wrong with domains, disks, networks and pools: those that wait for a person, that do not get on, that do not go away."""

from __future__ import annotations

from collections.abc import Iterator

from kubexen.api.names import ANCHOR_FINALIZER, CONTROLLER_LEASE, DISK_FINALIZER, DOMAIN_FINALIZER, DOMAIN_LABEL
from kubexen.api.xendisk import DiskData
from kubexen.cli.doctor.documents import age, condition, silence, status, words
from kubexen.cli.doctor.finding import Finding, error, ok, warning
from kubexen.cli.doctor.snapshot import Snapshot
from kubexen.kube.kinds import XENDISKS, XENDOMAINS, XENHOSTS, XENNETWORKS, XENSTORAGEPOOLS
from kubexen.kube.resources import LEASES, NODES, PODS, Object, key_of

LONG = 600.0
"""Seconds after which 'on the way' is worth a word."""

DELETING_LONG = 120.0
"""Seconds that a deletion may take: two of a guest's usual graces."""


def check(snapshot: Snapshot) -> Iterator[Finding]:
    for res in (XENDOMAINS, XENDISKS, XENNETWORKS, XENSTORAGEPOOLS):
        for obj in sorted(snapshot.of(res), key=key_of):
            yield from _object(f"{res.kind} {key_of(obj)}", obj, snapshot)
    yield from _anchors(snapshot)


def _object(subject: str, obj: Object, snapshot: Snapshot) -> Iterator[Finding]:
    ready, stalled, moving = (condition(obj, kind) for kind in ("Ready", "Stalled", "Reconciling"))
    deleting = age(obj["metadata"].get("deletionTimestamp"), snapshot.now)
    described = f"kubectl describe {obj['kind'].lower()} {_arguments(obj)}"
    if deleting > DELETING_LONG + float(obj["spec"].get("shutdownGracePeriodSeconds") or 0):
        yield from _stuck(subject, obj, deleting, snapshot)
    elif stalled.get("status") == "True":
        yield error(subject, "stalled", f"{stalled.get('reason')}: {stalled.get('message')}", f"as it says; {described}")
    elif moving.get("status") == "True" and (since := age(moving.get("lastTransitionTime"), snapshot.now)) > LONG:
        yield warning(subject, "reconciling", f"on its way for {words(since)}: {ready.get('reason')}: {ready.get('message')}",
                      described)
    elif obj["kind"] in (XENNETWORKS.kind, XENSTORAGEPOOLS.kind) and ready.get("status") == "False":
        yield error(subject, "ready", f"{ready.get('reason')}: {ready.get('message')}", described)
    else:
        yield ok(subject, "ready", f"{ready.get('reason', 'Unknown')}")


def _stuck(subject: str, obj: Object, since: float, snapshot: Snapshot) -> Iterator[Finding]:
    """An object that is being deleted and keeps a finalizer: whom it waits for."""
    finalizers = obj["metadata"].get("finalizers") or []
    ours = next((name for name in finalizers if name in (DOMAIN_FINALIZER, DISK_FINALIZER)), None)
    what = f"is being deleted for {words(since)}, and waits for"
    if ours is None:
        yield warning(subject, "finalizer", f"{what} others: {', '.join(finalizers) or 'nobody'}", "ask whose finalizers these are")
        return
    if snapshot.read(LEASES) and silence(snapshot.lease(CONTROLLER_LEASE), snapshot.now) is not None:
        yield error(subject, "finalizer", f"{what} a controller, and none leads", "bring the controller back (above)")
        return
    node: str = status(obj).get("nodeName") or ""
    gone = bool(node) and snapshot.read(NODES, XENHOSTS) and node not in snapshot.by_name(NODES)
    silent = bool(node) and snapshot.read(LEASES) and silence(snapshot.lease(node), snapshot.now) is not None
    if ours == DISK_FINALIZER and (gone or silent) and status(obj).get("data") != DiskData.REMOVED:
        yield error(subject, "finalizer", f"{what} host {node} to remove its data, and that one is {'gone' if gone else 'silent'}",
                    f"bring it back, or keep the data: kubectl patch xdisk {_arguments(obj)} --type=merge "
                    "-p '{\"spec\": {\"reclaimPolicy\": \"Retain\"}}'")
    elif gone and node not in snapshot.by_name(XENHOSTS):
        yield error(subject, "finalizer", f"{what} host {node}, of which there is neither a Node nor a XenHost",
                    f"make sure that this host is off (or its xl list has none of it), then take the finalizer: {_let_go(obj)}")
    elif gone or silent:
        yield error(subject, "finalizer", f"{what} host {node}, which is {'gone' if gone else 'silent'}",
                    "bring its agent back; if the host is really off: fence it (docs/lifecycle.md)")
    else:
        yield warning(subject, "finalizer", f"{what} {'host ' + node if node else 'the controller'}",
                      f"kubectl describe {obj['kind'].lower()} {_arguments(obj)}; docs/troubleshooting.md, What is not deleted")


def _anchors(snapshot: Snapshot) -> Iterator[Finding]:
    """Anchors that nobody will let go: their domain's object is gone, and their finalizer waits for it."""
    if not snapshot.read(PODS, XENDOMAINS):
        return
    domains = {obj["metadata"]["uid"] for obj in snapshot.of(XENDOMAINS)}
    for pod in snapshot.of(PODS):
        metadata = pod["metadata"]
        if ANCHOR_FINALIZER not in (metadata.get("finalizers") or ()) or not metadata.get("deletionTimestamp"):
            continue
        since = age(metadata["deletionTimestamp"], snapshot.now)
        owners = {owner["uid"] for owner in metadata.get("ownerReferences") or ()}
        if since > DELETING_LONG and not owners & domains:
            name = (metadata.get("labels") or {}).get(DOMAIN_LABEL, "?")
            yield error(f"Pod {key_of(pod)}", "finalizer",
                        f"is being deleted for {words(since)}, and its XenDomain {name!r} is gone",
                        f"look with xl list on {pod['spec'].get('nodeName', 'its node')}; if it is not there: {_let_go(pod)}")


def _let_go(obj: Object) -> str:
    return f"kubectl patch {obj['kind'].lower()} {_arguments(obj)} --type=merge -p '{{\"metadata\": {{\"finalizers\": null}}}}'"


def _arguments(obj: Object) -> str:
    """The object for kubectl."""
    namespace = obj["metadata"].get("namespace")
    name: str = obj["metadata"]["name"]
    return f"-n {namespace} {name}" if namespace else name
