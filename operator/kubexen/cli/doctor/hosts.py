"""What is wrong with the hosts: each XenHost against its Node and its agent's Lease, and what its agent says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubexen.api.base import InvalidObject
from kubexen.api.names import HOST_LABEL, MEMORY_RESOURCE
from kubexen.api.quantity import MIB, Quantity
from kubexen.api.xendomain import XenDomain
from kubexen.api.xenhost import CheckResult, HostPool, XenHost
from kubexen.cli.doctor.documents import condition, silence, status, words
from kubexen.cli.doctor.finding import Finding, Severity, error, note, ok, warning
from kubexen.cli.doctor.snapshot import Snapshot
from kubexen.kube.kinds import XENDOMAINS, XENHOSTS
from kubexen.kube.resources import LEASES, NODES, Object
from kubexen.plan.resolve import request, reservation

LOW_POOL = 0.05
"""The share of a pool below which its free space is worth a word."""

USUAL_MIB = 512
"""What a domain is taken to need where there is none to look at."""

RESULTS = {CheckResult.OK: Severity.OK, CheckResult.WARNING: Severity.WARNING, CheckResult.ERROR: Severity.ERROR}

OTHER_PODS = 10
"""Pods of a node that are no anchors: agent, network, monitoring."""


def check(snapshot: Snapshot) -> Iterator[Finding]:
    hosts, nodes = snapshot.by_name(XENHOSTS), snapshot.by_name(NODES)
    labelled = {name for name, node in nodes.items() if HOST_LABEL in (node["metadata"].get("labels") or {})}
    usual = _usual_mib(snapshot)
    yield from _versions(hosts, snapshot.agents)
    if snapshot.read(XENHOSTS, NODES) and not hosts and not labelled:
        yield warning("Cluster", "hosts", "there is no Xen host", f"kubectl label node NAME {HOST_LABEL}=true, for each Xen host")
    for name in sorted(hosts.keys() | labelled):
        subject = f"Host {name}"
        if snapshot.read(NODES):
            yield from _node(subject, name, nodes.get(name), hosts.get(name), usual)
        if snapshot.read(LEASES):
            yield _lease(subject, snapshot.lease(name), snapshot)
        if name in hosts:
            yield from _host(subject, hosts[name])
        elif snapshot.read(XENHOSTS):
            yield error(subject, "xenhost", "its Node is labelled as a Xen host, and no agent has made a XenHost for it",
                        f"look at the agent's pod on it: kubectl get pod -n {snapshot.agents} -o wide; if it is no Xen host: "
                        f"kubectl label node {name} {HOST_LABEL}-")


def _versions(hosts: Mapping[str, Object], namespace: str) -> Iterator[Finding]:
    """An upgrade that is under way, or has come to a stop. `namespace`: the agents'."""
    found: dict[str, list[str]] = {}
    for name, host in sorted(hosts.items()):
        if version := status(host).get("agentVersion"):
            found.setdefault(version, []).append(name)
    if len(found) > 1:
        told = "; ".join(f"{version} on {', '.join(names)}" for version, names in sorted(found.items()))
        yield warning("Cluster", "versions", f"agents are of several versions: {told}",
                      f"see whether an upgrade goes on: kubectl get pod -n {namespace} -o wide; where agent.updateStrategy is "
                      "OnDelete, delete the pods of the older ones")


def _node(subject: str, name: str, node: Object | None, host: Object | None, usual_mib: int) -> Iterator[Finding]:
    if node is None:
        yield error(subject, "node", "it has no Node, so nothing is placed there, and nobody can say whether it is lost",
                    f"bring its kubelet back; if the host is gone for good: fence its domains (docs/lifecycle.md), then "
                    f"kubectl delete xhost {name}")
        return
    if HOST_LABEL not in (node["metadata"].get("labels") or {}):
        yield warning(subject, "label", f"its Node has no label {HOST_LABEL}: no agent is started there by the DaemonSet",
                      f"kubectl label node {name} {HOST_LABEL}=true")
    ready = condition(node, "Ready")
    if ready.get("status") == "True":
        yield ok(subject, "node", "its Node is Ready")
    else:
        yield error(subject, "node", f"its Node is not Ready: {ready.get('message') or 'nothing was heard of it'}",
                    "bring the host or its kubelet back; if it is really off: fence it (docs/lifecycle.md)")
    if host is not None:
        yield from _capacity(subject, node, host, usual_mib)


