"""What the doctor finds: a cluster in which one thing is wrong, and the finding that must come - and no other trouble."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from kubexen.api.names import CONTROLLER_LEASE, HOST_LABEL, MEMORY_RESOURCE
from kubexen.cli.doctor import rights
from kubexen.cli.doctor.check import check
from kubexen.cli.doctor.finding import Finding, Severity, failed
from kubexen.cli.doctor.snapshot import ACCOUNTS, CRDS, MUTATING, VALIDATING, VALIDATING_BINDINGS, Snapshot
from kubexen.kube.kinds import XENDISKS, XENDOMAINS, XENHOSTS, XENNETWORKS
from kubexen.kube.resources import LEASES, NODES, PODS
from tests.unit.cli.builders import (
    AGENTS,
    SYSTEM,
    Change,
    ago,
    anchor,
    disk,
    domain,
    host,
    is_so,
    lease,
    node,
    one,
    well,
    with_,
    without,
)

OK, NOTE, WARNING, ERROR = Severity.OK, Severity.NOTE, Severity.WARNING, Severity.ERROR


@dataclass(frozen=True)
class Case:
    """`changes` make one thing wrong; `want` is (severity, subject, check); `says` and `mend` are in its words."""

    changes: tuple[Change, ...]
    want: tuple[Severity, str, str]
    says: str = ""
    mend: str = ""


def case(want: tuple[Severity, str, str], says: str, mend: str, *changes: Change) -> Case:
    return Case(changes, want, says, mend)


def status(**values: Any) -> Any:
    return lambda obj: obj["status"].update(values)


def condition(*conditions: Any) -> Any:
    return status(conditions=list(conditions))


def deleting(seconds: float) -> Any:
    return lambda obj: obj["metadata"].update(deletionTimestamp=ago(seconds))


def forget_field(definition: Any) -> None:
    del definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["nodeName"]


def forget_rule(definition: Any) -> None:
    del definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"]


def forget_selectable(definition: Any) -> None:
    del definition["spec"]["versions"][0]["selectableFields"]


def first_of(items: str, **values: Any) -> Any:
    return lambda obj: obj["status"][items][0].update(values)


DOMAINS, XEN1, CLUSTER, WEB = "xendomains.kubexen.dev", "Host xen1", "Cluster", "XenDomain shop/web"
NO_NODE = without(NODES)

CASES = {
    # the cluster
    "a definition is missing": case((ERROR, CLUSTER, "crd"), DOMAINS, "crds/", without(CRDS, DOMAINS)),
    "a definition lacks a field": case((ERROR, CLUSTER, "crd"), "status.nodeName", "crds/", one(CRDS, forget_field, DOMAINS)),
    "a definition lacks a rule": case((ERROR, CLUSTER, "crd"), "a rule on spec", "crds/", one(CRDS, forget_rule, DOMAINS)),
    "a definition lacks a selectable field": case(
        (ERROR, CLUSTER, "crd"), ".status.nodeName", "crds/", one(CRDS, forget_selectable, DOMAINS)),
    "a definition is not established": case(
        (ERROR, CLUSTER, "crd"), "not served: names clash", "",
        one(CRDS, condition(is_so("Established", "False", message="names clash")), DOMAINS)),
    "a finalizer's policy is missing": case(
        (WARNING, CLUSTER, "policy"), "kubexen-disk-finalizer", "helm", without(MUTATING, "kubexen-disk-finalizer")),
    "a guard is missing": case((ERROR, CLUSTER, "policy"), "kubexen-agent-node", "helm",
                               without(VALIDATING, "kubexen-agent-node")),
    "a guard is not bound": case((ERROR, CLUSTER, "policy"), "kubexen-anchor", "helm",
                                 without(VALIDATING_BINDINGS, "kubexen-anchor-binding")),
    "no chart: agents use other credentials": case((NOTE, CLUSTER, "policy"), "no ServiceAccount kubexen-agent", "",
                                                   without(VALIDATING), without(ACCOUNTS)),
    "no controller ever led": case((ERROR, CLUSTER, "controller"), "there is none", "kubexen-system",
                                 without(LEASES, CONTROLLER_LEASE)),
    "the controller is silent": case((ERROR, CLUSTER, "controller"), "silent for 10 min", "", one(
        LEASES, lambda obj: obj["spec"].update(renewTime=ago(615)), CONTROLLER_LEASE)),
    "the controller gave its Lease back": case((ERROR, CLUSTER, "controller"), "gave its Lease back", "", one(
        LEASES, lambda obj: obj["spec"].update(holderIdentity=None), CONTROLLER_LEASE)),
    "no scheduler has our profile": case(
        (ERROR, CLUSTER, "scheduler"), "1 anchors wait", "scheduler-profiles.yaml", one(PODS, lambda pod: pod.update(
            status={"phase": "Pending"}, spec={"schedulerName": "kubexen-scheduler"}))),
    "a clock is wrong": case((WARNING, CLUSTER, "clock"), "xen1 was renewed 5 min in the future", "time server", one(
        LEASES, lambda obj: obj["spec"].update(renewTime=ago(-300)), "xen1")),
    "there is no host at all": case(
        (WARNING, CLUSTER, "hosts"), "no Xen host", HOST_LABEL,
        NO_NODE, without(XENHOSTS), without(XENDOMAINS), without(XENDISKS), without(PODS)),
    # hosts, and their Nodes
    "an upgrade has left an agent behind": case(
        (WARNING, CLUSTER, "versions"), "0.1.0 on xen1; 0.2.0 on xen2", "OnDelete",
        with_(NODES, node("xen2")), with_(LEASES, lease("xen2", AGENTS)), with_(XENHOSTS, host("xen2")),
        one(XENHOSTS, lambda obj: obj["status"].update(agentVersion="0.2.0"), "xen2")),
    "a host has no Node": case((ERROR, XEN1, "node"), "no Node", "delete xhost xen1", NO_NODE),
    "its Node has no label": case((WARNING, XEN1, "label"), HOST_LABEL, "label node xen1", one(
        NODES, lambda obj: obj["metadata"].update(labels={}))),
    "its Node is not Ready": case((ERROR, XEN1, "node"), "kubelet stopped", "fence", one(
        NODES, condition(is_so("Ready", "Unknown", message="kubelet stopped")))),
    "a labelled Node has no XenHost": case((ERROR, "Host xen2", "xenhost"), "no agent has made", "kubexen.dev/xen-",
                                           with_(NODES, node("xen2")), with_(LEASES, lease("xen2", AGENTS))),
    "its memory is not offered": case((ERROR, XEN1, "capacity"), MEMORY_RESOURCE, "controller", one(
        NODES, status(allocatable={"pods": "110"}))),
    "a kubelet zeroed it": case((ERROR, XEN1, "capacity"), MEMORY_RESOURCE, "controller", one(
        NODES, status(allocatable={"pods": "110", MEMORY_RESOURCE: "0"})), one(XENHOSTS, status(domains=0))),
    "its kubelet takes few pods": case((WARNING, XEN1, "maxPods"), "takes 20 pods", "maxPods: ", one(
        NODES, status(allocatable={"pods": "20", MEMORY_RESOURCE: "4096"}))),
    "its agent is silent": case((ERROR, XEN1, "agent"), "silent for 10 min", "kubexen-agent", one(
        LEASES, lambda obj: obj["spec"].update(renewTime=ago(615)), "xen1")),
    "its agent was never there": case((ERROR, XEN1, "agent"), "never heard of", "", without(LEASES, "xen1")),
    # what its agent says
    "libvirtd does not answer": case((ERROR, XEN1, "hypervisor"), "HypervisorUnreachable: restart it", "describe xhost xen1", one(
        XENHOSTS, condition(is_so("Ready", "False", "HypervisorUnreachable", "restart it")))),
    "the host runs no Xen": case((ERROR, XEN1, "hypervisor"), "NoXen", "", one(XENHOSTS, lambda obj: obj.update(
        status={"conditions": [is_so("Ready", "False", "NoXen", "Boot it.")]}))),
    "dom0's memory is not fixed": case((ERROR, XEN1, "Dom0Memory"), "not fixed", "update-grub", one(XENHOSTS, first_of(
        "checks", result="Error", message="not fixed", mend="update-grub"))),
    "flags come by a fallback": case((WARNING, XEN1, "StateFlags"), "xl", "bindings", one(XENHOSTS, first_of(
        "checks", name="StateFlags", result="Warning", message="by xl", mend="bindings"))),
    "a bridge is missing": case((ERROR, XEN1, "network"), "network lan: no xenbr0", "make it", one(XENHOSTS, first_of(
        "networks", ready=False, message="no xenbr0", mend="make it"))),
    "a pool is missing": case((ERROR, XEN1, "pool"), "pool images: not there", "mount it", one(XENHOSTS, first_of(
        "pools", ready=False, message="not there", mend="mount it"))),
    "a pool is nearly full": case((WARNING, XEN1, "pool"), "nearly full: 4Gi of 100Gi", "delete XenDisks", one(
        XENHOSTS, first_of("pools", free="4Gi"))),
    "a pool is full": case((ERROR, XEN1, "pool"), "is full", "delete XenDisks", one(XENHOSTS, first_of("pools", free="0"))),
    "domains of others are listed": case((NOTE, XEN1, "unmanaged"), "old-mail", "", one(
        XENHOSTS, status(unmanaged=[{"name": "old-mail"}]))),
    "orphans are listed": case((NOTE, XEN1, "orphaned"), "shop.gone", "xl shutdown shop.gone", one(
        XENHOSTS, status(orphaned=[{"namespace": "shop", "name": "gone", "uuid": "u"}]))),
    # objects
    "a domain is stalled": case((ERROR, WEB, "stalled"), "InvalidSpec: cpu", "describe xendomain -n shop web", one(
        XENDOMAINS, condition(is_so("Ready", "False"), is_so("Stalled", "True", "InvalidSpec", "cpu")))),
    "a domain does not get on": case((WARNING, WEB, "reconciling"), "15 min: WaitingForNode: taints", "describe", one(
        XENDOMAINS, condition(is_so("Ready", "False", "WaitingForNode", "taints"), is_so("Reconciling", "True", since=900)))),
    "a network is not carried out": case((ERROR, "XenNetwork lan", "ready"), "NotImplemented: vlan", "describe xennetwork lan", one(
        XENNETWORKS, condition(is_so("Ready", "False", "NotImplemented", "vlan")))),
    "a deletion waits for somebody else's finalizer": case(
        (WARNING, WEB, "finalizer"), "example.com/mine", "whose", one(XENDOMAINS, lambda obj: obj["metadata"].update(
            deletionTimestamp=ago(900), finalizers=["example.com/mine"]))),
    "a deletion waits for a host that runs": case(
        (WARNING, WEB, "finalizer"), "waits for host xen1", "describe", one(XENDOMAINS, deleting(900))),
    "an anchor waits for a domain that is gone": case(
        (ERROR, "Pod shop/old", "finalizer"), "'web' is gone", "patch pod -n shop old",
        with_(PODS, anchor("old", ownerReferences=[{"uid": "uid-old"}], deletionTimestamp=ago(900)))),
}  # fmt: skip


def troubles(findings: list[Finding]) -> list[tuple[Severity, str, str]]:
    return [(f.severity, f.subject, f.check) for f in findings if f.severity is not OK]


def test_a_cluster_in_which_all_is_well() -> None:
    found = check(well())
    assert troubles(found) == []
    assert {f.check for f in found} >= {"crd", "policy", "controller", "scheduler", "rights", "node", "capacity", "agent", "pool"}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_thing_is_wrong(case: Case) -> None:
    snapshot = well()
    for change in case.changes:
        change(snapshot)
    found = check(snapshot)
    assert troubles(found) == [case.want]
    (finding,) = (f for f in found if f.severity is not OK)
    assert case.says in finding.what
    assert case.mend in finding.mend
    assert finding.mend or finding.severity is NOTE
    assert failed(found) == (case.want[0] is ERROR)


WAITS = {
    "for a controller": ([one(XENDOMAINS, deleting(900)), without(LEASES, CONTROLLER_LEASE)], WEB, "none leads",
                         "controller"),
    "for an agent that is silent": ([one(XENDOMAINS, deleting(900)), without(LEASES, "xen1")], WEB, "silent", "fence"),
    "for a host whose Node is gone": ([one(XENDOMAINS, deleting(900)), NO_NODE], WEB, "xen1, which is gone", "fence"),
    "for a host that is gone altogether": ([one(XENDOMAINS, deleting(900)), NO_NODE, without(XENHOSTS)], WEB,
                                           "neither a Node nor a XenHost", "patch xendomain -n shop web"),
    "for a host that is to remove a disk's data": ([one(XENDISKS, deleting(900)), NO_NODE], "XenDisk shop/data", "remove its data",
                                                   "Retain"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "subject", "says", "mend"), WAITS.values(), ids=WAITS.keys())
def test_a_deletion_waits_for_what_is_not_there(changes: list[Change], subject: str, says: str, mend: str) -> None:
    snapshot = well()
    for change in changes:
        change(snapshot)
    (found,) = (f for f in check(snapshot) if f.check == "finalizer")
    assert (found.severity, found.subject) == (ERROR, subject)
    assert says in found.what
    assert mend in found.mend


def test_a_deletion_has_the_guests_grace() -> None:
    snapshot = well()
    one(XENDOMAINS, deleting(900))(snapshot)
    one(XENDOMAINS, lambda obj: obj["spec"].update(shutdownGracePeriodSeconds=1800))(snapshot)
    assert troubles(check(snapshot)) == []


def test_amounts_are_read_as_the_api_server_writes_them() -> None:
    snapshot = well()
    one(NODES, status(allocatable={"pods": "1k", MEMORY_RESOURCE: "4k"}))(snapshot)
    assert troubles(check(snapshot)) == []


def test_a_large_cluster_needs_as_many_pods_as_its_own_domains_do() -> None:
    """With domains of 64 MiB a host of 4 GiB holds more of them than a kubelet's usual 110 pods."""
    snapshot = well()
    for number in range(20):
        small = domain(f"d{number}")
        small["spec"]["memory"] = {"size": "16Mi"}
        with_(XENDOMAINS, small)(snapshot)
    (found,) = (f for f in check(snapshot) if f.check == "maxPods")
    assert found.severity is WARNING


