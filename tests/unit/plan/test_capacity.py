"""What a node offers the scheduler, with lost anchors and double ones put right."""

from __future__ import annotations

import pytest

from kubexen.api.xenhost import XenHost
from kubexen.plan.capacity import Held, capacity
from tests.unit.api import builders as documents


def host(guests: str = "16Gi", cpus: int = 4) -> XenHost:
    document = documents.host()
    document["status"] = {
        "memory": {"total": "20Gi", "free": "10Gi", "forGuests": guests}, "cpus": {"physical": cpus},
    }
    return XenHost.parse(document)


def fenced() -> XenHost:
    document, boot = host().to_dict(), "00000000-0000-4000-8000-000000000001"
    document["spec"]["fencedBootID"] = document["status"]["bootID"] = boot
    return XenHost.parse(document)


CASES: dict[str, tuple[XenHost | None, list[Held], int, int]] = {
    "nothing on it": (host(), [], 16384, 32),
    "each domain has its anchor: the scheduler counts them": (host(), [Held(1024, 2, 1)] * 3, 16384, 32),
    "an anchor is lost: its domain still takes its share": (host(), [Held(1024, 2, 0)], 15360, 30),
    "a second anchor on the same node: the domain is there once": (host(), [Held(1024, 2, 2)], 17408, 34),
    "one of each": (host(), [Held(1024, 2, 0), Held(1024, 2, 2)], 16384, 32),
    "what is begun is not there": (host("1025Ki"), [], 1, 32),
    "never below nothing": (host("1Gi", 1), [Held(4096, 32, 0)], 0, 0),
    "nothing is known of the host": (None, [Held(1024, 2, 1)], 0, 0),
    "it was fenced": (fenced(), [Held(1024, 2, 1)], 0, 0),
    "its agent has not told yet": (XenHost.parse(documents.host()), [], 0, 0),
}


@pytest.mark.parametrize("found, held, memory, vcpus", CASES.values(), ids=CASES)
def test_capacity(found: XenHost | None, held: list[Held], memory: int, vcpus: int) -> None:
    assert capacity(found, held) == {"kubexen.dev/memory-mib": memory, "kubexen.dev/vcpus": vcpus}
