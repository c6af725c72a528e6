"""A host that is a directory, with the simulator as its hypervisor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubexen.agent.claims import Claims
from kubexen.agent.host import Host
from kubexen.agent.seeds import Seeds
from kubexen.agent.storage.kubelet import Kubelet
from kubexen.hypervisor.drivers import connect
from kubexen.hypervisor.drivers.sim.host import SimHost
from tests.unit.agent.kubelet_layout import Layout


@dataclass
class Machine:
    root: Path
    layout: Layout
    kubelet: Kubelet
    host: Host
    sim: SimHost

    def claims(self) -> Claims:
        """As an agent that starts has it."""
        return Claims(self.root, self.kubelet, self.host)

    def seeds(self) -> Seeds:
        return Seeds(self.root, self.kubelet, self.host)

    def links(self) -> dict[str, str]:
        folder = self.root / "run/kubexen/disks"
        return {link.name: str(link.readlink()) for link in folder.iterdir()} if folder.exists() else {}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    root = tmp_path / "root"
    root.mkdir()
    uri = f"sim://{tmp_path}/xen"
    driver = connect(uri)
    host = Host(driver, "xen1")
    with SimHost(uri) as sim:
        yield Machine(root, Layout(root), Kubelet(root), host, sim)
    host.close()
    driver.close()
