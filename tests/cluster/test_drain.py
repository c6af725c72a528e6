"""A domain has to leave its node: however its anchor's end is asked for, it runs on until there is another place for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hack.cluster import KubectlError
from hack.cluster.api import Object
from kubexen.api.names import MEMORY_RESOURCE
from tests.cluster import manifests
from tests.cluster.tenant import Tenant, condition, is_ready, until

TAINT = "kubexen.dev/test-maintenance"
ENOUGH = "120s"
BLOCKED = "5s"
"""How long a drain is given that cannot end."""


def drain(tenant: Tenant, node: str, timeout: str) -> str:
    return tenant.stack.kubectl("drain", node, f"--timeout={timeout}", "--ignore-daemonsets")


def runs_on(tenant: Tenant, name: str, node: str) -> Object:
    """Wait until the domain is Running on this node, and see that no other host has it."""
    found = tenant.wait(name, lambda found: is_ready(found) and found["status"].get("nodeName") == node)
    assert tenant.where(name)[0] == node
    return found


def test_kubectl_drain_moves_a_domain_with_its_disk_and_exits_0(tenant: Tenant) -> None:
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"], networks=["lan"]))
    node, before = tenant.where("web")
    data = tenant.data_of("data", node)
    data.write_bytes(b"written".ljust(data.stat().st_size, b"\0"))
    macs = tenant.get("web")["status"]["macAddresses"]

    assert "drained" in drain(tenant, node, ENOUGH)

    assert node not in [host for host, _ in tenant.on_hosts("web")], "the drain ended before the domain had left"
    after = runs_on(tenant, "web", tenant.elsewhere(node))
    assert after["status"]["macAddresses"] == macs
    assert "move" not in after["status"]
    moved = tenant.data_of("data", tenant.elsewhere(node))
    assert moved.samefile(data)
    assert data.read_bytes().startswith(b"written")
    assert tenant.where("web")[1].uuid == before.uuid
    until(lambda: len(tenant.anchors("web")) == 1)
    assert tenant.anchor("web")["spec"]["nodeName"] == tenant.elsewhere(node)


def test_a_drain_with_nowhere_to_go_waits_and_an_uncordon_takes_it_back(tenant: Tenant) -> None:
    node = tenant.stack.hosts[0].name
    domid = tenant.run(manifests.domain("web"), on=node)["web"]["status"]["domid"]
    with tenant.only(node):
        with pytest.raises(KubectlError, match="timeout"):
            drain(tenant, node, BLOCKED)
        stuck = tenant.wait("web", lambda found: condition(found, "Migratable")["reason"] == "NowhereToGo")
        assert is_ready(stuck), "it runs as its spec asks"
        assert (stuck["status"]["nodeName"], stuck["status"]["domid"]) == (node, domid)
        assert "the drain waits" in condition(stuck, "Migratable")["message"]

        tenant.cordon(node, False)
        tenant.wait_event("web", "EvictionTakenBack")
        back = tenant.wait("web", lambda found: condition(found, "Migratable")["reason"] != "NowhereToGo")
        assert "move" not in back["status"]
    until(lambda: [a for a in tenant.anchors("web") if "deletionTimestamp" not in a["metadata"]])
    until(lambda: len(tenant.anchors("web")) == 1)
    assert tenant.anchor("web")["metadata"]["uid"] == tenant.get("web")["status"]["anchorUID"]
    assert tenant.where("web") == (node, tenant.where("web")[1])
    assert tenant.where("web")[1].domid == domid
    (event,) = tenant.events("web", "EvictionBlocked")
    assert event["type"] == "Warning"
    assert "series" not in event, "it was told more than once"


def test_what_cannot_leave_stays_and_says_why(tenant: Tenant) -> None:
    node = tenant.stack.hosts[0].name
    before = tenant.run(
        manifests.disk("data", pool=manifests.LOCAL),
        manifests.domain("local", disks=["data"]),
        manifests.domain("pinned", evictionStrategy=[]),
        manifests.domain("bound", nodeSelector={"kubernetes.io/hostname": node}),
        on=node,
    )
    with pytest.raises(KubectlError):
        drain(tenant, node, BLOCKED)
    for name, why in (("local", "node-local disk"), ("pinned", "evictionStrategy"), ("bound", "no other node")):
        stuck = tenant.wait(name, lambda found: condition(found, "Migratable")["reason"] == "NowhereToGo")
        assert why in condition(stuck, "Migratable")["message"]
        assert why in tenant.wait_event(name, "EvictionBlocked")["note"]
        assert is_ready(stuck)
        assert stuck["status"]["domid"] == before[name]["status"]["domid"] == tenant.where(name)[1].domid


@contextmanager
def deleted_anchor(tenant: Tenant, node: str) -> Iterator[None]:
    tenant.kubectl("delete", "pod", tenant.anchor("web")["metadata"]["name"], "--wait=false")
    yield


@contextmanager
def tainted_node(tenant: Tenant, node: str) -> Iterator[None]:
    tenant.stack.kubectl("taint", "node", node, f"{TAINT}=now:NoExecute")
    try:
        yield
    finally:
        tenant.stack.kubectl("taint", "node", node, f"{TAINT}-")


@contextmanager
def preempted_anchor(tenant: Tenant, node: str) -> Iterator[None]:
    """A domain of a higher priority needs the place."""
    name = f"high-{tenant.namespace}"
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 1000}
    tenant.api.create("/apis/scheduling.k8s.io/v1/priorityclasses", priority)
    try:
        allocatable = tenant.api.get(f"/api/v1/nodes/{node}")["status"]["allocatable"]
        size = f"{int(allocatable[MEMORY_RESOURCE]) - 100}Mi"
        place = {"kubernetes.io/hostname": node}
        tenant.apply(
            manifests.domain("high", memory={"size": "64Mi", "max": size}, nodeSelector=place, priorityClassName=name)
        )
        yield
        runs_on(tenant, "high", node)
    finally:
        tenant.api.delete(f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}")


@pytest.mark.parametrize("asked", [deleted_anchor, tainted_node, preempted_anchor], ids=lambda asked: asked.__name__)
def test_however_its_end_is_asked_for_the_domain_moves(
    tenant: Tenant, asked: Callable[[Tenant, str], contextmanager[None]]  # type: ignore[type-arg]
) -> None:
    node = tenant.stack.hosts[0].name
    tenant.run(manifests.domain("web", memory={"size": "64Mi", "max": "512Mi"}), on=node)
    with asked(tenant, node):
        runs_on(tenant, "web", tenant.elsewhere(node))
        until(lambda: len(tenant.anchors("web")) == 1)


def test_an_anchor_that_is_torn_away_is_made_again_where_the_domain_runs(tenant: Tenant) -> None:
    tenant.run(manifests.domain("web"))
    node, before = tenant.where("web")
    anchor = tenant.anchor("web")["metadata"]
    path = f"/api/v1/namespaces/{tenant.namespace}/pods/{anchor['name']}"
    tenant.api.patch(path, {"metadata": {"finalizers": None}})
    tenant.kubectl("delete", "pod", anchor["name"], "--force", "--grace-period=0")

    again = tenant.wait("web", lambda found: found["status"].get("anchorUID") not in (None, anchor["uid"]))
    assert again["status"]["nodeName"] == node
    assert tenant.where("web") == (node, tenant.where("web")[1])
    assert tenant.where("web")[1].domid == before.domid
    assert tenant.anchor("web")["spec"]["nodeName"] == node
    tenant.wait_event("web", "AnchorLost")
    assert is_ready(tenant.wait_reason("web", "Running"))
