"""How a XenDomain boots: a kernel from the host's side, a boot loader from the guest's disk, or firmware."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from kubexen.api.base import SpecModel, rules
from kubexen.api.fields import PoolFile


class BootloaderName(StrEnum):
    PVGRUB = "pvgrub"
    PYGRUB = "pygrub"


class FirmwareType(StrEnum):
    BIOS = "bios"
    UEFI = "uefi"


class DirectBoot(SpecModel):
    """Boots a kernel from the host's side, without a boot loader."""

    kernel: PoolFile = Field(description="The kernel image; xl: kernel.")
    initrd: PoolFile | None = Field(default=None, description="The initial ramdisk; xl: ramdisk.")
    root: str | None = Field(
        default=None, max_length=255, pattern=r"^[!-~]+$", description="The root device, as in /dev/xvda1; xl: root."
    )
    cmdline: str = Field(
        default="",
        max_length=2048,
        pattern=r"^[ -~]*$",
        description="More of the kernel's command line, in printable ASCII; xl: extra.",
    )


class Bootloader(SpecModel):
    """Boots what a boot loader finds on the guest's own disk."""

    name: BootloaderName = Field(
        description="pvgrub runs inside the guest; pygrub runs on the host, where a pool allows it; xl: bootloader."
    )
    args: list[Annotated[str, Field(max_length=255)]] = Field(
        default=[], max_length=16, description="The boot loader's arguments; xl: bootloader_args."
    )


class Firmware(SpecModel):
    """Boots like a physical machine."""

    type: FirmwareType = Field(default=FirmwareType.BIOS, description="bios or uefi; xl: bios (seabios or ovmf).")
    order: str | None = Field(
        default=None,
        max_length=3,
        pattern=r"^[cdn]+$",
        description="Devices to boot from, in order: c disk, d CD, n network; xl: boot.",
    )


class Boot(SpecModel):
    """How the domain boots: exactly one of direct, bootloader, firmware."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "[has(self.direct), has(self.bootloader), has(self.firmware)].filter(given, given).size() == 1",
                "give exactly one of direct, bootloader and firmware",
            )
        )
    )

    direct: DirectBoot | None = Field(
        default=None, description="Boot this kernel; xl: kernel, ramdisk, root and extra."
    )
    bootloader: Bootloader | None = Field(
        default=None, description="Boot by a boot loader from the guest's disk; xl: bootloader."
    )
    firmware: Firmware | None = Field(default=None, description="Boot by firmware, hvm only; xl: bios and boot.")
