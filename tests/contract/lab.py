"""A host under test, as the tests use it: drivers opened on it, configurations that fit it, waiting, and tidying up.

The fixture `lab` of conftest.py makes one a test. Nothing of the domains that a test made outlives it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kubexen.hypervisor.drivers import opener
from kubexen.hypervisor.errors import NotFound
from kubexen.hypervisor.port import (
    BackendState,
    Capability,
    DiskConfig,
    DomainConfig,
    DomainState,
    DomainType,
    Hypervisor,
    InterfaceConfig,
    Owner,
)

from .guests import Guests

T = TypeVar("T")
OWNER_NAMESPACE = "kubexen-contract"
LOOKS = 500
"""In the time that any one change may take."""

DISK_BYTES = 16 * 1024**2
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Options:
    """From the command line; see conftest.py."""

    kernel: str
    initrd: str
    cmdline: str
    bridge: str
    disk_dir: Path
    memory_mib: int
    timeout: float


@dataclass
class Lab:
    uri: str
    options: Options
    guests: Guests
    driver: Hypervisor = field(init=False)
    _opened: list[Hypervisor] = field(default_factory=list)
    _files: list[Path] = field(default_factory=list)
    _uuids: list[str] = field(default_factory=list)  # of configurations; loop devices may have these names

    def __post_init__(self) -> None:
        self.driver = self.connect()
        self._destroy_ours()  # what an earlier run left behind

    @property
    def scheme(self) -> str:
        return self.uri.split(":", 1)[0]

    @property
    def provides(self) -> frozenset[str]:
        return frozenset(str(capability) for capability in self.driver.capabilities) | self.guests.provides

    @property
    def slack_kib(self) -> int:
        """By how much the memory that a host tells may differ from what was asked: page tables, console, rounding."""
        return self.options.memory_mib * 1024 // 16

    def connect(self) -> Hypervisor:
        """One more driver on the host."""
        self._opened.append(opener(self.uri)())
        return self._opened[-1]

    def config(self, *, devices: bool = False, **changes: Any) -> DomainConfig:
        """A small domain; every call another one.

        `devices`: with a disk and an interface. They cost an emulated host more than all else of a start, so only a test
        that is about them, or about what happens to them, asks for them.
        """
        number = next(_numbers)
        name = f"contract-{os.getpid()}-{number}"
        config = DomainConfig(
            uuid=str(uuid.uuid4()),
            name=name,
            owner=Owner(OWNER_NAMESPACE, name, str(uuid.uuid4())),
            type=DomainType.PV,
            kernel=self.options.kernel,
            initrd=self.options.initrd,
            cmdline=self.options.cmdline,
            vcpus=1,
            max_vcpus=1,
            memory_kib=self.options.memory_mib * 1024,
            max_memory_kib=self.options.memory_mib * 1024 * 3 // 2,
        )
        if devices:
            mac = f"00:16:3e:7f:{number // 256:02x}:{number % 256:02x}"
            disks, interfaces = (DiskConfig(str(self._disk(name)), "xvda"),), (InterfaceConfig(mac, self.options.bridge),)
            config = dataclasses.replace(config, disks=disks, interfaces=interfaces)
        self._uuids.append(config.uuid)
        return dataclasses.replace(config, **changes)

    def start(self, **changes: Any) -> DomainConfig:
        """A domain whose guest is up: its devices are connected and it answers requests."""
        config = self.config(**changes)
        self.driver.create(config)
        self.wait_up(config)
        return config

    def wait_up(self, config: DomainConfig) -> None:
        if Capability.BACKENDS in self.driver.capabilities:
            self.eventually(lambda: self.connected(config.uuid), "its devices are connected")
        self.guests.wait_up(config.name, self.options.timeout)

    def connected(self, uuid: str) -> bool:
        devices = self.driver.devices(uuid)
        return all(device.backend is BackendState.CONNECTED for device in devices.disks + devices.interfaces)

    def find(self, uuid: str) -> DomainState | None:
        found = [state for state in self.driver.domains() if state.uuid == uuid]
        assert len(found) <= 1, f"one domain is listed twice: {found}"
        return found[0] if found else None

    def state(self, uuid: str) -> DomainState:
        state = self.find(uuid)
        assert state is not None, f"{uuid} is not among {self.driver.domains()}"
        return state

    def ended(self, uuid: str) -> bool:
        """It has the flag s, or is gone where ended domains do not stay."""
        state = self.find(uuid)
        return state is None or state.flags.shutdown

    def eventually(self, condition: Callable[[], T], what: str, *, every_moment: bool = False) -> T:
        """What `condition` returned as soon as it is true; fails when the timeout of the command line is over.

        The slower the host, the longer between two looks: on an emulated CPU they take from the guest what it boots with.
        `every_moment`: look again at once, for what may be so for a moment only.
        """
        end = time.monotonic() + self.options.timeout
        while not (value := condition()):
            if time.monotonic() >= end:
                pytest.fail(f"not within {self.options.timeout} s: {what}; the host shows {self.driver.domains()}")
            time.sleep(0 if every_moment else self.options.timeout / LOOKS)
        return value

    def close(self) -> None:
        self.driver = self.connect()  # the test may have closed its own
        try:
            self._destroy_ours()
            for name in self._uuids:
                self.driver.unloop(name)
        finally:
            self.guests.close()
            for driver in self._opened:
                driver.close()
            for path in self._files:
                path.unlink(missing_ok=True)

    def _destroy_ours(self) -> None:
        for state in self.driver.domains():
            if state.owner is not None and state.owner.namespace == OWNER_NAMESPACE:
                with contextlib.suppress(NotFound):
                    self.driver.destroy(state.uuid, state.domid)

    def _disk(self, name: str) -> Path:
        path = self.options.disk_dir / f"{name}.raw"
        with open(path, "wb") as disk:
            disk.truncate(DISK_BYTES)
        self._files.append(path)
        return path
