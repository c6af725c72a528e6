"""XenHost: one Xen node as `xl info` shows it. Its agent writes the status; it is named as its Node.

The only thing a person writes is a fence, after which domains of a dead host are started elsewhere.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from kubexen.api.base import SpecModel, StatusModel, list_map
from kubexen.api.fields import ObjectName, Uuid
from kubexen.api.kind import (
    AGE,
    MESSAGE,
    READY,
    STATUS_DEFAULT,
    Column,
    ConditionedStatus,
    KindInfo,
    Resource,
)
from kubexen.api.quantity import Quantity


class XenHostSpec(SpecModel):
    """What a person says of the host."""

    fenced_boot_id: Uuid | None = Field(
        default=None,
        alias="fencedBootID",
        description="A person's word that the host was powered off in the boot of this id (copy status.bootID): its "
        "domains are started elsewhere. It says nothing of any later boot; no xl key.",
    )


class XenInfo(StatusModel):
    """The hypervisor."""

    version: str = Field(default="", max_length=64, description="Xen's version, as in 4.17.3; xl info: xen_version.")
    caps: str = Field(default="", max_length=512, description="Kinds of guests it can run; xl info: xen_caps.")
    command_line: str = Field(default="", max_length=2048, description="Xen's own command line; xl info: xen_commandline.")


class HostCpus(StatusModel):
    """Physical CPUs."""

    physical: int = Field(default=0, ge=0, description="Physical CPUs (threads); xl info: nr_cpus.")
    nodes: int | None = Field(default=None, ge=0, description="NUMA nodes; xl info: nr_nodes.")
    cores_per_socket: int | None = Field(default=None, ge=0, description="Cores of a socket; xl info: cores_per_socket.")
    threads_per_core: int | None = Field(default=None, ge=0, description="Threads of a core; xl info: threads_per_core.")
    mhz: int | None = Field(default=None, ge=0, description="Clock in MHz; xl info: cpu_mhz.")


class HostMemory(StatusModel):
    """Physical memory."""

    total: Quantity = Field(description="All memory of the host, as in 3071Mi; xl info: total_memory.")
    free: Quantity = Field(description="What no domain holds, as in 1024Mi; xl info: free_memory.")
    for_guests: Quantity = Field(
        description="What guests may have altogether, as in 2047Mi: total less Xen's and dom0's own; no xl key."
    )


class ForeignDomain(StatusModel):
    """A domain that is not Kubexen's: shown, never touched."""

    name: str = Field(max_length=255, description="Its name; xl list: Name.")
    domid: int | None = Field(default=None, ge=0, description="Its id; xl list: ID.")
    uuid: str = Field(default="", max_length=36, description="Its UUID.")
    memory: Quantity = Field(default=Quantity(0), description="Memory it holds, as in 512Mi; xl list: Mem.")
    vcpus: int = Field(default=0, ge=0, description="Its virtual CPUs; xl list: VCPUs.")


class OrphanedDomain(StatusModel):
    """A domain of Kubexen's whose object is gone: counted, and removed by an administrator only."""

    namespace: str = Field(max_length=63, description="The namespace of its object.")
    name: str = Field(max_length=253, description="The name of its object.")
    uid: str = Field(default="", max_length=36, description="The uid of its object.")
    uuid: str = Field(max_length=36, description="Its UUID.")
    memory: Quantity = Field(default=Quantity(0), description="Memory it holds, as in 512Mi; xl list: Mem.")
    vcpus: int = Field(default=0, ge=0, description="Its virtual CPUs; xl list: VCPUs.")


class HostPool(StatusModel):
    """A storage pool as this host has it."""

    name: ObjectName = Field(description="The XenStoragePool.")
    ready: bool = Field(description="Whether this host can use it.")
    total: Quantity | None = Field(default=None, description="Its size, as in 100Gi.")
    free: Quantity | None = Field(default=None, description="What is free in it, as in 40Gi.")
    message: str = Field(default="", max_length=1024, description="Why it cannot be used.")
    mend: str | None = Field(default=None, max_length=1024, description="How to mend that.")


class HostNetwork(StatusModel):
    """A network as this host has it."""

    name: ObjectName = Field(description="The XenNetwork.")
    ready: bool = Field(description="Whether this host has its bridge.")
    message: str = Field(default="", max_length=1024, description="Why it cannot be used.")
    mend: str | None = Field(default=None, max_length=1024, description="How to mend that.")


