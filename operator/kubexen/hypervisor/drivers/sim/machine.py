"""The simulated host: domains over time, its memory, what it refuses. The driver and SimHost each open their own.

Its settings come in two layers: those of the URI it was last opened with, and above them those that SimHost.set gave.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubexen.hypervisor.drivers.sim import hints
from kubexen.hypervisor.drivers.sim.domain import OVERHEAD_KIB, SimDomain
from kubexen.hypervisor.drivers.sim.settings import Settings
from kubexen.hypervisor.drivers.sim.store import Fault, Store
from kubexen.hypervisor.errors import AlreadyExists, InvalidConfig, NoMemory, NotFound
from kubexen.hypervisor.port import DomainConfig

XEN_KIB = 64 * 1024  # what Xen keeps for itself
_CPUSET = re.compile(r"\^?\d+(-\d+)?(,\^?\d+(-\d+)?)*")


@dataclass(frozen=True)
class Moment:
    """The host as one transaction sees it."""

    now: float
    settings: Settings
    boot_id: str
    domains: list[SimDomain]

    @property
    def free_kib(self) -> int:
        taken = sum(domain.reserved(self.now, self.settings) for domain in self.domains)
        return max(0, self.settings.memory - self.settings.dom0_memory - XEN_KIB - taken)


class Machine:
    """One opening of a simulated host."""

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.store = Store(directory)
        with self.store.writing():
            if self.store.fact("boot_id") is None:
                self.boot()
            if settings is not None:
                self.store.clear_layer("uri")
                for key, value in settings.items():
                    self.store.set("uri", key, value)

    def close(self) -> None:
        self.store.close()

    def boot(self) -> None:
        """The machine starts: another boot id, and no domain is left. Within change()."""
        self.store.clear("domain")
        self.store.clear_layer("loop")
        self.store.set("fact", "boot_id", str(uuid.uuid4()))
        self.store.set("fact", "domid", "0")

    # -- looking

    def settings(self) -> Settings:
        layers = self.store.layers()
        return Settings.parse({**layers["uri"], **layers["host"]})

    def moment(self) -> Moment:
        """The host now, every step taken that is due."""
        self.settle()
        with self.store.reading():
            return self._moment()

    def _moment(self) -> Moment:
        layers = self.store.layers()
        settings = Settings.parse({**layers["uri"], **layers["host"]})
        domains = sorted(self.store.domains(), key=lambda domain: domain.domid)
        return Moment(time.time(), settings, layers["fact"]["boot_id"], domains)

    def next_due(self) -> float | None:
        return self.store.next_due()

    def last_change(self) -> int:
        return self.store.last_change()

    def changes(self, seen: int) -> tuple[int, list[str | None]]:
        """What a driver has to tell its listeners: nothing while the toolstack is down or hints are lost."""
        self.settle()
        if self.store.fact("down"):
            return seen, []
        newest, changes = self.store.changes(seen)
        return newest, changes if changes and self.settings().hints else []

    # -- changing

    def settle(self) -> None:
        """Take every step that is due."""
        due = self.store.next_due()
        if due is not None and due <= time.time():
            with self.change():
                pass

    @contextmanager
    def change(self) -> Iterator[Moment]:
        """A transaction; the watchers are woken when it is done."""
        last = self.store.last_change()
        with self.store.writing():
            moment = self._moment()
            if self._advance(moment.now, moment.settings):
                moment = self._moment()
            yield moment
        # Also for a change without a hint: the watchers then have another moment to wake at.
        if self.store.last_change() != last or self.store.next_due() is not None:
            hints.wake(self.directory)

    def _advance(self, now: float, settings: Settings) -> bool:
        advanced = False
        while due := self.store.due(now):
            advanced = True
            domain = due[0]
            self.keep(domain, alive=domain.advance(settings, self.new_domid))
        return advanced

    def keep(self, domain: SimDomain, *, alive: bool = True, hint: bool = True) -> None:
        """Write a domain back (or out), within change(). Of what xl made, the toolstack tells nothing."""
        if alive:
            self.store.put(domain)
        else:
            self.store.remove(domain.uuid)
        if hint and domain.managed:
            self.store.add_change(domain.uuid)

    def new_domid(self) -> int:
        """Domain ids count up until the machine reboots."""
        domid = int(self.store.fact("domid") or 0) + 1
        self.store.set("fact", "domid", str(domid))
        return domid

    def find(self, uuid: str) -> SimDomain:
        """A domain the toolstack knows. Raises: NotFound."""
        domain = self.store.by_uuid(uuid)
        if domain is None or not domain.managed:
            raise NotFound(f"no domain with uuid {uuid}")
        return domain

    def find_name(self, name: str) -> SimDomain:
        """Any domain. Raises: NotFound."""
        domain = self.store.by_name(name)
        if domain is None:
            raise NotFound(f"no domain {name!r}")
        return domain

    def add(self, moment: Moment, build: Callable[[int], SimDomain], *, paused: bool) -> SimDomain:
        """Start to build a domain, within change(). Raises: AlreadyExists, NoMemory."""
        domain = build(0)
        if any(domain.uuid == other.uuid for other in moment.domains):
            raise AlreadyExists(f"a domain with uuid {domain.uuid} exists")
        if any(domain.name == other.name for other in moment.domains):
            raise AlreadyExists(f"a domain with name {domain.name!r} exists")
        need = domain.memory_kib + OVERHEAD_KIB
        if need > moment.free_kib:
            raise NoMemory(f"{domain.name} needs {need} KiB, {moment.free_kib} KiB are free")
        domain = build(self.new_domid())
        domain.build(moment.now, moment.settings, paused=paused)
        self.keep(domain)
        return domain

    # -- loop devices

    def loop(self, name: str, file: int) -> str:
        """The device of this name over an open file. Nothing reads it: what counts is which file it is over."""
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidConfig(f"{name}: no regular file")
        with self.store.writing():
            made = {key: json.loads(text) for key, text in self.store.layers()["loop"].items()}
            number = made[name]["number"] if name in made else self._free({loop["number"] for loop in made.values()})
            record = {"number": number, "file": os.readlink(f"/proc/self/fd/{file}")}
            self.store.set("loop", name, json.dumps(record))
        return f"/dev/loop{number}"

    def _free(self, numbers: set[int]) -> int:
        return next(number for number in itertools.count() if number not in numbers)

    def unloop(self, name: str) -> None:
        with self.store.writing():
            self.store.unset("loop", name)

    # -- calls

    def admit(self, call: str, uuid: str | None, args: Mapping[str, Any]) -> tuple[float, bool, Fault | None]:
        """Note an act (uuid given); say by how many seconds it is late, if the toolstack is down, and how it fails."""
        layers = self.store.layers()
        fault = None
        if uuid is not None or self.store.has_fault(call):
            with self.store.writing():
                if uuid is not None:
                    self.store.add_call(time.time(), call, uuid, args)
                fault = self.store.take_fault(call)
        return int(layers["latency"].get(call, "0")) / 1000, "down" in layers["fact"], fault


def check(config: DomainConfig, settings: Settings) -> None:
    """Raises: InvalidConfig for what no state of the host would let start."""
    targets = [disk.target for disk in config.disks]
    for wrong, why in (
        (not config.kernel, "no kernel"),
        *((d.read_only and not d.block_device, f"{d.target}: a file cannot be read-only; give a device over it")
          for d in config.disks),
        (config.memory_kib <= 0 or config.memory_kib > config.max_memory_kib, "memory is not within 1 and its maximum"),
        (config.vcpus < 1 or config.vcpus > config.max_vcpus, "vcpus is not within 1 and its maximum"),
        (config.vcpus > settings.cpus, f"{config.vcpus} vCPUs on {settings.cpus} physical CPUs"),
        (bool(config.affinity) and not _CPUSET.fullmatch(config.affinity), f"cpuset {config.affinity!r}"),
        (len(set(targets)) < len(targets), "two disks with one target"),
    ):
        if wrong:
            raise InvalidConfig(f"{config.name}: {why}")
