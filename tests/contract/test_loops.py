"""Loop devices: one a name, over the very file that was given, until they are let go."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubexen.hypervisor.port import Capability, DiskConfig

from .lab import DISK_BYTES, Lab

pytestmark = pytest.mark.needs(Capability.LOOP_DEVICES)


@pytest.fixture
def name(lab: Lab) -> Iterator[str]:
    """A name of its own; its device goes afterwards."""
    name = str(uuid.uuid4())
    yield name
    lab.connect().unloop(name)


@pytest.fixture
def image(lab: Lab, name: str) -> Iterator[Path]:
    path = lab.options.disk_dir / f"{name}.img"
    with open(path, "wb") as file:
        file.truncate(DISK_BYTES)
    yield path
    path.unlink(missing_ok=True)


def loop(lab: Lab, name: str, image: Path, *, read_only: bool = False) -> str:
    file = os.open(image, os.O_RDONLY if read_only else os.O_RDWR)
    try:
        return lab.driver.loop(name, file, read_only=read_only)
    finally:
        os.close(file)


def test_again_is_the_same_device(lab: Lab, name: str, image: Path) -> None:
    device = loop(lab, name, image)
    assert device.startswith("/dev/loop")
    assert loop(lab, name, image) == device
    assert name in lab.driver.loops()


def test_two_names_are_two_devices(lab: Lab, name: str, image: Path) -> None:
    other = f"{name}-2"
    assert loop(lab, name, image) != loop(lab, other, image)
    lab.driver.unloop(other)
    assert name in lab.driver.loops()
    assert other not in lab.driver.loops()


def test_letting_go_again_is_no_error(lab: Lab, name: str, image: Path) -> None:
    loop(lab, name, image)
    lab.driver.unloop(name)
    lab.driver.unloop(name)
    assert name not in lab.driver.loops()


def test_a_device_outlives_the_driver_that_made_it(lab: Lab, name: str, image: Path) -> None:
    device = loop(lab, name, image)
    lab.driver.close()
    lab.driver = lab.connect()
    assert name in lab.driver.loops()
    assert loop(lab, name, image) == device


def test_a_file_that_took_the_name_of_the_first_is_another(lab: Lab, name: str, image: Path) -> None:
    loop(lab, name, image)
    image.unlink()
    with open(image, "wb") as file:
        file.truncate(2 * DISK_BYTES)
    loop(lab, name, image)
    assert lab.driver.loops().count(name) == 1


@pytest.mark.parametrize("read_only", [False, True], ids=["to-write", "read-only"])
def test_a_guest_runs_with_one_by_a_link_to_it_until_it_is_destroyed(lab: Lab, name: str, image: Path, read_only: bool) -> None:
    link = lab.options.disk_dir / f"{name}.link"
    link.symlink_to(loop(lab, name, image, read_only=read_only))
    try:
        config = lab.start(disks=(DiskConfig(str(link), "xvda", read_only=read_only, block_device=True),))
        assert [disk.key for disk in lab.driver.devices(config.uuid).disks] == ["xvda"]
        lab.driver.destroy(config.uuid, lab.state(config.uuid).domid)
        lab.driver.unloop(name)
        assert name not in lab.driver.loops()
    finally:
        link.unlink()
