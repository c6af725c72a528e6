"""How long a flag that changed on a host takes until it is in the domain's status: guests that crash, and stay as they are.

Called by __main__.py and xen.py, for domains with `onCrash: preserve`.
"""

from __future__ import annotations

import subprocess
import threading
import time
from typing import Any

from hack.cluster.api import Api
from hack.stack.hosts import SimulatedHost
from hack.stack.stack import Stack
from hack.xenlab.host import XenHost
from kubexen.hypervisor.drivers.sim.host import SimHost

PATIENCE = 60.0
# A word for each look, as soon as it is done.
LOOKS = "while [ -e /proc/self ]; do xl list {name} | grep -q -- '---sc-' && echo crashed && exit; echo runs; done"


def on_simulated_hosts(stack: Stack, collection: str, count: int) -> list[float]:
    """Seconds for so many of the domains of this collection, one after the other, from the crash on."""
    took = []
    for item in stack.cluster.api.get(collection, limit=str(count))["items"]:
        host = stack.host(item["status"]["nodeName"])
        assert isinstance(host, SimulatedHost)
        with SimHost(host.root / "xen") as xen:
            begin = time.monotonic()
            xen.guest_crash(f"{item['metadata']['namespace']}.{item['metadata']['name']}")
        _shown(stack.cluster.api, f"{collection}/{item['metadata']['name']}")
        took.append(time.monotonic() - begin)
    return took


def on_xen(stack: Stack, host: XenHost, path: str, name: str) -> float:
    """Seconds for one domain, from the last look of `xl list` on which it still ran: up to one look too many."""
    shown: list[float] = []

    def wait() -> None:
        _shown(stack.cluster.api, path)
        shown.append(time.monotonic())

    waiting = threading.Thread(target=wait)
    waiting.start()
    ran = time.monotonic()
    looks = subprocess.Popen(host.ssh_command(LOOKS.format(name=name)), stdout=subprocess.PIPE, text=True)
    host.guest_run(name, "crash")
    assert looks.stdout is not None
    for line in looks.stdout:
        if line.strip() == "crashed":
            break
        ran = time.monotonic()
    looks.wait()
    waiting.join()
    return shown[0] - ran


def _shown(api: Api, path: str) -> None:
    def crashed(item: dict[str, Any]) -> bool:
        return str(item["status"].get("state", ""))[3:5] == "sc"

    api.wait(path, crashed, PATIENCE)
