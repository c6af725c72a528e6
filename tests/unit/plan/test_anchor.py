"""The anchor: the pod that is made, what is read back of one, and which pods are none."""

from __future__ import annotations

from typing import Any

import pytest

from kubexen.plan.anchor import age, manifest, observe, owner
from kubexen.plan.resolve import reservation
from tests.unit.plan.builders import NOW, SHARED, UID, anchor, bound, claim, domain, uses

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def spec(pod: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = pod["spec"]
    return result


def test_it_is_admitted_by_pod_security_restricted() -> None:
    pod = spec(manifest(domain()))
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "volumes"} & pod.keys()


def test_it_asks_for_what_the_domain_may_grow_to_and_for_next_to_nothing_of_dom0() -> None:
    pod = spec(manifest(domain(memory={"size": "512Mi", "max": "1Gi"}, cpu={"count": 1, "max": 4})))
    requests = {"cpu": "1m", "memory": "16Mi", "kubexen.dev/memory-mib": "1037", "kubexen.dev/vcpus": "4"}
    assert pod["containers"][0]["resources"] == {"requests": requests, "limits": requests | {"cpu": "200m"}}


def test_it_is_the_domains() -> None:
    metadata = manifest(domain(labels={"app": "web", "kubexen.dev/domain": "forged"}))["metadata"]
    assert metadata["namespace"] == "shop"
    assert metadata["labels"] == {"app": "web", "kubexen.dev/domain": "web"}
    assert metadata["finalizers"] == ["kubexen.dev/anchor"]
    assert metadata["ownerReferences"] == [{
        "apiVersion": "kubexen.dev/v1alpha1", "kind": "XenDomain", "name": "web", "uid": UID, "controller": True,
        "blockOwnerDeletion": False,
    }]


@pytest.mark.parametrize("name", ["web", "a" * 63, f"{'a' * 49}.b", f"{'a' * 49}-b", "a.b"])
def test_a_pod_can_have_its_name(name: str) -> None:
    generated = manifest(domain(name=name))["metadata"]["generateName"]
    assert generated.endswith("-anchor-")
    assert len(generated) + 5 <= 63
    assert not generated.removesuffix("-anchor-").endswith(("-", "."))


def test_it_ends_only_when_its_domain_has_left() -> None:
    pod = spec(manifest(domain(tolerations=[{"key": "gpu", "operator": "Exists"}])))
    assert pod["terminationGracePeriodSeconds"] == 365 * 24 * 3600
    assert pod["tolerations"] == [
        {"key": "gpu", "operator": "Exists"},
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
        {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"},
    ]


def test_the_scheduler_is_kubexens_profile_or_the_users() -> None:
    assert spec(manifest(domain()))["schedulerName"] == "kubexen-scheduler"
    assert spec(manifest(domain(scheduler_name="mine")))["schedulerName"] == "mine"


def test_what_a_user_says_of_placement_is_handed_on() -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
              "labelSelector": {"matchLabels": {"app": "web"}}}
    pod = spec(manifest(domain(
        node_selector={"disk": "ssd"}, priority_class_name="high", topology_spread_constraints=[spread]
    )))
    assert (pod["nodeSelector"], pod["priorityClassName"]) == ({"disk": "ssd"}, "high")
    # Not by domain: a constraint that counted this domain's anchors alone would spread nothing.
    assert pod["topologySpreadConstraints"] == [spread]


# --- what it mounts


def test_claims_and_secrets_are_asked_for_by_its_container() -> None:
    """A kubelet mounts no volume that no container asks for."""
    key = {"secretName": "web", "key": "userdata"}
    pod = spec(manifest(
        domain(cloud_init={"userData": key}), claims=[claim("raw"), claim("files", SHARED, block=False)]
    ))
    (container,) = pod["containers"]
    assert pod["volumes"] == [
        {"name": "user-data", "secret": {
            "secretName": "web", "items": [{"key": "userdata", "path": "user-data"}], "defaultMode": 0o400}},
        {"name": "claim-0", "persistentVolumeClaim": {"claimName": "raw"}},
        {"name": "claim-1", "persistentVolumeClaim": {"claimName": "files"}},
    ]  # fmt: skip
    assert container["volumeDevices"] == [{"name": "claim-0", "devicePath": "/dev/claim-0"}]
    assert container["volumeMounts"] == [
        {"name": "user-data", "mountPath": "/seed/user-data", "readOnly": True},
        {"name": "claim-1", "mountPath": "/claims/1", "readOnly": True},
    ]


def made(pod: dict[str, Any]) -> dict[str, Any]:
    return pod | {"metadata": pod["metadata"] | {"name": "web-anchor-x", "uid": "x"}}


