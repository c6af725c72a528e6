"""Kubexen's domains on real Xen: what a user applies, what the host then runs, and what happens when things go wrong."""

from __future__ import annotations

import pytest

from hack.stack.guest import NAME, XL_NAME, manifest
from hack.stack.stack import Stack
from tests.xen.domain import answers, events, status, up, wait_for_domid_other_than, where

SHARE = {"weight": 512, "cap": 50}
VIRSH = "virsh -c xen:///system"

pytestmark = pytest.mark.usefixtures("clean")


def test_status_tells_what_xl_list_tells(stack: Stack) -> None:
    host, domid = up(stack)
    row = next(line.split() for line in host.ssh("xl list").stdout.splitlines() if line.startswith(XL_NAME))
    shown = stack.get("xd", NAME)["status"]
    assert (str(shown["domid"]), shown["memory"]["current"], str(shown["cpu"]["online"])) == (row[1], "128Mi", row[3])
    assert domid == int(row[1])
    assert shown["state"].replace("r", "-").replace("b", "-") == row[4].replace("r", "-").replace("b", "-")


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


def test_a_guest_that_reboots_comes_back_with_its_share_of_the_cpus(stack: Stack) -> None:
    def share() -> list[str]:
        return host.ssh(f"xl sched-credit2 -d {XL_NAME} | tail -n 1").stdout.split()[-2:]

    host, domid = up(stack, cpu=SHARE)
    assert share() == ["512", "50"]
    host.guest_run(XL_NAME, "reboot")
    wait_for_domid_other_than(stack, domid)
    assert share() == ["512", "50"]


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


def test_a_running_domain_survives_every_process_of_ours(stack: Stack) -> None:
    host, domid = up(stack)
    host.kill_agent()
    stack.controller.stop(kill=True)
    host.ssh("systemctl restart libvirtd")
    stack.start_controller()
    stack.kubectl("patch", "xd", NAME, "--type=merge", "-p", '{"spec": {"memory": {"size": "160Mi"}}}')
    stack.wait("xd", NAME, "jsonpath={.status.memory.current}=160Mi")
    assert where(stack)[1] == domid


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
