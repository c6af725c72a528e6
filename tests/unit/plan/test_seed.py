"""A cloud-init seed: its files, and where the guest finds it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubexen.api.domainstatus import XenDomainStatus
from kubexen.api.xendomain import XenDomain
from kubexen.plan import seed
from tests.unit.plan.builders import UID, domain, network

KEY = {"secretName": "web", "key": "userdata"}
RANGES = [
    {"subnet": "192.0.2.0/25", "first": "192.0.2.10", "last": "192.0.2.20", "gateway": "192.0.2.1",
     "nameservers": ["192.0.2.2", "192.0.2.3"]},
    {"subnet": "2001:db8::/64", "first": "2001:db8::10", "last": "2001:db8::20", "gateway": "2001:db8::1"},
]  # fmt: skip
NETWORK = network(addresses=RANGES)
PLAIN = network("plain")


def files(found: XenDomain, **given: bytes) -> dict[str, bytes]:
    networks = {i.name: NETWORK if i.address else PLAIN for i in found.spec.interfaces}
    return seed.files(found, UID, networks, {name.replace("_", "-"): text for name, text in given.items()})


def guest(*interfaces: dict[str, str], **cloud_init: Any) -> XenDomain:
    macs = {i["name"]: f"00:16:3e:00:00:0{n}" for n, i in enumerate(interfaces)}
    return domain(XenDomainStatus(mac_addresses=macs), cloud_init=cloud_init, interfaces=list(interfaces))


def test_the_users_data_is_handed_on_as_it_is() -> None:
    found = files(guest(userData=KEY, networkData=KEY), user_data=b"\x00\xff#!", network_data=b"network: {}")
    assert found["user-data"] == b"\x00\xff#!"
    assert found["network-config"] == b"network: {}"


def test_a_guest_knows_itself_by_its_uuid_and_its_name() -> None:
    assert json.loads(files(guest())["meta-data"]) == {"instance-id": UID, "local-hostname": "web"}


def test_vendor_data_turns_new_vcpus_on_and_is_not_merged_with_the_users() -> None:
    text = files(guest())["vendor-data"].decode()
    assert text.startswith("#!/bin/sh\n")
    assert 'SUBSYSTEM=="cpu", ACTION=="add", TEST=="online", ATTR{online}=="0", ATTR{online}="1"' in text


ETH0 = {"name": "eth0", "network": "lan"}


def test_a_guest_whose_spec_says_no_address_finds_its_own_way() -> None:
    assert set(files(guest(ETH0))) == {"meta-data", "user-data", "vendor-data"}


def test_addresses_of_the_spec_by_mac() -> None:
    found = guest(
        ETH0 | {"address": "192.0.2.77"}, {"name": "v6", "network": "lan", "address": "2001:db8::7"},
        {"name": "other", "network": "plain"},
    )
    assert json.loads(files(found)["network-config"]) == {
        "version": 2,
        "ethernets": {
            "eth0": {
                "match": {"macaddress": "00:16:3e:00:00:00"}, "set-name": "eth0", "addresses": ["192.0.2.77/25"],
                "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}],
                "nameservers": {"addresses": ["192.0.2.2", "192.0.2.3"]},
            },
            "v6": {
                "match": {"macaddress": "00:16:3e:00:00:01"}, "set-name": "v6", "addresses": ["2001:db8::7/64"],
                "routes": [{"to": "::/0", "via": "2001:db8::1"}],
            },
            "other": {"match": {"macaddress": "00:16:3e:00:00:02"}, "set-name": "other", "dhcp4": True},
        },
    }


def test_a_name_that_no_linux_interface_can_have_is_not_given() -> None:
    found = guest({"name": "a-very-long-interface", "network": "lan", "address": "192.0.2.77"})
    (one,) = json.loads(files(found)["network-config"])["ethernets"].values()
    assert "set-name" not in one


TARGETS = {
    "no disk": ([], "xvdz"),
    "some": (["xvda", "xvdb1"], "xvdz"),
    "a partition counts": (["xvdz1", "xvdy"], "xvdx"),
    "all letters": ([f"xvd{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"], "xvdaz"),
    "other buses": (["sda", "hdz"], "xvdz"),
}


@pytest.mark.parametrize("taken, want", TARGETS.values(), ids=TARGETS)
def test_its_device_is_one_that_no_disk_has(taken: list[str], want: str) -> None:
    disks = [{"name": f"d{n}", "disk": f"d{n}", "target": target} for n, target in enumerate(taken)]
    assert seed.target(domain(disks=disks)) == want
