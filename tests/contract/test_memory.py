"""A running domain's memory, and the host's."""

from __future__ import annotations

from fractions import Fraction

import pytest

from kubexen.hypervisor.errors import InvalidConfig
from kubexen.hypervisor.port import Capability

from .lab import Lab


@pytest.mark.needs(Capability.MEMORY_LIVE)
@pytest.mark.parametrize(
    "share", [Fraction(7, 8), Fraction(5, 4), Fraction(3, 2)], ids=["down", "up", "to the maximum"]
)
def test_memory_follows_its_target(lab: Lab, share: Fraction) -> None:
    config = lab.start()
    kib = int(config.memory_kib * share)
    lab.driver.set_memory(config.uuid, kib)
    lab.driver.set_memory(config.uuid, kib)
    target = lab.state(config.uuid).memory_target_kib
    assert target is None or abs(target - kib) <= lab.slack_kib
    lab.eventually(lambda: abs(lab.state(config.uuid).memory_kib - kib) <= lab.slack_kib, f"it has {kib} KiB")


@pytest.mark.needs(Capability.MEMORY_LIVE)
def test_memory_above_the_maximum_is_refused(lab: Lab) -> None:
    config = lab.start()
    with pytest.raises(InvalidConfig):
        lab.driver.set_memory(config.uuid, config.max_memory_kib * 2)
    assert abs(lab.state(config.uuid).memory_kib - config.memory_kib) <= lab.slack_kib


def test_free_memory_follows_the_domains(lab: Lab) -> None:
    before = lab.driver.host().free_memory_kib
    config = lab.config()
    created = lab.driver.create(config)
    taken = before - lab.driver.host().free_memory_kib
    assert config.memory_kib - lab.slack_kib <= taken <= config.memory_kib + 4 * lab.slack_kib
    lab.driver.destroy(config.uuid, created.domid)

    def given_back() -> bool:
        return abs(before - lab.driver.host().free_memory_kib) <= lab.slack_kib

    lab.eventually(given_back, "the memory is free again")
