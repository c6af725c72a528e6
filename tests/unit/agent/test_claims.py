"""Claims on a host: found, checked as an attack, held, given one path, and let go."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from kubexen.agent.claims import Claims
from kubexen.api.conditions import Reason
from kubexen.api.domainstatus import ClaimStatus
from kubexen.api.xendomain import XenDomain
from kubexen.plan.claims import recorded
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import Resolved, resolve
from tests.unit.agent.conftest import Machine
from tests.unit.plan.builders import SHARED, bound, claim, domain, references, uses

DEVICE = "/var/lib/kubelet/pods/a1/volumeDevices/kubernetes.io~local-volume/pv-data"
RAW = bytes(1024)


def named(*claims: ClaimStatus, anchor: str = "a1", read_only: bool = False) -> tuple[XenDomain, Resolved]:
    entries = [{**entry, "readOnly": read_only} for entry in uses(*(c.name for c in claims))]
    found = domain(bound(anchor_uid=anchor, claims=list(claims)), disks=entries)
    return found, resolve(found, references(claims=recorded(found).values()))


async def attach(claims: Claims, found: XenDomain, resolved: Resolved) -> None:
    async with claims.opened(found, resolved) as opened:
        await claims.attach(opened)


def held(path: Path) -> int:
    """How many descriptors of this process are open on a file."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            count += os.stat(f"/proc/self/fd/{number}").st_ino == path.stat().st_ino
        except FileNotFoundError:
            continue
    return count


def device(machine: Machine, name: str = "sdb") -> Path:
    """What stands for a device of the host."""
    path = machine.root / "dev" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    return path


async def test_a_device_has_a_path_and_is_held_until_it_is_let_go(machine: Machine) -> None:
    sdb = device(machine)
    machine.layout.block("a1", "pv-data", "/dev/sdb")
    claims = machine.claims()
    await attach(claims, *named(claim()))
    assert machine.links() == {"uid-of-data": DEVICE}
    assert held(sdb) == 1
    await claims.release(["uid-of-data"])
    assert (machine.links(), held(sdb)) == ({}, 0)
    await claims.release(["uid-of-data"])


@pytest.fixture
def bind(machine: Machine) -> str:
    """The kubelet's bind mount of the device sdb, beside one of another device, for the anchor a1."""
    plugins = "/var/lib/kubelet/plugins/kubernetes.io/local-volume/volumeDevices"
    for name, source in (("pv-data", "sdb"), ("pv-other", "sdc")):
        path = machine.layout.at(f"{plugins}/{name}/a1")
        path.parent.mkdir(parents=True)
        os.link(device(machine, source), path)
    (machine.root / "proc/1").mkdir(parents=True)
    lines = (f"30 1 0:5 /x {plugins}/{name}/a1 rw - devtmpfs udev rw\n" for name in ("pv-data", "pv-other"))
    (machine.root / "proc/1/mountinfo").write_text("".join(lines))
    return f"{plugins}/pv-data/a1"


async def test_the_kubelets_bind_mount_of_the_same_device_is_what_is_held(machine: Machine, bind: str) -> None:
    machine.layout.block("a1", "pv-data", "/dev/sdb")
    claims = machine.claims()
    await attach(claims, *named(claim()))
    assert machine.links() == {"uid-of-data": bind}
    assert held(machine.root / "dev/sdb") == 1
    await claims.release(["uid-of-data"])
    assert held(machine.root / "dev/sdb") == held(machine.root / "dev/sdc") == 0


async def test_the_path_outlives_the_link_that_a_kubelet_removes_first(machine: Machine, bind: str) -> None:
    link = machine.layout.block("a1", "pv-data", "/dev/sdb")
    first = machine.claims()
    found, resolved = named(claim())
    await attach(first, found, resolved)
    link.unlink()
    await first.follow(found)
    first._let_go("uid-of-data")  # as its end does
    second = machine.claims()
    second.take_hold()
    assert machine.links() == {"uid-of-data": bind}
    assert held(machine.root / "dev/sdb") == 1
    await second.release(["uid-of-data"])


