"""Seeds on a host: what is in the image, who can read it, and that nobody hears of its content."""

from __future__ import annotations

import io
import json
import logging
import os
from pathlib import Path

import pycdlib
import pytest

from kubexen.api.conditions import Reason
from kubexen.api.xendomain import XenDomain
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import resolve
from tests.unit.agent.conftest import Machine
from tests.unit.plan.builders import UID, bound, domain, references

SECRET = b"#cloud-config\npassword: hunter2\n"
GIVEN = {"userData": {"secretName": "web", "key": "userdata"}}


def content(path: Path) -> dict[str, bytes]:
    """The files of an image by their names, as Linux and as others see them."""
    iso = pycdlib.PyCdlib()
    iso.open(str(path))
    assert iso.pvd.volume_identifier.rstrip() == b"cidata"
    views = []
    for kind in ("rr_path", "joliet_path"):
        files = {}
        for _, _, names in iso.walk(**{kind: "/"}):
            for name in names:
                into = io.BytesIO()
                iso.get_file_from_iso_fp(into, **{kind: f"/{name}"})
                files[name] = into.getvalue()
        views.append(files)
    iso.close()
    assert views[0] == views[1]
    return views[0]


def guest(**cloud_init: object) -> XenDomain:
    return domain(bound(), cloud_init=cloud_init)


async def make(machine: Machine, found: XenDomain) -> Path:
    """The image of a seed that is made; the device that the guest is given is over it."""
    seeds = machine.seeds()
    files = seeds.read(found, resolve(found, references()))
    assert files is not None
    await seeds.write(found, files)
    image = machine.root / f"run/kubexen/seeds/{UID}.iso"
    assert machine.sim.loops()[f"of-{UID}/seed"] == str(image)
    assert os.readlink(machine.root / f"run/kubexen/devices/{UID}/seed") == "/dev/loop0"
    return image


async def test_the_guest_finds_what_the_user_gave(machine: Machine) -> None:
    machine.layout.secret("a1", "user-data", user_data=SECRET)
    machine.layout.secret("a1", "network-data", network_data=b"version: 2")
    path = await make(machine, guest(**GIVEN, networkData={"secretName": "web", "key": "net"}))
    found = content(path)
    assert set(found) == {"meta-data", "user-data", "vendor-data", "network-config"}
    assert (found["user-data"], found["network-config"]) == (SECRET, b"version: 2")
    assert json.loads(found["meta-data"])["instance-id"] == UID


async def test_only_root_can_read_it(machine: Machine) -> None:
    machine.layout.secret("a1", "user-data", user_data=SECRET)
    before = os.umask(0)
    try:
        path = await make(machine, guest(**GIVEN))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == [path.name]


async def test_a_restart_makes_it_again_from_the_same_anchor(machine: Machine) -> None:
    folder = machine.layout.secret("a1", "user-data", user_data=SECRET)
    await make(machine, guest(**GIVEN))
    (folder / "user-data").resolve().write_bytes(b"changed")
    assert content(await make(machine, guest(**GIVEN)))["user-data"] == b"changed"


async def test_it_goes_when_its_domain_has_left(machine: Machine) -> None:
    machine.layout.secret("a1", "user-data", user_data=SECRET)
    path = await make(machine, guest(**GIVEN))
    seeds = machine.seeds()
    await seeds.sweep(lambda: {UID})
    assert path.exists()
    seeds.remove(UID)
    seeds.remove(UID)
    assert not path.exists()


async def test_what_nobody_removed_is_swept(machine: Machine) -> None:
    machine.layout.secret("a1", "user-data", user_data=SECRET)
    path = await make(machine, guest(**GIVEN))
    await machine.seeds().sweep(set)
    assert os.listdir(path.parent) == []


async def test_a_domain_without_cloud_init_has_none(machine: Machine) -> None:
    found = domain(bound())
    assert machine.seeds().read(found, resolve(found, references())) is None
    assert machine.sim.loops() == {}


async def test_a_secret_that_the_anchor_does_not_have(machine: Machine) -> None:
    found = guest(**GIVEN)
    with pytest.raises(Problem) as caught:
        machine.seeds().read(found, resolve(found, references()))
    assert caught.value.reason == Reason.SECRET_NOT_FOUND
    assert "spec.cloudInit.userData: the anchor has no key 'userdata' of Secret 'web'; make the Secret" in caught.value.message


async def test_a_host_that_cannot_write_it_says_so_without_its_content(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    machine.layout.secret("a1", "user-data", user_data=SECRET)
    (machine.root / "run").write_text("no folder")
    with pytest.raises(Problem) as caught:
        await make(machine, guest(**GIVEN))
    assert caught.value.reason == "SeedNotWritten"
    assert "hunter2" not in f"{caught.value} {caplog.text}"
