"""Kubexen on real Xen: what a user applies, what the host then runs, and what happens when things go wrong."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hack.stack.guest import NAME, XL_NAME, manifest
from hack.stack.stack import ROOT, Stack
from hack.xenlab.host import HostError
from hack.xenlab.host import XenHost as LabHost
from kubexen.api.quantity import Quantity
from kubexen.api.xenhost import XenHost

SHARE = {"weight": 512, "cap": 50}
VIRSH = "virsh -c xen:///system"
READY, HEALTHY = (f'jsonpath={{.status.conditions[?(@.type=="{kind}")].reason}}' for kind in ("Ready", "Healthy"))


@pytest.fixture(scope="module")
def pools(stack: Stack) -> None:
    stack.kubectl("apply", "-f", str(ROOT / "examples/tiny/network.yaml"))


@pytest.fixture(scope="module")
def clean(stack: Stack, pools: None) -> Iterator[None]:
    yield
    stack.kubectl("delete", "xd,xact,xdisk", "--all", "--timeout=180s")


def up(stack: Stack, **spec: Any) -> tuple[LabHost, int]:
    """The domain with this spec, running, with a shell that answers; its host and its domid.

    One that another test left is good enough: to start another takes half a minute.
    """
    stack.apply(manifest(**spec))
    stack.wait_reason(NAME, "Running")
    stack.wait("xd", NAME, "jsonpath={.status.memory.current}=128Mi")
    host, domid = where(stack)
    answers(host)
    return host, domid


def answers(host: LabHost) -> None:
    """Wait until the guest's shell does what is typed."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with contextlib.suppress(HostError):  # nobody listens yet
            if host.guest_output(XL_NAME, "echo here", 10).endswith("here"):
                return
    raise AssertionError(f"{XL_NAME} does not answer: {host.guest_console_tail(XL_NAME)}")


def where(stack: Stack) -> tuple[LabHost, int]:
    status = stack.get("xd", NAME)["status"]
    assert stack.lab is not None
    return stack.lab.host(status["nodeName"]), int(status["domid"])


def status(stack: Stack, path: str) -> str:
    return stack.kubectl("get", "xd", NAME, "-o", f"jsonpath={{.status.{path}}}")


def wait_for_domid_other_than(stack: Stack, domid: int, reason: str = "Running") -> int:
    """Wait until it runs as another domain; each `kubectl wait` returns at a change, so this asks at changes only."""
    host, _ = where(stack)
    host.until(f'[ "$(xl domid {XL_NAME} 2>/dev/null || echo {domid})" != {domid} ]', 120)
    new = int(host.ssh(f"xl domid {XL_NAME}").stdout)
    stack.wait("xd", NAME, f"jsonpath={{.status.domid}}={new}")
    stack.wait_reason(NAME, reason)
    return new


