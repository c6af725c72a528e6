"""How a host is set up: its files laid out as they are on a host, and what the checks say of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hack.cluster import nodeconfig
from kubexen.agent import checks
from kubexen.api.names import HOST_LABEL
from kubexen.api.xenhost import CheckResult, HostCheck, HostNetwork, HostPool, XenHostStatus
from kubexen.hypervisor.errors import Unreachable
from kubexen.hypervisor.port import HostInfo

FIXED = "dom0_mem=2048M,max:2048M"
MASKED = "-> /dev/null"
XL, LIBXL = "etc/xen/xl.conf", "etc/libvirt/libxl.conf"


def info(command_line: str = FIXED, version: str = "4.17.5", source: str = "xc") -> HostInfo:
    return HostInfo(
        boot_id="b", hypervisor_version=version, toolstack_version="libvirt 9.0.0", driver="xen:///system", flags_source=source,
        cpus=4, cpu_model="", threads_per_core=1, cores_per_socket=4, nodes=1, total_memory_kib=8 << 20, free_memory_kib=4 << 20,
        dom0_memory_kib=2 << 20, scheduler="credit2", command_line=command_line,
    )  # fmt: skip


def lay_out(root: Path, files: dict[str, str]) -> None:
    """Files by path and content; a content that begins with `->` makes a link."""
    for folder in ("etc/xen", "etc/systemd/system"):
        (root / folder).mkdir(parents=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("->"):
            path.symlink_to(content.removeprefix("->").strip())
        else:
            path.write_text(content)


@dataclass(frozen=True)
class Case:
    check: str
    want: CheckResult
    says: str = ""
    files: dict[str, str] = field(default_factory=dict)
    info: HostInfo = field(default_factory=info)


OK, WARNING, ERROR = CheckResult.OK, CheckResult.WARNING, CheckResult.ERROR
NATIVE = {"lib/systemd/system/xendomains.service": "[Unit]\n"}
SYSV = {"etc/init.d/xendomains": "#!/bin/sh\n", "etc/rc3.d/S02xendomains": "-> ../init.d/xendomains"}

CASES = {
    "dom0 has a fixed amount": Case("Dom0Memory", OK, "2048M"),
    "dom0 has a maximum only, which it begins with": Case("Dom0Memory", OK, info=info("console=vga dom0_mem=max:1G")),
    "a later dom0_mem counts": Case("Dom0Memory", OK, "1G", info=info("dom0_mem=512M dom0_mem=1G,max:1g")),
    "a minimum says nothing": Case("Dom0Memory", ERROR, "update-grub", info=info("dom0_mem=min:512M")),
    "dom0 may grow": Case("Dom0Memory", WARNING, "max:", info=info("dom0_mem=2048M")),
    "dom0 begins small and may grow": Case("Dom0Memory", WARNING, "max:", info=info("dom0_mem=1G,max:2G")),
    "dom0 has all memory": Case("Dom0Memory", ERROR, "update-grub", info=info("loglvl=all")),
    "Xen's command line is not known": Case("Dom0Memory", WARNING, "not checked", info=info("")),
    "nothing is said of autoballoon, dom0_mem is": Case("Autoballoon", OK),
    "nothing is said of either": Case("Autoballoon", WARNING, "xl.conf and /etc/libvirt/libxl.conf", info=info("loglvl=all")),
    "xl balloons": Case("Autoballoon", WARNING, "in /etc/xen/xl.conf;", {XL: '#autoballoon="off"\nautoballoon="on"\n'}),
    "xl balloons, as a number": Case("Autoballoon", WARNING, "xl.conf", {XL: "autoballoon=1\n"}),
    "libvirt balloons": Case("Autoballoon", WARNING, "in /etc/libvirt/libxl.conf;", {LIBXL: "autoballoon = 1\n"}),
    "both are told not to": Case("Autoballoon", OK, files={XL: 'autoballoon="off"', LIBXL: "autoballoon = 0"},
                                 info=info("loglvl=all")),
    "no xendomains": Case("Xendomains", OK),
    "its unit is there and not enabled": Case("Xendomains", OK, "", NATIVE),
    "its unit is enabled": Case("Xendomains", ERROR, "mask xendomains.service", {
        **NATIVE, "etc/systemd/system/multi-user.target.wants/xendomains.service": "-> /lib/systemd/system/xendomains.service"}),
    "its SysV script is enabled": Case("Xendomains", ERROR, "mask xendomains.service", SYSV),
    "its SysV script is disabled": Case("Xendomains", OK, "", {
        "etc/init.d/xendomains": "#!/bin/sh\n", "etc/rc3.d/K01xendomains": "-> ../init.d/xendomains"}),
    "enabled and masked": Case("Xendomains", OK, "", {**SYSV, "etc/systemd/system/xendomains.service": MASKED}),
    "a SysV link beside a unit says nothing": Case("Xendomains", OK, "", {**NATIVE, **SYSV}),
    "libvirt-guests is enabled": Case("Xendomains", ERROR, "mask libvirt-guests.service", {
        "etc/systemd/system/multi-user.target.wants/libvirt-guests.service": "-> /lib/systemd/system/libvirt-guests.service"}),
    "a Xen that was tested": Case("XenVersion", OK, "4.17.5"),
    "a Xen that was not": Case("XenVersion", WARNING, "4.170.1", info=info(version="4.170.1")),
    "flags by Xen's library": Case("StateFlags", OK),
    "flags by xl": Case("StateFlags", WARNING, "'xl'", info=info(source="xl")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_host_is_checked(case: Case, tmp_path: Path) -> None:
    lay_out(tmp_path, case.files)
    found = {check.name: check for check in checks.look(tmp_path / "etc", case.info)}
    assert found[case.check].result is case.want
    assert case.says in f"{found[case.check].message}; {found[case.check].mend}"
    assert (found[case.check].mend is None) == (case.want is OK)


def test_what_cannot_be_seen_is_not_called_good(tmp_path: Path) -> None:
    found = {check.name: check.result for check in checks.look(tmp_path / "etc", info())}
    assert (found["Xendomains"], found["Autoballoon"]) == (WARNING, WARNING)


def test_an_etc_of_its_own_is_where_a_pod_sees_the_hosts(tmp_path: Path) -> None:
    lay_out(tmp_path / "host", {"etc/xen/xl.conf": "autoballoon=1"})
    found = {check.name: check for check in checks.look(tmp_path / "host/etc", info())}
    assert "xl.conf" in found["Autoballoon"].message


def test_without_an_answer_only_the_files_tell(tmp_path: Path) -> None:
    lay_out(tmp_path, {})
    assert [check.name for check in checks.look(tmp_path / "etc", None)] == ["Xendomains"]


def test_a_hypervisor_that_does_not_answer(tmp_path: Path) -> None:
    lay_out(tmp_path, {"sys/hypervisor/type": "xen\n"})
    reason, message = checks.unreachable(tmp_path, Unreachable("no socket"))
    assert reason == "HypervisorUnreachable"
    assert "no socket" in message and "systemctl restart libvirtd" in message


def test_a_host_without_xen_says_so(tmp_path: Path) -> None:
    reason, message = checks.unreachable(tmp_path, Unreachable("no socket"))
    assert reason == "NoXen"
    assert "kubexen.dev/xen" in message


def test_errors_come_before_warnings() -> None:
    status = XenHostStatus(
        checks=[HostCheck(name="A", result=WARNING, message="a"), HostCheck(name="B", result=ERROR, message="b"),
                HostCheck(name="C", result=OK)],
        networks=[HostNetwork(name="lan", ready=False, message="no bridge"), HostNetwork(name="wan", ready=True)],
        pools=[HostPool(name="images", ready=False, message="not there")],
    )  # fmt: skip
    found = [(trouble.reason, trouble.warning) for trouble in checks.troubles(status)]
    assert found == [("BridgeMissing", False), ("PoolUnusable", False), ("B", False), ("A", True)]


ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/install.md").read_text()
LAB = ROOT / "hack/xenlab/dom0"


def test_the_page_on_installing_masks_what_the_check_looks_for() -> None:
    assert f"\nsystemctl mask {' '.join(f'{service}.service' for service in checks.ENDERS)}\n" in PAGE


def test_the_page_on_installing_names_the_packages_that_the_hosts_of_the_lab_have() -> None:
    installed = {word for line in (LAB / "packages").read_text().splitlines() if line[:1] != "#" for word in line.split()}
    commands = re.findall(r"^apt-get install (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 2
    assert {word for command in commands for word in command.split()} <= installed


def test_the_page_on_installing_gives_dom0_an_amount_that_the_check_finds_right() -> None:
    (line,) = re.findall(r'^GRUB_CMDLINE_XEN_DEFAULT="(.*)"$', PAGE, re.MULTILINE)
    assert checks.dom0_memory(line).result is OK


def test_the_page_on_installing_sets_containerd_as_it_is_set_on_the_hosts_of_the_lab() -> None:
    (settings,) = re.findall(r"^containerd config default \| sed \"(.*)\"", PAGE, re.MULTILINE)
    used = nodeconfig.containerd("", "", systemd_cgroups=True)
    changed = re.findall(r"s/([^/]+) = [^/]+/(\1 = [^/]+)/", settings)
    assert len(changed) == 2
    for _, setting in changed:
        assert setting.replace("'", '"') in used


def test_the_page_on_installing_has_the_bridge_of_the_lab_and_the_label_of_the_agents() -> None:
    (bridge,) = re.findall(r"^auto (\w+)$", PAGE, re.MULTILINE)
    assert f"\nip link add {bridge} type bridge\n" in (LAB / "root/usr/local/sbin/xenlab-net").read_text()
    assert f"\nkubectl label node NODE {HOST_LABEL}=true\n" in PAGE


@pytest.mark.parametrize("file", ["/etc/xen/xl.conf", "/etc/libvirt/libxl.conf"])
def test_the_page_on_installing_sets_what_is_set_on_the_hosts_of_the_lab(file: str) -> None:
    (lines,) = re.findall(rf"`{file}`[^`]*:\n\n```\n(.*?)```", PAGE, re.DOTALL)
    assert lines in (LAB / f"root{file}").read_text()
