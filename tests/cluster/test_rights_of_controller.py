"""Attacks with the controller's own token. It may make pods in every namespace and write Nodes: policies hold it to what it needs.
Each attack is first made where it is none, as the controller itself makes such a write, and succeeds there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hack.cluster.api import Api, Object
from hack.stack import chart
from hack.stack.stack import AGENTS, CONTROLLER, NAMESPACE, Stack
from kubexen.api.domainstatus import ClaimStatus, VolumeMode
from kubexen.api.names import ANCHOR_READINESS_GATE
from kubexen.api.xendomain import XenDomain
from kubexen.plan import anchor as anchors
from tests.cluster import manifests
from tests.cluster.rights import DRY, controller, create, patch, refused, succeeds
from tests.cluster.tenant import KUBEXEN, Tenant, condition, until
from tests.unit.api.builders import put

OWN = f"/api/v1/namespaces/{NAMESPACE}"
"""The controller's own namespace, where there is an account with rights."""
PODS, POD = f"{OWN}/pods", f"{OWN}/pods/any"
NODE = "/api/v1/nodes/xen1"
STRATEGIC = "application/strategic-merge-patch+json"
"""Of a list it changes the entries that it names."""
NOBODY = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "11111111-2222-4333-8444-555555555555"}
"""An owner that is not there: the garbage collector deletes what it owns."""


@pytest.fixture(scope="module")
def api(stack: Stack) -> Api:
    return controller(stack)


# Pods that it makes

@pytest.fixture(scope="module")
def anchor() -> Object:
    """As the controller makes it, with all that one may mount."""
    spec = manifests.domain("web", cloudInit={"userData": {"secretName": "login", "key": "userdata"}})
    spec["metadata"] |= {"namespace": NAMESPACE, "uid": "22222222-2222-4333-8444-555555555555"}
    claims = [ClaimStatus(name=mode.lower(), uid=mode, volume_mode=mode) for mode in (VolumeMode.BLOCK, VolumeMode.FILESYSTEM)]
    return anchors.manifest(XenDomain.parse(spec), claims=claims)


Change = Callable[[Object], Object]


def pod(field: str, value: Any) -> Change:
    """The anchor with another value of a field (`...`: without it)."""
    return lambda made: put(made, field, value)


def owner(**fields: Any) -> Change:
    """The anchor of another owner."""
    return lambda made: put(made, "metadata.ownerReferences", [made["metadata"]["ownerReferences"][0] | fields])


def container(field: str, value: Any) -> Change:
    """The anchor whose container has another value of a field."""
    return lambda made: put(made, "spec.containers", [put(made["spec"]["containers"][0], field, value)])


def beside(field: str, **one: Any) -> Change:
    """The anchor with one more of a list, such as its volumes."""
    return lambda made: put(made, f"spec.{field}", [*made["spec"].get(field, ()), {"name": "mine", **one}])


def placed(field: str, **at: str) -> Change:
    """The anchor whose first mount, or device, is elsewhere in its container."""

    def change(made: Object) -> Object:
        first, *others = made["spec"]["containers"][0][field]
        return container(field, [first | at, *others])(made)

    return change


RUNS = {"exec": {"command": ["python3", "-c", "print(1)"]}}
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