@pytest.mark.parametrize(
    ("who", "severity", "says"),
    [(rights.MYSELF, WARNING, "you may not"),
     (f"{SYSTEM}:{rights.CONTROLLER}", ERROR, "kubexen-system/kubexen-controller may not")],
)
def test_rights_that_are_missing_are_named(who: str, severity: Severity, says: str) -> None:
    snapshot = well()
    answers = [(right, allowed and not (right.who == who and right.verb == "list")) for right, allowed in snapshot.rights]
    found = check(replace(snapshot, rights=answers))
    (finding,) = (f for f in found if f.severity is not OK)
    assert (finding.severity, finding.check) == (severity, "rights")
    assert says in finding.what
    assert "list nodes" in finding.what


@pytest.mark.parametrize("res", [NODES, LEASES, PODS, XENHOSTS, XENDOMAINS, CRDS, MUTATING, ACCOUNTS], ids=str)
def test_what_could_not_be_read_is_not_called_missing(res: Any) -> None:
    snapshot = well()
    objects = {name: found for name, found in snapshot.objects.items() if name != str(res)}
    found = check(Snapshot(snapshot.now, SYSTEM, AGENTS, objects, {str(res): "forbidden"}, snapshot.rights))
    assert troubles(found) == [(WARNING, CLUSTER, "unread")]


def test_agents_may_live_in_the_controllers_namespace() -> None:
    snapshot = well()
    without(LEASES, "xen1")(snapshot)
    with_(LEASES, lease("xen1", SYSTEM))(snapshot)
    assert troubles(check(snapshot)) == []


def test_builders_make_what_the_models_read() -> None:
    from kubexen.api.xendisk import XenDisk
    from kubexen.api.xendomain import XenDomain
    from kubexen.api.xenhost import XenHost

    assert XenHost.parse(host()).status.memory and XenDomain.parse(domain()).spec and XenDisk.parse(disk()).spec
