"""XenDomain's status: what the domain is, and where.

The controller and the agent of status.nodeName write it, each its own fields (CONTROLLER_FIELDS, AGENT_FIELDS) and its
own conditions, by server-side apply.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from kubexen.api.base import StatusModel, list_map, rules
from kubexen.api.fields import ItemName, ObjectName, Time
from kubexen.api.kind import ConditionedStatus
from kubexen.api.quantity import Quantity


class MovePhase(StrEnum):
    """How far it is that a domain leaves its node."""

    PENDING = "Pending"  # a place elsewhere is looked for; the domain runs on
    RELEASING = "Releasing"  # the node shuts it down and then gives up the anchor (status.released)
    FENCED = "Fenced"  # the node is known to be dead: nobody there can give it up


class Move(StatusModel):
    """A move under way: the only announcement on which nodeName may go from one node to another."""

    uid: str = Field(max_length=36, description="The uid of the XenMigration.")
    target: ObjectName | None = Field(default=None, description="The node it goes to, once that is known.")
    phase: MovePhase = Field(default=MovePhase.PENDING, description="How far it is.")
    cause: str = Field(default="", max_length=1024, description="Who or what asked for it.")


class Reservation(StatusModel):
    """What an anchor gives its domain: the most it may have, and its volumes."""

    model_config = ConfigDict(frozen=True)

    memory: Quantity = Field(description="spec.memory.max when the anchor was made, as in 1Gi.")
    vcpus: int = Field(ge=0, description="spec.cpu.max when the anchor was made.")
    mounts: list[Annotated[str, Field(max_length=600)]] = Field(
        default=[], max_length=72, description="The claims and keys of Secrets that the spec named when the anchor was made."
    )


class CpuStatus(StatusModel):
    """Virtual CPUs as Xen has them."""

    configured: int = Field(ge=0, description="Virtual CPUs that Xen gives.")
    online: int = Field(ge=0, description="Virtual CPUs that the guest has brought online; xl list: VCPUs.")


class MemoryStatus(StatusModel):
    """Memory as Xen has it."""

    current: Quantity = Field(description="Memory that the domain holds now, as in 512Mi; xl list: Mem.")


class DiskStatus(StatusModel):
    """An attached disk."""

    name: ItemName = Field(description="The entry's name in spec.disks.")
    target: str = Field(default="", max_length=10, description="The device in the guest, as in xvda; xl: vdev of disk.")
    backend_state: str = Field(default="", max_length=32, description="Xen's state of the backend, as in Connected.")


class InterfaceStatus(StatusModel):
    """An attached network interface."""

    name: ItemName = Field(description="The entry's name in spec.interfaces.")
    mac: str = Field(default="", max_length=17, description="Its MAC address; xl: mac of vif.")
    address: str = Field(default="", max_length=45, description="Its IP address; xl: ip of vif.")
    backend_state: str = Field(default="", max_length=32, description="Xen's state of the backend, as in Connected.")


class VolumeMode(StrEnum):
    BLOCK = "Block"
    FILESYSTEM = "Filesystem"


READ_WRITE_MANY = "ReadWriteMany"


class ClaimStatus(StatusModel):
    """A PersistentVolumeClaim that the domain holds: no other domain is started with it."""

    name: ObjectName = Field(description="The claim's name.")
    uid: str = Field(max_length=36, description="The claim's uid: its disk's path on every host is made of it.")
    volume_name: str = Field(default="", max_length=253, description="The PersistentVolume that it is bound to.")
    volume_mode: VolumeMode = Field(default=VolumeMode.FILESYSTEM, description="Block, or Filesystem with a disk.img.")
    access_modes: list[Annotated[str, Field(max_length=32)]] = Field(
        default=[], max_length=8, description="The claim's access modes; without ReadWriteMany it is on one node at a time."
    )

    @property
    def exclusive(self) -> bool:
        """Whether it can be on one node only: no second anchor can have it while the first has."""
        return READ_WRITE_MANY not in self.access_modes


class Restarts(StatusModel):
    """Restarts after crashes and reboots of the guest's own; they are spaced out when they come fast."""

    count: int = Field(default=0, ge=0, description="How many in a row.")
    last: Time | None = Field(default=None, description="When the last one was.")