FITS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str], bool]] = {
    "nothing is named": ({}, {}, [], True),
    "more than is named": ({"disks": uses("a", "b")}, {"disks": uses("a")}, ["a", "b"], True),
    "what is named": ({"disks": uses("a")}, {"disks": uses("a")}, ["a"], True),
    "a claim was added": ({"disks": uses("a")}, {"disks": uses("a", "b")}, ["a"], False),
    "cloud-init was added": ({}, {"cloud_init": {"userData": {"secretName": "s", "key": "k"}}}, [], False),
    "another key": (
        {"cloud_init": {"userData": {"secretName": "s", "key": "k"}}},
        {"cloud_init": {"userData": {"secretName": "s", "key": "other"}}}, [], False,
    ),
    "the same key for another purpose": (
        {"cloud_init": {"userData": {"secretName": "s", "key": "k"}}},
        {"cloud_init": {"networkData": {"secretName": "s", "key": "k"}}}, [], False,
    ),
}


@pytest.mark.parametrize("before, after, mounted, want", FITS.values(), ids=FITS)
def test_whether_a_pod_that_is_there_serves_the_spec(
    before: dict[str, Any], after: dict[str, Any], mounted: list[str], want: bool
) -> None:
    pod = made(manifest(domain(**before), claims=[claim(name) for name in mounted]))
    assert observe(pod).mounts_all(domain(**after)) == want


def test_a_secret_that_came_later_does_not_keep_the_anchor_of_a_running_domain_from_running() -> None:
    key = {"userData": {"secretName": "s", "key": "k"}}
    before = domain(bound(reserved=reservation(domain())), cloud_init=key)
    assert "volumes" not in spec(manifest(before, on="xen1"))
    same = domain(bound(reserved=reservation(domain(cloud_init=key))), cloud_init=key)
    assert len(spec(manifest(same, on="xen1"))["volumes"]) == 1
    assert len(spec(manifest(before, off="xen1"))["volumes"]) == 1


def test_one_that_only_keeps_a_place_mounts_nothing_and_goes_where_the_volumes_can_be() -> None:
    zones = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]} for zone in "ab"]
    found = domain(disks=uses("data"), cloud_init={"userData": {"secretName": "s", "key": "k"}},
                   affinity=node_terms({"matchExpressions": [RACK]}, {"matchExpressions": [ZONE]}))
    pod = manifest(found, claims=[claim()], off="xen2", place=zones)
    assert "volumes" not in spec(pod)
    assert "volumeDevices" not in spec(pod)["containers"][0]
    assert not observe(made(pod)).mounts_all(found)
    wanted = [{"matchExpressions": [own, *zone["matchExpressions"]], "matchFields": [OFF]}
              for own in (RACK, ZONE) for zone in zones]
    assert spec(pod)["affinity"] == node_terms(*wanted)


# --- where it may go

ZONE = {"key": "zone", "operator": "In", "values": ["a"]}
RACK = {"key": "rack", "operator": "In", "values": ["1"]}
ONLY = {"key": "metadata.name", "operator": "In", "values": ["xen1"]}
OFF = {"key": "metadata.name", "operator": "NotIn", "values": ["xen2"]}


def node_terms(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}


AFFINITIES: dict[str, tuple[dict[str, Any] | None, dict[str, str], dict[str, Any]]] = {
    "none": (None, {}, {}),
    "the user's alone": (node_terms({"matchExpressions": [ZONE]}), {}, node_terms({"matchExpressions": [ZONE]})),
    "only one node": (None, {"only": "xen1"}, node_terms({"matchFields": [ONLY]})),
    "not this node": (None, {"off": "xen2"}, node_terms({"matchFields": [OFF]})),
    "both": (None, {"only": "xen1", "off": "xen2"}, node_terms({"matchFields": [ONLY, OFF]})),
    "each of the user's alternatives is narrowed": (
        node_terms({"matchExpressions": [ZONE]}, {"matchExpressions": [RACK]}), {"off": "xen2"},
        node_terms({"matchExpressions": [ZONE], "matchFields": [OFF]}, {"matchExpressions": [RACK], "matchFields": [OFF]}),
    ),
    "the user's own fields stay": (
        node_terms({"matchFields": [ONLY]}), {"off": "xen2"}, node_terms({"matchFields": [ONLY, OFF]})
    ),
    "what else the user asks for stays": (
        {"nodeAffinity": {PREFERRED: [{"weight": 1}]}, "podAffinity": {PREFERRED: []}}, {"only": "xen1"},
        {"nodeAffinity": {PREFERRED: [{"weight": 1}], REQUIRED: {"nodeSelectorTerms": [{"matchFields": [ONLY]}]}},
         "podAffinity": {PREFERRED: []}},
    ),
    "no affinity at all: the API server says so": ({"nodeAffinity": 5}, {"only": "xen1"}, {"nodeAffinity": 5}),
}


