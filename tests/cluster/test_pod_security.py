"""Pod Security: every pod of Kubexen's but the agent's runs where `restricted` is enforced, anchors too; the agent's runs in the
agents' own namespace."""

from __future__ import annotations

import pytest

from hack.cluster.api import Object
from hack.stack import chart
from hack.stack.stack import AGENTS, NAMESPACE
from tests.cluster import manifests
from tests.cluster.rights import create, refused, succeeds
from tests.cluster.tenant import Tenant, until

ENFORCED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(scope="module")
def pods() -> dict[str, Object]:
    """The pods that the chart makes, by name."""
    result = {}
    for document in chart.render(NAMESPACE):
        if document["kind"] == "Pod":
            result[document["metadata"]["name"]] = document["spec"]
        elif document["kind"] in ("Deployment", "DaemonSet"):
            result[document["metadata"]["name"]] = document["spec"]["template"]["spec"]
    return result


def make(tenant: Tenant, namespace: str, spec: Object) -> Object:
    """As a dry run. Its account is that of another namespace, and says nothing of its security."""
    spec = {**spec, "serviceAccountName": "default"}
    metadata = {"name": "pod", "namespace": namespace}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    return create(tenant.api, f"/api/v1/namespaces/{namespace}/pods", body)


@pytest.fixture
def restricted(tenant: Tenant) -> str:
    """A tenant's namespace that enforces it."""
    tenant.api.patch(f"/api/v1/namespaces/{tenant.namespace}", {"metadata": {"labels": ENFORCED}})
    bad = {"containers": [{"name": "a", "image": "a"}]}
    until(lambda: not succeeds(lambda: make(tenant, tenant.namespace, bad)))
    return tenant.namespace


def test_the_charts_pods_are_restricted_but_the_agents(tenant: Tenant, restricted: str, pods: dict[str, Object]) -> None:
    assert pods.keys() == {"kubexen-controller", "kubexen-scheduler", "kubexen-test", "kubexen-agent"}
    agent = pods.pop("kubexen-agent")
    for spec in pods.values():
        make(tenant, restricted, spec)
    make(tenant, AGENTS, agent)
    refused(lambda: make(tenant, restricted, agent), "violates PodSecurity")


def test_a_domain_runs_in_a_restricted_namespace(tenant: Tenant, restricted: str) -> None:
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"], networks=["lan"]))
    assert tenant.where("web")[1].name == tenant.xl_name("web")
