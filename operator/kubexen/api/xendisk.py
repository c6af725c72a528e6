"""XenDisk: a disk of a namespace, made in a pool, which domains attach by name.

The user writes spec. Where it lies on a host is never shown: paths belong to pools.
"""

from enum import StrEnum
from typing import ClassVar

from pydantic import ConfigDict, Field

from kubexen.api.base import SpecModel, StatusModel, rules, unchangeable
from kubexen.api.fields import MAX_AMOUNT, ObjectName, PoolFile
from kubexen.api.kind import AGE, MESSAGE, REASON, STATUS_DEFAULT, Column, ConditionedStatus, KindInfo, Resource
from kubexen.api.quantity import Quantity


class DiskFormat(StrEnum):
    RAW = "raw"
    QCOW2 = "qcow2"


class ReclaimPolicy(StrEnum):
    RETAIN = "Retain"
    DELETE = "Delete"


class DiskSource(SpecModel):
    """What the disk holds at first: exactly one of its fields."""

    model_config = ConfigDict(json_schema_extra=rules(("has(self.file)", "give file")))

    file: PoolFile | None = Field(default=None, description="A copy of this file of a pool; no xl key.")


class XenDiskSpec(SpecModel):
    """What the disk is to be."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.source) || has(self.size)", "give size for a blank disk, or a source to copy"),
            (unchangeable("source"), "source cannot be changed, added or removed once the disk exists"),
            (
                "!has(oldSelf.size) || (has(self.size) && quantity(string(self.size)).compareTo("
                "quantity(string(oldSelf.size))) >= 0)",
                "size cannot shrink",
            ),
            (
                "!has(self.size) || quantity(string(self.size)).compareTo(quantity('1Mi')) >= 0",
                "size must be at least 1Mi; a number without a unit is bytes, so write 10Gi, not 10",
            ),
            (
                f"!has(self.size) || quantity(string(self.size)).compareTo(quantity('{MAX_AMOUNT}')) <= 0",
                f"size must be at most {MAX_AMOUNT}",
            ),
        )
    )

    pool: ObjectName = Field(
        description="The XenStoragePool that keeps it; immutable; xl: target of disk.",
        json_schema_extra=rules(("self == oldSelf", "pool cannot be changed once the disk exists")),
    )
    size: Quantity | None = Field(
        default=None, description="Its size, as in 10Gi (default: its source's); may grow, not shrink; no xl key."
    )
    source: DiskSource | None = Field(
        default=None, description="What it holds at first (default: nothing); immutable; no xl key."
    )
    format: DiskFormat = Field(
        default=DiskFormat.RAW,
        description="raw or qcow2; immutable; xl: format of disk.",
        json_schema_extra=rules(("self == oldSelf", "format cannot be changed once the disk exists")),
    )
    reclaim_policy: ReclaimPolicy = Field(
        default=ReclaimPolicy.DELETE,
        description="Whether the data is deleted with the object, or retained for an administrator; no xl key.",
    )


class DiskUser(StatusModel):
    """The one domain that may write to the disk."""

    name: ObjectName = Field(description="Its name.")
    uid: str = Field(max_length=36, description="The uid of its object.")
    anchor_uid: str | None = Field(default=None, alias="anchorUID", max_length=36,
                                   description="The uid of the anchor under which it was claimed last.")


class DiskData(StrEnum):
    PRESENT = "Present"
    REMOVED = "Removed"


class XenDiskStatus(ConditionedStatus):
    """What the disk is. Its agent writes nodeName, size, usedBy, data and Ready; the controller InUse and Stalled."""

    node_name: str | None = Field(
        default=None,
        max_length=253,
        description="The node that makes it, and in a node-local pool the only one that can use it.",
    )
    size: Quantity | None = Field(default=None, description="Its real size, as in 10Gi.")
    used_by: DiskUser | None = Field(default=None, description="The XenDomain of this namespace that holds it.")
    data: DiskData | None = Field(default=None, description="Whether its data is there; none: not made yet.")


class XenDisk(Resource):
    """A disk for Xen domains."""

    info: ClassVar = KindInfo(
        kind="XenDisk",
        plural="xendisks",
        short_name="xdisk",
        scope="Namespaced",
        columns=(
            Column("Pool", ".spec.pool"),
            Column("Size", ".status.size"),
            REASON,
            Column("Used-By", ".status.usedBy.name"),
            Column("Node", ".status.nodeName"),
            AGE,
            MESSAGE,
        ),
        selectable=(".spec.pool", ".status.nodeName"),
        status_default=STATUS_DEFAULT,
    )

    kind: str = "XenDisk"
    spec: XenDiskSpec
    status: XenDiskStatus = Field(default_factory=XenDiskStatus)
