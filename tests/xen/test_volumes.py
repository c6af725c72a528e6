"""Claims and cloud-init on real Xen: a guest writes to a device and to an image, and reads its seed.

The nodes have no kubelet here: the test lays out the anchor's volumes in dom0, as a kubelet has them, with real mounts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hack.stack.stack import ROOT, Stack
from hack.xenlab.host import XenHost
from tests.xen.guests import manifest

NAME = "claiming"
XL_NAME = f"default.{NAME}"
HOME = "xen1"
BUSY = "target is busy"
SEED = "#cloud-config\npassword: seen-by-the-guest\n"

LAY_OUT = """
set -e
pod=$1
kubelet=/var/lib/kubelet
bind=$kubelet/plugins/kubernetes.io/iscsi/volumeDevices/pv-raw/$pod
link=$kubelet/pods/$pod/volumeDevices/kubernetes.io~iscsi/pv-raw
folder=$kubelet/pods/$pod/volumes/kubernetes.io~nfs/pv-files
secret=$kubelet/pods/$pod/volumes/kubernetes.io~secret/user-data
mkdir -p $(dirname $bind) $(dirname $link) $folder $secret /srv/pool/export
[ -e /srv/pool/export/disk.img ] || truncate -s 8M /srv/pool/export/disk.img
[ -e /srv/pool/device.img ] || truncate -s 8M /srv/pool/device.img
device=$(losetup -j /srv/pool/device.img | cut -d: -f1)
[ -n "$device" ] || device=$(losetup -f --show /srv/pool/device.img)
touch $bind
mount --bind $device $bind
mount --bind /srv/pool/export $folder
cat >$secret/user-data
ln -s $device $link
"""
UNMOUNT = """
pod=$1
for mount in plugins/kubernetes.io/iscsi/volumeDevices/pv-raw/$pod pods/$pod/volumes/kubernetes.io~nfs/pv-files; do
    umount /var/lib/kubelet/$mount && echo "unmounted $mount"
done
"""


def volume(name: str, mode: str, source: dict[str, Any]) -> list[dict[str, Any]]:
    """A PersistentVolume and the claim that is bound to it."""
    spec = {"accessModes": ["ReadWriteOnce"], "volumeMode": mode, "storageClassName": ""}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"pv-{name}"},
         "spec": spec | {"capacity": {"storage": "8Mi"}, "persistentVolumeReclaimPolicy": "Retain"} | source},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"},
         "spec": spec | {"volumeName": f"pv-{name}", "resources": {"requests": {"storage": "8Mi"}}}},
    ]  # fmt: skip


def claiming() -> dict[str, Any]:
    return manifest(
        NAME,
        type="pvh",
        memory={"size": "128Mi"},
        disks=[{"name": "raw", "claimName": "raw", "target": "xvda"}, {"name": "files", "claimName": "files", "target": "xvdb"}],
        cloudInit={"userData": {"secretName": "login", "key": "text"}},
        affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [HOME]}]}]}}},
    )  # fmt: skip


def on(host: XenHost, script: str, *arguments: str, input: str = "") -> str:
    """Run a script in dom0; what it says, on either stream."""
    host.write("/root/step", script)
    done = host.ssh(f"sh /root/step {' '.join(arguments)} 2>&1", input=input, check=False)
    return done.stdout


def anchor(stack: Stack) -> str:
    """The uid of the domain's anchor, once it has a node."""
    pods = "/api/v1/namespaces/default/pods"
    for _, pod in stack.cluster.api.watch(pods, 120, labelSelector=f"kubexen.dev/domain={NAME}"):
        if pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]:
            return str(pod["metadata"]["uid"])
    raise TimeoutError("no anchor has a node")


@pytest.fixture
def claims(stack: Stack) -> Iterator[dict[str, str]]:
    """The uids of two bound claims, `raw` and `files`."""
    stack.kubectl("apply", "-f", str(ROOT / "examples/tiny/network.yaml"))
    stack.apply(
        *volume("raw", "Block", {"iscsi": {"targetPortal": "192.0.2.1:3260", "iqn": "iqn.2026-01.dev.kubexen:test", "lun": 0}}),
        *volume("files", "Filesystem", {"nfs": {"server": "192.0.2.1", "path": "/export"}}),
    )
    yield {name: stack.get("pvc", name)["metadata"]["uid"] for name in ("raw", "files")}
    stack.kubectl("delete", "xd,pvc", "--all", "--timeout=180s")
    stack.kubectl("delete", "pv", "pv-raw", "pv-files", "--timeout=60s")


def test_a_guest_has_its_claims_and_its_seed_and_nothing_takes_them_away(stack: Stack, claims: dict[str, str]) -> None:
    assert stack.lab is not None
    host = next(host for host in stack.lab.hosts if host.name == HOME)
    stack.apply(claiming())
    pod = anchor(stack)
    assert on(host, LAY_OUT, pod, input=SEED) == ""
    stack.wait_reason(NAME, "Running")
    host.guest_wait(XL_NAME, "guest up")

    for disk, text in (("xvda", "to-the-device"), ("xvdb", "to-the-image")):
        host.guest_run(XL_NAME, f"echo {text} | dd of=/dev/{disk} conv=fsync 2>/dev/null")
    assert "seen-by-the-guest" in host.guest_output(XL_NAME, "grep -a -o seen-by-the-guest /dev/xvdz")
    host.guest_run(XL_NAME, "echo x | dd of=/dev/xvdz 2>/dev/null || echo the seed is read-only")
    host.guest_wait(XL_NAME, "the seed is read-only")
    host.until("head -c 20 /srv/pool/device.img | grep -q to-the-device")
    host.until("head -c 20 /srv/pool/export/disk.img | grep -q to-the-image")

    # The anchor is cut short while no agent is there.
    host.stop_agent()
    said = on(host, UNMOUNT, pod)
    assert said.count(BUSY) == 2, said
    host.guest_run(XL_NAME, "echo still-writing | dd of=/dev/xvdb conv=fsync 2>/dev/null")
    host.until("head -c 20 /srv/pool/export/disk.img | grep -q still-writing")
    host.start_agent()

    # The guest reboots: the host opens everything again, by the same paths.
    host.guest_run(XL_NAME, "reboot")
    host.guest_wait(XL_NAME, "guest up", count=2)
    assert "still-writing" in host.guest_output(XL_NAME, "head -c 13 /dev/xvdb")

    stack.kubectl("patch", "xd", NAME, "--type=merge", "-p", json.dumps({"spec": {"powerState": "Halted"}}))
    stack.wait_reason(NAME, "Halted")
    said = on(host, UNMOUNT, pod)
    assert said.count("unmounted") == 2, said
    left = host.ssh("ls /run/kubexen/disks /run/kubexen/seeds; losetup -l -n -O NAME,BACK-FILE; "
                    "systemctl list-units --plain --no-legend 'kubexen-hold-*'").stdout
    assert not any(uid in left for uid in claims.values())
    assert ".iso" not in left
    host.ssh("losetup -D; rm -rf /srv/pool/export /srv/pool/device.img")