async def test_a_link_of_the_hosts_last_boot_is_not_believed(machine: Machine) -> None:
    """It stays over a boot, and the name that it leads to may be another disk's by then. The kubelet's mount does not stay."""
    device(machine, "sda")
    machine.layout.block("a1", "pv-data", "/dev/sda")
    (machine.root / "proc/1").mkdir(parents=True)
    (machine.root / "proc/1/mountinfo").write_text("")
    with pytest.raises(Problem, match="since the host's boot") as waits:
        await attach(machine.claims(), *named(claim()))
    assert waits.value.reason == Reason.WAITING_FOR_DISK
    assert machine.links() == {}


async def test_another_agent_takes_hold_before_it_knows_any_domain(machine: Machine) -> None:
    sdb = device(machine)
    machine.layout.block("a1", "pv-data", "/dev/sdb")
    first = machine.claims()
    await attach(first, *named(claim()))
    first._let_go("uid-of-data")  # as its end does
    assert held(sdb) == 0
    second = machine.claims()
    second.take_hold()
    second.take_hold()
    assert held(sdb) == 1
    await second.release(["uid-of-data"])


async def test_a_fresh_anchor_takes_over_and_the_path_stays(machine: Machine) -> None:
    sdb = device(machine)
    machine.layout.block("a1", "pv-data", "/dev/sdb")
    claims = machine.claims()
    await attach(claims, *named(claim()))
    later, _ = named(claim(), anchor="a2")
    await claims.follow(later)
    assert machine.links() == {"uid-of-data": DEVICE}, "the kubelet has not mounted it for the new one yet"
    machine.layout.block("a2", "pv-data", "/dev/sdb")
    await claims.follow(later)
    assert machine.links() == {"uid-of-data": DEVICE.replace("a1", "a2")}
    assert held(sdb) == 1
    await claims.release(["uid-of-data"])


async def test_a_path_that_somebody_removed_is_made_again(machine: Machine) -> None:
    device(machine)
    machine.layout.block("a1", "pv-data", "/dev/sdb")
    claims = machine.claims()
    found, resolved = named(claim())
    await attach(claims, found, resolved)
    (machine.root / "run/kubexen/disks/uid-of-data").unlink()
    await claims.follow(found)
    assert machine.links() == {"uid-of-data": DEVICE}
    await claims.release(["uid-of-data"])


async def test_what_the_kubelet_has_taken_away_stays_held(machine: Machine) -> None:
    sdb = device(machine)
    link = machine.layout.block("a1", "pv-data", "/dev/sdb")
    claims = machine.claims()
    found, resolved = named(claim())
    await attach(claims, found, resolved)
    link.unlink()
    await claims.follow(found)
    assert held(sdb) == 1
    await claims.release(["uid-of-data"])


async def test_an_image_becomes_a_loop_device_over_that_very_file(machine: Machine) -> None:
    folder = machine.layout.files("a1", "pv-data")
    (folder / "disk.img").write_bytes(RAW)
    claims = machine.claims()
    found, resolved = named(claim(access=SHARED, block=False))
    await attach(claims, found, resolved)
    assert machine.sim.loops() == {"uid-of-data": str(folder / "disk.img")}
    assert machine.links() == {"uid-of-data": "/dev/loop0"}
    await attach(claims, found, resolved)
    assert machine.links() == {"uid-of-data": "/dev/loop0"}
    assert held(folder / "disk.img") == 0, "the host's kernel holds it, not this process"
    await claims.release(["uid-of-data"])
    assert (machine.sim.loops(), machine.links()) == ({}, {})


async def test_what_nobody_wants_is_swept(machine: Machine) -> None:
    for volume in ("a", "b"):
        (machine.layout.files("a1", f"pv-{volume}") / "disk.img").write_bytes(RAW)
    claims = machine.claims()
    await attach(claims, *named(claim("a", block=False), claim("b", block=False)))
    await claims.sweep(lambda: {"uid-of-b"})
    assert list(machine.links()) == list(machine.sim.loops()) == ["uid-of-b"]


# --- what a tenant may put in the place of disk.img


def backing(folder: Path) -> None:
    (folder / "disk.img").write_bytes(struct.pack(">4sIQ", b"QFI\xfb", 3, 0x68) + bytes(1008))


