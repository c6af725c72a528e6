"""A namespace that is deleted: Kubernetes deletes the anchors first and waits for them, so the domains must end first."""

from __future__ import annotations

from tests.cluster import manifests
from tests.cluster.tenant import PATIENCE, Tenant, until, xl


def test_a_deleted_namespace_ends_its_domains_and_leaves_nothing(tenant: Tenant) -> None:
    tenant.apply(
        manifests.disk("data"),
        manifests.domain("runs", disks=["data"]),
        manifests.domain("paused", powerState="Paused"),
        manifests.domain("halted", powerState="Halted"),
    )
    for name, reason in (("runs", "Running"), ("paused", "Paused"), ("halted", "Halted")):
        tenant.wait_reason(name, reason)
    node, domain = tenant.where("runs")
    data = tenant.data_of("data", node)
    assert data.exists()

    tenant.stack.kubectl("delete", "namespace", tenant.namespace, f"--timeout={PATIENCE:.0f}s")

    assert tenant.on_hosts() == []
    assert not data.exists()
    with xl(tenant.host(node)) as sim:
        ends = [call.name for call in sim.calls() if call.uuid == domain.uuid]
    assert ends[-2:] == ["shutdown", "destroy"], "it was not asked before it was destroyed"


def test_a_namespace_whose_guest_took_its_time_goes_when_kubernetes_looks_again(tenant: Tenant) -> None:
    tenant.run(manifests.domain("deaf", shutdownGracePeriodSeconds=15))
    with xl(tenant.host_of("deaf")) as sim:
        sim.ignore_shutdown(tenant.xl_name("deaf"))
    tenant.stack.kubectl("delete", "namespace", tenant.namespace, "--wait=false")
    until(lambda: not tenant.anchors("deaf"))
    assert tenant.on_hosts() == []
    tenant.wait_namespace_gone()