def _capacity(subject: str, node: Object, host: Object, usual_mib: int) -> Iterator[Finding]:
    guests = _guests_mib(host)
    published = _amount(status(node).get("allocatable", {}).get(MEMORY_RESOURCE))
    if guests == 0:
        return  # what is wrong is said by the host
    if published is None or (published == 0 and not status(host).get("domains")):
        yield error(subject, "capacity", f"its Node does not offer {MEMORY_RESOURCE}, so no domain is placed there",
                    "the controller publishes it: is it up, and may it patch nodes/status?")
    else:
        yield ok(subject, "capacity", f"its Node offers {published} MiB to domains")
    pods, fit = _amount(status(node).get("allocatable", {}).get("pods")), guests // usual_mib
    if pods is not None and pods < fit + OTHER_PODS:
        yield warning(subject, "maxPods", f"its kubelet takes {pods} pods, and its memory holds {fit} domains of {usual_mib} MiB, "
                      "each with an anchor pod",
                      f"set maxPods: {fit + OTHER_PODS} in the kubelet's configuration, and give the node as many pod addresses")


def _lease(subject: str, lease: Object | None, snapshot: Snapshot) -> Finding:
    late = silence(lease, snapshot.now)
    if late is None:
        return ok(subject, "agent", "its agent is alive")
    since = "never heard of" if late == float("inf") else f"silent for {words(late)}"
    return error(subject, "agent", f"its agent was {since}: domains there run on, and nothing is started, stopped or changed",
                 f"kubectl get pod -n {snapshot.agents} -o wide (or systemctl status kubexen-agent on the host), and its log")


def _host(subject: str, document: Object) -> Iterator[Finding]:
    ready = condition(document, "Ready")
    if ready.get("status") != "True":
        yield error(subject, "hypervisor", f"{ready.get('reason', 'Unknown')}: {ready.get('message', 'no word of it')}",
                    f"kubectl describe xhost {document['metadata']['name']}")
    else:
        yield ok(subject, "hypervisor", ready.get("message") or "it answers")
    try:
        host = XenHost.parse(document)
    except InvalidObject as problem:
        yield warning(subject, "xenhost", f"its XenHost cannot be read: {problem}", "use a kubectl-xen of the agents' version")
        return
    for entry in host.status.checks:
        yield Finding(RESULTS[entry.result], subject, entry.name, entry.message, entry.mend or "")
    for network in host.status.networks:
        yield ok(subject, "network", f"network {network.name} is there") if network.ready else error(
            subject, "network", f"network {network.name}: {network.message}", network.mend or "")
    for pool in host.status.pools:
        yield _pool(subject, pool)
    yield from _strangers(subject, host)


def _pool(subject: str, pool: HostPool) -> Finding:
    if not pool.ready:
        return error(subject, "pool", f"pool {pool.name}: {pool.message}", pool.mend or "")
    if pool.total and pool.free is not None and pool.free < pool.total * LOW_POOL:
        make, how = (error, "full") if pool.free < MIB else (warning, "nearly full")
        return make(subject, "pool", f"pool {pool.name} is {how}: {_size(pool.free)} of {_size(pool.total)} are free",
                    "delete XenDisks that nobody needs, or make its file system larger")
    return ok(subject, "pool", f"pool {pool.name} is there")


def _strangers(subject: str, host: XenHost) -> Iterator[Finding]:
    if host.status.unmanaged:
        names = ", ".join(domain.name for domain in host.status.unmanaged)
        yield note(subject, "unmanaged", f"domains that are not Kubexen's, and are left alone: {names}")
    for domain in host.status.orphaned:
        yield note(subject, "orphaned", f"domain {domain.namespace}.{domain.name} runs without its object, and holds its memory",
                   f"if nobody needs it, in dom0: xl shutdown {domain.namespace}.{domain.name}")


def _usual_mib(snapshot: Snapshot) -> int:
    """What a domain of this cluster asks for, on the average."""
    asked = []
    for document in snapshot.of(XENDOMAINS):
        try:
            asked.append(request(reservation(XenDomain.parse(document))).memory_mib)
        except InvalidObject:
            continue
    return sum(asked) // len(asked) if asked else USUAL_MIB


def _guests_mib(host: Object) -> int:
    try:
        memory = XenHost.parse(host).status.memory
    except InvalidObject:
        return 0
    return int(memory.for_guests // MIB) if memory is not None else 0


def _size(size: int) -> str:
    return str(Quantity(size // MIB * MIB))


def _amount(value: Any) -> int | None:
    """As the API server writes it: 8000 is `8k`."""
    return int(Quantity.parse(value)) if value is not None else None
