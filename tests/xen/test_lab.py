"""The lab itself: hosts that boot, reach each other and share a folder; guests that start, obey and change memory by plain xl.

What else guests do is in test_contract.py and test_domains.py, and what hosts do in test_hosts.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hack.xenlab.host import GUEST_UP, XenHost
from hack.xenlab.lab import Lab

GUEST = """
name = "{name}"
type = "{type}"
kernel = "/srv/images/vmlinux"
ramdisk = "/srv/images/initrd.gz"
extra = "console=hvc0 quiet ip={address}"
memory = 192
maxmem = 256
vif = ["bridge=xenbr0"]
"""
ADDRESSES = {"pv": "10.77.9.1", "pvh": "10.77.9.2"}


def start(host: XenHost, name: str, kind: str) -> None:
    """Start a guest with plain xl, and wait for its init."""
    host.write(f"/root/{name}.cfg", GUEST.format(name=name, type=kind, address=ADDRESSES[kind]))
    host.ssh(f"xl create /root/{name}.cfg")
    host.guest_wait(name, GUEST_UP)


def kib_in_guest(host: XenHost, name: str) -> int:
    return int(host.guest_output(name, "awk '/MemTotal/ {print $2}' /proc/meminfo"))


@pytest.fixture
def hosts(lab: Lab) -> Iterator[list[XenHost]]:
    """Two hosts, with no guest left behind."""
    yield lab.hosts
    for host in lab.hosts:
        host.ssh("for id in $(xl list | awk 'NR > 1 && $2 > 0 {print $2}'); do xl destroy $id; done")


def test_every_host_runs_xen_and_libvirt(lab: Lab) -> None:
    for host in lab.hosts:
        info = dict(line.split(":", 1) for line in host.ssh("xl info").stdout.splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in info.items()}
        assert facts["host"] == host.name
        assert "pv hvm" in facts["virt_caps"]
        assert int(facts["free_memory"]) > 1500
        assert "Domain-0" in host.ssh("virsh -c xen:///system list").stdout
        assert host.ssh("systemctl --failed --no-legend").stdout == ""


@pytest.mark.parametrize("identity", ["/etc/machine-id", "/sys/class/net/xenbr0/address"])
def test_hosts_of_one_image_differ(lab: Lab, identity: str) -> None:
    assert len({host.ssh(f"cat {identity}").stdout for host in lab.hosts}) == 2


def test_hosts_reach_each_other_on_the_wire(lab: Lab) -> None:
    one, two = lab.hosts
    one.ssh(f"ping -c 3 -W 5 {two.name}")
    two.ssh(f"ping -c 3 -W 5 {one.address}")


def test_a_lab_of_the_same_shape_goes_on_from_what_booted(lab: Lab, tmp_path: Path) -> None:
    begin = time.monotonic()
    with Lab(tmp_path, nodes=len(lab.hosts)) as other:
        for host in other.hosts:
            up = float(host.ssh("cut -d' ' -f1 /proc/uptime").stdout)
            assert up > time.monotonic() - begin  # it has not booted since then
            assert abs(float(host.ssh("date +%s.%N").stdout) - time.time()) < 60
            assert "Domain-0" in host.ssh("virsh -c xen:///system list").stdout
        one, two = other.hosts
        one.write("/srv/shared/greeting", "from the other")
        assert two.ssh("cat /srv/shared/greeting").stdout == "from the other"
        assert lab.hosts[0].ssh("cat /srv/shared/greeting", check=False).stdout != "from the other"


def test_share_and_own_folders(lab: Lab) -> None:
    one, two = lab.hosts
    one.write("/srv/shared/greeting", "from one")
    assert two.ssh("cat /srv/shared/greeting").stdout == "from one"
    two.write("/srv/pool/own", "from two")
    assert one.ssh("ls /srv/pool/own", check=False).returncode != 0
    for host in lab.hosts:
        for folder in ("/srv/images", "/srv/shared/images"):
            assert host.ssh(f"ls {folder}").stdout.split() == ["initrd.gz", "vmlinux", "vmlinuz"]


def test_files_go_to_a_host_and_come_back(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(bytes(range(256)))
    lab.host(2).put(folder, "/root/copy")
    lab.host(2).put(folder, "/root/copy")
    lab.host(2).get("/root/copy", tmp_path / "back")
    assert (tmp_path / "back/file").read_bytes() == bytes(range(256))


def test_a_guest_boots_changes_its_memory_and_powers_off(hosts: list[XenHost]) -> None:
    def story(host: XenHost, other: XenHost, kind: str) -> None:
        name = f"life-{kind}"
        start(host, name, kind)
        other.ssh(f"ping -c 2 -W 5 {ADDRESSES[kind]}")  # over the wire and the bridge

        before = kib_in_guest(host, name)
        host.ssh(f"xl mem-set {name} 128")
        host.until(f"xl list {name} | awk '$3 == 128 {{found = 1}} END {{exit !found}}'")
        assert before - kib_in_guest(host, name) == 64 * 1024
        host.ssh(f"xl mem-set {name} 192")
        host.until(f"xl list {name} | awk '$3 == 192 {{found = 1}} END {{exit !found}}'")
        assert kib_in_guest(host, name) == before

        host.guest_run(name, "poweroff")
        host.until(f"! xl domid {name}")

    with ThreadPoolExecutor() as pool:  # a kind on each host, at the same time
        list(pool.map(story, hosts, reversed(hosts), ("pv", "pvh")))
