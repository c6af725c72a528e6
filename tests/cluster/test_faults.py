"""Parts of it stop, and come back: running domains run on, and what was asked for meanwhile is done afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import manifests
from tests.cluster.tenant import KUBEXEN, Tenant, condition, is_ready, until, xl

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


@pytest.fixture
def domids(tenant: Tenant) -> Iterator[dict[str, int]]:
    """Three domains on one node by their domids. At the end `web` and `paused` are still those."""
    before = tenant.run(*(manifests.domain(name) for name in ("web", "paused", "ends")), on=tenant.stack.hosts[0].name)
    domids = {name: found["status"]["domid"] for name, found in before.items()}
    yield domids
    for name in ("web", "paused"):
        assert tenant.where(name)[1].domid == domids[name]


def ask(tenant: Tenant) -> None:
    """Ask for changes while nobody may be there to carry them out."""
    tenant.patch("web", memory={"size": "96Mi"})
    tenant.power("paused", "Paused")
    tenant.kubectl("delete", "xd", "ends", "--wait=false")
    tenant.apply(manifests.domain("new"))


def see(tenant: Tenant) -> None:
    """All of that is done."""
    tenant.wait("web", lambda found: found["status"]["memory"]["current"] == "96Mi")
    assert is_ready(tenant.wait_reason("web", "Running"))
    assert is_ready(tenant.wait_reason("paused", "Paused"))
    tenant.api.wait_gone(tenant.path("xd", "ends"), 120)
    assert tenant.on_hosts("ends") == []
    assert is_ready(tenant.wait_reason("new", "Running"))


def test_an_agent_is_killed(tenant: Tenant, domids: dict[str, int]) -> None:
    host = tenant.host_of("web")
    host.kill_agent()
    ask(tenant)
    host.restart_agent()
    see(tenant)


def test_the_controller_is_killed(tenant: Tenant, domids: dict[str, int]) -> None:
    tenant.stack.controller.stop(kill=True)
    ask(tenant)
    tenant.stack.start_controller()
    see(tenant)


def test_the_api_server_is_away(tenant: Tenant, domids: dict[str, int]) -> None:
    """Meanwhile guests act: one crashes and one powers off."""
    tenant.run(manifests.domain("crashes"), manifests.domain("quits"), on=tenant.stack.hosts[0].name)
    crashed = tenant.where("crashes")[1].domid
    tenant.stack.cluster.stop_component("kube-apiserver")
    try:
        with xl(tenant.host(tenant.stack.hosts[0].name)) as sim:
            sim.guest_crash(tenant.xl_name("crashes"))
            sim.guest_poweroff(tenant.xl_name("quits"))
    finally:
        tenant.stack.cluster.start_component("kube-apiserver")
    ask(tenant)
    see(tenant)
    assert is_ready(tenant.wait_reason("quits", "PoweredOff"))
    tenant.wait_restarted("crashes", crashed)


def test_the_toolstack_is_away(tenant: Tenant, domids: dict[str, int]) -> None:
    host = tenant.host_of("web")
    path = f"{KUBEXEN}/xenhosts/{host.name}"
    with xl(host) as sim:
        sim.stop_toolstack()
        try:
            ask(tenant)
            said = tenant.api.wait(path, lambda found: condition(found, "Ready")["status"] == "False", 120)
            assert "run on" in condition(said, "Ready")["message"]
        finally:
            sim.start_toolstack()
    see(tenant)
    tenant.api.wait(path, is_ready, 120)


def test_a_host_that_reboots_has_its_domains_again(tenant: Tenant) -> None:
    names = ("web", "other")
    node = tenant.stack.hosts[0].name
    before = tenant.run(*(manifests.domain(name) for name in names), on=node)
    booted = before["web"]["status"]["bootID"]
    tenant.host(node).reboot()
    for name in names:
        after = tenant.wait(name, lambda found: is_ready(found) and found["status"].get("bootID") != booted)["status"]
        assert after["nodeName"] == node
        assert after["anchorUID"] == before[name]["status"]["anchorUID"]
        assert tenant.where(name) == (node, tenant.where(name)[1])
        assert tenant.wait_event(name, "HostRebooted")["type"] == "Warning"


def test_a_node_that_is_lost_moves_nothing_and_is_taken_back(tenant: Tenant) -> None:
    node = tenant.stack.hosts[0].name
    domid = tenant.run(manifests.domain("web"), on=node)["web"]["status"]["domid"]
    with tenant.lost(node):
        lost = tenant.wait_reason("web", "NodeLost")
        assert not is_ready(lost)
        assert OUT_OF_SERVICE in condition(lost, "Ready")["message"]
        assert lost["status"]["nodeName"] == node
        assert tenant.where("web")[0] == node
    back = tenant.wait_reason("web", "Running")
    assert is_ready(back)
    assert (back["status"]["nodeName"], back["status"]["domid"]) == (node, domid)
    assert tenant.where("web")[1].domid == domid


def test_a_node_that_is_out_of_service_is_left_and_its_leftovers_end(tenant: Tenant) -> None:
    node = tenant.stack.hosts[0].name
    other = tenant.elsewhere(node)
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"]), on=node)
    with tenant.lost(node):
        tenant.wait_reason("web", "NodeLost")
        tenant.stack.kubectl("taint", "node", node, f"{OUT_OF_SERVICE}=nodeshutdown:NoExecute")
        try:
            tenant.wait("web", lambda found: is_ready(found) and found["status"].get("nodeName") == other)
            assert other in [host for host, _ in tenant.on_hosts("web")]
        finally:
            tenant.stack.kubectl("taint", "node", node, f"{OUT_OF_SERVICE}-")
    # The host was not off after all: whoever put the taint was wrong. Its agent ends what is left there.
    until(lambda: [host for host, _ in tenant.on_hosts("web")] == [other])
    assert tenant.wait_event("web", "DestroyedLeftover")["type"] == "Warning"
    assert tenant.wait_reason("web", "Running")["status"]["domid"] == tenant.where("web")[1].domid
