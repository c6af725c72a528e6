"""What the shipped roles let a namespace's users do, and what he does not reach with them: statuses, hosts, other namespaces, and
above all a node of his choice by a pod that he makes to look like an anchor."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest

from hack.cluster import KubectlError
from hack.cluster.api import Api, Object
from kubexen.api.names import ANCHOR_FINALIZER, API_VERSION, DOMAIN_LABEL
from tests.cluster import manifests
from tests.cluster.rights import create, patch, refused, succeeds, user
from tests.cluster.tenant import KUBEXEN, Tenant, condition, is_ready, until

POLICY = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/kubexen-anchor"
NOWHERE = {"kubernetes.io/hostname": "nowhere"}
RIGHTS = "cannot"  # RBAC: User ... cannot patch resource ...


def pod(tenant: Tenant, name: str = "mine", **metadata: object) -> Object:
    """A pod that Pod Security `restricted` admits."""
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": tenant.namespace, **metadata},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65535, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "image": "a", "securityContext": restricted}],
        },
    }  # fmt: skip


def forged(tenant: Tenant, domain: str, node: str, name: str = "forged") -> Object:
    """A pod that has all that an anchor has, on a node of its maker's choice."""
    owner = {"apiVersion": API_VERSION, "kind": "XenDomain", "name": domain, "uid": tenant.get(domain)["metadata"]["uid"],
             "controller": True, "blockOwnerDeletion": False}
    result = pod(tenant, name, labels={DOMAIN_LABEL: domain}, ownerReferences=[owner], finalizers=[ANCHOR_FINALIZER])
    result["spec"]["nodeName"] = node
    return result


def pods(tenant: Tenant, name: str = "") -> str:
    return f"/api/v1/namespaces/{tenant.namespace}/pods{'/' + name if name else ''}"


# Roles

ROLES = {"kubexen-view": (True, False), "kubexen-edit": (True, True), "kubexen-admin": (True, True),
         "view": (True, False), "edit": (True, True), "admin": (True, True)}  # fmt: skip


@pytest.mark.parametrize("role, rights", ROLES.items(), ids=ROLES)
def test_a_role_reads_and_writes_what_it_says(tenant: Tenant, role: str, rights: tuple[bool, bool]) -> None:
    tenant.apply(manifests.domain("web", powerState="Halted"), manifests.disk("data"))
    api = user(tenant, role)
    acts: list[tuple[bool, Callable[[], object]]] = []
    for kind, name, manifest in (
        ("xd", "web", manifests.domain("new")), ("xdisk", "data", manifests.disk("new")),
        ("xact", "", manifests.action("new", "web")),
    ):  # fmt: skip
        read, write = rights
        acts += [
            (read, lambda kind=kind: api.get(tenant.path(kind))),
            (write, lambda kind=kind, manifest=manifest: create(api, tenant.path(kind), manifest)),
        ]
        if name:
            path = tenant.path(kind, name)
            acts += [
                (read, lambda path=path: api.get(f"{path}/status")),
                (write, lambda path=path: patch(api, path, {"metadata": {"labels": {"a": "b"}}})),
                (write, lambda path=path: api.delete(path, dryRun="All")),
                (False, lambda path=path: patch(api, f"{path}/status", {"status": {"nodeName": "xen1"}})),
            ]
    for allowed, act in acts:
        if allowed:
            act()
        else:
            refused(act, RIGHTS)


CLUSTERS = {
    "a pool, and with it a path of the hosts": ("xenstoragepools", {"directory": {"path": "/etc"}, "shared": True}),
    "a network, and with it a bridge": ("xennetworks", {"bridge": "eth0"}),
    "a host": ("xenhosts", {}),
}


@pytest.mark.parametrize("plural, spec", CLUSTERS.values(), ids=CLUSTERS)
@pytest.mark.parametrize("role", ["kubexen-admin", "admin"])
def test_what_stands_for_hosts_is_no_tenants(tenant: Tenant, role: str, plural: str, spec: Object) -> None:
    kind = {"xenstoragepools": "XenStoragePool", "xennetworks": "XenNetwork", "xenhosts": "XenHost"}[plural]
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "mine"}, "spec": spec}
    create(tenant.api, f"{KUBEXEN}/{plural}", body)
    refused(lambda: create(user(tenant, role), f"{KUBEXEN}/{plural}", body), RIGHTS)


