"""Claims of several kinds for real kubelets, and a guest that writes to them all the while."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from hack.xenlab.host import GUEST_LOGS, GUEST_UP, HostError, XenHost
from tests.e2e.domains import SLOW

BUSY = "target is busy"
BYTES = 8 << 20
IQN = "iqn.2026-01.dev.kubexen:lun"
FOLDER = "/srv/writer"
SHARED = "/srv/shared/writer"  # exported over NFS: see hack/xenlab
LUN, DEVICE, IMAGE = f"{FOLDER}/lun.img", f"{FOLDER}/device.img", f"{SHARED}/disk.img"

# The kernel's own target, by its file system of settings: what targetcli would write there.
SERVE = f"""
set -e
modprobe -a target_core_file iscsi_target_mod
cd /sys/kernel/config/target
mkdir -p {FOLDER} core/fileio_0/lun iscsi
truncate -s {BYTES} {LUN}
echo fd_dev_name={LUN},fd_dev_size={BYTES} >core/fileio_0/lun/control
echo 1 >core/fileio_0/lun/enable
group=iscsi/{IQN}/tpgt_1
mkdir -p $group/lun/lun_0 $group/np/$1:3260
ln -s $PWD/core/fileio_0/lun $group/lun/lun_0/lun
for setting in authentication=0 generate_node_acls=1 demo_mode_write_protect=0; do
    echo ${{setting#*=}} >$group/attrib/${{setting%=*}}
done
echo 1 >$group/enable
"""
SERVE_NO_MORE = f"""
set -e
cd /sys/kernel/config/target
group=iscsi/{IQN}/tpgt_1
echo 0 >$group/enable
rm $group/lun/lun_0/lun
rmdir $group/lun/lun_0 $group/np/* $group iscsi/{IQN} core/fileio_0/lun core/fileio_0
rm {LUN}
"""
# Sector N of each disk gets N, on stable storage, and only then it is told.
WRITE = (
    "(n={after}; while n=$((n+1)); do for d in {disks}; do printf '%-512d' $n | dd of=/dev/$d bs=512 seek=$n conv=notrunc,fsync "
    "2>/dev/null || {{ echo not written: $n on $d; exit; }}; done; echo told $n; sleep 2; done) &"
)
# How a script in dom0 begins that reads the xenstore: by the bindings of that Xen.
STORE = """
import glob, sys, time

sys.path += glob.glob("/usr/lib/xen-*/lib/python")
from xen.lowlevel.xs import xs

store = xs()
"""
# What a guest has done: its domid, how often it booted, the last number it was told, and what it could not write or -. One process
# for all of it, which waits for so many more numbers than there were: an emulated host takes a second for each command by ssh.
SEEN = STORE + """
name, log, up, more = sys.argv[1:]


def told(lines):
    numbers = [line[5:] for line in lines if line.startswith("told ") and line[5:].isdigit()]
    return int(numbers[-1]) if numbers else 0


def look():
    with open(log, errors="replace") as file:
        return file.read().replace("\\r", "").splitlines()


lines, end = look(), time.monotonic() + 60
wanted = told(lines) + int(more)
while told(lines) < wanted:
    if time.monotonic() > end:
        sys.exit(f"{name} was told {told(lines)}, and in 60 s not {wanted}: {lines[-10:]}")
    time.sleep(0.3)
    lines = look()
domids = [n for n in store.ls("", "/local/domain") if store.read("", f"/local/domain/{n}/name") == name.encode()]
unwritten = [line for line in lines if "not written" in line]
print(*(domids or "0"), sum(up in line for line in lines), told(lines), *(unwritten or "-"))
"""
SAMPLER, SAMPLES = "/run/sampler.py", "/run/sampled"
# One process, by Xen's own bindings: a shell that starts others five times a second takes the CPU of the drain that it looks at.
SAMPLE = STORE + """
domid, *mounts = sys.argv[1:]
last = None
while True:
    with open("/proc/mounts") as file:
        mounted = file.read()
    there = ["domain"] if store.ls("", f"/local/domain/{domid}") is not None else []
    now = [*there, *(mount for mount in mounts if mount in mounted)]
    if now != last:
        print(*now, flush=True)
    last = now
    time.sleep(0.2)
"""
SECTORS = """
import sys
for path in sys.argv[2:]:
    with open(path, "rb") as disk:
        for n in range(1, int(sys.argv[1]) + 1):
            disk.seek(512 * n)
            if (found := disk.read(512).split()) != [b"%d" % n]:
                print(f"{path}: sector {n} has {found}")
"""


def volume(name: str, mode: str, source: Mapping[str, Any], namespace: str = "default") -> list[dict[str, Any]]:
    """A PersistentVolume and the claim that is bound to it."""
    spec = {"accessModes": ["ReadWriteOnce"], "volumeMode": mode, "storageClassName": ""}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"pv-{name}"},
         "spec": spec | {"capacity": {"storage": "8Mi"}, "persistentVolumeReclaimPolicy": "Retain"} | source},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": namespace},
         "spec": spec | {"volumeName": f"pv-{name}", "resources": {"requests": {"storage": "8Mi"}}}},
    ]  # fmt: skip


def local(path: str, node: str) -> dict[str, Any]:
    """A PersistentVolume's source: a folder or a device of one node."""
    there = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {"local": {"path": path}, "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [there]}]}}}


class Life(NamedTuple):
    """One life of a guest: another of either is another life. `domid`: 0 when it is not there."""

    domid: int
    boots: int


class Seen(NamedTuple):
    """What a guest was seen to do. `told`: the last number that it was told to be on all of its disks."""

    life: Life
    told: int


@dataclass
class Writer:
    """A guest that writes, where it is now. `name`: Xen's."""

    host: XenHost
    name: str

    def seen(self, more: int = 0) -> Seen:
        """What it has done, when it was told so many more numbers."""
        words = shlex.join([self.name, f"{GUEST_LOGS}/guest-{self.name}.log", GUEST_UP, str(more)])
        domid, boots, told, lost = self.host.ssh(f"python3 -IS - {words}", input=SEEN, timeout=120).stdout.split(None, 3)
        assert lost.strip() == "-"
        return Seen(Life(int(domid), int(boots)), int(told))

    def write(self, *disks: str, after: int = 0) -> None:
        """Begin, with the number after this one."""
        self.host.guest_run(self.name, WRITE.format(disks=" ".join(disks), after=after))
        self.host.guest_wait(self.name, f"told {after + 1}", timeout=60)
        self.writes_on()

    def reboot(self) -> None:
        boots = self.seen().life.boots
        self.host.guest_run(self.name, "reboot")
        self.host.guest_wait(self.name, GUEST_UP, count=boots + 1, timeout=SLOW)

    def writes_on(self) -> Seen:
        """Wait until it was told more, twice: the first may have been on its way."""
        return self.seen(more=2)


@contextmanager
def sampled(host: XenHost, domid: int, *mounts: str) -> Iterator[list[set[str]]]:
    """What is there of a domain ('domain') and of these mounts of its host, each time that it changed: complete at the end."""
    host.write(SAMPLER, SAMPLE)
    pid = host.ssh(f"python3 -IS {SAMPLER} {domid} {' '.join(mounts)} >{SAMPLES} 2>&1 </dev/null & echo $!").stdout.strip()
    host.until(f"[ -s {SAMPLES} ]")
    samples: list[set[str]] = []
    try:
        yield samples
    finally:
        samples += [set(line.split()) for line in host.ssh(f"kill {pid}; cat {SAMPLES}").stdout.splitlines()]


def wait_silent(host: XenHost, command: str, timeout: float) -> None:
    """Wait until a command of a host has nothing to tell; what it tells is in the error."""
    try:
        host.until(f'[ -z "$({command})" ]', timeout)
    except HostError as error:
        raise AssertionError(host.ssh(command, check=False).stdout) from error


def sectors(told: int, *paths: str) -> str:
    """The command that tells which numbers up to the one that was told are not in these files of a host."""
    return shlex.join(["python3", "-IS", "-c", SECTORS, str(told), *paths])


def lost(host: XenHost, told: int, *paths: str) -> str:
    """Which numbers up to the one that was told are not in these files of the host."""
    return host.ssh(sectors(told, *paths)).stdout
