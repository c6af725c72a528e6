"""The other side of a host under test: what guests do, and an administrator. One implementation a driver.

The tests reach it through Lab (lab.py). What one cannot do is not in its `provides`, and skips.py says why.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Protocol

from kubexen.hypervisor.drivers.sim.host import SimHost

GUEST_ACTS = "guest-acts"  # a guest can be made to power off, reboot or crash
ADMINISTRATOR = "administrator"  # somebody else with xl in dom0


class Guests(Protocol):
    provides: frozenset[str]

    def wait_up(self, name: str, timeout: float) -> None:
        """Until the guest's user space runs, so that it can answer a request."""

    def poweroff(self, name: str) -> None: ...

    def reboot(self, name: str) -> None: ...

    def crash(self, name: str) -> None: ...

    def xl(self, act: str, name: str) -> None:
        """An administrator's pause, unpause or destroy."""

    def define(self, name: str) -> None:
        """An administrator's `virsh define` of what `virsh dumpxml` tells."""

    def unmanaged(self) -> str:
        """The name of a running domain that the driver did not make."""

    def close(self) -> None: ...


class SimGuests:
    """Played by the simulator's other side."""

    provides = frozenset({GUEST_ACTS, ADMINISTRATOR})

    def __init__(self, uri: str) -> None:
        self._host = SimHost(uri)
        self.poweroff = self._host.guest_poweroff
        self.reboot = self._host.guest_reboot
        self.crash = self._host.guest_crash
        self.define = self._host.virsh_define

    def wait_up(self, name: str, timeout: float) -> None:
        """A simulated guest answers as soon as it runs."""

    def xl(self, act: str, name: str) -> None:
        {"pause": self._host.xl_pause, "unpause": self._host.xl_unpause, "destroy": self._host.xl_destroy}[act](name)

    def unmanaged(self) -> str:
        self._host.xl_create_unmanaged("stranger", 65536)
        return "stranger"

    def close(self) -> None:
        if any(domain.name == "stranger" for domain in self._host.list()):
            self._host.xl_destroy("stranger")
        self._host.close()


class TestDriverGuests:
    """libvirt's test driver runs none; it comes with one domain, `test`."""

    __test__ = False
    provides: frozenset[str] = frozenset()

    def wait_up(self, name: str, timeout: float) -> None:
        """There is no guest."""

    def poweroff(self, name: str) -> None:
        raise NotImplementedError

    reboot = crash = define = poweroff

    def xl(self, act: str, name: str) -> None:
        raise NotImplementedError

    def unmanaged(self) -> str:
        return "test"

    def close(self) -> None:
        """Nothing was made."""


class XenGuests:
    """Real guests in the dom0 that the suite runs in: a shell listens on the guest's console, and xl is at hand.

    The guest must print something to its console when, and only when, that shell is there (`marker`).
    """

    provides = frozenset({GUEST_ACTS, ADMINISTRATOR})

    def __init__(self, kernel: str, initrd: str, marker: str) -> None:
        self._kernel, self._initrd, self._marker = kernel, initrd, marker.encode()
        self._stranger = False

    def wait_up(self, name: str, timeout: float) -> None:
        end, seen = time.monotonic() + timeout, b""
        console = os.open(self._tty(name, end), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            while self._marker not in seen:
                left = end - time.monotonic()
                if left <= 0 or not select.select([console], [], [], left)[0]:
                    raise TimeoutError(f"{name} did not print {self._marker!r}; the last of its console: {seen!r}")
                with contextlib.suppress(BlockingIOError):  # somebody else reads the console too
                    seen = (seen + os.read(console, 4096))[-4096:]
        finally:
            os.close(console)

    def poweroff(self, name: str) -> None:
        self._type(name, "poweroff -f")

    def reboot(self, name: str) -> None:
        self._type(name, "reboot -f")

    def crash(self, name: str) -> None:
        self._type(name, "echo c > /proc/sysrq-trigger")

    def xl(self, act: str, name: str) -> None:
        _run("xl", act, name)

    def define(self, name: str) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(_run("virsh", "-c", "xen:///system", "dumpxml", name))
            file.flush()
            _run("virsh", "-c", "xen:///system", "define", file.name)

    def unmanaged(self) -> str:
        name = "kubexen-contract-stranger"
        with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
            config.write(f'name="{name}"\ntype="pv"\nmemory=96\nvcpus=1\nkernel="{self._kernel}"\n')
            config.write(f'ramdisk="{self._initrd}"\nextra="console=hvc0"\n')
            config.flush()
            _run("xl", "create", "-e", config.name)  # -e: no xl process that waits for its end
        self._stranger = True
        return name

    def close(self) -> None:
        if self._stranger:
            self.xl("destroy", "kubexen-contract-stranger")

    def _type(self, name: str, command: str) -> None:
        console = os.open(self._tty(name, time.monotonic()), os.O_WRONLY | os.O_NOCTTY)
        try:
            os.write(console, command.encode() + b"\n")
        finally:
            os.close(console)

    def _tty(self, name: str, end: float) -> Path:
        """The console daemon names the terminal some moments after the domain appeared."""
        key = f"/local/domain/{_run('xl', 'domid', name).strip()}/console/tty"
        while True:
            found = subprocess.run(["xenstore-read", key], capture_output=True, text=True)
            if found.returncode == 0 and found.stdout.strip():
                return Path(found.stdout.strip())
            if time.monotonic() >= end:
                raise TimeoutError(f"no {key}")
            time.sleep(0.1)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
