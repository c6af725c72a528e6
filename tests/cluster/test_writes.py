"""What a domain costs the API server, counted from its audit log: writes of the controller's and the agents'.

XenHosts, Events, Leases and Nodes are not a domain's.
"""

from __future__ import annotations

from collections import Counter

from hack.cluster.audit import Request
from tests.cluster import manifests
from tests.cluster.conftest import FULL_LOOK
from tests.cluster.tenant import Tenant, xl

COUNTED = {"xendomains", "pods", "xendisks"}
WRITES_PER_START = 5
WRITES_PER_DISK = 1


def writes(tenant: Tenant, since: int) -> list[Request]:
    return [
        request
        for request in tenant.stack.cluster.audit(since)
        if request.is_write
        and request.user_agent.startswith("kubexen-")
        and request.namespace == tenant.namespace
        and request.resource in COUNTED
    ]


def table(requests: list[Request]) -> str:
    names = Counter(f"{r.user_agent.split('/')[0]} {r.verb} {r.resource}/{r.subresource} {r.code}" for r in requests)
    return "\n".join(f"{count} {name}" for name, count in sorted(names.items()))


def test_a_start_costs_five_writes_and_one_a_disk(tenant: Tenant) -> None:
    mark = tenant.stack.cluster.audit_mark()
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"], networks=["lan"]))
    # The last of them is the anchor's readiness gate.
    pod = f"/api/v1/namespaces/{tenant.namespace}/pods/{tenant.anchor('web')['metadata']['name']}"
    tenant.api.wait(pod, lambda found: any(
        c["type"] == "Ready" and c["status"] == "True" for c in found["status"]["conditions"]
    ), 60)  # fmt: skip
    made = writes(tenant, mark)
    assert made, "nothing was counted at all"
    assert len(made) <= WRITES_PER_START + WRITES_PER_DISK, table(made)


def test_domains_that_idle_cost_no_write_over_three_full_looks(tenant: Tenant) -> None:
    names = [f"idle{n}" for n in range(4)]
    hosts = [tenant.host(host.name) for host in tenant.stack.hosts]
    for host in hosts:
        with xl(host) as sim:
            sim.set(flicker=0)  # so that the first sample of r and b is already what they settle at
    tenant.run(manifests.disk("data"), *(
        manifests.domain(name, disks=["data"] if name == "idle0" else [], networks=["lan"]) for name in names
    ))  # fmt: skip
    for name in names:
        tenant.wait(name, lambda found: found["status"].get("state") == "-b----")
    for host in hosts:
        with xl(host) as sim:
            sim.set(flicker=0.1)
    _settle(tenant)

    mark = tenant.stack.cluster.audit_mark()
    changes = list(tenant.api.watch(tenant.path("xd"), 3.5 * FULL_LOOK))
    assert [(kind, found["metadata"]["name"]) for kind, found in changes] == [("ADDED", name) for name in names]
    assert writes(tenant, mark) == [], table(writes(tenant, mark))


def _settle(tenant: Tenant) -> None:
    """Until nothing of the tenant's has changed for a second: the readiness gates, the backends' states."""
    while True:
        mark = tenant.stack.cluster.audit_mark()
        changes = tenant.api.watch(tenant.path("xd"), 2)
        if all(kind == "ADDED" for kind, _ in changes) and not writes(tenant, mark):
            return
