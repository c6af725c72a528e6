"""An object that the API server took under another version's CRD, and that this version cannot read."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from hack.stack.stack import Stack
from tests.cluster import manifests
from tests.cluster.tenant import Tenant, condition, is_ready

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/xendomains.kubexen.dev"
ODD = "0-3;5"


@pytest.fixture
def lax(stack: Stack) -> Iterator[None]:
    """The CRD takes any text for spec.cpu.affinity."""
    before = stack.cluster.api.get(CRD)["spec"]
    spec = json.loads(json.dumps(before))
    properties = spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    affinity = properties["cpu"]["properties"]["affinity"]
    for rule in ("pattern", "x-kubernetes-validations"):
        affinity.pop(rule, None)
    stack.cluster.api.patch(CRD, {"spec": spec})
    try:
        yield
    finally:
        stack.cluster.api.patch(CRD, {"spec": before})


@pytest.mark.usefixtures("lax")
def test_a_domain_whose_object_cannot_be_read_runs_on_and_says_so(tenant: Tenant) -> None:
    before = tenant.run(manifests.domain("web"))["web"]["status"]
    tenant.patch("web", cpu={"affinity": ODD})
    found = tenant.wait_reason("web", "InvalidSpec")
    assert "spec.cpu.affinity" in condition(found, "Ready")["message"]
    for field in ("nodeName", "anchorUID", "reserved", "domid", "macAddresses"):
        assert found["status"].get(field) == before.get(field), field
    assert tenant.where("web")[1].domid == before["domid"]

    tenant.patch("web", cpu={"affinity": None})
    again = tenant.wait_reason("web", "Running")
    assert is_ready(again)
    assert (again["status"]["domid"], again["status"]["reserved"]) == (before["domid"], before["reserved"])


@pytest.mark.usefixtures("lax")
def test_an_object_that_cannot_be_read_and_is_on_no_node_can_be_deleted(tenant: Tenant) -> None:
    manifest = manifests.domain("web")
    manifest["spec"].setdefault("cpu", {})["affinity"] = ODD
    tenant.apply(manifest)
    tenant.wait_reason("web", "InvalidSpec")
    assert tenant.on_hosts("web") == [] and tenant.anchors("web") == []
    tenant.delete("xd", "web")