NO_ANCHOR = {
    "without the label": pod("metadata.labels", {}),
    "of nobody": pod("metadata.ownerReferences", ...),
    "of another kind": owner(kind="ReplicaSet", apiVersion="apps/v1"),
    "of another group's XenDomain": owner(apiVersion="example.com/v1"),
    "of a domain that does not control it": owner(controller=False),
}
REACHES = {
    "the host's network": pod("spec.hostNetwork", True),
    "the host's processes": pod("spec.hostPID", True),
    "the host's memory": pod("spec.hostIPC", True),
    "a port of the host": container("ports", [{"containerPort": 22, "hostPort": 22}]),
    "the host's files": beside("volumes", hostPath={"path": "/"}),
    "privileged": container("securityContext", {"privileged": True}),
    "more privileges later": container("securityContext.allowPrivilegeEscalation", True),
    "a capability": container("securityContext.capabilities.add", ["NET_RAW"]),
    "the account's token": pod("spec.automountServiceAccountToken", True),
    "the account's token, by default": pod("spec.automountServiceAccountToken", ...),
    "another account": pod("spec.serviceAccountName", CONTROLLER),
    "a token as a volume": beside("volumes", projected={"sources": [{"serviceAccountToken": {"path": "token"}}]}),
    "a second container": beside("containers", image=anchors.IMAGE, securityContext=RESTRICTED),
    "an init container": beside("initContainers", image=anchors.IMAGE, securityContext=RESTRICTED),
}
RUNS_ITS_OWN = {
    "an image": container("image", "registry.example.com/evil:1"),
    "an image of that name elsewhere": container("image", f"registry.example.com/{anchors.IMAGE}"),
    "a program": container("command", ["python3"]),
    "arguments": container("args", ["python3"]),
    "a folder": container("workingDir", "/claims/1"),
    "a library": container("env", [{"name": "LD_PRELOAD", "value": "/claims/1/evil.so"}]),
    "a Secret's environment": container("envFrom", [{"secretRef": {"name": "login"}}]),
    "a program at its start": container("lifecycle", {"postStart": RUNS}),
    "a program at its end": container("lifecycle", {"preStop": RUNS}),
    "a program for life": container("livenessProbe", RUNS),
    "a program for readiness": container("readinessProbe", RUNS),
    "a program for a start": container("startupProbe", RUNS),
    "a claim over its program": placed("volumeMounts", mountPath="/usr/bin"),
    "a claim over its program, by dots": placed("volumeMounts", mountPath="/claims/../usr/bin"),
    "a device over its program": placed("volumeDevices", devicePath="/usr/bin/kubexen-anchor"),
}
MADE = [
    *((change, "may make, write and delete anchors only", name) for name, change in NO_ANCHOR.items()),
    *((change, "no pod that reaches a host or holds a token", name) for name, change in REACHES.items()),
    *((change, f"has the image {anchors.IMAGE} and runs what that runs by itself", name) for name, change in RUNS_ITS_OWN.items()),
]


@pytest.mark.parametrize("change, words", [pytest.param(change, words, id=name) for change, words, name in MADE])
def test_it_makes_no_pod_but_an_anchor(api: Api, anchor: Object, change: Change, words: str) -> None:
    create(api, PODS, anchor)
    refused(lambda: create(api, PODS, change(anchor)), words)


def test_what_runs_is_the_image_of_the_chart_that_is_installed(tenant: Tenant, anchor: Object) -> None:
    """As in an upgrade to another image, while the controller of before still leads: it says so, and goes on trying."""
    tenant.run(manifests.domain("before"))
    api = controller(tenant.stack)
    with policy(tenant.stack, anchor="registry.example.com/anchor"):
        until(lambda: not succeeds(lambda: create(api, PODS, anchor)))
        create(api, PODS, container("image", "registry.example.com/anchor:next")(anchor))
        tenant.apply(manifests.domain("after"))
        found = tenant.wait_reason("after", "AnchorRefused")
        assert "an anchor has the image registry.example.com/anchor:next" in condition(found, "Ready")["message"]
        tenant.delete("xd", "before")
        until(lambda: not tenant.anchors("before"))  # those that were there it ends all the same
    tenant.wait_reason("after", "Running")


@contextmanager
def policy(stack: Stack, anchor: str) -> Iterator[None]:
    """The policy for pods as in a release with this image for anchors, whose tag is `next`."""

    def apply(**values: Any) -> None:
        stack.apply(*(d for d in chart.render(NAMESPACE, values) if d["metadata"]["name"] == "kubexen-controller-pod"))

    apply(images={"anchor": {"repository": anchor, "tag": "next"}})
    try:
        yield
    finally:
        apply()


# Pods that are there

@pytest.fixture
def running(tenant: Tenant) -> Object:
    """A domain's anchor."""
    tenant.run(manifests.domain("web"))
    return tenant.anchor("web")


