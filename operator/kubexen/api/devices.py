"""What a XenDomain has besides processors and memory: disks, interfaces, displays, host devices, and cloud-init's seed."""

from enum import StrEnum

from pydantic import ConfigDict, Field

from kubexen.api.base import SpecModel, rules
from kubexen.api.fields import IpAddress, ItemName, Mac, ObjectName, Rate


class DiskDevice(StrEnum):
    DISK = "disk"
    CDROM = "cdrom"


class DomainDisk(SpecModel):
    """A disk as the guest sees it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.device) && self.device == 'cdrom' ? !(has(self.disk) && has(self.claimName))"
                " : has(self.disk) != has(self.claimName)",
                "give exactly one of disk and claimName (only a cdrom may be empty)",
            )
        )
    )

    name: ItemName = Field(description="This entry's name, unique in the list; no xl key.")
    disk: ObjectName | None = Field(
        default=None, description="The XenDisk of this namespace to attach; xl: target of disk."
    )
    claim_name: ObjectName | None = Field(
        default=None, description="A PersistentVolumeClaim of this namespace instead; xl: target of disk."
    )
    target: str = Field(
        max_length=10,
        pattern=r"^(xvd|hd|sd)[a-z]{1,2}[0-9]{0,2}$",
        description="The device in the guest, as in xvda; xl: vdev of disk.",
    )
    device: DiskDevice = Field(
        default=DiskDevice.DISK, description="disk or cdrom (default: disk); xl: devtype of disk."
    )
    read_only: bool = Field(
        default=False, description="Whether the guest may not write (default: false); xl: access of disk."
    )
    shareable: bool = Field(
        default=False, description="Whether others may write to it at once (default: false); xl: access=! of disk."
    )


class DomainInterface(SpecModel):
    """A network interface of the guest."""

    name: ItemName = Field(description="This entry's name, unique in the list; a MAC is derived from it; no xl key.")
    network: ObjectName = Field(description="The XenNetwork it is on; xl: bridge of vif.")
    mac: Mac | None = Field(
        default=None,
        description="The MAC address (default: one in 00:16:3e, from the object's uid and this name, that stays); "
        "xl: mac of vif.",
    )
    address: IpAddress | None = Field(
        default=None, description="The IP address; reaches the guest by cloud-init; xl: ip of vif."
    )
    rate: Rate | None = Field(
        default=None, description="The most the guest may send, as in 10Mb/s or 1MB/s@20ms; xl: rate of vif."
    )
    model: str | None = Field(
        default=None,
        max_length=32,
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        description="The emulated card, hvm only, as in e1000; xl: model of vif.",
    )


class Vnc(SpecModel):
    """A VNC display; its address and password are not a user's to choose."""


class Graphics(SpecModel):
    """Displays of the guest."""

    vnc: Vnc | None = Field(default=None, description="A VNC display; xl: vnc of vfb.")


class PciDevice(SpecModel):
    """A host device for the guest alone."""

    device: str = Field(
        max_length=317,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        description="The name that the administrator gave to host devices, as in kubexen.dev/nic-x710; xl: pci.",
    )


class SecretKey(SpecModel):
    """A key of a Secret of this namespace."""

    secret_name: ObjectName = Field(description="The Secret; no xl key.")
    key: str = Field(max_length=253, pattern=r"^[-._a-zA-Z0-9]+$", description="The key in the Secret; no xl key.")


class CloudInit(SpecModel):
    """What cloud-init in the guest reads."""

    user_data: SecretKey | None = Field(default=None, description="cloud-init's user data; no xl key.")
    network_data: SecretKey | None = Field(
        default=None, description="cloud-init's network data (default: made from the interfaces); no xl key."
    )