def link_to_a_secret(folder: Path) -> None:
    (folder / "disk.img").symlink_to("/etc/shadow")


def link_in_the_claim(folder: Path) -> None:
    (folder / "other.img").write_bytes(RAW)
    (folder / "disk.img").symlink_to("other.img")


ATTACKS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "nothing": (lambda folder: None, Reason.DISK_NOT_FOUND, "has no disk.img; put a raw image there"),
    "a link to the host's files": (link_to_a_secret, Reason.INVALID_SPEC, "disk.img is no regular file"),
    "a link within the claim": (link_in_the_claim, Reason.INVALID_SPEC, "disk.img is no regular file"),
    "a link to nowhere": (
        lambda folder: (folder / "disk.img").symlink_to("none"), Reason.INVALID_SPEC, "disk.img is no regular file",
    ),
    "a folder": (lambda folder: (folder / "disk.img").mkdir(), Reason.INVALID_SPEC, "disk.img is no regular file"),
    "a pipe that would block": (lambda folder: os.mkfifo(folder / "disk.img"), Reason.INVALID_SPEC, "no regular file"),
    "a qcow2 that names a backing file": (backing, Reason.INVALID_SPEC, "names a backing file"),
    "an empty file": (lambda folder: (folder / "disk.img").touch(), Reason.INVALID_SPEC, "has 0 bytes"),
    "half a sector": (
        lambda folder: (folder / "disk.img").write_bytes(bytes(700)), Reason.INVALID_SPEC, "a multiple of 512",
    ),
}  # fmt: skip


@pytest.mark.parametrize("plant, reason, says", ATTACKS.values(), ids=ATTACKS)
async def test_what_is_no_image_is_refused(
    machine: Machine, plant: Callable[[Path], object], reason: str, says: str
) -> None:
    plant(machine.layout.files("a1", "pv-data"))
    claims = machine.claims()
    with pytest.raises(Problem) as caught:
        await attach(claims, *named(claim(block=False)))
    assert caught.value.reason == reason
    assert says in caught.value.message
    assert "spec.disks[data]: PersistentVolumeClaim 'data'" in caught.value.message
    assert (machine.links(), machine.sim.loops()) == ({}, {})


async def test_a_qcow2_without_a_backing_file_is_just_bytes(machine: Machine) -> None:
    folder = machine.layout.files("a1", "pv-data")
    (folder / "disk.img").write_bytes(struct.pack(">4sIQ", b"QFI\xfb", 3, 0) + bytes(1008))
    await attach(machine.claims(), *named(claim(block=False)))
    assert list(machine.sim.loops()) == ["uid-of-data"]


async def test_an_image_that_is_swapped_after_the_check_changes_nothing(machine: Machine) -> None:
    folder = machine.layout.files("a1", "pv-data")
    (folder / "disk.img").write_bytes(RAW)
    (machine.root / "shadow").write_bytes(RAW)
    claims = machine.claims()
    async with claims.opened(*named(claim(block=False))) as opened:
        (folder / "disk.img").rename(folder / "was.img")
        (folder / "disk.img").symlink_to(machine.root / "shadow")
        await claims.attach(opened)
    assert machine.sim.loops() == {"uid-of-data": str(folder / "was.img")}


@pytest.mark.parametrize("block", [True, False], ids=["a device", "an image"])
async def test_a_volume_that_the_kubelet_does_not_have(machine: Machine, block: bool) -> None:
    with pytest.raises(Problem) as caught:
        await attach(machine.claims(), *named(claim(block=block)))
    assert caught.value.reason == Reason.WAITING_FOR_DISK
    assert "the kubelet of xen1 has no volume 'pv-data' for the anchor" in caught.value.message


async def test_when_one_claim_is_bad_none_is_attached(machine: Machine) -> None:
    (machine.layout.files("a1", "pv-a") / "disk.img").write_bytes(RAW)
    with pytest.raises(Problem):
        await attach(machine.claims(), *named(claim("a", block=False), claim("b", block=False)))
    assert (machine.links(), machine.sim.loops()) == ({}, {})
