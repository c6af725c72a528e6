"""What XenHost tells of a real host, and that it follows what its administrator does."""

from __future__ import annotations

from typing import Any

import pytest

from hack.stack.guest import NAME
from hack.stack.stack import Stack
from kubexen.api.quantity import Quantity
from kubexen.api.xenhost import XenHost
from tests.stacks import HEALTHY, LIBVIRTD, READY
from tests.xen.domain import up, where


def test_a_host_tells_how_it_is_set_up(stack: Stack) -> None:
    for host in stack.hosts:
        stack.wait("xhost", host.name, "condition=Healthy")
        status = stack.get("xhost", host.name)["status"]
        told = {check["name"]: (check["result"], check["message"]) for check in status["checks"]}
        assert {result for result, _ in told.values()} == {"OK"}, told
        assert told["Dom0Memory"][1] == "dom0 has 1536M"
        assert told["StateFlags"][1] == "domains are read by Xen's own library"
        assert "dom0_mem=1536M,max:1536M" in status["xen"]["commandLine"]


def test_a_host_whose_administrator_enables_xendomains_says_so(stack: Stack) -> None:
    """By the distribution's own command, which knows how its init script is enabled."""
    assert stack.lab is not None
    host = stack.lab.host("xen1")
    host.ssh("systemctl -q enable xendomains.service")
    try:
        stack.wait("xhost", "xen1", f"{HEALTHY}=Xendomains")
        assert "systemctl mask xendomains.service" in stack.kubectl("get", "xhost", "xen1", "-o", "yaml")
        host.ssh("systemctl -q mask xendomains.service")
        stack.wait("xhost", "xen1", "condition=Healthy")
    finally:
        host.ssh("systemctl -q unmask xendomains.service; systemctl -q disable xendomains.service")
    stack.wait("xhost", "xen1", "condition=Healthy")


def test_a_host_is_shown_as_xl_info_shows_it(stack: Stack) -> None:
    for host in stack.lab.hosts if stack.lab else []:
        lines = (line.partition(":") for line in host.ssh("xl info").stdout.splitlines())
        info = {key.strip(): value.strip() for key, _, value in lines}

        def free_is_the_same(found: dict[str, Any], free: int = int(info["free_memory"])) -> bool:
            return abs(mib(found["status"]["memory"]["free"]) - free) <= 8

        # free memory alone is written once in a minute; a test before this one waits for about as long
        status = stack.cluster.api.wait(XenHost.info.path(name=host.name), free_is_the_same, 120)["status"]
        assert status["nodeName"] == info["host"]
        assert status["kernel"] == info["release"]
        assert status["xen"] == {
            "version": info["xen_version"],
            "caps": info["xen_caps"],
            "commandLine": info["xen_commandline"],
        }
        assert status["cpus"] == {
            "physical": int(info["nr_cpus"]), "nodes": int(info["nr_nodes"]),
            "coresPerSocket": int(info["cores_per_socket"]), "threadsPerCore": int(info["threads_per_core"]),
        }  # fmt: skip
        assert abs(mib(status["memory"]["total"]) - int(info["total_memory"])) <= 1
        assert status["scheduler"] == info["xen_scheduler"]


def mib(quantity: str) -> int:
    return Quantity.parse(quantity).mib


@pytest.mark.usefixtures("clean")
def test_an_agent_that_starts_while_libvirtd_is_stopped_waits_for_it(stack: Stack) -> None:
    host, domid = up(stack)
    host.ssh(f"systemctl stop {LIBVIRTD}")
    try:
        host.restart_agent()
        stack.wait("xhost", host.name, f"{READY}=HypervisorUnreachable")
        assert stack.get("xhost", host.name)["status"]["memory"]
    finally:
        host.ssh("systemctl restart libvirtd")
    stack.wait("xhost", host.name, "condition=Ready")
    stack.kubectl("patch", "xd", NAME, "--type=merge", "-p", '{"spec": {"memory": {"size": "160Mi"}}}')
    stack.wait("xd", NAME, "jsonpath={.status.memory.current}=160Mi")
    assert where(stack)[1] == domid
