"""Who a domain is: its uuid and its MAC addresses are its own, and stay."""

from __future__ import annotations

from tests.cluster import manifests
from tests.cluster.tenant import Tenant, condition

UUID = "5f0c1a52-7a0e-4d6e-9d42-2a4d7d3f0b11"
MAC = "00:16:3e:00:00:aa"


def test_derived_mac_addresses_stay_over_halted_and_running(tenant: Tenant) -> None:
    def macs() -> list[str]:
        interfaces = tenant.wait("web", lambda found: len(found["status"].get("interfaces", ())) == 2)
        return [interface["mac"] for interface in interfaces["status"]["interfaces"]]

    tenant.run(manifests.domain("web", networks=["lan", "lan"]))
    before = macs()
    assert len(set(before)) == 2
    assert all(mac.startswith("00:16:3e:") for mac in before)

    tenant.power("web", "Halted")
    tenant.wait_reason("web", "Halted")
    tenant.power("web", "Running")
    tenant.wait_reason("web", "Running")
    assert macs() == before


def test_a_mac_that_is_taken_is_refused_until_it_is_free(tenant: Tenant) -> None:
    interfaces = [{"name": "eth0", "network": "lan", "mac": MAC}]
    tenant.run(manifests.domain("first", interfaces=interfaces))
    tenant.apply(manifests.domain("second", interfaces=interfaces))
    message = condition(tenant.wait_reason("second", "MacTaken"), "Ready")["message"]
    assert MAC in message and f"{tenant.namespace}/first" in message
    assert tenant.on_hosts("second") == []
    assert condition(tenant.get("first"), "Ready")["reason"] == "Running"

    tenant.delete("xd", "first")
    tenant.wait_reason("second", "Running")


def test_a_uuid_that_is_taken_is_refused_until_it_is_free(tenant: Tenant) -> None:
    assert tenant.run(manifests.domain("first", uuid=UUID))["first"]["status"]["uuid"] == UUID
    tenant.apply(manifests.domain("second", uuid=UUID))
    message = condition(tenant.wait_reason("second", "UuidTaken"), "Ready")["message"]
    assert UUID in message and f"{tenant.namespace}/first" in message
    assert tenant.on_hosts("second") == []

    tenant.delete("xd", "first")
    tenant.wait_reason("second", "Running")
    assert tenant.where("second")[1].uuid == UUID