def test_another_namespace_is_out_of_reach(tenant: Tenant) -> None:
    tenant.apply(manifests.disk("data"), manifests.domain("web", powerState="Halted"))
    api = user(tenant, "admin")
    for kind in ("xd", "xdisk"):
        api.get(tenant.path(kind))
        refused(lambda kind=kind: api.get(tenant.path(kind).replace(tenant.namespace, "default")), RIGHTS)
    refused(lambda: create(api, f"{KUBEXEN}/namespaces/default/xendisks", manifests.disk("new")), RIGHTS)


def test_a_disk_of_another_namespace_is_not_found_by_its_name(tenant: Tenant) -> None:
    tenant.api.create(f"{KUBEXEN}/namespaces/default/xendisks", manifests.disk("theirs"))
    try:
        tenant.apply(manifests.domain("thief", disks=["theirs"]), manifests.domain("path", disks=["theirs"]))
        found = tenant.wait_reason("thief", "DiskNotFound")
        assert "theirs" in condition(found, "Ready")["message"]
        # nor by a path, which no name can be
        web = manifests.domain("web", disks=["default/theirs"])
        refused(lambda: create(tenant.api, tenant.path("xd"), web), "spec.disks[0].disk", code=422)
    finally:
        tenant.api.delete(f"{KUBEXEN}/namespaces/default/xendisks/theirs")


def test_a_status_that_is_given_at_creation_is_dropped(tenant: Tenant) -> None:
    api = user(tenant, "edit")
    body = manifests.domain("web", powerState="Halted") | {"status": {"nodeName": "xen1", "anchorUID": "x", "domid": 7}}
    made = api.create(tenant.path("xd"), body)
    assert made["status"].keys() == {"conditions"}
    assert "nodeName" not in tenant.wait_reason("web", "Halted")["status"]


# Pods that look like anchors

def changes(domain: str, uid: str) -> dict[str, Object]:
    owner = {"apiVersion": API_VERSION, "kind": "XenDomain", "name": domain, "uid": uid, "controller": True}
    return {
        "the label of another domain": {"labels": {DOMAIN_LABEL: "other"}},
        "without the label": {"labels": {DOMAIN_LABEL: None}},
        "another owner": {"ownerReferences": [{**owner, "uid": "11111111-2222-4333-8444-555555555555"}]},
    }  # fmt: skip


def test_an_editor_makes_no_pod_that_looks_like_an_anchor(tenant: Tenant) -> None:
    tenant.apply(manifests.domain("web", nodeSelector=NOWHERE))
    api = user(tenant, "edit")
    look_alike = forged(tenant, "web", "xen2")
    plain = copy.deepcopy(look_alike)
    del plain["metadata"]["labels"]
    create(api, pods(tenant), plain)
    refused(lambda: create(api, pods(tenant), look_alike), "only Kubexen's controller makes")
    # step by step
    api.create(pods(tenant), pod(tenant))
    patch(api, pods(tenant, "mine"), {"metadata": {"labels": {"app": "mine"}}})
    labelled = {"metadata": {"labels": {DOMAIN_LABEL: "web"}}}
    refused(lambda: patch(api, pods(tenant, "mine"), labelled), "by Kubexen's controller only")
    # by a controller of Kubernetes' own, which makes pods from his template
    template = {"metadata": {"labels": {"app": "a", DOMAIN_LABEL: "web"}}, "spec": pod(tenant)["spec"]}
    api.create(f"/apis/apps/v1/namespaces/{tenant.namespace}/replicasets", {
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "forger"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "a"}}, "template": template},
    })  # fmt: skip
    assert "only Kubexen's controller makes" in tenant.wait_event("forger", "FailedCreate")["note"]


def test_an_editor_does_not_make_an_anchor_another_ones(tenant: Tenant) -> None:
    tenant.run(manifests.domain("web"))
    anchor = tenant.anchor("web")["metadata"]
    api, path = user(tenant, "edit"), pods(tenant, anchor["name"])
    patch(api, path, {"metadata": {"annotations": {"mine": "yes"}}})
    for what, metadata in changes("web", anchor["ownerReferences"][0]["uid"]).items():
        refused(lambda metadata=metadata: patch(api, path, {"metadata": metadata}), "Kubexen's controller"), what
    refused(lambda: patch(api, f"{path}/status", {"status": {"phase": "Failed"}}), RIGHTS)
    target = {"kind": "Node", "name": "xen2"}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": anchor["name"]}, "target": target}
    refused(lambda: create(api, f"{path}/binding", binding), RIGHTS)


