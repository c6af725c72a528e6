"""Objects that go without their domain: with `--cascade=orphan`, or with their finalizer taken off by force. Nothing of them
stays for ever, and nothing runs twice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster import manifests
from tests.cluster.tenant import KUBEXEN, Tenant, is_ready, until, xl

pytestmark = pytest.mark.early


def tear_away(tenant: Tenant, *names: str) -> None:
    """As `kubectl patch` and `kubectl delete` by who may take the finalizer off."""
    tenant.stack.controller.stop()  # it would put its finalizer back
    try:
        for name in names:
            tenant.api.patch(tenant.path("xd", name), {"metadata": {"finalizers": None}})
            tenant.api.delete(tenant.path("xd", name))
    finally:
        tenant.stack.start_controller()


def test_deleted_without_its_dependents_it_leaves_no_anchor_behind(tenant: Tenant) -> None:
    tenant.run(manifests.domain("web"))
    tenant.kubectl("delete", "xd", "web", "--cascade=orphan", "--timeout=60s")
    assert tenant.on_hosts("web") == []
    until(lambda: not tenant.anchors("web"))


def test_an_object_made_again_waits_for_the_domain_of_the_one_before(tenant: Tenant) -> None:
    tenant.run(manifests.domain("web"))
    (before,) = tenant.anchors("web")
    node, domain = tenant.where("web")
    host, path = tenant.host(node), f"{KUBEXEN}/xenhosts/{node}"

    def orphaned(found: dict[str, Any]) -> bool:
        return domain.uuid in [orphan["uuid"] for orphan in found["status"].get("orphaned", ())]

    tear_away(tenant, "web")
    tenant.api.wait(path, orphaned, 120)
    tenant.apply(manifests.domain("web"))
    tenant.wait_reason("web", "FoundElsewhere")

    # A new agent knows of no orphan yet: its first word must not take back what the one before it has told.
    host.restart_agent()
    tenant.run(manifests.domain("other"), on=node)
    tenant.wait_reason("web", "FoundElsewhere")
    assert [anchor["metadata"]["uid"] for anchor in tenant.anchors("web")] == [before["metadata"]["uid"]]
    assert tenant.where("web")[0] == node

    with xl(host) as sim:
        sim.xl_destroy(tenant.xl_name("web"))
    assert is_ready(tenant.wait_reason("web", "Running"))
    until(lambda: before["metadata"]["uid"] not in [anchor["metadata"]["uid"] for anchor in tenant.anchors("web")])
    assert tenant.where("web")[1].uuid != domain.uuid


def test_an_anchor_stays_while_nobody_can_say_that_its_domain_is_gone(tenant: Tenant) -> None:
    """The agent of the one host is away: that it tells of no orphan means nothing."""
    silent, other = (host.name for host in tenant.stack.hosts)
    tenant.run(manifests.domain("unknown"), on=silent)
    tenant.run(manifests.domain("gone"), on=other)
    tenant.host(silent).kill_agent()
    tear_away(tenant, "unknown", "gone")
    with xl(tenant.host(other)) as sim:
        sim.xl_destroy(tenant.xl_name("gone"))
    until(lambda: not tenant.anchors("gone"))
    assert len(tenant.anchors("unknown")) == 1

    tenant.host(silent).restart_agent()
    tenant.api.wait(f"{KUBEXEN}/xenhosts/{silent}", lambda found: bool(found["status"].get("orphaned")), 120)
    assert len(tenant.anchors("unknown")) == 1
    with xl(tenant.host(silent)) as sim:
        sim.xl_destroy(tenant.xl_name("unknown"))
    until(lambda: not tenant.anchors("unknown"))


def test_a_disk_that_is_deleted_keeps_its_data_while_a_domain_without_an_object_runs_on_it(tenant: Tenant) -> None:
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"]))
    node, domain = tenant.where("web")
    host, data = tenant.host(node), tenant.data_of("data", node)
    tear_away(tenant, "web")
    tenant.kubectl("delete", "xdisk", "data", "--wait=false")
    until(lambda: f"its data stays while the domain {domain.name}" in host.agent_log())
    host.restart_agent()
    until(lambda: f"its data stays while the domain {domain.name}" in host.agent_log(5))
    assert data.exists()
    with xl(host) as sim:
        assert domain.uuid in [state.uuid for state in sim.list()]
        sim.xl_destroy(tenant.xl_name("web"))
    tenant.api.wait_gone(tenant.path("xdisk", "data"), 60)
    assert not data.exists()
