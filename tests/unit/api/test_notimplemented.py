"""What this version does not carry out is named, and a default never is."""

from typing import Any

import pytest

from kubexen.api.kinds import KINDS
from kubexen.api.notimplemented import notimplemented
from tests.unit.api.builders import BUILDERS, Document, action, disk, domain, migration, network, pool, put

ROOT = {"name": "root", "disk": "web-root", "target": "xvda"}
ETH0 = {"name": "eth0", "network": "lan"}
FILE = {"pool": "images", "file": "vmlinuz"}

CARRIED_OUT = {
    "halted": put(domain(), "spec.powerState", "Halted"),
    "paused": put(domain(), "spec.powerState", "Paused"),
    "pv": put(domain(), "spec.type", "pv"),
    "direct boot, all of it": put(
        domain(), "spec.boot.direct", {"kernel": FILE, "initrd": FILE, "root": "/dev/xvda", "cmdline": "quiet"}
    ),
    "cpu, all of it": put(domain(), "spec.cpu", {"count": 2, "max": 4, "affinity": "0-1", "weight": 512, "cap": 50}),
    "memory with a maximum": put(domain(), "spec.memory.max", "1Gi"),
    "a disk": put(domain(), "spec.disks", [ROOT | {"readOnly": True}]),
    "fields at their default": put(domain(), "spec.disks", [ROOT | {"device": "disk", "shareable": False}]),
    "an interface": put(domain(), "spec.interfaces", [ETH0 | {"mac": "00:16:3e:00:00:01"}]),
    "a claim": put(domain(), "spec.disks", [{"name": "data", "claimName": "data", "target": "xvdb"}]),
    "cloud-init": put(domain(), "spec.cloudInit", {"userData": {"secretName": "web", "key": "userdata"}}),
    "an address by cloud-init": put(
        put(domain(), "spec.interfaces", [ETH0 | {"address": "192.0.2.10"}]), "spec.cloudInit", {}
    ),
    "a network's subnets": put(
        network(), "spec.addresses", [{"subnet": "192.0.2.0/24", "first": "192.0.2.10", "last": "192.0.2.20"}]
    ),
    "preserve": put(domain(), "spec.onCrash", "preserve"),
    "placement": put(domain(), "spec.affinity", {"nodeAffinity": {}}),
    "spread, with a field of a Pod's that is not known here": put(
        domain(), "spec.topologySpreadConstraints",
        [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}],
    ),
    "tolerations": put(domain(), "spec.tolerations", [{"operator": "Exists"}]),
    "strategies that come later": put(domain(), "spec.evictionStrategy", ["LiveMigrate", "Restart"]),
    "an empty pci list": put(domain(), "spec.pci", []),
    "a copied disk": put(disk(), "spec.source", {"file": FILE}),
    "a shared directory": put(pool(), "spec.shared", True),
    "a move by restart": put(migration(), "spec.strategy", "Restart"),
}

NOT_YET = {
    "suspended": (put(domain(), "spec.powerState", "Suspended"), "spec.powerState"),
    "hvm": (put(domain(), "spec.type", "hvm"), "spec.type"),
    "bootloader": (put(domain(), "spec.boot", {"bootloader": {"name": "pvgrub"}}), "spec.boot.bootloader"),
    "firmware": (put(domain(), "spec.boot", {"firmware": {}}), "spec.boot.firmware"),
    "cdrom": (put(domain(), "spec.disks", [ROOT | {"device": "cdrom"}]), "spec.disks[root].device"),
    "shareable": (put(domain(), "spec.disks", [ROOT | {"shareable": True}]), "spec.disks[root].shareable"),
    "an address without cloud-init": (
        put(domain(), "spec.interfaces", [ETH0 | {"address": "192.0.2.10"}]),
        "spec.interfaces[eth0].address",
    ),
    "rate": (put(domain(), "spec.interfaces", [ETH0 | {"rate": "1MB/s@20ms"}]), "spec.interfaces[eth0].rate"),
    "model": (put(domain(), "spec.interfaces", [ETH0 | {"model": "e1000"}]), "spec.interfaces[eth0].model"),
    "vnc": (put(domain(), "spec.graphics", {"vnc": {}}), "spec.graphics"),
    "pci": (put(domain(), "spec.pci", [{"device": "kubexen.dev/nic"}]), "spec.pci"),
    "poweroff": (put(domain(), "spec.onPoweroff", "rename-restart"), "spec.onPoweroff"),
    "reboot": (put(domain(), "spec.onReboot", "coredump-restart"), "spec.onReboot"),
    "crash": (put(domain(), "spec.onCrash", "coredump-destroy"), "spec.onCrash"),
    "qcow2": (put(disk(), "spec.format", "qcow2"), "spec.format"),
    "lvm": (put(pool(), "spec", {"lvm": {"volumeGroup": "vg0"}}), "spec.lvm"),
    "devices": (put(pool(), "spec", {"devices": [{"node": "xen1", "path": "/dev/sdb"}]}), "spec.devices"),
    "pygrub": (put(pool(), "spec.allowPygrub", True), "spec.allowPygrub"),
    "vlan": (put(network(), "spec.vlan", 7), "spec.vlan"),
    "mtu": (put(network(), "spec.mtu", 9000), "spec.mtu"),
    "mac pool": (put(network(), "spec.macPool", {}), "spec.macPool"),
    "network rate": (put(network(), "spec.rate", {"default": "10Mb/s"}), "spec.rate"),
    "live migration": (put(migration(), "spec.strategy", "LiveMigrate"), "spec.strategy"),
    "a field of a newer version": (put(domain(), "spec.turbo", True), "spec.turbo"),
    "a newer field of a part": (put(domain(), "spec.cpu.turbo", 3), "spec.cpu.turbo"),
    "a newer field of an item": (put(domain(), "spec.disks", [ROOT | {"cache": "none"}]), "spec.disks[root].cache"),
    "a newer field of a disk": (put(disk(), "spec.source", {"file": FILE | {"offset": 8}}), "spec.source.file.offset"),
    "sysrq": (put(action(), "spec", {"domainName": "web", "action": "SysRq", "argument": "h"}), "spec.action"),
}


def check(document: Document) -> list[str]:
    kind: Any = next(kind for kind in KINDS if kind.info.kind == document["kind"])
    return notimplemented(kind.parse(document).spec)


@pytest.mark.parametrize("document", [builder() for builder in BUILDERS.values()], ids=BUILDERS)
def test_the_smallest_object_is_carried_out(document: Document) -> None:
    assert check(document) == []


@pytest.mark.parametrize("document", CARRIED_OUT.values(), ids=CARRIED_OUT)
def test_carried_out(document: Document) -> None:
    assert check(document) == []


@pytest.mark.parametrize("document, field", NOT_YET.values(), ids=NOT_YET)
def test_not_yet_and_named(document: Document, field: str) -> None:
    assert check(document) == [field]


def test_every_field_is_named_at_once() -> None:
    document = put(put(domain(), "spec.type", "hvm"), "spec.boot", {"firmware": {"type": "uefi"}})
    assert check(document) == ["spec.type", "spec.boot.firmware"]
