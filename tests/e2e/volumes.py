"""Claims of several kinds for real kubelets, and a guest that writes to them all the while."""

from __future__ import annotations

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
# How often it booted, the last number it was told, and what it could not write or -.
SEEN = f"""
/{GUEST_UP}/ {{ boots++ }}
/^told [0-9]+$/ {{ told = $2 }}
/not written/ {{ lost = lost $0 "; " }}
END {{ print boots + 0, told + 0, lost "-" }}
"""
SAMPLES = "/run/sampled"
SAMPLE = f"""
(
    last=none
    while :; do
        now=; xenstore-exists /local/domain/{{domid}} && now=domain
        for mount in {{mounts}}; do grep -qF -e $mount /proc/mounts && now="$now $mount"; done
        [ "$now" = "$last" ] || echo "$now"
        last=$now
        sleep 0.2
    done
) >{SAMPLES} 2>/dev/null </dev/null &
echo $!
"""
HAS = """
import sys
for path in sys.argv[2:]:
    with open(path, "rb") as disk:
        for n in range(1, int(sys.argv[1]) + 1):
            disk.seek(512 * n)
            if (found := disk.read(512).split()) != [b"%d" % n]:
                print(f"{path}: sector {n} has {found}")
"""


def volume(name: str, mode: str, source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A PersistentVolume and the claim that is bound to it."""
    spec = {"accessModes": ["ReadWriteOnce"], "volumeMode": mode, "storageClassName": ""}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"pv-{name}"},
         "spec": spec | {"capacity": {"storage": "8Mi"}, "persistentVolumeReclaimPolicy": "Retain"} | source},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"},
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

    def seen(self) -> Seen:
        """What it has done, by one command: each takes an emulated host a second."""
        log = f"{GUEST_LOGS}/guest-{self.name}.log"
        command = f"xl domid {self.name} 2>/dev/null || echo 0; tr -d '\\r' <{log} | awk '{SEEN}'"
        domid, boots, told, lost = self.host.ssh(command).stdout.split(None, 3)
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
        self.host.guest_wait(self.name, f"told {self.seen().told + 2}", timeout=60)
        return self.seen()


@contextmanager
def sampled(host: XenHost, domid: int, *mounts: str) -> Iterator[list[set[str]]]:
    """What is there of a domain ('domain') and of these mounts of its host, each time that it changed: complete at the end."""
    pid = host.ssh(SAMPLE.format(domid=domid, mounts=" ".join(mounts))).stdout.strip()
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


def lost(host: XenHost, told: int, *paths: str) -> str:
    """Which numbers up to the one that was told are not in these files of the host."""
    return host.ssh(f"python3 - {told} {' '.join(paths)}", input=HAS).stdout
