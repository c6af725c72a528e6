"""XenDomain: one virtual machine, all that an xl.cfg says of it, and its live state.

The user writes spec; status is in domainstatus.py. What this version does not carry out yet is told by
notimplemented.py, not here.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from kubexen.api.base import DEFAULT_EMPTY, HANDED_ON, SpecModel, list_map, rules, unchangeable
from kubexen.api.boot import Boot
from kubexen.api.devices import CloudInit, DomainDisk, DomainInterface, Graphics, PciDevice
from kubexen.api.domainstatus import XenDomainStatus
from kubexen.api.fields import MAX_AMOUNT, Anything, CpuSet, ObjectName, Uuid
from kubexen.api.kind import (
    AGE,
    MESSAGE,
    REASON,
    STATUS_DEFAULT,
    Column,
    KindInfo,
    Resource,
    Scale,
)
from kubexen.api.quantity import Quantity

MIN_MEMORY = "1Mi"


class PowerState(StrEnum):
    RUNNING = "Running"
    PAUSED = "Paused"
    SUSPENDED = "Suspended"
    HALTED = "Halted"


class DomainType(StrEnum):
    PV = "pv"
    PVH = "pvh"
    HVM = "hvm"


class LifecycleAction(StrEnum):
    """What happens to a domain that ended by itself: xl's six."""

    DESTROY = "destroy"
    RESTART = "restart"
    RENAME_RESTART = "rename-restart"
    PRESERVE = "preserve"
    COREDUMP_DESTROY = "coredump-destroy"
    COREDUMP_RESTART = "coredump-restart"


class EvictionStrategy(StrEnum):
    LIVE_MIGRATE = "LiveMigrate"
    SAVE_RESTORE = "SaveRestore"
    RESTART = "Restart"


class Cpu(SpecModel):
    """Virtual CPUs."""

    model_config = ConfigDict(
        json_schema_extra=rules(("!has(self.max) || self.count <= self.max", "count must not be greater than max"))
    )

    count: int = Field(default=1, ge=1, le=512, description="Virtual CPUs that are on; live up to max; xl: vcpus.")
    max: int | None = Field(
        default=None,
        ge=1,
        le=512,
        description="The most virtual CPUs until the next cold start, which the node reserves (default: count); "
        "xl: maxvcpus.",
    )
    affinity: CpuSet | None = Field(default=None, description="Physical CPUs to run on, as in 0-3,5,^1; xl: cpus.")
    weight: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="The scheduler's share against other domains (Xen's default: 256); xl: cpu_weight.",
    )
    cap: int | None = Field(
        default=None,
        ge=0,
        le=51200,
        description="The most CPU time, in percent of one physical CPU; 0: no limit; xl: cap.",
    )

    @property
    def maximum(self) -> int:
        return self.max or self.count


