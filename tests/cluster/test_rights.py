"""Attacks. Each is first made where it is no attack (on the agent's own node, in the user's own namespace) and succeeds there,
so that a refusal is one of the right and of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hack.cluster.api import APPLY_PATCH, Api, Object
from hack.stack.stack import AGENT, AGENTS, NAMESPACE
from kubexen.api.names import API_VERSION
from tests.cluster import manifests
from tests.cluster.rights import Target, agent, create, patch, refused
from tests.cluster.tenant import KUBEXEN, PATIENCE, Tenant

XEN1, XEN2 = "xen1", "xen2"


@pytest.fixture
def targets(tenant: Tenant) -> dict[str, Target]:
    """A domain with a disk on each node."""
    result = {}
    for node in (XEN1, XEN2):
        domain, disk = f"on-{node}", f"disk-{node}"
        tenant.run(manifests.disk(disk), manifests.domain(domain, disks=[disk]), on=node)
        result[node] = Target(node, tenant.namespace, domain, disk)
    return result


def node_token(tenant: Tenant) -> Api:
    """An agent outside a pod: a token that is bound to its Node."""
    return agent(tenant, XEN1)


def pod_token(tenant: Tenant) -> Api:
    """An agent of the DaemonSet: a token that is bound to a pod on its node."""
    pods = f"/api/v1/namespaces/{AGENTS}/pods"
    name = f"agent-{tenant.namespace}"
    tenant.api.create(pods, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "nodeName": XEN1, "serviceAccountName": AGENT, "containers": [{"name": "agent", "image": "agent"}],
    }})  # fmt: skip
    token = tenant.stack.kubectl(
        "create", "token", AGENT, f"--namespace={AGENTS}", "--bound-object-kind=Pod", f"--bound-object-name={name}"
    ).strip()
    return tenant.stack.cluster.api_for(token)


@pytest.fixture(params=[node_token, pod_token], ids=lambda made: made.__name__)
def xen1(request: pytest.FixtureRequest, tenant: Tenant) -> Iterator[Api]:
    """The API as the agent of xen1 has it."""
    yield request.param(tenant)
    tenant.api.delete(f"/api/v1/namespaces/{AGENTS}/pods/agent-{tenant.namespace}", gracePeriodSeconds="0")


# What an agent does on its own node, and must not do on another's.

Write = Callable[[Api, Target], object]


def event(node: str, regarding: Target) -> Object:
    return {
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "attack", "namespace": regarding.namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Attack", "action": "Attack", "note": "-",
        "reportingController": "kubexen-agent", "reportingInstance": node,
        "regarding": {"apiVersion": API_VERSION, "kind": "XenDomain", "name": regarding.domain, "namespace": regarding.namespace},
    }  # fmt: skip


WRITES: dict[str, Write] = {
    "its XenHost's status": lambda api, own: patch(api, f"{own.host}/status", {"status": {"scheduler": "mine"}}),
    "its XenHost": lambda api, own: patch(api, own.host, {"metadata": {"labels": {"mine": "yes"}}}),
    "its Lease": lambda api, own: patch(api, own.lease, {"spec": {"holderIdentity": "mine"}}),
    "a status of its domain": lambda api, own: patch(
        api, f"{own.domain_path}/status", {"status": {"state": "-b----", "domid": 99}}),
    "a domain is given up": lambda api, own: patch(api, f"{own.domain_path}/status", {"status": {"released": "someone"}}),
    "a status of its disk": lambda api, own: patch(api, f"{own.disk_path}/status", {"status": {"data": "Removed"}}),
    "its Event": lambda api, own: create(
        api, f"/apis/events.k8s.io/v1/namespaces/{own.namespace}/events", event(own.node, own)),
}  # fmt: skip


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_an_agent_writes_for_its_own_node_only(
    tenant: Tenant, targets: dict[str, Target], xen1: Api, write: Write
) -> None:
    write(xen1, targets[XEN1])
    refused(lambda: write(xen1, targets[XEN2]), f"an agent of node {XEN1} may not")


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_token_that_names_no_node_writes_nothing(tenant: Tenant, targets: dict[str, Target], write: Write) -> None:
    write(agent(tenant, XEN1), targets[XEN1])
    refused(lambda: write(agent(tenant, None), targets[XEN1]), "this agent's token names no node")


def test_an_agent_makes_the_xenhost_of_its_own_node_only(tenant: Tenant) -> None:
    tenant.stack.cluster.add_node("fresh")
    try:
        api = agent(tenant, "fresh")

        def make(name: str, **more: Object) -> object:
            body = {"apiVersion": API_VERSION, "kind": "XenHost", "metadata": {"name": name}, **more}
            return patch_as_apply(api, f"{KUBEXEN}/xenhosts/{name}", body)

        make("fresh")
        refused(lambda: make("elsewhere"), "an agent of node fresh may not")
        refused(lambda: make("fresh", spec={"fencedBootID": "7d0c3a52-55c1-4f39-9a43-0a1b2c3d4e5f"}), "a person's word")
    finally:
        tenant.stack.cluster.delete_node("fresh")


def patch_as_apply(api: Api, path: str, body: Object) -> Object:
    return api.patch(path, body, APPLY_PATCH, dryRun="All", fieldManager="kubexen-agent", force="true")


# On its own node, too, there are fields that are not an agent's.

CONTROLLERS: dict[str, Object] = {
    "anchorUID": {"anchorUID": "11111111-2222-4333-8444-555555555555"},
    "move: it announces a move, and with it a change of node": {"move": {"uid": "x", "phase": "Fenced"}},
    "macAddresses": {"macAddresses": {"eth0": "00:16:3e:00:00:01"}},
    "off": {"off": {"reason": "poweroff", "time": "2026-01-01T00:00:00Z"}},
    "fencedBootID": {"fencedBootID": "11111111-2222-4333-8444-555555555555"},
    "observedGeneration": {"observedGeneration": 99},
    "replicas": {"replicas": 0},
    "selector": {"selector": "app=other"},
}


@pytest.mark.parametrize("status", CONTROLLERS.values(), ids=CONTROLLERS)
def test_an_agent_leaves_the_controllers_fields_of_its_domain(
    tenant: Tenant, targets: dict[str, Target], status: Object
) -> None:
    api, path = agent(tenant, XEN1), f"{targets[XEN1].domain_path}/status"
    patch(api, path, {"status": {"domid": 99}})
    refused(lambda: patch(api, path, {"status": {"domid": 99, **status}}), "may not write the controller's fields")


@pytest.mark.parametrize("node", [XEN2, None], ids=["to another node", "to none"])
def test_an_agent_does_not_send_its_domain(tenant: Tenant, targets: dict[str, Target], node: str | None) -> None:
    """The CRD has a rule of its own for that, which holds for the controller, too."""
    path = f"{targets[XEN1].domain_path}/status"
    patch(agent(tenant, XEN1), path, {"status": {"domid": 99}})
    refused(lambda: patch(agent(tenant, XEN1), path, {"status": {"nodeName": node}}), "nodeName changes only after", code=422)


def test_an_agent_that_gave_a_domain_up_does_not_say_where_it_goes(tenant: Tenant) -> None:
    """Here that rule would let it."""
    tenant.run(manifests.domain("web"), on=XEN1)
    tenant.stack.controller.stop()
    try:
        tenant.power("web", "Halted")
        tenant.wait("web", lambda found: found["status"].get("released") == found["status"]["anchorUID"])
        path = f"{tenant.path('xd', 'web')}/status"
        patch(tenant.api, path, {"status": {"nodeName": XEN2}})
        patch(agent(tenant, XEN1), path, {"status": {"domid": 99}})
        refused(lambda: patch(agent(tenant, XEN1), path, {"status": {"nodeName": XEN2}}), "may not write the controller's fields")
    finally:
        tenant.stack.start_controller()


def test_an_agent_does_not_take_a_domain_that_no_node_holds(tenant: Tenant) -> None:
    tenant.apply(manifests.domain("web", powerState="Halted"))
    tenant.wait_reason("web", "Halted")
    path, take = f"{tenant.path('xd', 'web')}/status", {"status": {"nodeName": XEN1}}
    patch(tenant.api, path, take)
    refused(lambda: patch(agent(tenant, XEN1), path, take), "bound to no node")


@pytest.mark.parametrize("kind, own, other", [
    ("domain_path", "DomainReady", "Ready"), ("domain_path", "RestartRequired", "Stalled"), ("disk_path", "Ready", "InUse"),
])  # fmt: skip
def test_an_agent_leaves_the_controllers_conditions(
    tenant: Tenant, targets: dict[str, Target], kind: str, own: str, other: str
) -> None:
    api, path = agent(tenant, XEN1), getattr(targets[XEN1], kind)

    def say(type_: str) -> object:
        said = {"type": type_, "status": "True", "reason": "Attack", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        others = [c for c in tenant.api.get(path)["status"]["conditions"] if c["type"] != type_]
        return patch(api, f"{path}/status", {"status": {"conditions": [*others, said]}})

    say(own)
    refused(lambda: say(other), "may not write the controller's conditions")


def test_an_agent_says_nothing_in_a_persons_or_another_hosts_name(tenant: Tenant, targets: dict[str, Target]) -> None:
    api, own = agent(tenant, XEN1), targets[XEN1]
    boot = tenant.api.get(own.host)["status"]["bootID"]
    refused(lambda: patch(api, own.host, {"spec": {"fencedBootID": boot}}), "a person's word")
    refused(lambda: patch(api, f"{own.host}/status", {"status": {"nodeName": XEN2}}), "may not say that its host is another")
    events = f"/apis/events.k8s.io/v1/namespaces/{own.namespace}/events"
    refused(lambda: create(api, events, event(XEN2, own)), "in the name of another")


def test_an_agent_takes_a_disk_that_is_nobodys_and_none_of_another_nodes(tenant: Tenant, targets: dict[str, Target]) -> None:
    tenant.apply(manifests.disk("fresh"))
    api = agent(tenant, XEN1)
    claim = {"status": {"nodeName": XEN1, "data": "Present"}}
    patch(api, f"{tenant.path('xdisk', 'fresh')}/status", claim)
    refused(lambda: patch(api, f"{targets[XEN2].disk_path}/status", claim), f"may not write a XenDisk of {XEN2}")
    given = {"status": {"nodeName": XEN2}}
    refused(lambda: patch(api, f"{tenant.path('xdisk', 'fresh')}/status", given), f"may not write a XenDisk of {XEN2}")


# What no agent has a right to at all.

NEVER: dict[str, Callable[[Api, Target], object]] = {
    "list Secrets": lambda api, own: api.get("/api/v1/secrets"),
    "read a Secret": lambda api, own: api.get(f"/api/v1/namespaces/{own.namespace}/secrets/any"),
    "make a token": lambda api, own: create(
        api, f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/kubexen-controller/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}),
    "list Nodes": lambda api, own: api.get("/api/v1/nodes"),
    "write its Node": lambda api, own: patch(api, f"/api/v1/nodes/{own.node}", {"metadata": {"labels": {"a": "b"}}}),
    "write its Node's status": lambda api, own: patch(
        api, f"/api/v1/nodes/{own.node}/status", {"status": {"capacity": {"kubexen.dev/vcpus": "999"}}}),
    "list pods": lambda api, own: api.get("/api/v1/pods"),
    "make a pod": lambda api, own: create(api, f"/api/v1/namespaces/{AGENTS}/pods", {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [{"name": "x", "image": "x"}]}}),
    "write a domain's spec": lambda api, own: patch(api, own.domain_path, {"spec": {"powerState": "Halted"}}),
    "delete a domain": lambda api, own: api.delete(own.domain_path, dryRun="All"),
    "delete its XenHost": lambda api, own: api.delete(own.host, dryRun="All"),
    "take the controller's lead": lambda api, own: patch(
        api, f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/kubexen-controller", {"spec": {"holderIdentity": "me"}}),
    "write a pool": lambda api, own: patch(
        api, f"{KUBEXEN}/xenstoragepools/{manifests.SHARED}", {"spec": {"directory": {"path": "/etc"}}}),
    "give itself rights": lambda api, own: patch(
        api, "/apis/rbac.authorization.k8s.io/v1/clusterroles/kubexen-agent", {"rules": []}),
}  # fmt: skip


@pytest.mark.parametrize("attack", NEVER.values(), ids=NEVER)
def test_an_agent_never(tenant: Tenant, targets: dict[str, Target], attack: Callable[[Api, Target], object]) -> None:
    api, own = agent(tenant, XEN1), targets[XEN1]
    assert api.get(own.domain_path)["metadata"]["name"] == own.domain
    refused(lambda: attack(api, own), f"system:serviceaccount:{AGENTS}:{AGENT}")


def test_every_policy_fits_the_kinds_that_it_is_for(tenant: Tenant) -> None:
    """Kubernetes checks the expressions itself: one that names a field that no such object has would hold nothing."""
    policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    for name in (policy["metadata"]["name"] for policy in tenant.api.get(policies)["items"]):
        checked = tenant.api.wait(f"{policies}/{name}", lambda policy: "typeChecking" in policy.get("status", {}), PATIENCE)
        assert checked["status"]["typeChecking"].get("expressionWarnings", []) == []