class CheckResult(StrEnum):
    OK = "OK"
    WARNING = "Warning"
    ERROR = "Error"


class HostCheck(StatusModel):
    """One look at how the host is set up."""

    name: str = Field(min_length=1, max_length=64, description="What is looked at, as in Dom0Memory.")
    result: CheckResult = Field(description="OK, Warning (it works, with a cost) or Error (a person must mend it).")
    message: str = Field(default="", max_length=1024, description="What was found.")
    mend: str | None = Field(default=None, max_length=1024, description="How to mend it.")


class XenHostStatus(ConditionedStatus):
    """What the host is."""

    node_name: str | None = Field(default=None, max_length=253, description="The Node; xl info: host.")
    boot_id: str | None = Field(default=None, alias="bootID", max_length=36, description="dom0's boot id.")
    xen: XenInfo | None = Field(default=None, description="The hypervisor; xl info: xen_*.")
    kernel: str = Field(default="", max_length=128, description="dom0's kernel; xl info: release.")
    cpus: HostCpus | None = Field(default=None, description="Physical CPUs.")
    memory: HostMemory | None = Field(default=None, description="Physical memory.")
    scheduler: str = Field(default="", max_length=32, description="Xen's scheduler; xl info: xen_scheduler.")
    capabilities: list[Annotated[str, Field(max_length=64)]] = Field(
        default=[], max_length=64, description="What the driver can do here beyond starting and stopping domains."
    )
    driver: str = Field(default="", max_length=255, description="The driver, as in xen:///system or sim://xen1.")
    flags_source: str = Field(default="", max_length=64, description="Where the state flags are read from.")
    toolstack: dict[str, Annotated[str, Field(max_length=64)]] = Field(
        default={}, max_length=16, description="Versions of the software in dom0, as in libvirt: 9.0.0."
    )
    agent_version: str = Field(default="", max_length=64, description="Version of Kubexen that the agent is of, as in 0.1.0.")
    domains: int | None = Field(default=None, ge=0, description="How many domains of Kubexen's are there.")
    unmanaged: list[ForeignDomain] = Field(
        default=[], max_length=1024, description="Domains that are not Kubexen's."
    )
    orphaned: list[OrphanedDomain] = Field(
        default=[],
        max_length=1024,
        description="Domains of Kubexen's whose object is gone.",
        json_schema_extra=list_map("uuid"),
    )
    pools: list[HostPool] = Field(
        default=[], max_length=256, description="Storage pools here.", json_schema_extra=list_map("name")
    )
    networks: list[HostNetwork] = Field(
        default=[], max_length=256, description="Networks here.", json_schema_extra=list_map("name")
    )
    checks: list[HostCheck] = Field(
        default=[],
        max_length=32,
        description="How the host is set up for domains; pools and networks are told above.",
        json_schema_extra=list_map("name"),
    )


class XenHost(Resource):
    """A host that runs Xen domains."""

    info: ClassVar = KindInfo(
        kind="XenHost",
        plural="xenhosts",
        short_name="xhost",
        scope="Cluster",
        columns=(
            READY,
            Column("Healthy", '.status.conditions[?(@.type=="Healthy")].status'),
            Column("Xen", ".status.xen.version"),
            Column("CPUs", ".status.cpus.physical", "integer"),
            Column("Mem", ".status.memory.total"),
            Column("Guests", ".status.memory.forGuests"),
            Column("Free", ".status.memory.free"),
            Column("Domains", ".status.domains", "integer"),
            AGE,
            Column("Kernel", ".status.kernel", priority=1),
            Column("Scheduler", ".status.scheduler", priority=1),
            Column("Driver", ".status.driver", priority=1),
            Column("Agent", ".status.agentVersion", priority=1),
            MESSAGE,
            Column("Health", '.status.conditions[?(@.type=="Healthy")].message', priority=1),
        ),
        status_default=STATUS_DEFAULT,
    )

    kind: str = "XenHost"
    spec: XenHostSpec = Field(default_factory=XenHostSpec)
    status: XenHostStatus = Field(default_factory=XenHostStatus)

    @property
    def fenced(self) -> bool:
        """Whether a person said that the boot we last heard of is over."""
        return self.spec.fenced_boot_id is not None and self.spec.fenced_boot_id == self.status.boot_id
