"""Pause and unpause, by us and by somebody else."""

from __future__ import annotations

import pytest

from .guests import ADMINISTRATOR
from .lab import Lab


def test_pause_and_unpause_are_idempotent(lab: Lab) -> None:
    config = lab.start()
    domid = lab.state(config.uuid).domid
    for _ in range(2):
        lab.driver.pause(config.uuid)
        assert lab.state(config.uuid).flags.paused
    for _ in range(2):
        lab.driver.unpause(config.uuid)
        assert not lab.state(config.uuid).flags.paused
    assert lab.state(config.uuid).domid == domid


def test_a_domain_made_paused_starts_when_unpaused(lab: Lab) -> None:
    config = lab.config(devices=True)
    lab.driver.create(config, paused=True)
    lab.driver.pause(config.uuid)
    lab.driver.unpause(config.uuid)
    assert not lab.state(config.uuid).flags.paused
    lab.wait_up(config)


@pytest.mark.needs(ADMINISTRATOR)
def test_an_administrators_pause_is_seen_and_undone(lab: Lab) -> None:
    config = lab.start()
    lab.guests.xl("pause", config.name)
    assert lab.state(config.uuid).flags.paused
    lab.driver.unpause(config.uuid)
    assert not lab.state(config.uuid).flags.paused


@pytest.mark.needs(ADMINISTRATOR)
def test_an_administrators_unpause_is_seen_and_undone(lab: Lab) -> None:
    config = lab.start()
    lab.driver.pause(config.uuid)
    lab.guests.xl("unpause", config.name)
    assert not lab.state(config.uuid).flags.paused
    lab.driver.pause(config.uuid)
    assert lab.state(config.uuid).flags.paused