class Memory(SpecModel):
    """The guest's memory."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.max) || quantity(string(self.size)).compareTo(quantity(string(self.max))) <= 0",
                "size must not be greater than max",
            ),
            (
                f"quantity(string(self.size)).compareTo(quantity('{MIN_MEMORY}')) >= 0",
                f"size must be at least {MIN_MEMORY}; a number without a unit is bytes, so write 512Mi, not 512",
            ),
            (
                f"quantity(string(has(self.max) ? self.max : self.size)).compareTo(quantity('{MAX_AMOUNT}')) <= 0",
                f"size and max must be at most {MAX_AMOUNT}",
            ),
        )
    )

    size: Quantity = Field(
        description="Memory the guest has, as in 512Mi (a number alone is bytes); live up to max; xl: memory."
    )
    max: Quantity | None = Field(
        default=None,
        description="The most memory until the next cold start, which the node reserves, as in 1Gi (default: size); "
        "xl: maxmem.",
    )

    @property
    def maximum(self) -> Quantity:
        return self.max or self.size


class Toleration(SpecModel):
    """A taint that is tolerated, as in a Pod."""

    key: str | None = Field(default=None, max_length=317, description="The taint's key; empty: all; no xl key.")
    operator: str | None = Field(
        default=None,
        json_schema_extra={"enum": ["Exists", "Equal"]},
        description="Exists or Equal (default: Equal); no xl key.",
    )
    value: str | None = Field(default=None, max_length=253, description="The taint's value; no xl key.")
    effect: str | None = Field(
        default=None,
        json_schema_extra={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
        description="The taint's effect; empty: all; no xl key.",
    )
    toleration_seconds: int | None = Field(
        default=None, description="Seconds that NoExecute is tolerated (default: for ever); no xl key."
    )


class TopologySpreadConstraint(SpecModel):
    """How domains are spread over the cluster, as in a Pod; further fields are handed on as they are."""

    model_config = ConfigDict(json_schema_extra=HANDED_ON)

    max_skew: int = Field(ge=1, description="By how many domains topologies may differ; no xl key.")
    topology_key: str = Field(max_length=317, description="The node label that makes a topology; no xl key.")
    when_unsatisfiable: str = Field(
        json_schema_extra={"enum": ["DoNotSchedule", "ScheduleAnyway"]},
        description="DoNotSchedule or ScheduleAnyway; no xl key.",
    )


class XenDomainSpec(SpecModel):
    """What the domain is to be."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (unchangeable("uuid"), "uuid cannot be changed, added or removed once the domain exists"),
            (
                "!has(self.disks) || self.disks.all(d, self.disks.exists_one(other, other.target == d.target))",
                "each disk needs a target of its own",
            ),
            (
                "!has(self.interfaces) || self.interfaces.all(i, !has(i.mac) || self.interfaces.exists_one(other,"
                " has(other.mac) && other.mac.lowerAscii() == i.mac.lowerAscii()))",
                "each interface needs a mac of its own",
            ),
        )
    )

    power_state: PowerState = Field(
        default=PowerState.RUNNING,
        description="Running, Paused (in memory, not scheduled), Suspended (memory kept on disk) or Halted; no xl key "
        "(xl create, pause, save and shutdown).",
    )
    type: DomainType = Field(
        default=DomainType.PVH, description="pv, pvh or hvm; a change waits for the next start; xl: type."
    )
    replicas: int = Field(
        default=1,
        description="Always 1: what PodDisruptionBudgets count; no xl key.",
        json_schema_extra=rules(("self == 1", "replicas is always 1: a XenDomain is one machine")),
    )
    uuid: Uuid | None = Field(
        default=None, description="The domain's UUID, unique and immutable (default: the object's uid); xl: uuid."
    )
    boot: Boot = Field(description="How it boots; xl: kernel, bootloader or bios.")
    cpu: Cpu = Field(
        default_factory=Cpu, description="Virtual CPUs; xl: vcpus and maxvcpus.", json_schema_extra=DEFAULT_EMPTY
    )
    memory: Memory = Field(description="Memory; xl: memory and maxmem.")
    disks: list[DomainDisk] = Field(
        default=[], max_length=64, description="Disks; xl: disk.", json_schema_extra=list_map("name")
    )
    interfaces: list[DomainInterface] = Field(
        default=[], max_length=32, description="Network interfaces; xl: vif.", json_schema_extra=list_map("name")
    )
    graphics: Graphics | None = Field(default=None, description="Displays; xl: vfb.")
    pci: list[PciDevice] = Field(default=[], max_length=32, description="Host devices passed through; xl: pci.")
    cloud_init: CloudInit | None = Field(
        default=None, description="First-boot data for the guest, on a seed disk; no xl key."
    )
    shutdown_grace_period_seconds: int = Field(
        default=60,
        ge=0,
        le=86400,
        description="Seconds that the guest has to shut down before it is destroyed; no xl key (xl shutdown -w).",
    )
    on_poweroff: LifecycleAction = Field(
        default=LifecycleAction.DESTROY, description="What follows when the guest powers off; xl: on_poweroff."
    )
    on_reboot: LifecycleAction = Field(
        default=LifecycleAction.RESTART, description="What follows when the guest reboots; xl: on_reboot."
    )
    on_crash: LifecycleAction = Field(
        default=LifecycleAction.RESTART, description="What follows when the guest crashes; xl: on_crash."
    )
    eviction_strategy: list[EvictionStrategy] = Field(
        default=[EvictionStrategy.LIVE_MIGRATE, EvictionStrategy.SAVE_RESTORE, EvictionStrategy.RESTART],
        max_length=3,
        description="What is tried, in this order, when the domain has to leave its node; none: it stays; no xl key.",
        json_schema_extra=rules(
            ("self.all(s, self.exists_one(other, other == s))", "each strategy may be given once")
        ),
    )
    node_selector: dict[str, Annotated[str, Field(max_length=63)]] = Field(
        default={}, max_length=64, description="Labels that the node must have, as in a Pod; no xl key."
    )
    affinity: Anything | None = Field(
        default=None, description="Which nodes, and near or far from what, as in a Pod; no xl key."
    )
    tolerations: list[Toleration] = Field(
        default=[], max_length=64, description="Taints that are tolerated, as in a Pod; no xl key."
    )
    topology_spread_constraints: list[TopologySpreadConstraint] = Field(
        default=[], max_length=32, description="How domains are spread, as in a Pod; no xl key."
    )
    priority_class_name: ObjectName | None = Field(
        default=None, description="The PriorityClass, as in a Pod; no xl key."
    )
    scheduler_name: ObjectName | None = Field(
        default=None, description="The scheduler that places it (default: Kubexen's profile); no xl key."
    )


class XenDomain(Resource):
    """One Xen virtual machine."""

    info: ClassVar = KindInfo(
        kind="XenDomain",
        plural="xendomains",
        short_name="xd",
        scope="Namespaced",
        columns=(
            Column("ID", ".status.domid", "integer"),
            Column("Mem", ".status.memory.current"),
            Column("VCPUs", ".status.cpu.online", "integer"),
            Column("State", ".status.state"),
            REASON,
            Column("Node", ".status.nodeName"),
            AGE,
            MESSAGE,
        ),
        selectable=(".status.nodeName",),
        scale=Scale(".spec.replicas", ".status.replicas", ".status.selector"),
        rules=(("size(self.metadata.name) <= 63", "a XenDomain's name has at most 63 characters: it becomes a label"),),
        status_default=STATUS_DEFAULT,
    )

    kind: str = "XenDomain"
    spec: XenDomainSpec
    status: XenDomainStatus = Field(default_factory=XenDomainStatus)
