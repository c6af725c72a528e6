"""A domain's configuration, whole and valid, of which a test changes what it is about."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

from kubexen.hypervisor.port import DiskConfig, DomainConfig, DomainType, InterfaceConfig, Owner

PLAIN = DomainConfig(
    uuid="5f0c1c8e-6f35-4e0c-9a53-1d2f0b1c9f11",
    name="shop.web",
    owner=Owner("shop", "web", "0e8b0b0c-6d2f-4f5e-8a53-6f354e0c9a53"),
    type=DomainType.PV,
    kernel="/var/lib/images/vmlinuz",
    vcpus=1,
    max_vcpus=2,
    memory_kib=96 * 1024,
    max_memory_kib=128 * 1024,
    disks=(
        DiskConfig("/run/disks/root", "xvda"),
        DiskConfig("/dev/vg0/data", "xvdb", read_only=True, block_device=True),
    ),
    interfaces=(InterfaceConfig("00:16:3e:00:00:01", "xenbr0"),),
)


def config(**changes: Any) -> DomainConfig:
    return dataclasses.replace(PLAIN, **changes)


def fresh(**changes: Any) -> DomainConfig:
    """With a uuid and a name that nothing else has."""
    new = str(uuid.uuid4())
    return config(uuid=new, name=f"web-{new[:8]}", **changes)
