"""Hints: on every change a listener is told to look again."""

from __future__ import annotations

import pytest

from kubexen.hypervisor.port import Capability

from .guests import GUEST_ACTS
from .lab import Lab

pytestmark = pytest.mark.needs(Capability.EVENTS)


def test_a_hint_comes_when_a_domain_begins_pauses_and_ends(lab: Lab) -> None:
    hints: list[str | None] = []
    lab.driver.subscribe(hints.append)
    config = lab.config()

    def told() -> bool:
        return config.uuid in hints or None in hints

    created = lab.driver.create(config)
    lab.eventually(told, "a hint of its begin")
    for what, act in [("pause", lab.driver.pause), ("unpause", lab.driver.unpause)]:
        hints.clear()
        act(config.uuid)
        lab.eventually(told, f"a hint of its {what}")
    hints.clear()
    lab.driver.destroy(config.uuid, created.domid)
    lab.eventually(told, "a hint of its end")


@pytest.mark.needs(GUEST_ACTS)
@pytest.mark.parametrize("act", ["poweroff", "crash", "reboot"])
def test_a_hint_comes_when_a_guest_ends_by_itself(lab: Lab, act: str) -> None:
    config = lab.start()
    hints: list[str | None] = []
    lab.driver.subscribe(hints.append)
    getattr(lab.guests, act)(config.name)
    lab.eventually(lambda: config.uuid in hints or None in hints, "a hint of its end")


def test_another_driver_is_told_too(lab: Lab) -> None:
    hints: list[str | None] = []
    lab.connect().subscribe(hints.append)
    config = lab.config()
    lab.driver.create(config)
    lab.eventually(lambda: config.uuid in hints or None in hints, "a hint in the other driver")


def test_a_listener_that_left_is_not_called(lab: Lab) -> None:
    left: list[str | None] = []
    stays: list[str | None] = []
    leave = lab.driver.subscribe(left.append)
    lab.driver.subscribe(stays.append)
    leave()
    config = lab.config()
    lab.driver.create(config)
    lab.eventually(lambda: config.uuid in stays or None in stays, "a hint for the one that stays")
    assert left == []
