"""Objects that the API server took under another version's CRD: what this version cannot read, or does not know.

During an upgrade the kinds are the new version's first, then come the controller and the agents, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hack.cluster.api import Object
from hack.stack.stack import Stack
from tests.cluster import manifests
from tests.cluster.tenant import Tenant, condition, is_ready

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/xendomains.kubexen.dev"
ODD = "0-3;5"


@contextmanager
def cpu_with(stack: Stack, change: Callable[[Object], None]) -> Iterator[None]:
    """The CRD with other properties of spec.cpu."""
    before = stack.cluster.api.get(CRD)["spec"]
    spec = json.loads(json.dumps(before))
    change(spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["cpu"]["properties"])
    stack.cluster.api.patch(CRD, {"spec": spec})
    try:
        yield
    finally:
        stack.cluster.api.patch(CRD, {"spec": before})


@pytest.fixture
def lax(stack: Stack) -> Iterator[None]:
    """The CRD takes any text for spec.cpu.affinity."""

    def change(properties: Object) -> None:
        for rule in ("pattern", "x-kubernetes-validations"):
            properties["affinity"].pop(rule, None)

    with cpu_with(stack, change):
        yield


@pytest.fixture
def newer(stack: Stack) -> Iterator[None]:
    """The CRD has a field that nobody here knows."""
    with cpu_with(stack, lambda properties: properties.update(turbo={"type": "boolean"})):
        yield


@pytest.mark.usefixtures("newer")
def test_a_field_of_a_newer_version_is_not_ignored(tenant: Tenant) -> None:
    """A domain that runs is left alone; none starts without what was asked for."""
    before = tenant.run(manifests.domain("web"))["web"]["status"]
    tenant.patch("web", cpu={"turbo": True})
    found = tenant.wait("web", lambda xd: condition(xd, "RestartRequired").get("status") == "True")
    assert "spec.cpu.turbo" in condition(found, "RestartRequired")["message"]
    assert is_ready(found)
    assert found["status"]["domid"] == before["domid"]

    tenant.power("web", "Halted")
    tenant.wait_reason("web", "Halted")
    tenant.power("web", "Running")
    found = tenant.wait_reason("web", "NotImplemented")
    assert "spec.cpu.turbo" in condition(found, "Ready")["message"]
    assert tenant.on_hosts("web") == []

    tenant.patch("web", cpu={"turbo": None})
    tenant.wait_reason("web", "Running")


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
