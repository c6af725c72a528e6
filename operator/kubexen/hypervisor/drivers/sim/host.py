"""The other side of a simulated host: what guests, an administrator with xl, and faults do to it.

Tests and the demo play them through SimHost, in any process, beside any number of open drivers.
"""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

from kubexen.hypervisor import errors
from kubexen.hypervisor.drivers.sim.domain import SimDomain
from kubexen.hypervisor.drivers.sim.machine import XEN_KIB, Machine, Moment
from kubexen.hypervisor.drivers.sim.settings import Settings, parse_uri
from kubexen.hypervisor.drivers.sim.store import Call, Fault
from kubexen.hypervisor.port import DomainState, ShutdownReason

CALLS = ("host", "domains", "devices", "create", "destroy", "shutdown", "pause", "unpause", "set_memory", "tidy",
         "loop", "unloop", "loops")


class SimHost:
    """A simulated host, by its directory or URI (of which it leaves the settings to the driver). Domains go by name."""

    def __init__(self, where: str | Path) -> None:
        text = str(where)
        self.directory = parse_uri(text)[0] if text.startswith("sim:") else Path(text).absolute()
        self._machine = Machine(self.directory)

    def close(self) -> None:
        self._machine.close()

    def __enter__(self) -> SimHost:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what a guest does

    def guest_poweroff(self, name: str) -> None:
        """Raises: NotFound, WrongState (ended or paused: it cannot act)."""
        self._end(name, ShutdownReason.POWEROFF)

    def guest_reboot(self, name: str) -> None:
        """The host starts it again after reboot_ms with another domid, or leaves it if it is not to restart."""
        self._end(name, ShutdownReason.REBOOT)

    def guest_crash(self, name: str) -> None:
        self._end(name, ShutdownReason.CRASH)

    def ignore_shutdown(self, name: str, ignore: bool = True) -> None:
        """The guest does not answer shutdown requests (any more)."""
        with self._machine.change():
            domain = self._machine.find_name(name)
            domain.ignore_shutdown(ignore)
            self._machine.keep(domain, hint=False)

    def set_busy(self, name: str, busy: bool = True) -> None:
        """The guest computes: mostly r, where an idle one is mostly b."""
        with self._machine.change():
            domain = self._machine.find_name(name)
            domain.busy = busy
            self._machine.keep(domain, hint=False)

    def _end(self, name: str, reason: ShutdownReason) -> None:
        with self._machine.change() as moment:
            domain = self._machine.find_name(name)
            domain.check_acts()
            if domain.paused:
                raise errors.WrongState(f"{name} is paused: its guest cannot act")
            domain.end(reason, moment.now, moment.settings)
            self._machine.keep(domain)

    # -- what an administrator does in dom0

    def xl_destroy(self, name: str) -> None:
        with self._machine.change():
            self._machine.keep(self._machine.find_name(name), alive=False)

    def xl_pause(self, name: str) -> None:
        """Without a hint: the toolstack that the driver speaks to does not notice it."""
        with self._machine.change() as moment:
            domain = self._machine.find_name(name)
            domain.pause(moment.now, moment.settings)
            self._machine.keep(domain, hint=False)

    def xl_unpause(self, name: str) -> None:
        """Without a hint."""
        with self._machine.change() as moment:
            domain = self._machine.find_name(name)
            domain.unpause(moment.now, moment.settings)
            self._machine.keep(domain, hint=False)

    def virsh_define(self, name: str) -> None:
        with self._machine.change():
            domain = self._machine.find_name(name)
            domain.defined = True
            self._machine.keep(domain, hint=False)

    def xl_create_unmanaged(self, name: str, memory_kib: int = 131072, vcpus: int = 1) -> str:
        """A domain of somebody else: shown by the driver, without an owner, and without a hint. Returns its uuid."""
        new = str(uuid.uuid4())

        def build(domid: int) -> SimDomain:
            return SimDomain(
                uuid=new, name=name, domid=domid, memory_kib=memory_kib, max_memory_kib=memory_kib, vcpus=vcpus,
                max_vcpus=vcpus, started=time.time(), managed=False,
            )  # fmt: skip

        with self._machine.change() as moment:
            self._machine.add(moment, build, paused=False)
        return new

    def reboot_host(self) -> None:
        """Another boot id, and every domain is gone."""
        with self._machine.change():
            self._machine.boot()
            self._machine.store.add_change(None)

    # -- faults

    def fail_next(
        self,
        call: str,
        error: str | type[errors.HypervisorError],
        message: str = "",
        *,
        times: int = 1,
        after: bool = False,
    ) -> None:
        """The next calls of the driver's method `call` fail with `error` (of errors.py, or its name).

        after: the act is done, and only its answer is lost.
        """
        name = error if isinstance(error, str) else error.__name__
        kind = getattr(errors, name, None)
        if not (isinstance(kind, type) and issubclass(kind, errors.HypervisorError)):
            raise errors.InvalidConfig(f"errors.py has no {name!r}")
        self._check_call(call)
        with self._machine.store.writing():
            for _ in range(times):
                self._machine.store.add_fault(call, Fault(name, message or f"{call} was told to fail", after))

    def set_latency(self, call: str, ms: int) -> None:
        """Every call of the driver's method takes so much longer."""
        self._check_call(call)
        with self._machine.store.writing():
            self._machine.store.set("latency", call, str(ms))

    def stop_toolstack(self) -> None:
        """As if libvirtd stopped: every call is Unreachable, no hint comes, domains run on."""
        with self._machine.store.writing():
            self._machine.store.set("fact", "down", "1")

    def start_toolstack(self) -> None:
        """Listeners are told to look at everything."""
        with self._machine.change():
            self._machine.store.unset("fact", "down")
            self._machine.store.add_change(None)

    def _check_call(self, call: str) -> None:
        if call not in CALLS:
            raise errors.InvalidConfig(f"the port has no {call!r}: {', '.join(CALLS)}")

    # -- the machine

    def set(self, **settings: str | int | float) -> None:
        """Change the host, above the URI's settings from now on: `set(memory="2Gi", create_ms=5000)`."""
        texts = {name: str(value) for name, value in settings.items()}
        Settings.parse(texts)
        with self._machine.store.writing():
            for name, text in texts.items():
                self._machine.store.set("host", name, text)

    def set_free(self, kib: int) -> None:
        """Give the machine just so much memory that `kib` are free now."""
        with self._machine.change() as moment:
            settings = moment.settings
            taken = sum(domain.reserved(moment.now, settings) for domain in moment.domains)
            self._machine.store.set("host", "memory", str(kib + taken + settings.dom0_memory + XEN_KIB))

    def reset(self) -> None:
        """Forget domains, calls, faults, latencies and what set() changed; the boot id and the URI's settings stay."""
        with self._machine.change():
            self._machine.store.clear("domain", "call", "fault")
            self._machine.store.clear_layer("host")
            self._machine.store.clear_layer("latency")
            self._machine.store.clear_layer("loop")
            self._machine.store.unset("fact", "down")
            self._machine.store.add_change(None)

    # -- looking

    def calls(self, name: str | None = None) -> list[Call]:
        """The acts that drivers were asked for (create to set_memory, not the looks), the oldest first."""
        return [call for call in self._machine.store.calls() if name in (None, call.name)]

    def loops(self) -> dict[str, str]:
        """The file behind each loop device, by its name: where it was when the device was made."""
        return {name: json.loads(text)["file"] for name, text in self._machine.store.layers()["loop"].items()}

    def list(self) -> list[DomainState]:
        """All domains, by domid, each guest in its usual state (no samples)."""
        moment = self._machine.moment()
        return [domain.state(moment.now, moment.settings, 1.0) for domain in moment.domains]

    def xl_list(self) -> str:
        """The text of `xl list`."""
        moment = self._machine.moment()
        lines = [f"{'Name':<40} {'ID':>5} {'Mem':>5} {'VCPUs':>5}   {'State':<8} {'Time(s)':>9}"]
        settings = moment.settings
        lines.append(_line("Domain-0", 0, settings.dom0_memory, settings.cpus, "r-----", 0.0))
        lines += [_domain_line(domain, moment) for domain in moment.domains]
        return "\n".join(lines)


def _domain_line(domain: SimDomain, moment: Moment) -> str:
    memory = domain.memory(moment.now, moment.settings)
    flags = str(domain.flags(1.0, moment.settings.flicker))
    return _line(domain.name, domain.domid, memory, domain.vcpus, flags, domain.cpu_seconds(moment.now))


def _line(name: str, domid: int, memory_kib: int, vcpus: int, flags: str, seconds: float) -> str:
    return f"{name:<40} {domid:>5} {memory_kib // 1024:>5} {vcpus:>5}   {flags:<8} {seconds:>9.1f}"
