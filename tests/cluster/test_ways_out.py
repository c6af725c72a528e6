"""What hangs by a finalizer because a host is dead, or because somebody took one off: each has a way out that the docs name. An
administrator goes it here as it is written, and nothing runs twice that did not run twice before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hack.stack.hosts import SimulatedHost
from hack.stack.stack import XEN
from kubexen.api.names import MEMORY_RESOURCE
from tests.cluster import broken, manifests
from tests.cluster.documented import commands, follow
from tests.cluster.rights import patch, refused, user
from tests.cluster.tenant import KUBEXEN, Tenant, condition, is_ready, until, xl

FENCE, NODE_AGAIN = commands("lifecycle.md", "Fencing")
(LET_GO,) = commands("troubleshooting.md", "A disk that nobody let go")
RETAIN = '{"spec": {"reclaimPolicy": "Retain"}}'


@pytest.fixture
def node(tenant: Tenant) -> Iterator[str]:
    """The one that the docs fence. At the end nobody says any more that it is off, and it has what it had for domains."""
    node = tenant.stack.hosts[0].name
    assert node in FENCE
    yield node
    tenant.api.wait(f"{KUBEXEN}/xenhosts/{node}", is_ready, 60)
    unfence(tenant, node)
    tenant.api.wait(f"/api/v1/nodes/{node}", lambda found: found["status"]["allocatable"].get(MEMORY_RESOURCE, "0") != "0", 60)


def fence(tenant: Tenant) -> None:
    follow(tenant.stack, FENCE)


def unfence(tenant: Tenant, node: str) -> None:
    tenant.stack.kubectl("patch", "xhost", node, "--type=merge", "-p", '{"spec": {"fencedBootID": null}}')


def wait_moved(tenant: Tenant, name: str, node: str) -> int:
    """Until the domain is as its spec asks, on this node; its domid."""
    found = tenant.wait(name, lambda found: is_ready(found) and found["status"].get("nodeName") == node)
    return int(found["status"]["domid"])


def anchored(tenant: Tenant, name: str) -> list[str]:
    """The nodes that anchors of the domain are on."""
    return [anchor["spec"].get("nodeName", "") for anchor in tenant.anchors(name)]


# A host that is dead

def test_what_ran_on_a_dead_host_starts_elsewhere_and_not_again_with_its_next_boot(tenant: Tenant, node: str) -> None:
    other = tenant.elsewhere(node)
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"]), on=node)
    uuid = tenant.where("web")[1].uuid
    with tenant.lost(node) as host:
        host.sim("reboot-host")  # what ran on it is gone; nobody there says so yet
        assert anchored(tenant, "web") == [node]
        tenant.wait_reason("web", "NodeLost")
        fence(tenant)
        domid = wait_moved(tenant, "web", other)
        until(lambda: anchored(tenant, "web") == [other])

    tenant.run(manifests.domain("next"), on=node)  # the fence holds no longer than the boot that it names
    assert (tenant.where("web")[0], tenant.where("web")[1].domid) == (other, domid)
    with xl(host) as sim:
        assert [call.uuid for call in sim.calls("create")].count(uuid) == 1
    assert tenant.events("web", "HostRebooted") == []  # the one that it runs on was not


def test_a_host_that_comes_back_in_the_boot_that_was_fenced_ends_what_it_has_and_gets_nothing(tenant: Tenant, node: str) -> None:
    """It had lost its network only: who fenced it was wrong."""
    other = tenant.elsewhere(node)
    tenant.run(manifests.domain("web"), on=node)
    with tenant.lost(node):
        tenant.wait_reason("web", "NodeLost")
        fence(tenant)
        domid = wait_moved(tenant, "web", other)
    until(lambda: [(at, state.domid) for at, state in tenant.on_hosts("web")] == [(other, domid)])
    assert tenant.wait_event("web", "DestroyedLeftover")["type"] == "Warning"

    tenant.apply(manifests.domain("next", nodeSelector={"kubernetes.io/hostname": node}))
    tenant.wait_reason("next", "WaitingForMemory")
    unfence(tenant, node)
    tenant.wait_reason("next", "Running")


def test_a_fence_is_believed_of_a_host_that_lives_and_its_domain_ends_there(tenant: Tenant, node: str) -> None:
    """Whoever said so was wrong. With no other place for it at first, it is bound to no node, and no orphan all the same."""
    other = tenant.elsewhere(node)
    tenant.run(manifests.domain("web"), on=node)
    with tenant.only(node):
        fence(tenant)
        until(lambda: not tenant.on_hosts("web"))
        assert tenant.wait_event("web", "DestroyedLeftover")["type"] == "Warning"
    domid = wait_moved(tenant, "web", other)
    assert [(at, state.domid) for at, state in tenant.on_hosts("web")] == [(other, domid)]


def test_a_host_that_was_booted_without_xen_is_fenced_with_the_boot_before(tenant: Tenant, node: str) -> None:
    """Its agent lives, and cannot say what became of its domains."""
    host = tenant.host(node)
    tenant.run(manifests.domain("web"), on=node)
    with broken.xen(host):
        tenant.api.wait(f"{KUBEXEN}/xenhosts/{node}", lambda found: condition(found, "Ready")["reason"] == "NoXen", 60)
        tenant.kubectl("delete", "xd", "web", "--wait=false")
        assert anchored(tenant, "web") == [node]
        fence(tenant)
        tenant.api.wait_gone(tenant.path("xd", "web"), 60)
        until(lambda: not tenant.anchors("web"))
    with xl(host) as sim:
        sim.xl_destroy(tenant.xl_name("web"))  # the simulator's boot has kept it


# What is deleted on a dead host

def test_a_domain_that_is_deleted_on_a_dead_host_goes_with_the_fence(tenant: Tenant, node: str) -> None:
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"]), on=node)
    uid = tenant.get("web")["metadata"]["uid"]
    with tenant.lost(node) as host:
        tenant.kubectl("delete", "xd", "web", "--wait=false")
        assert "fencedBootID" in condition(tenant.wait_reason("web", "NodeLost"), "Ready")["message"]
        fence(tenant)
        tenant.api.wait_gone(tenant.path("xd", "web"), 60)
        until(lambda: not tenant.anchors("web"))
        assert tenant.get("data", "xdisk")["status"].get("usedBy") is None

    # Where the host lives after all, its domain has no object any more: it is told, and left to a person.
    found = tenant.api.wait(f"{KUBEXEN}/xenhosts/{node}", lambda found: bool(found["status"].get("orphaned")), 60)
    assert [orphan["uid"] for orphan in found["status"]["orphaned"]] == [uid]
    assert tenant.where("web")[0] == node
    with xl(host) as sim:
        sim.xl_destroy(tenant.xl_name("web"))


def test_a_namespace_that_is_deleted_goes_with_the_fence_and_with_the_word_that_data_may_stay(tenant: Tenant, node: str) -> None:
    tenant.run(manifests.disk("data", pool=manifests.LOCAL), manifests.domain("web", disks=["data"]), on=node)
    data = tenant.data_of("data", node)
    with tenant.lost(node) as host:
        host.sim("reboot-host")
        tenant.stack.kubectl("delete", "namespace", tenant.namespace, "--wait=false")
        tenant.wait_reason("web", "NodeLost")
        left = tenant.kubectl("get", "xd,xdisk,pod", "-o", "name").split()
        assert [name.partition("/")[0] for name in left] == ["xendomain.kubexen.dev", "xendisk.kubexen.dev", "pod"]
        fence(tenant)
        until(lambda: not tenant.anchors("web"))
        tenant.kubectl("patch", "xdisk", "data", "--type=merge", "-p", RETAIN)
        tenant.wait_namespace_gone()
    assert data.exists()


def test_a_disk_on_a_dead_host_goes_when_its_data_may_stay_or_when_the_host_is_back(tenant: Tenant, node: str) -> None:
    names = ("kept", "given-up", "waits")
    disks = [manifests.disk(name, pool=manifests.LOCAL) for name in names]
    disks[0]["spec"]["reclaimPolicy"] = "Retain"
    tenant.run(*disks, manifests.domain("web", disks=names), on=node)
    data = {name: tenant.data_of(name, node) for name in names}
    tenant.delete("xd", "web")
    with tenant.lost(node):
        tenant.kubectl("delete", "xdisk", *names, "--wait=false")
        tenant.api.wait_gone(tenant.path("xdisk", "kept"), 60)
        for name in ("given-up", "waits"):
            tenant.wait(name, lambda found: condition(found, "InUse")["reason"] == "Deleting", "xdisk")
        tenant.kubectl("patch", "xdisk", "given-up", "--type=merge", "-p", RETAIN)
        tenant.api.wait_gone(tenant.path("xdisk", "given-up"), 60)
        assert tenant.get("waits", "xdisk")
    tenant.api.wait_gone(tenant.path("xdisk", "waits"), 60)
    assert {name: file.exists() for name, file in data.items()} == {"kept": True, "given-up": True, "waits": False}


def test_a_domain_waits_for_its_disk_on_a_dead_host_until_that_is_given_up(tenant: Tenant, node: str) -> None:
    other = tenant.elsewhere(node)
    disk = manifests.disk("data", pool=manifests.LOCAL)
    tenant.run(disk, manifests.domain("web", disks=["data"]), on=node)
    with tenant.lost(node) as host:
        host.sim("reboot-host")
        tenant.wait_reason("web", "NodeLost")
        tenant.kubectl("delete", "xdisk", "data", "--wait=false")
        held = tenant.wait("data", lambda found: condition(found, "InUse")["status"] == "True", "xdisk")
        assert "'web'" in condition(held, "InUse")["message"]
        fence(tenant)
        tenant.wait_reason("web", "DiskNotFound")
        tenant.kubectl("patch", "xdisk", "data", "--type=merge", "-p", RETAIN)
        tenant.api.wait_gone(tenant.path("xdisk", "data"), 60)
        tenant.apply(disk)
        wait_moved(tenant, "web", other)


# A host whose Node was deleted

@contextmanager
def node_deleted(tenant: Tenant, node: str) -> Iterator[SimulatedHost]:
    """While this lasts, the host is dead and its Node is not there. Then it joins the cluster anew."""
    host, stack = tenant.host(node), tenant.stack
    host.kill_agent()
    stack.cluster.stop_heartbeat(node, wait=False)
    stack.kubectl("delete", "node", node)
    try:
        yield host
    finally:
        stack.kubectl("delete", "node", node, "--ignore-not-found")
        stack.cluster.add_node(node, labels=XEN)
        stack.start_agent(host)


def test_a_domain_whose_node_was_deleted_with_its_host_is_told_and_fenced_by_the_xenhost(tenant: Tenant, node: str) -> None:
    other = tenant.elsewhere(node)
    tenant.run(manifests.domain("web"), manifests.domain("ends"), on=node)
    with node_deleted(tenant, node) as host:
        host.sim("reboot-host")
        tenant.kubectl("delete", "xd", "ends", "--wait=false")
        for name in ("web", "ends"):
            assert tenant.wait_reason(name, "NodeLost")["status"]["nodeName"] == node
        fence(tenant)
        domid = wait_moved(tenant, "web", other)
        tenant.api.wait_gone(tenant.path("xd", "ends"), 60)
        until(lambda: anchored(tenant, "web") == [other] and not tenant.anchors("ends"))
    tenant.run(manifests.domain("next"), on=node)
    assert (tenant.where("web")[0], tenant.where("web")[1].domid) == (other, domid)


def test_where_the_xenhost_was_deleted_as_well_a_node_of_that_name_is_made_to_say_it(tenant: Tenant, node: str) -> None:
    other = tenant.elsewhere(node)
    tenant.run(manifests.domain("web"), on=node)
    with node_deleted(tenant, node) as host:
        host.sim("reboot-host")
        tenant.stack.kubectl("delete", "xhost", node)
        tenant.wait_reason("web", "NodeLost")
        assert node in NODE_AGAIN
        follow(tenant.stack, NODE_AGAIN)
        wait_moved(tenant, "web", other)


# A disk that nobody let go

def test_a_disk_of_a_domain_that_was_torn_away_is_let_go_by_an_administrator(tenant: Tenant) -> None:
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"]))
    node, _ = tenant.where("web")
    with broken.agent(tenant.host(node)):
        tenant.kubectl("delete", "xd", "web", "--wait=false")
        tenant.kubectl("patch", "xd", "web", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
        tenant.api.wait_gone(tenant.path("xd", "web"), 60)
        with xl(tenant.host(node)) as sim:
            sim.xl_destroy(tenant.xl_name("web"))
    tenant.apply(manifests.domain("next", disks=["data"]))
    assert "'web'" in condition(tenant.wait_reason("next", "DiskInUse"), "Ready")["message"]
    assert tenant.on_hosts() == []

    free = {"status": {"usedBy": None}}
    refused(lambda: patch(user(tenant, "admin"), f"{tenant.path('xdisk', 'data')}/status", free), "cannot patch")
    follow(tenant.stack, LET_GO, NAME="data", NAMESPACE=tenant.namespace)
    tenant.wait_reason("next", "Running")
    assert tenant.get("data", "xdisk")["status"]["usedBy"]["name"] == "next"
