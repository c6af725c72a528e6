"""Files of this host as read-only block devices of a domain: loop devices made before its start, removed when it has left.

seeds.py and disks.py give the files; plan/devices.py says where the devices are. A device outlives the agent.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Set
from pathlib import Path

from kubexen.agent.host import Host
from kubexen.agent.storage.links import lead
from kubexen.plan import devices


class FileDevices:
    def __init__(self, root: Path, host: Host) -> None:
        self._root, self._host = root, host

    async def make(self, of: str, name: str, file: int) -> None:
        """The device of this name of the domain of this UUID, over an open file. Again: over the file that is given now.

        Raises:
            HypervisorError: no loop device can be made.
        """
        device = await self._host.call(self._host.hypervisor.loop, devices.loop(of, name), file, read_only=True)
        await asyncio.to_thread(lead, self._root / devices.path(of, name).lstrip("/"), device)

    async def remove(self, of: str) -> None:
        """Remove all of the domain's. Not there: success.

        Raises:
            HypervisorError: a loop device cannot be removed.
        """
        for name in await self._host.call(self._host.hypervisor.loops):
            if name.startswith(devices.loop(of)):
                await self._host.call(self._host.hypervisor.unloop, name)
        await asyncio.to_thread(shutil.rmtree, self._root / devices.DEVICES.lstrip("/") / of, ignore_errors=True)

    async def sweep(self, wanted: Callable[[], Set[str]]) -> None:
        """Remove those of all domains but these.

        Raises:
            HypervisorError: as `remove`.
        """
        loops = await self._host.call(self._host.hypervisor.loops)
        found = {name.removeprefix(devices.LOOP).partition("/")[0] for name in loops if name.startswith(devices.LOOP)}
        for of in found - wanted():
            if of not in wanted():  # asked anew: a domain may have come meanwhile
                await self.remove(of)
