"""What hangs by a finalizer after a `helm uninstall`, and how it ends: an installation that is back ends it, or an administrator
does by hand, as docs/troubleshooting.md has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hack.stack import chart
from hack.stack.stack import AGENTS, RELEASE, Stack
from kubexen.api.names import ANCHOR_FINALIZER, DISK_FINALIZER, DOMAIN_FINALIZER
from tests.cluster import manifests
from tests.cluster.documented import commands, follow
from tests.cluster.rights import patch, refused, user
from tests.cluster.tenant import Tenant, xl

(BY_HAND,) = commands("troubleshooting.md", "Kubexen is gone")
_, FOR_GOOD = commands("install.md", "Uninstall, and come back")
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TORN = {"metadata": {"finalizers": None}}


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    """Of a stack of its own, which is helm's release."""
    stack = Stack(tmp_path / "state", "sim", nodes=1)
    try:
        stack.start()
        install(stack)
        stack.apply(*manifests.environment())
        stack.cluster.add_namespace("shop")
        yield Tenant(stack, "shop")
    finally:
        stack.stop()


def install(stack: Stack) -> None:
    """What the stack has applied becomes the release's. No kubelet runs its pods: the stack's processes do their work."""
    over = ("--take-ownership", "--force-conflicts")
    values = json.dumps({"scheduler": {"enabled": False}})
    stack.helm("install", RELEASE, str(chart.CHART), *over, "--values", "-", input=values)
    stack.cluster.wait_served()


def uninstall(stack: Stack) -> None:
    stack.helm("uninstall", RELEASE)
    stack.controller.stop()
    for host in stack.hosts:
        host.stop_agent()
    stack.cluster.api.wait_gone(f"/api/v1/namespaces/{AGENTS}", 60)


def run(tenant: Tenant) -> None:
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"]), manifests.domain("other"))
    tenant.apply(manifests.domain("off", powerState="Halted"))
    tenant.wait_reason("off", "Halted")


def kinds(tenant: Tenant) -> list[str]:
    """The kinds of Kubexen's that the cluster knows."""
    return [name for crd in tenant.api.get(CRDS)["items"] if (name := crd["metadata"]["name"]).endswith("kubexen.dev")]


def test_what_was_deleted_meanwhile_ends_when_it_is_installed_again(tenant: Tenant) -> None:
    stack = tenant.stack
    run(tenant)
    node, domain = tenant.where("other")
    uninstall(stack)
    tenant.kubectl("delete", "xd", "web", "off", "--wait=false")
    tenant.kubectl("delete", "xdisk", "data", "--wait=false")
    assert {state.name for _, state in tenant.on_hosts()} == {tenant.xl_name("web"), tenant.xl_name("other")}

    install(stack)
    stack.start_controller()
    for host in stack.hosts:
        stack.start_agent(host)
    for kind, name in (("xd", "web"), ("xd", "off"), ("xdisk", "data")):
        tenant.api.wait_gone(tenant.path(kind, name), 60)
    assert [(at, state.domid) for at, state in tenant.on_hosts()] == [(node, domain.domid)]


def test_what_is_deleted_after_it_goes_by_hand_and_the_kinds_after_that(tenant: Tenant) -> None:
    stack, host = tenant.stack, tenant.host(tenant.stack.hosts[0].name)
    run(tenant)
    data, editor = tenant.data_of("data", host.name), user(tenant, "edit")
    tears = [partial(patch, editor, tenant.path(kind, name), TORN) for kind, name in (("xd", "web"), ("xdisk", "data"))]
    for tear in tears:
        refused(tear, "by hand only by who may")  # a policy, which goes with the chart
    uninstall(stack)
    for tear in tears:
        refused(tear, "cannot patch")  # the roles have gone as well

    # Asked to end with their namespace, with their kind or by themselves, they stay, and the domains run on.
    stack.kubectl("delete", "namespace", tenant.namespace, "--wait=false")
    stack.kubectl("delete", "crd", "xendomains.kubexen.dev", "--wait=false")
    tenant.kubectl("delete", "xdisk", "data", "--wait=false")
    anchor = f"/api/v1/namespaces/{tenant.namespace}/pods/{tenant.anchor('web')['metadata']['name']}"
    for path, finalizer in (
        (tenant.path("xd", "web"), DOMAIN_FINALIZER), (tenant.path("xdisk", "data"), DISK_FINALIZER), (anchor, ANCHOR_FINALIZER)
    ):
        found = tenant.api.wait(path, lambda found: "deletionTimestamp" in found["metadata"], 60)
        assert finalizer in found["metadata"]["finalizers"]
    assert {state.name for _, state in tenant.on_hosts()} == {tenant.xl_name("web"), tenant.xl_name("other")}

    with xl(host) as sim:
        for _, state in tenant.on_hosts():
            sim.xl_destroy(state.name)
    follow(stack, BY_HAND, NAMESPACE=tenant.namespace)
    tenant.wait_namespace_gone()
    follow(stack, FOR_GOOD.splitlines()[-1])
    assert kinds(tenant) == []
    assert data.exists()  # it stays, to be removed by hand


def test_who_is_rid_of_it_for_good_leaves_nothing(tenant: Tenant) -> None:
    run(tenant)
    data = tenant.data_of("data", tenant.stack.hosts[0].name)
    follow(tenant.stack, FOR_GOOD)
    assert kinds(tenant) == []
    assert tenant.on_hosts() == []
    assert not data.exists()

