"""Configurations and simulated hosts for the tests of this folder."""

from __future__ import annotations

import dataclasses
import itertools
import time
import uuid
from collections.abc import Callable
from typing import Any

from kubexen.hypervisor.port import DiskConfig, DomainConfig, DomainType, InterfaceConfig, Owner

MIB = 1024
_numbers = itertools.count(1)


def config(name: str = "", **changes: Any) -> DomainConfig:
    """A domain of 128 MiB (192 at most) with a disk and an interface; every call another one."""
    number = next(_numbers)
    base = DomainConfig(
        uuid=str(uuid.uuid4()),
        name=name or f"domain-{number}",
        owner=Owner("shop", name or f"domain-{number}", f"uid-{number}"),
        type=DomainType.PV,
        kernel="/boot/vmlinux",
        vcpus=1,
        max_vcpus=2,
        memory_kib=128 * MIB,
        max_memory_kib=192 * MIB,
        disks=(DiskConfig("/srv/disk.raw", "xvda"),),
        interfaces=(InterfaceConfig("00:16:3e:00:00:01", "xenbr0"),),
    )
    return dataclasses.replace(base, **changes)


def eventually(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    """What another process or thread is to bring about."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.005)
    return value
