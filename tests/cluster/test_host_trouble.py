"""A host that is not set up as it should be: its agent stays up, its XenHost and an Event say what is missing and how to mend
it, and it is well again when it is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from hack.cluster.api import Object
from hack.stack.hosts import SimulatedHost
from hack.stack.stack import Stack
from kubexen import VERSION
from kubexen.agent.xenhost import ROUND_KIB
from kubexen.api.quantity import Quantity
from tests.cluster import broken, manifests
from tests.cluster.tenant import KUBEXEN, PATIENCE, Tenant, condition, is_ready, until
from tests.stacks import wait_host_event


@pytest.fixture
def host(stack: Stack) -> Iterator[SimulatedHost]:
    """A host that is well, before and after."""
    found = stack.hosts[0]
    assert isinstance(found, SimulatedHost)
    wait_healthy(stack, found)
    yield found
    wait_healthy(stack, found)


def path(host: SimulatedHost) -> str:
    return f"{KUBEXEN}/xenhosts/{host.name}"


def wait(stack: Stack, host: SimulatedHost, kind: str, status: str, reason: str) -> Object:
    """Until a condition of the XenHost is so; the condition."""

    def reached(found: Object) -> bool:
        now = condition(found, kind)
        return (now["status"], now["reason"]) == (status, reason)

    return condition(stack.cluster.api.wait(path(host), reached, PATIENCE), kind)


def wait_healthy(stack: Stack, host: SimulatedHost) -> None:
    wait(stack, host, "Ready", "True", "Ready")
    wait(stack, host, "Healthy", "True", "ChecksPass")


def renewed(stack: Stack, host: SimulatedHost) -> str:
    """When the agent's Lease was renewed last."""
    leases = stack.cluster.api.get("/apis/coordination.k8s.io/v1/leases", fieldSelector=f"metadata.name={host.name}")["items"]
    return max(lease["spec"]["renewTime"] for lease in leases if "kube-node-lease" not in lease["metadata"]["namespace"])


def guests(status: Object) -> int:
    """Bytes that guests may have."""
    return int(Quantity.parse(status["memory"]["forGuests"]))


@dataclass(frozen=True)
class Case:
    breaks: Callable[[SimulatedHost], AbstractContextManager[None]]
    reason: str
    says: str
    status: str = "False"
    kind: str = "Healthy"


CASES = {
    "a bridge is missing": Case(broken.bridge, "BridgeMissing", "ip link add xenbr0"),
    "a pool is not mounted": Case(lambda host: broken.pool(host, "/srv/pool"), "PoolUnusable", "mount it"),
    "xendomains is enabled": Case(broken.xendomains, "Xendomains", "systemctl mask xendomains.service"),
    "dom0 has all memory": Case(lambda host: broken.setting(host, command_line="loglvl=all"), "Dom0Memory", "dom0_mem=2048M"),
    "Xen has a version that was not tested": Case(
        lambda host: broken.setting(host, version="4.14.6"), "XenVersion", "4.14.6", status="True"),
    "libvirtd is stopped": Case(broken.toolstack, "HypervisorUnreachable", "systemctl restart libvirtd", kind="Ready"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_host_that_is_not_set_up_well_says_what_to_do(stack: Stack, host: SimulatedHost, case: Case) -> None:
    pid = host.agent.pid
    with case.breaks(host):
        assert case.says in wait(stack, host, case.kind, case.status, case.reason)["message"]
        assert wait_host_event(stack, host.name, case.reason, case.says)["type"] == "Warning"
    wait_healthy(stack, host)
    assert wait_host_event(stack, host.name, "Mended", case.says)["type"] == "Normal"
    assert host.agent.pid == pid


def test_an_agent_that_starts_while_libvirtd_is_away_waits_for_it(tenant: Tenant, host: SimulatedHost) -> None:
    """Its domain runs on, what is known of the host stays known, and it is no lost host."""
    stack = tenant.stack
    domid = tenant.run(manifests.domain("web"), on=host.name)["web"]["status"]["domid"]
    known = stack.cluster.api.get(path(host))["status"]
    with broken.toolstack(host):
        host.restart_agent()
        wait(stack, host, "Ready", "False", "HypervisorUnreachable")
        before, pid = renewed(stack, host), host.agent.pid
        tenant.patch("web", memory={"size": "96Mi"})
        until(lambda: renewed(stack, host) > before)
        status = stack.cluster.api.get(path(host))["status"]
        assert {key: status[key] for key in ("bootID", "memory", "cpus", "xen")} == {
            key: known[key] for key in ("bootID", "memory", "cpus", "xen")
        }
        assert host.agent.pid == pid
    wait_healthy(stack, host)
    again = guests(stack.cluster.api.get(path(host))["status"])
    assert abs(again - guests(known)) <= ROUND_KIB * 1024
    tenant.wait("web", lambda found: is_ready(found) and found["status"]["memory"]["current"] == "96Mi")
    assert tenant.where("web")[1].domid == domid


def test_a_xenhost_that_somebody_deletes_is_made_again_with_the_next_word_on_the_host(stack: Stack, host: SimulatedHost) -> None:
    old = stack.cluster.api.get(path(host))
    stack.cluster.api.delete(path(host))
    with broken.xendomains(host):
        wait(stack, host, "Healthy", "False", "Xendomains")
    new = stack.cluster.api.get(path(host))
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert guests(new["status"]) == guests(old["status"])


def test_a_labelled_node_that_runs_no_xen_has_a_xenhost_that_says_so(stack: Stack, host: SimulatedHost) -> None:
    node = f"/api/v1/nodes/{host.name}"
    with broken.xen(host):
        with broken.agent(host):
            stack.cluster.api.delete(path(host))
        assert "take the label" in wait(stack, host, "Ready", "False", "NoXen")["message"]
        wait_host_event(stack, host.name, "NoXen", "Boot its Xen entry")
        status = stack.cluster.api.get(path(host))["status"]
        assert "memory" not in status
        assert status["agentVersion"] == VERSION
        stack.cluster.api.wait(node, lambda found: found["status"]["capacity"]["kubexen.dev/memory-mib"] == "0", PATIENCE)
    wait_healthy(stack, host)
    stack.cluster.api.wait(node, lambda found: int(found["status"]["capacity"]["kubexen.dev/memory-mib"]) > 0, PATIENCE)


def test_a_host_in_trouble_costs_no_writes(stack: Stack, host: SimulatedHost) -> None:
    """Once it was told, nothing is written until something changes: the Lease's renewals tell that time has passed."""
    with broken.xendomains(host), broken.toolstack(host):
        wait(stack, host, "Ready", "False", "HypervisorUnreachable")
        version, seen = stack.cluster.api.get(path(host))["metadata"]["resourceVersion"], set()
        until(lambda: len(seen) > 3 or seen.add(renewed(stack, host)))
        assert stack.cluster.api.get(path(host))["metadata"]["resourceVersion"] == version
