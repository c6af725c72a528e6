"""Manifests that a user gets wrong, and what the user is told: the tables of test_bad_input.py.

REFUSED are those that the API server does not take, CHANGES those that it takes no longer once the object is there, and
UNREADY those that it takes and that cannot be carried out. Each of UNREADY also names a good disk, which must not be made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.unit.api.builders import Document, put

HOLDER_UUID = "5f0c1a52-7a0e-4d6e-9d42-2a4d7d3f0b99"
HOLDER_MAC = "00:16:3e:ba:d0:01"
SEED_BYTES = 4 * 1024**2
NOWHERE = {"matchLabels": {"kubexen.dev/nobody": "has-this"}}
LOGIN = {"secretName": "nowhere", "key": "userdata"}
MISSING = "which this version does not carry out yet"


def document(kind: str, name: str, spec: Document) -> Document:
    return {"apiVersion": "kubexen.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def pool(name: str, path: str, selector: Document | None = None, **spec: Any) -> Document:
    selector = {} if selector is None else selector
    return document("XenStoragePool", name, {"directory": {"path": path}, "shared": True, "namespaceSelector": selector} | spec)


def network(name: str, **spec: Any) -> Document:
    return document("XenNetwork", name, {"bridge": "xenbr0", "namespaceSelector": {}} | spec)


def disk(name: str, **spec: Any) -> Document:
    return document("XenDisk", name, {"pool": "bad-shared", "size": "1Mi"} | spec)


def copy_of(file: str, pool: str = "bad-images") -> Document:
    return {"file": {"pool": pool, "file": file}}


def kernel(file: str, pool: str = "bad-images") -> Document:
    return {"direct": {"kernel": {"pool": pool, "file": file}}}


def entry(name: str, letter: str, **fields: Any) -> Document:
    return {"name": name, "target": f"xvd{letter}"} | fields


def interface(name: str = "eth0", network: str = "bad-lan", **fields: Any) -> Document:
    return {"name": name, "network": network} | fields


def domain(name: str, **spec: Any) -> Document:
    return document("XenDomain", name, {"type": "pv", "boot": kernel("vmlinuz"), "memory": {"size": "32Mi"}} | spec)


ADMINISTRATORS = (
    pool("bad-images", "/srv/images"),
    pool("bad-shared", "/srv/shared"),
    pool("bad-gone", "/srv/gone"),
    pool("bad-private", "/srv/shared", NOWHERE),
    put(put(pool("bad-lvm", "/"), "spec.directory", ...), "spec.lvm", {"volumeGroup": "vg0"}),
    network("bad-lan"),
    network("bad-private", namespaceSelector=NOWHERE),
    put(network("bad-nobody"), "spec.namespaceSelector", ...),
    network("bad-bridge", bridge="xenbr99"),
    network("bad-vlan", vlan=7),
    network("bad-subnet", addresses=[{"subnet": "192.0.2.0/24", "first": "192.0.2.10", "last": "192.0.2.20"}]),
)
"""What an administrator has made, partly badly; cluster-scoped."""

HOLDER = (
    disk("held"),
    domain(
        "holder",
        uuid=HOLDER_UUID,
        disks=[entry("root", "a", disk="held")],
        interfaces=[interface(mac=HOLDER_MAC)],
    ),
    # First by its name as well: of two made in one second, that decides who has the claim.
    domain("a-claimer", powerState="Halted", disks=[entry("data", "b", claimName="held-claim")]),
)
"""A good domain that is there first and has what others want."""


@dataclass(frozen=True)
class Unready:
    """A manifest that the API server takes: what `kubectl describe` says of the domain.

    Attributes:
        spec: the domain's, above the good one of `domain`; the good disk is added to its disks.
        disks: XenDisks that are made beside it.
        says: texts that the condition's message holds: the field or the object, and what to do.
        stalled: whether only a person can go on.
        quota: it is made in a namespace whose quota has no place for it.
    """

    reason: str
    says: tuple[str, ...]
    spec: Document
    disks: tuple[Document, ...] = ()
    stalled: bool = False
    quota: bool = False

    def documents(self, name: str) -> list[Document]:
        """The manifest, under a name of its own."""
        spec = dict(self.spec)
        spec["disks"] = [entry("good", "z", disk=f"{name}-good"), *spec.get("disks", ())]
        return [disk(f"{name}-good"), *self.disks, domain(name, **spec)]


def not_implemented(field: str, **spec: Any) -> Unready:
    return Unready("NotImplemented", (field, "take it out of the spec"), spec, stalled=True)


UNREADY: dict[str, Unready] = {
    # What is named is not there, or is not this namespace's to use.
    "missing-disk": Unready(
        "DiskNotFound",
        ("spec.disks[root]", "no XenDisk 'nowhere' in this namespace", "make it"),
        {"disks": [entry("root", "a", disk="nowhere")]},
    ),
    "missing-claim": Unready(
        "DiskNotFound",
        ("spec.disks[data]", "PersistentVolumeClaim 'nowhere' is not in this namespace", "make it"),
        {"disks": [entry("data", "b", claimName="nowhere")]},
    ),
    "claim-of-another": Unready(
        "DiskInUse",
        ("PersistentVolumeClaim 'held-claim' is held by XenDomain 'a-claimer'", "give this one a claim of its own"),
        {"disks": [entry("data", "b", claimName="held-claim")]},
    ),
    "missing-secret": Unready(
        "SecretNotFound",
        ("spec.cloudInit.userData", "no key 'userdata' of Secret 'nowhere'", "make the Secret"),
        {"cloudInit": {"userData": LOGIN}},
    ),
    "address-in-no-subnet": Unready(
        "InvalidSpec",
        ("spec.interfaces[eth0].address", "198.51.100.1 is in no subnet of XenNetwork 'bad-subnet'", "give another address"),
        {"cloudInit": {}, "interfaces": [interface(network="bad-subnet", address="198.51.100.1")]},
        stalled=True,
    ),
    "address-beside-network-data": Unready(
        "InvalidSpec",
        ("spec.interfaces[eth0].address", "take one of the two out"),
        {"cloudInit": {"networkData": LOGIN}, "interfaces": [interface(network="bad-subnet", address="192.0.2.10")]},
        stalled=True,
    ),
    "network-that-would-give-an-address": Unready(
        "NotImplemented",
        ("spec.interfaces[eth0]", "hands out no addresses of XenNetwork 'bad-subnet'", "give the interface an address"),
        {"interfaces": [interface(network="bad-subnet")]},
        stalled=True,
    ),
    "missing-pool-of-the-kernel": Unready(
        "PoolNotFound",
        ("spec.boot.direct.kernel.pool", "no XenStoragePool 'nowhere'", "ask an administrator"),
        {"boot": kernel("vmlinuz", "nowhere")},
    ),
    "missing-pool-of-a-disk": Unready(
        "PoolNotFound",
        ("XenDisk 'poolless' spec.pool", "no XenStoragePool 'nowhere'", "ask an administrator"),
        {"disks": [entry("root", "a", disk="poolless")]},
        (disk("poolless", pool="nowhere"),),
    ),
    "missing-network": Unready(
        "NetworkNotFound",
        ("spec.interfaces[eth0]", "no XenNetwork 'nowhere'", "ask an administrator"),
        {"interfaces": [interface(network="nowhere")]},
    ),
    "pool-of-others": Unready(
        "NamespaceNotAllowed",
        ("spec.boot.direct.kernel.pool", "'bad-private' does not admit this namespace", "ask an administrator"),
        {"boot": kernel("vmlinuz", "bad-private")},
    ),
    "disk-in-a-pool-of-others": Unready(
        "NamespaceNotAllowed",
        ("XenDisk 'theirs' spec.pool", "'bad-private' does not admit this namespace", "ask an administrator"),
        {"disks": [entry("root", "a", disk="theirs")]},
        (disk("theirs", pool="bad-private"),),
    ),
    "network-of-others": Unready(
        "NamespaceNotAllowed",
        ("spec.interfaces[eth0]", "XenNetwork 'bad-private' does not admit this namespace", "ask an administrator"),
        {"interfaces": [interface(network="bad-private")]},
    ),
    "network-of-nobody": Unready(
        "NamespaceNotAllowed",
        ("spec.interfaces[eth0]", "XenNetwork 'bad-nobody'", "namespaceSelector"),
        {"interfaces": [interface(network="bad-nobody")]},
    ),
    "missing-priority-class": Unready(
        "AnchorRefused",
        ("no PriorityClass with name nowhere was found",),
        {"priorityClassName": "nowhere"},
        stalled=True,
    ),
    "missing-scheduler": Unready(
        "WaitingForNode",
        ("spec.schedulerName 'nowhere'", "is there such a scheduler?"),
        {"schedulerName": "nowhere"},
    ),
    # More than there is.
    "more-memory-than-any-host": Unready(
        "WaitingForMemory",
        ("spec.memory.max", "the largest host has 7104 MiB for guests", "give it less, or add a larger host"),
        {"memory": {"size": "1Ti"}},
    ),
    "more-maximum-than-any-host": Unready(
        "WaitingForMemory",
        ("spec.memory.max", "the largest host has 7104 MiB for guests", "give it less"),
        {"memory": {"size": "32Mi", "max": "64Gi"}},
    ),
    "as-much-memory-as-can-be-written": Unready(
        "WaitingForMemory",
        ("the largest host has 7104 MiB for guests",),
        {"memory": {"size": "1Pi"}},
    ),
    "more-vcpus-than-any-host": Unready(
        "WaitingForNode",
        ("It takes 100 vCPUs (spec.cpu.max, or else count)", "the largest host takes 32", "give it fewer"),
        {"cpu": {"count": 1, "max": 100}},
    ),
    "more-than-the-quota": Unready(
        "WaitingForQuota", ("exceeded quota", "kubexen.dev/memory-mib"), {}, quota=True
    ),
    "no-such-node": Unready(
        "WaitingForNode",
        ("look at spec.nodeSelector", "didn't match"),
        {"nodeSelector": {"kubexen.dev/color": "green"}},
    ),
    # Files.
    "missing-kernel": Unready(
        "FileNotFound",
        ("spec.boot.direct.kernel", "no file /srv/images/vmlinuz-9 on this host", "put it into the pool"),
        {"boot": kernel("vmlinuz-9")},
        stalled=True,
    ),
    "missing-initrd": Unready(
        "FileNotFound",
        ("spec.boot.direct.initrd", "no file /srv/images/initrd-9 on this host", "put it into the pool"),
        {"boot": put(kernel("vmlinuz"), "direct.initrd", {"pool": "bad-images", "file": "initrd-9"})},
        stalled=True,
    ),
    "kernel-is-a-folder": Unready(
        "FileNotFound",
        ("spec.boot.direct.kernel", "/srv/images/bad-folder is no regular file"),
        {"boot": kernel("bad-folder")},
        stalled=True,
    ),
    "kernel-is-a-link-out-of-the-pool": Unready(
        "FileNotFound",
        ("/srv/images/bad-link is no regular file inside the pool", "put the file itself there"),
        {"boot": kernel("bad-link")},
        stalled=True,
    ),
    "kernel-is-a-disk-of-somebody": Unready(
        "InvalidSpec",
        ("spec.boot.direct.kernel.file", "'.kubexen/disks/1.raw'", "Kubexen's own"),
        {"boot": kernel(".kubexen/disks/1.raw", "bad-shared")},
        stalled=True,
    ),
    "kernel-is-the-pool": Unready(
        "InvalidSpec",
        ("spec.boot.direct.kernel.file", "name a file that an administrator put there"),
        {"boot": kernel(".")},
        stalled=True,
    ),
    "kernel-in-a-missing-folder": Unready(
        "FileNotFound",
        ("no file /srv/gone/vmlinuz on this host", "put it into the pool"),
        {"boot": kernel("vmlinuz", "bad-gone")},
        stalled=True,
    ),
    "missing-source": Unready(
        "FileNotFound",
        ("XenDisk 'sourceless' spec.source.file", "no file /srv/images/nowhere.img", "put it into the pool"),
        {"disks": [entry("root", "a", disk="sourceless")]},
        (disk("sourceless", source=copy_of("nowhere.img")),),
        stalled=True,
    ),
    "source-is-a-disk-of-somebody": Unready(
        "InvalidSpec",
        ("XenDisk 'thief' spec.source.file.file", "Kubexen's own"),
        {"disks": [entry("root", "a", disk="thief")]},
        (disk("thief", source=copy_of(".kubexen/disks/1.raw", "bad-shared")),),
        stalled=True,
    ),
    "smaller-than-its-source": Unready(
        "InvalidSpec",
        ("XenDisk 'small' spec.size is 1Mi and its source has 4Mi", "raise it"),
        {"disks": [entry("root", "a", disk="small")]},
        (disk("small", source=copy_of("bad-seed.img")),),
        stalled=True,
    ),
    "disk-in-a-missing-folder": Unready(
        "PoolUnusable",
        ("XenDisk 'homeless'", "the directory of pool 'bad-gone' is not there", "make or mount it"),
        {"disks": [entry("root", "a", disk="homeless")]},
        (disk("homeless", pool="bad-gone"),),
    ),
    # Taken.
    "disk-twice": Unready(
        "DiskInUse",
        ("spec.disks[second]", "stands in the list twice", "take one entry out"),
        {"disks": [entry("first", "a", disk="double"), entry("second", "b", disk="double")]},
        (disk("double"),),
        stalled=True,
    ),
    "disk-of-another": Unready(
        "DiskInUse",
        ("spec.disks[root]", "held by XenDomain 'holder'", "give this one a disk of its own"),
        {"disks": [entry("root", "a", disk="held")]},
    ),
    "mac-taken": Unready(
        "MacTaken",
        ("spec.interfaces[eth0].mac", HOLDER_MAC, "/holder", "choose another"),
        {"interfaces": [interface(mac=HOLDER_MAC.upper())]},
        stalled=True,
    ),
    "uuid-taken": Unready(
        "UuidTaken",
        (f"spec.uuid {HOLDER_UUID}", "/holder", "with another one"),
        {"uuid": HOLDER_UUID},
        stalled=True,
    ),
    # What a host cannot do.
    "affinity-to-cpus-that-are-not-there": Unready(
        "InvalidSpec",
        ("spec.cpu.affinity", "names CPU 9", "has CPUs 0-3", "name some of these"),
        {"cpu": {"count": 1, "affinity": "0-9"}},
        stalled=True,
    ),
    "affinity-to-no-cpu": Unready(
        "InvalidSpec",
        ("spec.cpu.affinity", "leaves no CPU", "name at least one"),
        {"cpu": {"count": 1, "affinity": "0-1,^0-3"}},
        stalled=True,
    ),
    "missing-bridge": Unready(
        "BridgeMissing",
        ("XenNetwork 'bad-bridge'", "no bridge 'xenbr99'", "make it"),
        {"interfaces": [interface(network="bad-bridge")]},
    ),
    "toleration-that-no-pod-may-have": Unready(
        "AnchorRefused",
        ("spec.tolerations[0]", "value must be empty when `operator` is 'Exists'"),
        {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
        stalled=True,
    ),
    "toleration-in-pictures": Unready(
        "AnchorRefused",
        ("spec.tolerations[0].key", "Invalid value"),
        {"tolerations": [{"key": "\U0001f600", "operator": "Exists"}]},
        stalled=True,
    ),
    "affinity-that-no-pod-may-have": Unready(
        "AnchorRefused", ("NodeAffinity",), {"affinity": {"nodeAffinity": "xen1"}}, stalled=True
    ),
    # Not built yet.
    "suspended": not_implemented("spec.powerState", powerState="Suspended"),
    "hvm": not_implemented("spec.type", type="hvm"),
    "firmware": not_implemented("spec.boot.firmware", type="hvm", boot={"firmware": {"type": "uefi"}}),
    "bootloader": not_implemented("spec.boot.bootloader", boot={"bootloader": {"name": "pvgrub"}}),
    "graphics": not_implemented("spec.graphics", graphics={"vnc": {}}),
    "pci": not_implemented("spec.pci", pci=[{"device": "kubexen.dev/nic"}]),
    "cdrom": not_implemented("spec.disks[tools].device", disks=[entry("tools", "c", device="cdrom")]),
    "shareable": not_implemented("spec.disks[data].shareable", disks=[entry("data", "b", disk="x", shareable=True)]),
    "address-that-nothing-brings-to-the-guest": not_implemented(
        "spec.interfaces[eth0].address", interfaces=[interface(address="192.0.2.10")]
    ),
    "rate": not_implemented("spec.interfaces[eth0].rate", interfaces=[interface(rate="10Mb/s")]),
    "model": not_implemented("spec.interfaces[eth0].model", interfaces=[interface(model="e1000")]),
    "core-dump": not_implemented("spec.onCrash", onCrash="coredump-restart"),
    "qcow2": Unready(
        "NotImplemented",
        ("XenDisk 'cow' has spec.format", MISSING, "use another disk"),
        {"disks": [entry("root", "a", disk="cow")]},
        (disk("cow", format="qcow2"),),
        stalled=True,
    ),
    "volume-group": Unready(
        "NotImplemented",
        ("XenStoragePool 'bad-lvm' has spec.lvm", MISSING, "use another pool"),
        {"disks": [entry("root", "a", disk="volume")]},
        (disk("volume", pool="bad-lvm"),),
        stalled=True,
    ),
    "vlan": Unready(
        "NotImplemented",
        ("XenNetwork 'bad-vlan' has spec.vlan", MISSING, "use another network"),
        {"interfaces": [interface(network="bad-vlan")]},
        stalled=True,
    ),
}

ROOT = entry("root", "a", disk="data")

REFUSED: dict[str, tuple[Document, str, str]] = {
    "a kernel path with ..": (domain("x", boot=kernel("../shadow")), "spec.boot.direct.kernel.file", "contain '..'"),
    "an absolute kernel path": (
        domain("x", boot=kernel("/etc/shadow")), "spec.boot.direct.kernel.file", "a path inside the pool",
    ),
    "a source path with ..": (
        disk("x", source=copy_of("a/../../b")), "spec.source.file.file", "must not contain '..'",
    ),
    "memory without a unit": (domain("x", memory={"size": 512}), "spec.memory", "write 512Mi, not 512"),
    "memory in no unit": (domain("x", memory={"size": "512MB"}), "spec.memory.size", "should match"),
    "memory beyond all reason": (domain("x", memory={"size": "9000000Pi"}), "spec.memory", "at most 1Pi"),
    "a disk beyond all reason": (disk("x", size="9000000Pi"), "spec", "at most 1Pi"),
    "no memory": (put(domain("x"), "spec.memory", ...), "spec.memory", "Required value"),
    "more memory than its maximum": (
        domain("x", memory={"size": "2Gi", "max": "1Gi"}), "spec.memory", "size must not be greater than max",
    ),
    "more vCPUs than their maximum": (
        domain("x", cpu={"count": 4, "max": 2}), "spec.cpu", "count must not be greater than max",
    ),
    "an affinity that nobody can read": (
        domain("x", cpu={"affinity": "0..3"}), "spec.cpu.affinity", "should match",
    ),
    "a command line with a line break": (
        domain("x", boot=put(kernel("vmlinuz"), "direct.cmdline", "quiet\nroot=/dev/sda")),
        "spec.boot.direct.cmdline", "should match",
    ),
    "two boot methods": (
        domain("x", boot=kernel("vmlinuz") | {"bootloader": {"name": "pvgrub"}}),
        "spec.boot", "exactly one of direct, bootloader and firmware",
    ),
    "no boot method": (domain("x", boot={}), "spec.boot", "exactly one of direct, bootloader and firmware"),
    "two disks of one target": (
        domain("x", disks=[ROOT, entry("more", "a", disk="more")]), "spec", "each disk needs a target of its own",
    ),
    "two disks of one name": (
        domain("x", disks=[ROOT, entry("root", "b", disk="more")]), "spec.disks[1]", "Duplicate value",
    ),
    "a disk and a claim": (
        domain("x", disks=[ROOT | {"claimName": "c"}]), "spec.disks[0]", "exactly one of disk and claimName",
    ),
    "two interfaces of one mac": (
        domain("x", interfaces=[interface(f"eth{i}", mac="00:16:3e:00:00:01") for i in range(2)]),
        "spec", "each interface needs a mac of its own",
    ),
    "a multicast mac": (domain("x", interfaces=[interface(mac="ff:16:3e:00:00:01")]), "spec.interfaces[0].mac", "match"),
    "an address that is none": (
        domain("x", interfaces=[interface(address="10.0.0.300")]), "spec.interfaces[0].address", "IPv4 or IPv6 address",
    ),
    "a name that no label can hold": (domain("x" * 64), "name", "at most 63 characters"),
    "two machines in one": (domain("x", replicas=2), "spec.replicas", "always 1"),
    "a uuid that is none": (domain("x", uuid="web"), "spec.uuid", "should match"),
    "a field that is not there": (domain("x", memroy={"size": "1Gi"}), "spec.memroy", "unknown field"),
    "a script of the host": (domain("x", interfaces=[interface(script="/bin/sh")]), "script", "unknown field"),
    "a power state that is none": (domain("x", powerState="On"), "spec.powerState", '"Running"'),
    "a blank disk without a size": (put(disk("x"), "spec.size", ...), "spec", "give size for a blank disk"),
}

CHANGES: dict[str, tuple[Document, str, str, str]] = {
    "a uuid added later": (
        domain("x", powerState="Halted"), f'{{"spec": {{"uuid": "{HOLDER_UUID}"}}}}', "spec", "uuid cannot be changed",
    ),
    "a disk that shrinks": (disk("x", size="2Mi"), '{"spec": {"size": "1Mi"}}', "spec", "size cannot shrink"),
    "a disk that changes its pool": (disk("x"), '{"spec": {"pool": "other"}}', "spec.pool", "cannot be changed"),
}