class Exit(StatusModel):
    """How a domain ended by itself."""

    reason: str = Field(max_length=32, description="Xen's shutdown reason: poweroff, reboot, crash, ...")
    time: Time = Field(description="When that was seen.")


class XenDomainStatus(ConditionedStatus):
    """What the domain is."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(oldSelf.nodeName) || (has(self.nodeName) && self.nodeName == oldSelf.nodeName)"
                " || (has(oldSelf.released) && has(oldSelf.anchorUID) && oldSelf.released == oldSelf.anchorUID)"
                " || (has(oldSelf.move) && oldSelf.move.phase == 'Fenced')",
                "nodeName changes only after the node gave the domain up (released), or was fenced",
            )
        )
    )

    # The controller's.
    node_name: str | None = Field(
        default=None, max_length=253, description="The node that holds the domain; none: no node may run it."
    )
    anchor_uid: str | None = Field(
        default=None, alias="anchorUID", max_length=36, description="The uid of the pod that holds its place there."
    )
    reserved: Reservation | None = Field(
        default=None,
        description="What that pod was made for; where the spec asks for something else, the next start waits for another.",
    )
    move: Move | None = Field(default=None, description="The move that is under way.")
    mac_addresses: dict[str, Annotated[str, Field(max_length=17)]] = Field(
        default={}, max_length=32, description="The MAC address of each interface, by the interface's name."
    )
    claims: list[ClaimStatus] = Field(
        default=[],
        max_length=64,
        description="The PersistentVolumeClaims that it holds, as its anchor mounts them.",
        json_schema_extra=list_map("name"),
    )
    off: Exit | None = Field(
        default=None,
        description="The domain ended by itself and stays off until a XenAction Start, or until powerState was Halted.",
    )
    fenced_boot_id: str | None = Field(
        default=None, alias="fencedBootID", max_length=36,
        description="dom0's boot id when the domain was last taken from a node by a fence: what runs of it in that boot is to end.",
    )
    replicas: int = Field(default=0, ge=0, description="1 when the domain is up: what PodDisruptionBudgets count.")
    selector: str | None = Field(
        default=None, max_length=1024, description="The label selector of its anchors, for the scale subresource."
    )

    # The agent's.
    domid: int | None = Field(default=None, ge=0, description="Xen's domain id; none: it is not there; xl list: ID.")
    uuid: str | None = Field(default=None, max_length=36, description="The domain's UUID; xl: uuid.")
    boot_id: str | None = Field(
        default=None, alias="bootID", max_length=36, description="dom0's boot id when the domain was started."
    )
    released: str | None = Field(
        default=None,
        max_length=36,
        description="The anchorUID that the node gave up: the domain is not there and is not started for it again.",
    )
    state: str | None = Field(default=None, max_length=6, description="The state flags, as in -b----; xl list: State.")
    flags: list[Annotated[str, Field(max_length=16)]] = Field(
        default=[], max_length=8, description="The same by name: running, blocked, paused, shutdown, crashed, dying."
    )
    cpu: CpuStatus | None = Field(default=None, description="Virtual CPUs.")
    memory: MemoryStatus | None = Field(default=None, description="Memory.")
    disks: list[DiskStatus] = Field(
        default=[], max_length=64, description="Attached disks.", json_schema_extra=list_map("name")
    )
    interfaces: list[InterfaceStatus] = Field(
        default=[], max_length=32, description="Attached interfaces.", json_schema_extra=list_map("name")
    )
    restarts: Restarts | None = Field(default=None, description="Restarts in a row, for spacing them out.")
    stopping: Time | None = Field(default=None, description="Since when it is asked to shut down.")
    last_exit: Exit | None = Field(default=None, description="How it last ended by itself.")


CONTROLLER_FIELDS = frozenset(
    {
        "observed_generation", "node_name", "anchor_uid", "reserved", "move", "mac_addresses", "claims", "off", "fenced_boot_id",
        "replicas", "selector",
    }
)
AGENT_FIELDS = frozenset(XenDomainStatus.model_fields) - CONTROLLER_FIELDS - {"conditions"}
"""Names for `status.to_dict(only=...)`. Of conditions, each writes only its own."""
