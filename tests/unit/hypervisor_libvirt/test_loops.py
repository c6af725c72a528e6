"""What is told of loop devices when it cannot be told which there are. The kernel's part is in contract/test_loops.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubexen.hypervisor.drivers.libvirt.loops import LoopDevices
from kubexen.hypervisor.errors import Failed


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """A sysfs with a disk, a loop device that is free, and one in use."""
    for name in ("sda", "loop0", "loop7/loop"):
        (tmp_path / "block" / name).mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    return tmp_path / "block"


def test_none_in_use(tmp_path: Path, blocks: Path) -> None:
    (blocks / "loop7/loop").rmdir()
    assert LoopDevices(tmp_path, blocks).names() == []


def test_one_that_has_no_node_is_not_taken_for_none(tmp_path: Path, blocks: Path) -> None:
    loops = LoopDevices(tmp_path, blocks)
    with pytest.raises(Failed, match="/dev/loop7 is in use and cannot be looked at: No such file"):
        loops.names()
    with pytest.raises(Failed, match="/dev/loop7"):
        loops.remove("ours")


def test_one_that_is_no_loop_device_is_not_taken_for_none(tmp_path: Path, blocks: Path) -> None:
    (tmp_path / "dev/loop7").touch()
    with pytest.raises(Failed, match="/dev/loop7 is in use and cannot be looked at"):
        LoopDevices(tmp_path, blocks).names()


def test_without_sysfs_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="loop devices cannot be listed"):
        LoopDevices(tmp_path, tmp_path / "block").names()
