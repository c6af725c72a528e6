"""XenStoragePool: where disks may live on hosts, and which namespaces may use it. An administrator's kind.

How much is free, and whether a host has the pool at all, is told per host in XenHost's status.
"""

from typing import ClassVar

from pydantic import ConfigDict, Field

from kubexen.api.base import SpecModel, list_map, rules, unchangeable
from kubexen.api.fields import AbsolutePath, ObjectName
from kubexen.api.kind import AGE, MESSAGE, REASON, STATUS_DEFAULT, Column, ConditionedStatus, KindInfo, Resource
from kubexen.api.meta import LabelSelector


class Directory(SpecModel):
    """A directory of disk images."""

    path: AbsolutePath = Field(description="The directory on each host, the same path everywhere; xl: target of disk.")


class Lvm(SpecModel):
    """An LVM volume group."""

    volume_group: str = Field(
        max_length=127,
        pattern=r"^[A-Za-z0-9_+.][A-Za-z0-9_+.-]*$",
        description="The volume group on each host; xl: target of disk.",
    )


class BlockDevice(SpecModel):
    """A whole block device of one node."""

    node: ObjectName = Field(description="The node that has it; no xl key.")
    path: AbsolutePath = Field(description="The device there, as in /dev/disk/by-id/nvme-eui.0025385b; xl: target of disk.")


class XenStoragePoolSpec(SpecModel):
    """What the pool is to be."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "[has(self.directory), has(self.lvm), has(self.devices)].filter(given, given).size() == 1",
                "give exactly one of directory, lvm and devices",
            ),
            (unchangeable("directory"), "directory cannot be changed: a disk keeps one path for good; make a new pool"),
            (unchangeable("lvm"), "lvm cannot be changed: a disk keeps one path for good; make a new pool"),
        )
    )

    directory: Directory | None = Field(default=None, description="Disks are files in a directory; xl: target of disk.")
    lvm: Lvm | None = Field(default=None, description="Disks are logical volumes; xl: target of disk.")
    devices: list[BlockDevice] | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Disks are these whole devices; xl: target of disk.",
        json_schema_extra=list_map("node", "path"),
    )
    shared: bool = Field(
        default=False,
        description="Whether all hosts see the same data, as over NFS. Otherwise each host has its own; immutable; no xl key.",
        json_schema_extra=rules(("self == oldSelf", "shared cannot be changed once the pool exists")),
    )
    namespace_selector: LabelSelector | None = Field(
        default=None,
        description="Labels of the namespaces that may use it (default: none may; an empty selector: all may); no xl key.",
    )
    allow_pygrub: bool = Field(
        default=False,
        description="Whether the hosts may read boot loader files from disks of this pool; xl: bootloader=pygrub.",
    )


class XenStoragePoolStatus(ConditionedStatus):
    """What the pool is."""


class XenStoragePool(Resource):
    """A place on hosts where disks may live."""

    info: ClassVar = KindInfo(
        kind="XenStoragePool",
        plural="xenstoragepools",
        short_name="xpool",
        scope="Cluster",
        columns=(
            Column("Directory", ".spec.directory.path"),
            Column("LVM", ".spec.lvm.volumeGroup", priority=1),
            Column("Shared", ".spec.shared", "boolean"),
            REASON,
            AGE,
            MESSAGE,
        ),
        status_default=STATUS_DEFAULT,
    )

    kind: str = "XenStoragePool"
    spec: XenStoragePoolSpec
    status: XenStoragePoolStatus = Field(default_factory=XenStoragePoolStatus)
