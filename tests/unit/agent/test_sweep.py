"""What an agent lets go of for domains that are gone."""

from __future__ import annotations

import os
from typing import Any, cast

from kubexen.agent.domains import Domains
from tests.unit.agent.conftest import Machine

OF = "0c1d2e3f-0000-4000-8000-000000000000"
UNREADABLE = {"metadata": {"name": "web", "namespace": "shop", "uid": OF, "resourceVersion": "1"}, "spec": {"type": 7}}


def domains(machine: Machine, store: dict[str, Any]) -> Domains:
    nobody = cast(Any, None)
    return Domains(
        nobody, machine.host, nobody, store=store, starter=nobody, claims=machine.claims(), devices=machine.devices(),
        seeds=machine.seeds(), anchors=nobody, starts=nobody, ends=nobody,
    )


async def test_what_no_domain_has_is_let_go_of_but_not_while_an_object_cannot_be_read(machine: Machine) -> None:
    image = machine.root / "image"
    image.write_bytes(bytes(512))
    file = os.open(image, os.O_RDONLY)
    try:
        await machine.devices().make(OF, "xvda", file)
    finally:
        os.close(file)
    await domains(machine, {"shop/web": UNREADABLE}).sweep()
    assert list(machine.sim.loops()) == [f"of-{OF}/xvda"]
    await domains(machine, {}).sweep()
    assert machine.sim.loops() == {}
