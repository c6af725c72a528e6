"""Files that a domain gets as block devices, read-only: where they are on a host. QEMU's xen-disk (7.2) serves no raw file
read-only, and the kernel's blkback serves devices only."""

from __future__ import annotations

DEVICES = "/run/kubexen/devices"
LOOP = "of-"
"""How the names of their loop devices begin; those of claims are uids."""


def path(uuid: str, name: str) -> str:
    """The path on the host of the domain of this UUID: a link to the device."""
    return f"{DEVICES}/{uuid}/{name}"


def loop(uuid: str, name: str = "") -> str:
    """The name of its loop device; without a name, how all of the domain's begin."""
    return f"{LOOP}{uuid}/{name}"
