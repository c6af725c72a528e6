"""What somebody does on a host with xl, beside Kubexen: it is seen, told by an Event, and brought back to the spec."""

from __future__ import annotations

from tests.cluster import manifests
from tests.cluster.tenant import Tenant, until, xl


def test_a_domain_destroyed_by_hand_is_started_again(tenant: Tenant) -> None:
    before = tenant.run(manifests.domain("web"))["web"]["status"]
    with xl(tenant.host_of("web")) as sim:
        sim.xl_destroy(tenant.xl_name("web"))
    after = tenant.wait_restarted("web", before["domid"])["status"]
    assert (after["nodeName"], after["anchorUID"]) == (before["nodeName"], before["anchorUID"])
    assert tenant.where("web")[1].domid == after["domid"]
    event = tenant.wait_event("web", "DestroyedByHand")
    assert event["type"] == "Warning"


def test_a_domain_paused_by_hand_runs_on(tenant: Tenant) -> None:
    before = tenant.run(manifests.domain("web"))["web"]["status"]
    with xl(tenant.host_of("web")) as sim:
        sim.xl_pause(tenant.xl_name("web"))
    assert tenant.wait_event("web", "PausedByHand")["type"] == "Warning"
    until(lambda: not tenant.where("web")[1].flags.paused)
    assert tenant.wait_reason("web", "Running")["status"]["domid"] == before["domid"]


def test_a_domain_resumed_by_hand_is_paused_again(tenant: Tenant) -> None:
    tenant.run(manifests.domain("web"))
    tenant.power("web", "Paused")
    before = tenant.wait_reason("web", "Paused")["status"]
    with xl(tenant.host_of("web")) as sim:
        sim.xl_unpause(tenant.xl_name("web"))
    until(lambda: tenant.where("web")[1].flags.paused)
    after = tenant.wait_reason("web", "Paused")["status"]
    assert (after["domid"], after["state"]) == (before["domid"], "--p---")


def test_a_definition_made_by_hand_is_removed_and_the_domain_runs_on(tenant: Tenant) -> None:
    before = tenant.run(manifests.domain("web"))["web"]["status"]
    with xl(tenant.host_of("web")) as sim:
        sim.virsh_define(tenant.xl_name("web"))
    event = tenant.wait_event("web", "DefinedByHand")
    assert (event["type"], event["regarding"]["uid"]) == ("Warning", tenant.get("web")["metadata"]["uid"])
    assert "virsh define" in event["note"]
    assert tenant.where("web")[1].domid == tenant.get("web")["status"]["domid"] == before["domid"]
