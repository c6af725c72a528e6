"""Whose a domain is: its name, owner and note, from libvirt, kept for as long as it has its domid.

driver.py asks for every domain of a look. A libvirt call a domain would make a look slow (12 ms for 2 domains, 180 for
20), and nothing of this changes while a domain lives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import libvirt

from kubexen.hypervisor.drivers.libvirt.config import METADATA_URI, parse_metadata
from kubexen.hypervisor.drivers.libvirt.connection import Connection
from kubexen.hypervisor.drivers.libvirt.flags import Sample
from kubexen.hypervisor.port import Owner

STRANGER_SECONDS = 5.0  # how long 'libvirt does not know it' holds


@dataclass(frozen=True)
class Identity:
    name: str
    owner: Owner | None = None
    note: str = ""


class Identities:
    """`stranger_name` names a domain that libvirt does not know, by its domid."""

    def __init__(
        self,
        connection: Connection,
        stranger_name: Callable[[int], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._stranger_name = stranger_name
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], tuple[Identity, float | None]] = {}  # with the time it holds until

    def of(self, samples: Sequence[Sample]) -> list[Identity]:
        """One for each sample, in order; what is not among them any more is forgotten. Errors: Unreachable."""
        now = self._clock()
        keys = [(sample.uuid, sample.domid) for sample in samples]
        with self._lock:
            known = {key: self._known[key] for key in keys if key in self._known}
        for key in keys:
            _, until = known.get(key, (None, now))
            if until is not None and until <= now:
                found = self._look_up(key[0])
                known[key] = (found, None) if found else (Identity(self._stranger_name(key[1])), now + STRANGER_SECONDS)
        with self._lock:
            self._known = known
        return [known[key][0] for key in keys]

    def _look_up(self, uuid: str) -> Identity | None:
        with self._connection.calls(f"look up {uuid}") as conn:
            try:
                domain = conn.lookupByUUIDString(uuid)
                name = str(domain.name())
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    return None
                raise
            metadata = metadata_of(domain)
        return Identity(name) if metadata is None else Identity(name, *metadata)


def metadata_of(domain: Any) -> tuple[Owner, str] | None:
    """Owner and note of a virDomain; None: not ours (or just gone). Raises libvirtError.

    From the whole XML: virDomainGetMetadata refuses a transient domain that is being built or has just ended.
    """
    try:
        xml = domain.XMLDesc(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
    element = ElementTree.fromstring(xml).find(f"metadata/{{{METADATA_URI}}}domain")
    return None if element is None else parse_metadata(ElementTree.tostring(element, encoding="unicode"))
