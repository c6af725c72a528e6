"""Disks: one holder at a time, never deleted while they are in use, made from what a pool has, for whom the pool admits."""

from __future__ import annotations

import pytest

from hack.cluster.api import ApiError
from tests.cluster import manifests
from tests.cluster.tenant import Tenant, condition, is_ready, until, xl


def test_a_read_only_disk_is_a_device_over_its_file_until_its_domain_has_left(tenant: Tenant) -> None:
    tenant.apply(manifests.disk("tools"))
    domain = manifests.domain("web", disks=["tools"])
    domain["spec"]["disks"][0]["readOnly"] = True
    tenant.run(domain)
    node, state = tenant.where("web")
    name = f"of-{state.uuid}/xvda"
    with xl(tenant.host(node)) as sim:
        (create,) = [call for call in sim.calls("create") if call.uuid == state.uuid]
        assert create.args["disks"] == [
            {"path": f"/run/kubexen/devices/{state.uuid}/xvda", "target": "xvda", "read_only": True, "block_device": True}
        ]
        assert sim.loops()[name] == str(tenant.data_of("tools", node).resolve())
        sim.guest_reboot(tenant.xl_name("web"))
        tenant.wait_restarted("web", state.domid)
        assert name in sim.loops()
        tenant.power("web", "Halted")
        tenant.wait_reason("web", "Halted")
        assert name not in sim.loops()


def test_a_disk_has_one_holder_and_the_next_gets_it_when_that_is_gone(tenant: Tenant) -> None:
    tenant.run(manifests.disk("data"), manifests.domain("first", disks=["data"]))
    tenant.apply(manifests.domain("second", disks=["data"]))
    refused = tenant.wait_reason("second", "DiskInUse")
    assert not is_ready(refused)
    message = condition(refused, "Ready")["message"]
    assert "'data'" in message and "'first'" in message
    assert tenant.on_hosts("second") == []
    assert tenant.get("data", "xdisk")["status"]["usedBy"]["name"] == "first"

    tenant.delete("xd", "first")
    tenant.wait_reason("second", "Running")
    assert tenant.get("data", "xdisk")["status"]["usedBy"]["name"] == "second"


def test_a_disk_that_is_deleted_in_use_stays_until_it_is_free(tenant: Tenant) -> None:
    domid = tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"]))["web"]["status"]["domid"]
    data = tenant.data_of("data", tenant.where("web")[0])

    tenant.kubectl("delete", "xdisk", "data", "--wait=false")
    held = tenant.wait("data", lambda found: condition(found, "InUse")["status"] == "True", "xdisk")
    assert "'web'" in condition(held, "InUse")["message"]
    assert data.exists()
    assert tenant.where("web")[1].domid == domid

    tenant.delete("xd", "web")
    tenant.api.wait_gone(tenant.path("xdisk", "data"), 60)
    assert not data.exists()


def test_a_halted_domain_keeps_its_disk_but_not_from_being_deleted(tenant: Tenant) -> None:
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"]))
    data = tenant.data_of("data", tenant.where("web")[0])
    tenant.power("web", "Halted")
    tenant.wait_reason("web", "Halted")
    assert data.exists()

    tenant.delete("xdisk", "data")
    assert not data.exists()
    tenant.power("web", "Running")
    assert "'data'" in condition(tenant.wait_reason("web", "DiskNotFound"), "Ready")["message"]
    tenant.apply(manifests.disk("data"))
    tenant.wait_reason("web", "Running")


def test_what_a_guest_wrote_is_there_after_a_restart(tenant: Tenant) -> None:
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"]))
    data = tenant.data_of("data", tenant.where("web")[0])
    data.write_bytes(b"written".ljust(data.stat().st_size, b"\0"))
    tenant.power("web", "Halted")
    tenant.wait_reason("web", "Halted")
    tenant.power("web", "Running")
    tenant.wait_reason("web", "Running")
    assert data.read_bytes().startswith(b"written")


def test_a_disk_is_a_copy_of_a_pools_file(tenant: Tenant) -> None:
    golden = b"a golden image".ljust(4096, b".")
    for host in tenant.stack.hosts:
        (tenant.host(host.name).root / "srv/images" / "golden.img").write_bytes(golden)
    source = {"file": {"pool": manifests.IMAGES, "file": "golden.img"}}
    tenant.run(
        manifests.disk("same", source=source),
        manifests.disk("bigger", source=source, size="1Mi"),
        manifests.domain("web", disks=["same", "bigger"]),
    )
    node, _ = tenant.where("web")
    assert tenant.data_of("same", node).read_bytes() == golden
    assert tenant.data_of("bigger", node).read_bytes() == golden.ljust(1024**2, b"\0")


def test_a_source_that_no_host_has_is_named(tenant: Tenant) -> None:
    source = {"file": {"pool": manifests.IMAGES, "file": "none.img"}}
    tenant.apply(manifests.disk("data", source=source), manifests.domain("web", disks=["data"]))
    assert "none.img" in condition(tenant.wait_reason("web", "FileNotFound"), "Ready")["message"]
    assert tenant.on_hosts("web") == []


def test_pools_and_networks_are_for_the_namespaces_that_they_admit(tenant: Tenant) -> None:
    tenant.apply(
        manifests.disk("data", pool=manifests.GOLD),
        manifests.domain("stores", disks=["data"]),
        manifests.domain("talks", networks=[manifests.GOLD_LAN]),
    )
    for name, what in (("stores", manifests.GOLD), ("talks", manifests.GOLD_LAN)):
        refused = tenant.wait_reason(name, "NamespaceNotAllowed")
        assert f"'{what}'" in condition(refused, "Ready")["message"]
        assert tenant.on_hosts(name) == []
        assert tenant.anchors(name) == []

    tenant.api.patch(f"/api/v1/namespaces/{tenant.namespace}", {"metadata": {"labels": manifests.GOLD_LABELS}})
    for name in ("stores", "talks"):
        tenant.wait_reason(name, "Running")


def test_a_node_local_disk_brings_its_domain_back_to_its_node(tenant: Tenant) -> None:
    node = tenant.stack.hosts[1].name
    tenant.run(manifests.disk("data", pool=manifests.LOCAL), manifests.domain("web", disks=["data"]), on=node)
    data = tenant.data_of("data", node)
    assert data.exists()
    assert not tenant.data_of("data", tenant.elsewhere(node)).exists()
    tenant.power("web", "Halted")
    tenant.wait_reason("web", "Halted")

    with tenant.only(tenant.elsewhere(node)):
        tenant.power("web", "Running")
        tenant.wait_reason("web", "WaitingForNode")
    tenant.wait_reason("web", "Running")
    assert until(lambda: tenant.where("web"))[0] == node


def test_each_time_a_domain_is_placed_its_disk_is_claimed_by_a_write(tenant: Tenant) -> None:
    """Whoever would free the disk by what he read before then meets a conflict: as a controller that has lost its lead."""
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"]))
    seen = []
    for _ in range(2):
        disk = tenant.get("data", "xdisk")
        assert disk["status"]["usedBy"]["anchorUID"] == tenant.get("web")["status"]["anchorUID"]
        seen.append(disk["metadata"]["resourceVersion"])
        tenant.power("web", "Halted")
        tenant.wait_reason("web", "Halted")
        tenant.power("web", "Running")
        tenant.wait_reason("web", "Running")
    assert seen[0] != seen[1]
    old = {"metadata": {"resourceVersion": seen[1]}, "status": {"usedBy": None}}
    with pytest.raises(ApiError, match="modified"):
        tenant.api.patch(f"{tenant.path('xdisk', 'data')}/status", old)
