"""Starts that take long, as those of big domains do: what other domains do meanwhile is told all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import manifests
from tests.cluster.tenant import Tenant, until, xl

SLOW_MS = 8000
"""What a start takes. A change has to be told within 2 s, and here before any of the starts has ended."""


@pytest.fixture
def node(tenant: Tenant) -> Iterator[str]:
    """The only node for new domains; its starts are as quick as before when the test ends."""
    name = tenant.stack.hosts[0].name
    with tenant.only(name):
        yield name
    set_start(tenant, name, 50)


def set_start(tenant: Tenant, node: str, milliseconds: int) -> None:
    with xl(tenant.host(node)) as sim:
        sim.set(create_ms=milliseconds)


def test_eight_slow_starts_hide_nothing_that_other_domains_do(tenant: Tenant, node: str) -> None:
    tenant.run(manifests.domain("crashed", onCrash="preserve"), *map(manifests.domain, ("paused", "halted", "destroyed")))
    slow = [f"slow{n}" for n in range(8)]
    set_start(tenant, node, SLOW_MS)
    tenant.apply(*map(manifests.domain, slow))
    for name in slow:
        tenant.wait(name, lambda found: found["status"].get("nodeName") == node)
    until(lambda: any(tenant.on_hosts(name) for name in slow))

    with xl(tenant.host(node)) as sim:
        sim.guest_crash(tenant.xl_name("crashed"))
        sim.xl_destroy(tenant.xl_name("destroyed"))
    tenant.power("paused", "Paused")
    tenant.power("halted", "Halted")
    tenant.wait("crashed", lambda found: found["status"]["state"] == "---sc-")
    tenant.wait("destroyed", lambda found: "domid" not in found["status"])
    tenant.wait_event("destroyed", "DestroyedByHand")
    tenant.wait("paused", lambda found: found["status"]["state"] == "--p---")
    tenant.wait_reason("halted", "Halted")

    assert [name for name in slow if "domid" in tenant.get(name)["status"]] == []


def test_a_domain_that_somebody_destroyed_is_not_told_to_be_there_until_its_slow_start_ends(tenant: Tenant, node: str) -> None:
    before = tenant.run(manifests.domain("web"))["web"]["status"]["domid"]
    set_start(tenant, node, 3000)
    with xl(tenant.host(node)) as sim:
        sim.xl_destroy(tenant.xl_name("web"))
    gone = tenant.wait("web", lambda found: found["status"].get("domid") != before)
    assert "domid" not in gone["status"]
    tenant.wait_restarted("web", before)