@pytest.mark.parametrize("given, where, want", AFFINITIES.values(), ids=AFFINITIES)
def test_affinity(given: dict[str, Any] | None, where: dict[str, str], want: dict[str, Any]) -> None:
    found = domain(affinity=given)
    assert spec(manifest(found, **where))["affinity"] == want
    assert found.spec.affinity == given


def test_a_domain_is_not_kept_from_a_place_by_its_own_other_anchor() -> None:
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}
    anti = {REQUIRED: [term, {"topologyKey": "zone"}], PREFERRED: [{"weight": 1, "podAffinityTerm": term}]}
    made = spec(manifest(domain(affinity={"podAntiAffinity": anti})))["affinity"]["podAntiAffinity"]
    apart = {**term, "mismatchLabelKeys": ["kubexen.dev/domain"]}
    assert made == {REQUIRED: [apart, {"topologyKey": "zone"}], PREFERRED: [{"weight": 1, "podAffinityTerm": apart}]}


def test_an_anchor_for_where_the_domain_is_goes_past_the_scheduler() -> None:
    pod = spec(manifest(domain(), on="xen1"))
    assert (pod["nodeName"], pod["affinity"]) == ("xen1", {})
    assert "nodeName" not in spec(manifest(domain()))


# --- what is read back


def pod(**changes: Any) -> dict[str, Any]:
    made = manifest(domain())
    metadata = made["metadata"] | {"name": "web-anchor-x", "uid": "p1", "creationTimestamp": "2026-03-01T11:59:57Z"}
    return {"metadata": metadata | changes.pop("metadata", {}), "spec": made["spec"] | changes.pop("spec", {}),
            "status": changes}


READ: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "just made": (pod(), {"node": "", "phase": "Pending", "live": True, "counted": False, "running": False}),
    "placed": (pod(spec={"nodeName": "xen1"}, phase="Pending"), {"live": True, "counted": True, "running": False}),
    "running": (pod(spec={"nodeName": "xen1"}, phase="Running"), {"live": True, "counted": True, "running": True}),
    "its end is asked for": (
        pod(spec={"nodeName": "xen1"}, phase="Running", metadata={"deletionTimestamp": "2026-03-01T12:00:00Z"},
            conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]),
        {"live": False, "counted": True, "running": False, "disruption": "EvictionByEvictionAPI"},
    ),
    "failed": (pod(spec={"nodeName": "xen1"}, phase="Failed"), {"live": False, "counted": False, "running": False}),
    "no room": (
        pod(phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/2 nodes"}]),
        {"unschedulable": "0/2 nodes", "live": True},
    ),
    "its gate": (
        pod(phase="Running", conditions=[{"type": "kubexen.dev/domain-ready", "status": "True"}]), {"ready": True}
    ),
    "its gate is shut": (
        pod(phase="Running", conditions=[{"type": "kubexen.dev/domain-ready", "status": "False"}]), {"ready": False}
    ),
    "its gate was never written": (pod(phase="Running"), {"ready": None}),
}


@pytest.mark.parametrize("document, want", READ.values(), ids=READ)
def test_observe(document: dict[str, Any], want: dict[str, Any]) -> None:
    found = observe(document)
    assert {name: getattr(found, name) for name in want} == want
    assert (found.name, found.uid) == ("web-anchor-x", "p1")
    assert age(found, NOW) == 3


def test_an_anchor_without_a_time_is_new() -> None:
    assert age(anchor(), NOW) == 60
    assert age(observe({"metadata": {"name": "x", "uid": "y"}}), NOW) == 0


OWNER = {"apiVersion": "kubexen.dev/v1alpha1", "kind": "XenDomain", "name": "web", "uid": UID, "controller": True}

PODS: dict[str, tuple[list[dict[str, Any]] | None, bool]] = {
    "ours": ([OWNER], True),
    "ours among others": ([{"kind": "Thing", "uid": "x"}, OWNER], True),
    "only the label": (None, False),
    "owned, but not as by a controller": ([{**OWNER, "controller": False}], False),
    "an earlier domain of this name": ([{**OWNER, "uid": "earlier"}], False),
    "another kind": ([{**OWNER, "kind": "ReplicaSet"}], False),
}


@pytest.mark.parametrize("owners, want", PODS.values(), ids=PODS)
def test_a_pod_that_looks_like_an_anchor_is_nothing(owners: list[dict[str, Any]] | None, want: bool) -> None:
    document = pod()
    document["metadata"]["ownerReferences"] = owners
    assert (owner(document).get("uid") == UID) is want
