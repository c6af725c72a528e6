"""What a spec refers to: each thing that may be wrong with it, and the plain data that a host gets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from kubexen.api.conditions import Reason
from kubexen.api.domainstatus import XenDomainStatus
from kubexen.api.fields import PoolFile
from kubexen.api.xendomain import XenDomain
from kubexen.hypervisor.port import DiskConfig, DomainType, InterfaceConfig, Owner
from kubexen.plan.claims import Claim
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import References, Request, config, pool_file, request, reservation, resolve
from tests.unit.plan.builders import UID, claim, disk, domain, network, pool, references, uses

ROOT = {"name": "root", "disk": "root", "target": "xvda"}
DATA = {"name": "data", "disk": "data", "target": "xvdb"}
ETH0 = {"name": "eth0", "network": "lan"}
KERNEL = {"pool": "images", "file": "vmlinuz"}
RANGE = {"subnet": "192.0.2.0/24", "first": "192.0.2.10", "last": "192.0.2.20"}
OTHERS: dict[str, Any] = {"match_labels": {"team": "other"}}


@dataclass(frozen=True)
class Case:
    spec: dict[str, Any]
    refs: References = field(default_factory=lambda: references(disk("root")))
    want: str = ""
    says: str = ""
    stalled: bool = True
    again: float | None = None


def later(spec: dict[str, Any], refs: References, want: str, says: str) -> Case:
    """A problem that somebody else may mend: it is looked at again."""
    return Case(spec, refs, want, says, stalled=False, again=30)


CASES = {
    "a field that is not built": Case(
        {"graphics": {"vnc": {}}}, want=Reason.NOT_IMPLEMENTED, says="spec.graphics: this version"
    ),
    "nothing to boot": Case({"boot": {}}, want=Reason.INVALID_SPEC, says="spec.boot"),
    "no CPU is left": Case(
        {"cpu": {"affinity": "1,^1"}}, want=Reason.INVALID_SPEC, says="spec.cpu.affinity: '1,^1' leaves no CPU"
    ),
    "no such pool": later(
        {"boot": {"direct": {"kernel": {"pool": "none", "file": "x"}}}}, references(), Reason.POOL_NOT_FOUND,
        "spec.boot.direct.kernel.pool: there is no XenStoragePool 'none'",
    ),
    "no such pool for the initrd": later(
        {"boot": {"direct": {"kernel": KERNEL, "initrd": {"pool": "none", "file": "x"}}}}, references(),
        Reason.POOL_NOT_FOUND, "spec.boot.direct.initrd.pool",
    ),
    "a pool for others": later(
        {}, references(pool("images", namespace_selector=OTHERS)), Reason.NAMESPACE_NOT_ALLOWED,
        "XenStoragePool 'images' does not admit this namespace",
    ),
    "a pool for nobody": later(
        {}, references(pool("images", namespace_selector=None)), Reason.NAMESPACE_NOT_ALLOWED, "ask an administrator"
    ),
    "a pool that is not built": Case(
        {}, references(pool("images", directory=None, lvm={"volume_group": "vg0"})), Reason.NOT_IMPLEMENTED, "spec.lvm"
    ),
    "the kernel is another tenant's disk": Case(
        {"boot": {"direct": {"kernel": {"pool": "images", "file": ".kubexen/disks/x.raw"}}}}, want=Reason.INVALID_SPEC,
        says="spec.boot.direct.kernel.file: '.kubexen/disks/x.raw'",
    ),
    "no such network": later(
        {"interfaces": [{"name": "eth0", "network": "none"}]}, references(), Reason.NETWORK_NOT_FOUND,
        "spec.interfaces[eth0]: there is no XenNetwork 'none'",
    ),
    "a network for others": later(
        {"interfaces": [ETH0]}, references(network(namespace_selector=OTHERS)), Reason.NAMESPACE_NOT_ALLOWED,
        "spec.interfaces[eth0]: XenNetwork 'lan'",
    ),
    "a network that is not built": Case(
        {"interfaces": [ETH0]}, references(network(vlan=5)), Reason.NOT_IMPLEMENTED, "XenNetwork 'lan' has spec.vlan"
    ),
    "no such disk": later(
        {"disks": [ROOT]}, references(), Reason.DISK_NOT_FOUND, "spec.disks[root]: there is no XenDisk 'root'"
    ),
    "a disk that is being deleted": later(
        {"disks": [ROOT]}, references(disk("root", deleting=True)), Reason.DISK_NOT_FOUND, "is being deleted"
    ),
    "a disk twice": Case(
        {"disks": [ROOT, {**ROOT, "name": "again", "target": "xvdb"}]}, want=Reason.DISK_IN_USE, says="twice"
    ),
    "a disk that is not built": Case(
        {"disks": [ROOT]}, references(disk("root", format="qcow2")), Reason.NOT_IMPLEMENTED, "spec.format"
    ),
    "a disk that another domain holds": later(
        {"disks": [ROOT]}, references(disk("root", status={"usedBy": {"name": "db", "uid": "another"}})),
        Reason.DISK_IN_USE, "is held by XenDomain 'db'",
    ),
    "a disk in a pool that is not there": later(
        {"disks": [ROOT]}, references(disk("root", pool="none")), Reason.POOL_NOT_FOUND, "XenDisk 'root' spec.pool"
    ),
    "a disk copied from a pool that is not there": later(
        {"disks": [ROOT]}, references(disk("root", source={"file": {"pool": "none", "file": "x"}})),
        Reason.POOL_NOT_FOUND, "XenDisk 'root' spec.source.file.pool",
    ),
    "a disk copied from another tenant's": Case(
        {"disks": [ROOT]}, references(disk("root", source={"file": {"pool": "images", "file": ".kubexen/x"}})),
        Reason.INVALID_SPEC, "XenDisk 'root' spec.source.file",
    ),
    "no such claim": Case(
        {"disks": uses("data")}, want=Reason.DISK_NOT_FOUND,
        says="spec.disks[data]: PersistentVolumeClaim 'data' is not in this namespace; make it", stalled=False, again=5,
    ),
    "a claim that is being deleted": later(
        {"disks": uses("data")}, references(claims=[Claim(claim(), "is being deleted")]), Reason.DISK_NOT_FOUND,
        "PersistentVolumeClaim 'data' is being deleted",
    ),
    "a claim twice": Case(
        {"disks": [*uses("data"), {"name": "again", "claimName": "data", "target": "xvdb"}]},
        references(claims=[Claim(claim())]), Reason.DISK_IN_USE, "twice",
    ),
    "an address in no subnet of its network": Case(
        {"cloud_init": {}, "interfaces": [{**ETH0, "address": "198.51.100.1"}]}, references(network(addresses=[RANGE])),
        Reason.INVALID_SPEC, "spec.interfaces[eth0].address: 198.51.100.1 is in no subnet of XenNetwork 'lan'",
    ),
    "an address beside network data of the user's": Case(
        {"cloud_init": {"network_data": {"secret_name": "s", "key": "k"}}, "interfaces": [{**ETH0, "address": "192.0.2.7"}]},
        references(network(addresses=[RANGE])), Reason.INVALID_SPEC, "take one of the two out",
    ),
    "an address that nothing brings to the guest": Case(
        {"interfaces": [{**ETH0, "address": "192.0.2.7"}]}, references(network(addresses=[RANGE])),
        Reason.NOT_IMPLEMENTED, "spec.interfaces[eth0].address",
    ),
    "a network that hands out addresses": Case(
        {"interfaces": [ETH0]}, references(network(addresses=[RANGE])), Reason.NOT_IMPLEMENTED,
        "spec.interfaces[eth0]: this version hands out no addresses",
    ),
    "node-local disks on two nodes": Case(
        {"disks": [ROOT, DATA]},
        references(disk("root", status={"nodeName": "xen1"}), disk("data", status={"nodeName": "xen2"})),
        Reason.WAITING_FOR_NODE, "different nodes (xen1, xen2)",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_keeps_a_domain_from_starting(case: Case) -> None:
    with pytest.raises(Problem) as caught:
        resolve(domain(**case.spec), case.refs)
    problem = caught.value
    assert problem.reason == case.want
    assert case.says in problem.message
    assert (problem.stalled, problem.retry_after) == (case.stalled, case.again)


ESCAPES = ["../x", "a/../../x", "/etc/shadow", "//etc/shadow", "..", ".", "./.kubexen/disks/x.raw", ".kubexen",
           "other-pool/.kubexen/disks/x.raw"]


@pytest.mark.parametrize("path", ESCAPES)
def test_a_path_that_is_no_administrators_file_is_refused_even_past_the_crd(path: str) -> None:
    with pytest.raises(Problem) as caught:
        pool_file(PoolFile.model_construct(pool="images", file=path), "spec.boot.direct.kernel", references())
    assert caught.value.reason == Reason.INVALID_SPEC
    assert caught.value.message.startswith("spec.boot.direct.kernel.file")


@pytest.mark.parametrize("path", ["vmlinuz", "a/b..c", "kubexen/x", "./vmlinuz"])
def test_a_path_in_a_pool(path: str) -> None:
    found = pool_file(PoolFile.model_construct(pool="images", file=path), "x", references())
    assert found == f"/srv/images/{path.removeprefix('./')}"


def test_a_namespace_that_a_pool_admits() -> None:
    refs = references(pool("images", namespace_selector={"match_labels": {"team": "shop"}}), labels={"team": "shop"})
    assert resolve(domain(), refs).kernel == "/srv/images/vmlinuz"


NODES: dict[str, tuple[list[Any], str | None]] = {
    "no disk": ([], None),
    "not made yet": ([disk("root")], None),
    "node-local": ([disk("root", status={"nodeName": "xen2"})], "xen2"),
    "shared": ([disk("root", pool="nfs", status={"nodeName": "xen2"}), pool("nfs", shared=True)], None),
    "shared on one node, node-local on another": (
        [disk("root", pool="nfs", status={"nodeName": "xen2"}), pool("nfs", shared=True),
         disk("data", status={"nodeName": "xen1"})], "xen1",
    ),
    "two on the same node": (
        [disk("root", status={"nodeName": "xen1"}), disk("data", status={"nodeName": "xen1"})], "xen1"
    ),
}


@pytest.mark.parametrize("objects, want", NODES.values(), ids=NODES)
def test_a_node_local_disk_keeps_its_domain_on_its_node(objects: list[Any], want: str | None) -> None:
    refs = references(*objects)
    entries = [entry for entry in (ROOT, DATA) if entry["disk"] in refs.disks]
    assert resolve(domain(disks=entries), refs).node() == want


def test_its_own_disk_is_not_in_use() -> None:
    refs = references(disk("root", status={"usedBy": {"name": "web", "uid": UID}}))
    assert resolve(domain(disks=[ROOT]), refs).disks[0].path == "/srv/local/.kubexen/disks/uid-of-root.raw"


def test_the_plain_data_for_a_host() -> None:
    found: XenDomain = domain(
        XenDomainStatus(mac_addresses={"eth0": "00:16:3e:00:00:01"}),
        type="pv", cpu={"count": 2, "max": 4, "affinity": "^1-2,0-3", "cap": 50},
        memory={"size": "512Mi", "max": "1Gi"}, disks=[{**ROOT, "read_only": True}], interfaces=[ETH0],
        boot={"direct": {"kernel": KERNEL, "initrd": {"pool": "images", "file": "initrd"}, "root": "/dev/xvda",
                         "cmdline": "quiet"}},
        on_reboot="destroy",
    )
    made = config(found, resolve(found, references(disk("root"))), note="n")
    assert (made.uuid, made.name, made.owner) == (UID, "shop.web", Owner("shop", "web", UID))
    assert (made.type, made.kernel, made.initrd) == (DomainType.PV, "/srv/images/vmlinuz", "/srv/images/initrd")
    assert made.cmdline == "root=/dev/xvda quiet"
    assert (made.vcpus, made.max_vcpus, made.memory_kib, made.max_memory_kib) == (2, 4, 512 * 1024, 1024 * 1024)
    assert (made.affinity, made.weight, made.cap, made.restart_on_reboot) == ("0,3", 256, 50, False)
    assert made.disks == (DiskConfig(f"/run/kubexen/devices/{UID}/xvda", "xvda", read_only=True, block_device=True),)
    assert made.interfaces == (InterfaceConfig("00:16:3e:00:00:01", "xenbr0"),)
    assert made.note == "n"


def test_claims_and_the_seed_are_devices_beside_disks() -> None:
    found = domain(disks=[*uses("data"), {"name": "root", "disk": "root", "target": "xvdz"}], cloud_init={})
    refs = references(disk("root"), claims=[Claim(claim())])
    assert config(found, resolve(found, refs), note="n").disks == (
        DiskConfig("/run/kubexen/disks/uid-of-data", "xvda", block_device=True),
        DiskConfig("/srv/local/.kubexen/disks/uid-of-root.raw", "xvdz"),
        DiskConfig(f"/run/kubexen/devices/{UID}/seed", "xvdy", read_only=True, block_device=True),
    )


REQUESTS: dict[str, tuple[dict[str, Any], Request]] = {
    # MiB of memory.max, 1 for the domain, 1 a vCPU, 1 for each begun 128 MiB
    "512 MiB, 1 vCPU": ({"memory": {"size": "512Mi"}}, Request(512 + 1 + 1 + 4, 1)),
    "the maximum counts": (
        {"memory": {"size": "512Mi", "max": "1Gi"}, "cpu": {"count": 1, "max": 4}}, Request(1024 + 1 + 4 + 8, 4)
    ),
    "what is begun counts": ({"memory": {"size": "129Mi"}}, Request(129 + 1 + 1 + 2, 1)),
    "bytes are rounded up": ({"memory": {"size": 1024**2 + 1}}, Request(2 + 1 + 1 + 1, 1)),
}


@pytest.mark.parametrize("spec, want", REQUESTS.values(), ids=REQUESTS)
def test_what_an_anchor_asks_of_a_node(spec: dict[str, Any], want: Request) -> None:
    assert request(reservation(domain(**spec))) == want


def test_a_problem_passes_a_context_manager_and_compares_by_what_it_says() -> None:
    @contextlib.contextmanager
    def held() -> Iterator[None]:
        yield

    with pytest.raises(Problem) as caught, held():
        raise Problem("A", "b")
    assert caught.value == Problem("A", "b") != Problem("A", "c")
    assert str(caught.value) == "A: b"
