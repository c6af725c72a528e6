"""Where a pod's volumes are found below a kubelet's folder, and that no name leads anywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubexen.agent.storage.kubelet import Kubelet
from tests.unit.agent.conftest import Machine

POD = "0c9d6c1e-0000-4000-8000-000000000001"
PODS = f"/var/lib/kubelet/pods/{POD}"


@pytest.mark.parametrize("plugin", ["kubernetes.io~local-volume", "kubernetes.io~iscsi", "kubernetes.io~csi"])
def test_a_device(machine: Machine, plugin: str) -> None:
    machine.layout.block(POD, "pv-1", "/dev/sdb", plugin)
    assert machine.kubelet.device(POD, "pv-1") == f"{PODS}/volumeDevices/{plugin}/pv-1"
    assert machine.kubelet.device(POD, "pv-2") is None
    assert machine.kubelet.device("another", "pv-1") is None


def test_a_folder(machine: Machine) -> None:
    machine.layout.files(POD, "pv-1")
    machine.layout.files(POD, "pv-2", "kubernetes.io~csi")
    assert machine.kubelet.volume(POD, "pv-1") == f"{PODS}/volumes/kubernetes.io~nfs/pv-1"
    assert machine.kubelet.volume(POD, "pv-2") == f"{PODS}/volumes/kubernetes.io~csi/pv-2/mount"
    assert machine.kubelet.volume(POD, "pv-3") is None


def test_a_secret_is_read_and_is_no_volume(machine: Machine) -> None:
    machine.layout.secret(POD, "user-data", user_data=b"#cloud-config")
    assert machine.kubelet.secret(POD, "user-data", "user-data") == b"#cloud-config"
    assert machine.kubelet.secret(POD, "user-data", "other") is None
    assert machine.kubelet.secret(POD, "network-data", "network-data") is None
    assert machine.kubelet.volume(POD, "user-data") is None


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "a/b", "a\0b"])
def test_a_name_is_one_component(machine: Machine, name: str) -> None:
    for find in (
        lambda: machine.kubelet.device(POD, name), lambda: machine.kubelet.volume(name, "pv-1"),
        lambda: machine.kubelet.secret(POD, name, "x"), lambda: machine.kubelet.secret(POD, "x", name),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="is no name"):
            find()


LINKS = {
    "an absolute link": ("/dev/sdb", "dev/sdb"),
    "a relative one": ("../dev/sdb", "dev/sdb"),
    "out of the host and back": ("../../../../../dev/sdb", "dev/sdb"),
    "to what is not there": ("/dev/none", "dev/none"),
}


@pytest.mark.parametrize("target, want", LINKS.values(), ids=LINKS)
def test_links_are_followed_as_the_host_follows_them(tmp_path: Path, target: str, want: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/link").symlink_to(target)
    assert Kubelet(tmp_path).local("/sub/link") == tmp_path / want


def test_a_folder_on_the_way_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "data/kubelet/pods").mkdir(parents=True)
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / "var/lib/kubelet").symlink_to("/data/kubelet")
    assert Kubelet(tmp_path).local("/var/lib/kubelet/pods") == tmp_path / "data/kubelet/pods"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/b")
    (tmp_path / "b").symlink_to("/a")
    with pytest.raises(OSError, match="too many links"):
        Kubelet(tmp_path).local("/a")


OWNERS = {
    f"{PODS}/volumeDevices/x/pv": POD,
    "/var/lib/kubelet/pods": None,
    "/dev/loop0": None,
    "/var/lib/kubelet/plugins": None,
    "/var/lib/kubelet/plugins/kubernetes.io/iscsi/volumeDevices/pv-data/a1": "a1",
}


@pytest.mark.parametrize("path, want", OWNERS.items())
def test_whose_volume_a_path_is(machine: Machine, path: str, want: str | None) -> None:
    assert machine.kubelet.owner(path) == want


def test_the_kubelets_own_mounts_of_a_pods_devices(machine: Machine) -> None:
    plugins = "/var/lib/kubelet/plugins/kubernetes.io/local-volume/volumeDevices/pv-1"
    assert machine.kubelet.binds(POD) is None
    (machine.root / "proc/1").mkdir(parents=True)
    (machine.root / "proc/1/mountinfo").write_text(
        f"30 1 0:5 /sdb {plugins}/{POD} rw shared:2 - devtmpfs udev rw\n"
        f"31 1 0:5 /sdc {plugins}/another rw shared:2 - devtmpfs udev rw\n"
        f"32 1 0:9 / {PODS}/volumes/kubernetes.io~nfs/pv-2 rw - nfs x rw\n"
    )
    assert machine.kubelet.binds(POD) == [f"{plugins}/{POD}"]
