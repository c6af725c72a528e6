"""The simulator as a driver of the port: what the agent sees of the simulated host. Its other side is SimHost.

A call that takes time on a real host (create_ms, destroy_ms, an added latency) blocks here as long.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kubexen.hypervisor import errors
from kubexen.hypervisor.drivers.sim.domain import SimDomain
from kubexen.hypervisor.drivers.sim.hints import Watcher
from kubexen.hypervisor.drivers.sim.machine import Machine, check
from kubexen.hypervisor.drivers.sim.settings import parse_uri
from kubexen.hypervisor.port import Capability, Devices, DomainConfig, DomainState, HostInfo, Listener, Owner

TOOLSTACK_VERSION = "sim-1"


class SimDriver:
    """One opening of a simulated host; any number of them may be open, in any number of processes."""

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self._directory = directory
        self._machine = Machine(directory, settings)
        self._random = random.Random()
        self._lock = threading.Lock()
        self._watcher: Watcher | None = None
        self._closed = False

    @classmethod
    def open(cls, uri: str) -> SimDriver:
        """Open `sim:///DIRECTORY?name=value&...`, and make it if it is not there.

        Raises:
            InvalidConfig: the URI has another form or an unknown setting.
            Unreachable: the directory cannot be used.
        """
        directory, settings = parse_uri(uri)
        try:
            return cls(directory, settings)
        except (OSError, sqlite3.Error) as error:
            raise errors.Unreachable(f"{directory}: {error}") from error

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(Capability)

    def host(self) -> HostInfo:
        with self._call("host"):
            moment = self._machine.moment()
        settings = moment.settings
        return HostInfo(
            boot_id=moment.boot_id,
            hypervisor_version=settings.version,
            toolstack_version=TOOLSTACK_VERSION,
            driver=f"sim://{self._directory}",
            flags_source="sim",
            cpus=settings.cpus,
            cpu_model="Simulated CPU",
            threads_per_core=1,
            cores_per_socket=settings.cpus,
            nodes=1,
            total_memory_kib=settings.memory,
            free_memory_kib=moment.free_kib,
            dom0_memory_kib=settings.dom0_memory,
            scheduler="credit2",
            capabilities=("xen-3.0-x86_64", "hvm-3.0-x86_32", "hvm-3.0-x86_32p", "hvm-3.0-x86_64"),
            command_line=settings.command_line,
        )

    def domains(self) -> Sequence[DomainState]:
        with self._call("domains"):
            moment = self._machine.moment()
        return [domain.state(moment.now, moment.settings, self._random.random()) for domain in moment.domains]

    def devices(self, uuid: str) -> Devices:
        with self._call("devices"):
            self._machine.settle()
            return self._machine.find(uuid).devices(time.time())

    def create(self, config: DomainConfig, *, paused: bool = False) -> DomainState:
        def build(domid: int) -> SimDomain:
            return SimDomain(
                uuid=config.uuid,
                name=config.name,
                domid=domid,
                memory_kib=config.memory_kib,
                max_memory_kib=config.max_memory_kib,
                vcpus=config.vcpus,
                max_vcpus=config.max_vcpus,
                started=time.time(),
                owner=config.owner,
                note=config.note,
                disks=[disk.target for disk in config.disks],
                interfaces=[interface.mac for interface in config.interfaces],
                restart_on_reboot=config.restart_on_reboot,
            )

        with self._call("create", config.uuid, {**asdict(config), "paused": paused}):
            with self._machine.change() as moment:
                check(config, moment.settings)
                domain = self._machine.add(moment, build, paused=paused)
            self._wait(domain)
            moment = self._machine.moment()
            for found in moment.domains:
                if found.uuid == config.uuid:
                    return found.state(moment.now, moment.settings, self._random.random())
            raise errors.Failed(f"{config.name} was destroyed while it was built")

    def destroy(self, uuid: str, domid: int) -> None:
        with self._call("destroy", uuid, {"domid": domid}):
            with self._machine.change() as moment:
                domain = self._machine.find(uuid)
                if domain.domid != domid:
                    raise errors.NotFound(f"{domain.name} is domain {domain.domid} now, not {domid}")
                if domain.building or domain.dying:
                    domain.check_acts()
                domain.destroy(moment.now, moment.settings)
                self._machine.keep(domain)
            self._wait(domain)
            self._machine.settle()

    def shutdown(self, uuid: str) -> None:
        with self._call("shutdown", uuid), self._machine.change() as moment:
            domain = self._machine.find(uuid)
            domain.ask_shutdown(moment.now, moment.settings)
            self._machine.keep(domain, hint=False)

    def pause(self, uuid: str) -> None:
        with self._call("pause", uuid), self._machine.change() as moment:
            domain = self._machine.find(uuid)
            if domain.pause(moment.now, moment.settings):
                self._machine.keep(domain)

    def unpause(self, uuid: str) -> None:
        with self._call("unpause", uuid), self._machine.change() as moment:
            domain = self._machine.find(uuid)
            if domain.unpause(moment.now, moment.settings):
                self._machine.keep(domain)

    def set_memory(self, uuid: str, kib: int) -> None:
        with self._call("set_memory", uuid, {"kib": kib}), self._machine.change() as moment:
            domain = self._machine.find(uuid)
            domain.check_acts()
            if not 0 < kib <= domain.max_memory_kib:
                raise errors.InvalidConfig(f"{kib} KiB for {domain.name}: at most {domain.max_memory_kib} KiB")
            if kib != domain.target_kib:
                domain.balloon(kib, moment.free_kib, moment.now, moment.settings)
                self._machine.keep(domain, hint=False)  # Xen's toolstacks tell nobody of a balloon

    def tidy(self) -> Sequence[Owner]:
        with self._call("tidy"), self._machine.change() as moment:
            found = [(domain, domain.owner) for domain in moment.domains if domain.defined and domain.owner]
            for domain, _ in found:
                domain.defined = False
                self._machine.keep(domain, hint=False)
        return [owner for _, owner in found]

    def loop(self, name: str, file: int, *, read_only: bool = False) -> str:
        with self._call("loop"):
            return self._machine.loop(name, file)

    def unloop(self, name: str) -> None:
        with self._call("unloop"):
            self._machine.unloop(name)

    def loops(self) -> Sequence[str]:
        with self._call("loops"):
            return sorted(self._machine.store.layers()["loop"])

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        with self._lock:
            if self._closed:
                raise errors.Unreachable("the driver is closed")
            if self._watcher is None:
                try:
                    self._watcher = Watcher(self._machine, self._directory)
                except (sqlite3.Error, OSError) as error:
                    raise errors.Unreachable(f"{self._directory}: {error}") from error
            return self._watcher.add(listener)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
        self._machine.close()

    @contextmanager
    def _call(self, name: str, uuid: str | None = None, args: Mapping[str, Any] | None = None) -> Iterator[None]:
        """What every call goes through: it is logged, delayed, and fails as SimHost asked."""
        if self._closed:
            raise errors.Unreachable("the driver is closed")
        try:
            delay, down, fault = self._machine.admit(name, uuid, args or {})
            time.sleep(delay)
            if down:
                raise errors.Unreachable("the simulated toolstack does not answer")
            if fault is not None and not fault.after:
                raise getattr(errors, fault.error)(fault.message)
            yield
        except (sqlite3.Error, OSError) as error:
            raise errors.Unreachable(f"{self._directory}: {error}") from error
        if fault is not None:
            raise getattr(errors, fault.error)(fault.message)

    def _wait(self, domain: SimDomain) -> None:
        time.sleep(max(0.0, (domain.due or 0.0) - time.time()))
