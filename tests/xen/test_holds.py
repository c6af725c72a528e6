"""What keeps a kubelet from unmounting a claim under a running domain, on real mounts and loop devices of this machine.

The kubelet's part is played by mount and umount, as it does them: what counts is the kernel's answer. An agent is a process
of its own, and is killed. Needs root, and nothing of Xen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hack.stack.hosts import ROOT
from kubexen.hypervisor.drivers.libvirt.loops import LoopDevices
from kubexen.hypervisor.errors import Failed

POD = "a1"
BUSY = "target is busy"
SIZE = 4 * 1024**2

AGENT = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace
from kubexen.agent.claims import Claims
from kubexen.agent.host import Host
from kubexen.agent.storage.kubelet import Kubelet
from kubexen.hypervisor.drivers.libvirt.loops import LoopDevices
from kubexen.plan.claims import recorded
from kubexen.plan.resolve import resolve
from tests.unit.plan.builders import bound, claim, domain, references, uses

class Dom0:
    # a host without Xen: its loop devices are real, it has no domains

    def __init__(self):
        devices = LoopDevices()
        self.loop, self.unloop, self.loops = devices.make, devices.remove, devices.names

    def host(self):
        return SimpleNamespace(boot_id="this")

    def domains(self):
        return []

    def subscribe(self, changed):
        return lambda: None

    def close(self):
        pass

async def main(root, act, block, uid):
    host = Host(Dom0, "xen1")
    watch = asyncio.create_task(host.watch(lambda state: None))
    await host.looked.wait()
    claims = Claims(Path(root), Kubelet(Path(root)), host)
    claims.take_hold()
    one = claim("data", block=block == "block").model_copy(update={"uid": uid})
    found = domain(bound(claims=[one]), disks=uses("data"))
    if act == "attach":
        async with claims.opened(found, resolve(found, references(claims=recorded(found).values()))) as opened:
            await claims.attach(opened)
    if act == "release":
        await claims.release([uid])
    print(act, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    watch.cancel()
    host.close()

asyncio.run(main(*sys.argv[1:]))
"""


def run(*command: str | Path) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


class Machine:
    """A folder as a host's file system, with a shared mount for the kubelet's folder, as on a node."""

    def __init__(self, root: Path) -> None:
        self.root, self.uid = root, str(uuid.uuid4())
        self.kubelet = root / "var/lib/kubelet"
        self.kubelet.mkdir(parents=True)
        assert run("mount", "-t", "tmpfs", "kubelet", self.kubelet) == ""
        run("mount", "--make-shared", self.kubelet)
        (root / "proc/1").mkdir(parents=True)

    def seen(self) -> None:
        """The mounts as the host's first process sees them, with paths of this host."""
        mounts = Path("/proc/self/mountinfo").read_text()
        (self.root / "proc/1/mountinfo").write_text(mounts.replace(f"{self.root}/", "/"))

    def agent(self, act: str, kind: str) -> subprocess.Popen[str]:
        """Start one; it has done its part when this returns. It runs until it is killed."""
        process = subprocess.Popen(
            [sys.executable, "-c", AGENT, str(self.root), act, kind, self.uid],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}"},
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().strip() == act
        return process

    def path(self) -> Path:
        """The disk's path on the host, and where it leads."""
        return self.root / "run/kubexen/disks" / self.uid


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "root")
    yield machine
    LoopDevices().remove(machine.uid)
    run("umount", "-R", machine.kubelet)
    assert not os.path.ismount(machine.kubelet)
    shutil.rmtree(machine.root)


def test_an_image_is_held_by_the_kernel_whatever_becomes_of_the_agent(machine: Machine) -> None:
    volume = machine.kubelet / f"pods/{POD}/volumes/kubernetes.io~nfs/pv-data"
    volume.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "volume", volume)
    with open(volume / "disk.img", "wb") as image:
        image.truncate(SIZE)

    kill(machine.agent("attach", "files"))
    device = machine.path().readlink()
    assert BUSY in run("umount", volume)
    (volume / "disk.img").rename(volume / "was.img")
    (volume / "disk.img").symlink_to("/etc/hostname")
    written = os.open(device, os.O_RDWR)  # the guest writes on, to what it was given
    os.write(written, b"written".ljust(512))
    os.fsync(written)
    os.close(written)
    assert (volume / "was.img").read_bytes().startswith(b"written")

    kill(machine.agent("release", "files"))
    assert not machine.path().exists()
    until(lambda: BUSY not in run("umount", volume))


def test_a_device_that_is_open_elsewhere_is_let_go_when_it_is_closed(tmp_path: Path) -> None:
    name = f"test-{uuid.uuid4()}"
    with open(tmp_path / "disk.img", "wb+") as image:
        image.truncate(SIZE)
        device = LoopDevices().make(name, image.fileno(), read_only=False)
    opened = os.open(device, os.O_RDONLY)
    try:
        with pytest.raises(Failed, match=f"{device} is open elsewhere"):
            LoopDevices(closed_within=0.1).remove(name)
        assert name in LoopDevices().names()
        with ThreadPoolExecutor() as pool:
            removed = pool.submit(LoopDevices().remove, name)
            os.close(opened)
            removed.result()
        assert name not in LoopDevices().names()
    finally:
        LoopDevices().remove(name)


def test_a_device_is_held_by_the_agent_and_by_the_next_one_at_once(machine: Machine, tmp_path: Path) -> None:
    with open(tmp_path / "device.img", "wb") as image:
        image.truncate(SIZE)
    name = f"test-{machine.uid[:8]}"
    file = os.open(tmp_path / "device.img", os.O_RDWR)
    device = Path(LoopDevices().make(name, file, read_only=False))  # stands for what a volume's plugin has attached
    os.close(file)
    bind = machine.kubelet / f"plugins/kubernetes.io/local-volume/volumeDevices/pv-data/{POD}"
    bind.parent.mkdir(parents=True)
    bind.touch()
    run("mount", "--bind", device, bind)
    link = machine.kubelet / f"pods/{POD}/volumeDevices/kubernetes.io~local-volume/pv-data"
    link.parent.mkdir(parents=True)
    link.symlink_to("/dev/sdb")
    (machine.root / "dev").mkdir()
    os.mknod(machine.root / "dev/sdb", 0o600 | 0o060000, device.stat().st_rdev)
    machine.seen()
    try:
        first = machine.agent("attach", "block")
        assert str(machine.path().readlink()) == f"/{bind.relative_to(machine.root)}"
        kill(first)
        link.unlink()  # a kubelet does this first
        second = machine.agent("look", "block")  # it knows nothing but the links
        assert BUSY in run("umount", bind)
        kill(second)
        kill(machine.agent("release", "block"))
        assert BUSY not in run("umount", bind)
        assert not os.path.ismount(bind)
    finally:
        run("umount", bind)
        LoopDevices().remove(name)