def events(stack: Stack) -> set[str]:
    found = json.loads(stack.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
    return {e["reason"] for e in found if e["regarding"].get("name") == NAME}


@pytest.mark.usefixtures("clean")
def test_status_tells_what_xl_list_tells(stack: Stack) -> None:
    host, domid = up(stack)
    row = next(line.split() for line in host.ssh("xl list").stdout.splitlines() if line.startswith(XL_NAME))
    shown = stack.get("xd", NAME)["status"]
    assert (str(shown["domid"]), shown["memory"]["current"], str(shown["cpu"]["online"])) == (row[1], "128Mi", row[3])
    assert domid == int(row[1])
    assert shown["state"].replace("r", "-").replace("b", "-") == row[4].replace("r", "-").replace("b", "-")


@pytest.mark.usefixtures("clean")
def test_a_guest_that_powers_off_stays_off_until_it_is_started(stack: Stack) -> None:
    host, _ = up(stack)
    host.guest_run(XL_NAME, "poweroff")
    stack.wait_reason(NAME, "PoweredOff")
    assert XL_NAME not in host.ssh("xl list").stdout
    stack.apply(manifest(cpu=SHARE))
    stack.apply({"apiVersion": "kubexen.dev/v1alpha1", "kind": "XenAction", "metadata": {"name": "start"},
                 "spec": {"domainName": NAME, "action": "Start"}})
    stack.wait_reason(NAME, "Running")
    stack.kubectl("delete", "xact", "start")


@pytest.mark.usefixtures("clean")
def test_a_guest_that_reboots_comes_back_with_its_share_of_the_cpus(stack: Stack) -> None:
    def share() -> list[str]:
        return host.ssh(f"xl sched-credit2 -d {XL_NAME} | tail -n 1").stdout.split()[-2:]

    host, domid = up(stack, cpu=SHARE)
    assert share() == ["512", "50"]
    host.guest_run(XL_NAME, "reboot")
    wait_for_domid_other_than(stack, domid)
    assert share() == ["512", "50"]


@pytest.mark.usefixtures("clean")
def test_a_crash_is_restarted_or_not_as_the_spec_says(stack: Stack) -> None:
    host, domid = up(stack, onCrash="restart")
    host.guest_run(XL_NAME, "echo c > /proc/sysrq-trigger")
    wait_for_domid_other_than(stack, domid)
    stack.kubectl("patch", "xd", NAME, "--type=merge", "-p", '{"spec": {"onCrash": "preserve"}}')
    answers(host)
    host.guest_run(XL_NAME, "echo c > /proc/sysrq-trigger")
    stack.wait_reason(NAME, "Crashed")
    assert status(stack, "state")[3:5] == "sc"
    assert "sysrq triggered crash" in host.guest_console_tail(XL_NAME).lower()
    stack.kubectl("delete", "xd", NAME, "--timeout=180s")


@pytest.mark.usefixtures("clean")
def test_what_was_done_by_hand_is_seen_and_brought_back(stack: Stack) -> None:
    host, domid = up(stack)
    host.ssh(f"xl pause {XL_NAME}")
    host.until(f"! xl list {XL_NAME} | grep -q -- '--p'", 60)
    stack.wait_reason(NAME, "Running")
    refused = host.ssh(f"{VIRSH} undefine {XL_NAME}", check=False)
    assert refused.returncode != 0  # domains are transient: libvirt keeps nothing that could be taken away
    host.ssh(f"{VIRSH} dumpxml {XL_NAME} >/tmp/defined.xml && {VIRSH} define /tmp/defined.xml")
    host.until(f"! {VIRSH} list --all --persistent --name | grep -qx {XL_NAME}", 60)
    assert where(stack)[1] == domid
    host.ssh(f"xl destroy {XL_NAME}")
    wait_for_domid_other_than(stack, domid)
    assert {"PausedByHand", "DefinedByHand", "DestroyedByHand"} <= events(stack)


@pytest.mark.usefixtures("clean")
def test_a_running_domain_survives_every_process_of_ours(stack: Stack) -> None:
    host, domid = up(stack)
    host.kill_agent()
    stack.controller.stop(kill=True)
    host.ssh("systemctl restart libvirtd")
    stack.start_controller()
    stack.kubectl("patch", "xd", NAME, "--type=merge", "-p", '{"spec": {"memory": {"size": "160Mi"}}}')
    stack.wait("xd", NAME, "jsonpath={.status.memory.current}=160Mi")
    assert where(stack)[1] == domid


@pytest.mark.usefixtures("clean")
def test_a_host_that_rebooted_starts_its_domains_again(stack: Stack) -> None:
    host, _ = up(stack)
    before = status(stack, "bootID")
    host.ssh("echo kept >/root/kept && sync")
    host.stop()
    assert not host.alive
    host.start()
    host.wait()
    boot = host.boot_id()
    assert host.ssh("cat /root/kept").stdout == "kept\n"
    stack.wait("xd", NAME, f"jsonpath={{.status.bootID}}={boot}")
    stack.wait_reason(NAME, "Running")
    assert boot != before
    assert "HostRebooted" in events(stack)


def test_a_host_tells_how_it_is_set_up(stack: Stack) -> None:
    for host in stack.hosts:
        stack.wait("xhost", host.name, "condition=Healthy")
        status = stack.get("xhost", host.name)["status"]
        told = {check["name"]: (check["result"], check["message"]) for check in status["checks"]}
        assert {result for result, _ in told.values()} == {"OK"}, told
        assert told["Dom0Memory"][1] == "dom0 has 1536M"
        assert told["StateFlags"][1] == "domains are read by Xen's own library"
        assert "dom0_mem=1536M,max:1536M" in status["xen"]["commandLine"]


@pytest.mark.usefixtures("clean")
def test_a_host_is_shown_as_xl_info_shows_it(stack: Stack) -> None:
    for host in stack.lab.hosts if stack.lab else []:
        lines = (line.partition(":") for line in host.ssh("xl info").stdout.splitlines())
        info = {key.strip(): value.strip() for key, _, value in lines}

        def free_is_the_same(found: dict[str, Any], free: int = int(info["free_memory"])) -> bool:
            return abs(mib(found["status"]["memory"]["free"]) - free) <= 8

        # free memory alone is written once in a minute; domains that ended just now may be in what was written last
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


@pytest.mark.usefixtures("clean")
def test_an_agent_that_starts_while_libvirtd_is_stopped_waits_for_it(stack: Stack) -> None:
    host, domid = up(stack)
    host.ssh("systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service")
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
