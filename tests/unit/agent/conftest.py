"""A host that is a directory, with the simulator as its hypervisor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubexen.agent.claims import Claims
from kubexen.agent.devices import FileDevices
from kubexen.agent.host import Host
from kubexen.agent.seeds import Seeds
from kubexen.agent.storage.kubelet import Kubelet
from kubexen.hypervisor.drivers import opener
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

    def devices(self) -> FileDevices:
        return FileDevices(self.root, self.host)

    def seeds(self) -> Seeds:
        return Seeds(self.root, self.kubelet, self.devices())

    def links(self) -> dict[str, str]:
        folder = self.root / "run/kubexen/disks"
        return {link.name: str(link.readlink()) for link in folder.iterdir()} if folder.exists() else {}


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    root = tmp_path / "root"
    root.mkdir()
    uri = f"sim://{tmp_path}/xen"
    host = Host(opener(uri), "xen1")
    with SimHost(uri) as sim:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(host.watch(lambda _: None))
            await host.looked.wait()
            yield Machine(root, Layout(root), Kubelet(root), host, sim)
            watch.cancel()
    host.close()
