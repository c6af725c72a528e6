"""What a plan for a domain on its host is made from, and what it may say is to be done: one step at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kubexen.api.domainstatus import XenDomainStatus
from kubexen.hypervisor.port import Devices, DomainState
from kubexen.plan.report import Event


@dataclass(frozen=True)
class Start:
    pass


@dataclass(frozen=True)
class Destroy:
    uuid: str
    domid: int


@dataclass(frozen=True)
class Shutdown:
    uuid: str


@dataclass(frozen=True)
class Pause:
    uuid: str


@dataclass(frozen=True)
class Unpause:
    uuid: str


@dataclass(frozen=True)
class SetMemory:
    uuid: str
    kib: int


Step = Start | Destroy | Shutdown | Pause | Unpause | SetMemory


@dataclass(frozen=True)
class Host:
    """What the plan knows of the host it is on."""

    node: str
    boot_id: str


NO_DEVICES = Devices()


@dataclass(frozen=True)
class Observed:
    """The domain on this host; `state` None: it is not here."""

    state: DomainState | None
    devices: Devices = NO_DEVICES
    ended_at: datetime | None = None  # since when it has the flag `s`
    asked_at: datetime | None = None  # when it was last asked to shut down
    unclaimed: int | None = None  # the domid of a domain of its uuid and name of which libvirt does not know whose it is


@dataclass(frozen=True)
class Plan:
    status: XenDomainStatus
    step: Step | None = None
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
