"""Files that a domain gets as read-only devices."""

from __future__ import annotations

import os
from pathlib import Path

from tests.unit.agent.conftest import Machine
from tests.unit.plan.builders import UID

OTHER = "0c1d2e3f-0000-4000-8000-000000000000"


async def make(machine: Machine, of: str, name: str) -> tuple[Path, Path]:
    """A device over a file of its own: the file, and the link to the device."""
    file = machine.root / f"{of}-{name}"
    file.write_bytes(bytes(512))
    descriptor = os.open(file, os.O_RDONLY)
    try:
        await machine.devices().make(of, name, descriptor)
    finally:
        os.close(descriptor)
    return file, machine.root / f"run/kubexen/devices/{of}/{name}"


async def test_each_is_over_its_file_and_stays_the_same(machine: Machine) -> None:
    file, link = await make(machine, UID, "xvda")
    _, other = await make(machine, UID, "xvdb")
    assert machine.sim.loops()[f"of-{UID}/xvda"] == str(file)
    device = os.readlink(link)
    assert device.startswith("/dev/loop") and device != os.readlink(other)
    assert os.readlink((await make(machine, UID, "xvda"))[1]) == device


async def test_a_domain_that_has_left_has_none(machine: Machine) -> None:
    for name in ("xvda", "seed"):
        await make(machine, UID, name)
    _, others = await make(machine, OTHER, "xvda")
    await machine.devices().remove(UID)
    await machine.devices().remove(UID)
    assert list(machine.sim.loops()) == [f"of-{OTHER}/xvda"]
    assert not (machine.root / f"run/kubexen/devices/{UID}").exists()
    assert others.is_symlink()


async def test_what_nobody_removed_is_swept(machine: Machine) -> None:
    for of in (UID, OTHER):
        await make(machine, of, "xvda")
    await machine.devices().sweep(lambda: {OTHER})
    assert list(machine.sim.loops()) == [f"of-{OTHER}/xvda"]
    await machine.claims().sweep(set)
    assert list(machine.sim.loops()) == [f"of-{OTHER}/xvda"], "that is no claim's"