def path(pod: Object) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def said(type_: str) -> Object:
    return {"conditions": [{"type": type_, "status": "False", "reason": "Attack"}]}


WRITTEN: dict[str, tuple[str, Object]] = {
    "another image": ("", {"spec": {"containers": [{"name": "anchor", "image": "registry.example.com/evil:1"}]}}),
    "an end of its time": ("", {"spec": {"activeDeadlineSeconds": 1}}),
    "labels": ("", {"metadata": {"labels": {"app": "a-service"}}}),
    "labels, by its status": ("/status", {"metadata": {"labels": {"app": "a-service"}}}),
    "an owner": ("", {"metadata": {"ownerReferences": [NOBODY]}}),
    "its address, and with it a Service's": ("/status", {"status": {"podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}]}}),
    "its phase": ("/status", {"status": {"phase": "Succeeded"}}),
    "a condition": ("/status", {"status": said("Ready")}),
    "without its conditions": ("/status", {"status": {"conditions": [{"$patch": "replace"}]}}),
}


def test_of_an_anchor_it_writes_finalizers_and_one_condition(api: Api, running: Object) -> None:
    at = path(running)
    patch(api, at, {"metadata": {"finalizers": None}})
    patch(api, f"{at}/status", {"status": said(ANCHOR_READINESS_GATE)}, content_type=STRATEGIC)
    words = "of an anchor the controller may write the finalizers"
    for subresource, body in WRITTEN.values():
        refused(lambda s=subresource, b=body: patch(api, f"{at}{s}", b, content_type=STRATEGIC), words)


def test_a_pod_of_somebody_else_is_out_of_reach(tenant: Tenant, api: Api, running: Object) -> None:
    theirs = tenant.api.create(f"/api/v1/namespaces/{tenant.namespace}/pods", {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "theirs"}, "spec": {"containers": [{"name": "a", "image": "a"}]},
    })  # fmt: skip
    acts: list[Callable[[str], object]] = [
        lambda at: api.delete(at, **DRY),
        lambda at: patch(api, at, {"metadata": {"finalizers": ["example.com/mine"]}}),
        lambda at: patch(api, f"{at}/status", {"status": said(ANCHOR_READINESS_GATE)}, content_type=STRATEGIC),
    ]
    for act in acts:
        act(path(running))
        refused(lambda act=act: act(path(theirs)), "may make, write and delete anchors only")


# Nodes

NODES: dict[str, Object] = {
    "CPUs": {"status": {"capacity": {"cpu": "999"}}},
    "CPUs for pods": {"status": {"allocatable": {"cpu": "999"}}},
    "CPUs taken away": {"status": {"capacity": {"cpu": None}}},
    "CPUs for pods taken away": {"status": {"allocatable": {"cpu": None}}},
    "another vendor's devices": {"status": {"capacity": {"example.com/gpu": "8"}}},
    "a condition": {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
    "its address": {"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}},
    "its kubelet's port": {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}},
    "its images": {"status": {"images": [{"names": ["a:1"], "sizeBytes": 1}]}},
    "labels, and with them privileged agents": {"metadata": {"labels": {"kubexen.dev/xen": "no"}}},
    "annotations": {"metadata": {"annotations": {"a": "b"}}},
    "an owner": {"metadata": {"ownerReferences": [NOBODY]}},
}  # fmt: skip


@pytest.mark.parametrize("body", NODES.values(), ids=NODES)
def test_of_a_node_it_writes_two_resources(api: Api, body: Object) -> None:
    for amounts in ("capacity", "allocatable"):
        patch(api, f"{NODE}/status", {"status": {amounts: {"kubexen.dev/vcpus": "7", "kubexen.dev/memory-mib": None}}})
    refused(lambda: patch(api, f"{NODE}/status", body, content_type=STRATEGIC), "the resources of Xen hosts only")


# Objects of users

@pytest.mark.parametrize("kind, name, spec", [
    ("xd", "web", {"powerState": "Running"}), ("xdisk", "data", {"reclaimPolicy": "Retain"}),
])  # fmt: skip
def test_of_a_users_object_it_writes_finalizers_and_the_status(
    tenant: Tenant, api: Api, kind: str, name: str, spec: Object
) -> None:
    tenant.apply(manifests.disk("data"), manifests.domain("web", powerState="Halted"))
    at = tenant.path(kind, name)
    patch(api, at, {"metadata": {"finalizers": ["example.com/mine"]}})
    patch(api, f"{at}/status", {"status": {"observedGeneration": 99}})
    for body in (
        {"spec": spec}, {"metadata": {"labels": {"a": "b"}}}, {"metadata": {"annotations": {"a": "b"}}},
        {"metadata": {"ownerReferences": [NOBODY]}},
    ):  # fmt: skip
        refused(lambda body=body: patch(api, at, body), "the finalizers and the status only")


# What it has no right to at all

NEVER: dict[str, Callable[[Api], object]] = {
    "list Secrets": lambda api: api.get("/api/v1/secrets"),
    "read a Secret": lambda api: api.get(f"{OWN}/secrets/any"),
    "read a ConfigMap": lambda api: api.get(f"{OWN}/configmaps/any"),
    "write a claim": lambda api: patch(api, f"{OWN}/persistentvolumeclaims/any", {"metadata": {"labels": {"a": "b"}}}),
    "make a token": lambda api: create(api, f"{OWN}/serviceaccounts/{CONTROLLER}/token", {}),
    "give itself rights": lambda api: patch(api, f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{CONTROLLER}", {"rules": []}),
    "take its policy away": lambda api: api.delete(
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/kubexen-controller-pod", **DRY),
    "run a program in a pod": lambda api: create(api, f"{POD}/exec", {}),
    "attach to a pod": lambda api: create(api, f"{POD}/attach", {}),
    "reach a pod's ports": lambda api: create(api, f"{POD}/portforward", {}),
    "read a pod's output": lambda api: api.get(f"{POD}/log"),
    "put a container into a pod": lambda api: patch(api, f"{POD}/ephemeralcontainers", {"spec": {"ephemeralContainers": []}}),
    "resize a pod": lambda api: patch(api, f"{POD}/resize", {"spec": {}}),
    "bind a pod": lambda api: create(api, f"{POD}/binding", {"target": {"kind": "Node", "name": "xen1"}}),
    "evict a pod": lambda api: create(api, f"{POD}/eviction", {}),
    "delete all pods": lambda api: api.delete(PODS, **DRY),
    "write a Node": lambda api: patch(api, NODE, {"spec": {"unschedulable": True}}),
    "delete a Node": lambda api: api.delete(NODE, **DRY),
    "make a domain": lambda api: create(api, f"{KUBEXEN}/namespaces/{NAMESPACE}/xendomains", manifests.domain("mine")),
    "delete a domain": lambda api: api.delete(f"{KUBEXEN}/namespaces/{NAMESPACE}/xendomains/any", **DRY),
    "delete a disk": lambda api: api.delete(f"{KUBEXEN}/namespaces/{NAMESPACE}/xendisks/any", **DRY),
    "write a pool": lambda api: patch(api, f"{KUBEXEN}/xenstoragepools/{manifests.SHARED}", {"spec": {"namespaceSelector": {}}}),
    "fence a host": lambda api: patch(api, f"{KUBEXEN}/xenhosts/xen1", {"spec": {"fencedBootID": NOBODY["uid"]}}),
    "speak for an agent": lambda api: patch(
        api, f"/apis/coordination.k8s.io/v1/namespaces/{AGENTS}/leases/xen1", {"spec": {"holderIdentity": "me"}}),
}  # fmt: skip


@pytest.mark.parametrize("attack", NEVER.values(), ids=NEVER)
def test_it_never(api: Api, attack: Callable[[Api], object]) -> None:
    api.get(PODS)
    refused(lambda: attack(api), f'"system:serviceaccount:{NAMESPACE}:{CONTROLLER}" cannot')