@pytest.fixture
def no_policy(tenant: Tenant) -> Iterator[None]:
    """The cluster without the policy that keeps such pods away."""
    binding = tenant.api.get(POLICY)
    tenant.api.delete(POLICY)
    probe = pod(tenant, "probe", labels={DOMAIN_LABEL: "none"})
    until(lambda: succeeds(lambda: create(tenant.api, pods(tenant), probe)))
    yield
    del binding["metadata"]["uid"], binding["metadata"]["resourceVersion"]
    tenant.api.create(POLICY.rpartition("/")[0], binding)
    until(lambda: not succeeds(lambda: create(tenant.api, pods(tenant), probe)))


def test_a_forged_anchor_that_got_in_places_nothing_and_is_ended(tenant: Tenant, no_policy: None) -> None:
    """The domain waits for a place that there is not; the forger has one for it."""
    tenant.apply(manifests.domain("web", nodeSelector=NOWHERE))
    tenant.wait_reason("web", "WaitingForNode")
    api: Api = user(tenant, "edit")
    since = tenant.get("web")["metadata"]["resourceVersion"]
    api.create(pods(tenant), forged(tenant, "web", "xen2"))
    tenant.api.wait_gone(pods(tenant, "forged"), 60)
    tenant.power("web", "Halted")
    tenant.wait_reason("web", "Halted")
    tenant.patch("web", nodeSelector={"kubernetes.io/hostname": "xen1"}, powerState="Running")
    assert is_ready(tenant.wait_reason("web", "Running"))
    assert tenant.where("web")[0] == "xen1"
    history = [found for _, found in tenant.api.watch(tenant.path("xd"), 2, resourceVersion=since)]
    assert {found["status"].get("nodeName") for found in history} == {None, "xen1"}, "it was bound to the forger's node"


def test_a_forged_anchor_is_no_place_for_a_domain_that_is_to_leave_its_node(tenant: Tenant, no_policy: None) -> None:
    tenant.run(manifests.domain("web", nodeSelector={"kubernetes.io/hostname": "xen1"}))
    domid = tenant.where("web")[1].domid
    capacity = tenant.api.get("/api/v1/nodes/xen1")["status"]["allocatable"]
    with pytest.raises(KubectlError):
        tenant.stack.kubectl("drain", "xen1", "--timeout=3s", "--ignore-daemonsets")
    tenant.wait("web", lambda found: condition(found, "Migratable")["reason"] == "NowhereToGo")
    for node in ("xen1", "xen2"):
        user(tenant, "edit", f"forger-{node}").create(pods(tenant), forged(tenant, "web", node, f"forged-{node}"))
        tenant.api.wait_gone(pods(tenant, f"forged-{node}"), 60)
    assert tenant.where("web") == ("xen1", tenant.where("web")[1])
    assert tenant.where("web")[1].domid == domid
    assert tenant.get("web")["status"]["nodeName"] == "xen1"
    after = tenant.api.get("/api/v1/nodes/xen1")["status"]["allocatable"]
    assert after == capacity, "a forged anchor made the node look larger"


# Finalizers

@pytest.mark.parametrize("kind, name", [("xd", "web"), ("xdisk", "data")])
def test_a_users_object_is_not_torn_from_its_domain_or_data(tenant: Tenant, kind: str, name: str) -> None:
    """Such a domain would run on, past its namespace's quota."""
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"]))
    torn = {"metadata": {"finalizers": None}}
    api, path = user(tenant, "admin"), tenant.path(kind, name)
    patch(api, path, {"metadata": {"finalizers": ["example.com/mine", *tenant.get(name, kind)["metadata"]["finalizers"]]}})
    refused(lambda: patch(api, path, torn), "by hand only by who may")
    patch(tenant.api, path, torn)
    tenant.stack.kubectl("create", "clusterrolebinding", tenant.namespace, "--clusterrole=kubexen-host-admin",
                         f"--serviceaccount={tenant.namespace}:some-admin")
    try:
        until(lambda: succeeds(lambda: patch(api, path, torn)))
    finally:
        tenant.stack.kubectl("delete", "clusterrolebinding", tenant.namespace)
