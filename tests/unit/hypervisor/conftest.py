"""A fast simulated host, and its other side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubexen.hypervisor.drivers.sim.driver import SimDriver
from kubexen.hypervisor.drivers.sim.host import SimHost

FAST = "create_ms=0&boot_ms=0&shutdown_ms=0&reboot_ms=0&balloon_ms=0&flicker=0"


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[SimDriver]:
    """A host on which nothing takes time, with 1 GiB for domains."""
    driver = SimDriver.open(f"sim://{tmp_path}/host?{FAST}&cpus=4&memory=2112Mi&dom0_memory=1Gi")
    yield driver
    driver.close()


@pytest.fixture
def sim_host(sim: SimDriver, tmp_path: Path) -> Iterator[SimHost]:
    with SimHost(tmp_path / "host") as host:
        yield host
