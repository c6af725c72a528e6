"""XenMigration: one move of one domain to another node, asked for by a user, a drain or a rebalance.

The controller drives it; what the two agents must know stands in the XenDomain's status.move.
"""

from enum import StrEnum
from typing import ClassVar

from pydantic import ConfigDict, Field

from kubexen.api.base import SpecModel, rules
from kubexen.api.fields import ObjectName, Time
from kubexen.api.kind import AGE, MESSAGE, STATUS_DEFAULT, Column, ConditionedStatus, KindInfo, Resource
from kubexen.api.xendomain import EvictionStrategy


class MigrationPhase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def finished(self) -> bool:
        return self in (MigrationPhase.SUCCEEDED, MigrationPhase.FAILED, MigrationPhase.CANCELLED)


class XenMigrationSpec(SpecModel):
    """What move is asked for."""

    model_config = ConfigDict(
        json_schema_extra=rules(("self == oldSelf", "a XenMigration cannot be changed: delete it and make another"))
    )

    domain_name: ObjectName = Field(description="The XenDomain of this namespace to move; xl migrate: domain-id.")
    target_node: ObjectName | None = Field(
        default=None, description="The node to move it to (default: the scheduler chooses); xl migrate: host."
    )
    strategy: EvictionStrategy | None = Field(
        default=None,
        description="LiveMigrate (xl migrate), SaveRestore (xl save, xl restore) or Restart (xl shutdown, xl create); "
        "default: the domain's evictionStrategy, in order.",
    )


class XenMigrationStatus(ConditionedStatus):
    """How far the move is."""

    phase: MigrationPhase = Field(
        default=MigrationPhase.PENDING, description="Pending, Running, Succeeded, Failed or Cancelled."
    )
    source: str | None = Field(default=None, max_length=253, description="The node it leaves.")
    target: str | None = Field(default=None, max_length=253, description="The node it goes to.")
    cause: str = Field(default="", max_length=1024, description="Who or what asked for it.")
    strategy: EvictionStrategy | None = Field(default=None, description="How it is moved.")
    message: str = Field(default="", max_length=1024, description="What it waits for, or how it ended.")
    start_time: Time | None = Field(default=None, description="When it started.")
    completion_time: Time | None = Field(default=None, description="When it ended.")


class XenMigration(Resource):
    """One move of one domain."""

    info: ClassVar = KindInfo(
        kind="XenMigration",
        plural="xenmigrations",
        short_name="xmig",
        scope="Namespaced",
        columns=(
            Column("Domain", ".spec.domainName"),
            Column("Phase", ".status.phase"),
            Column("Source", ".status.source"),
            Column("Target", ".status.target"),
            Column("Cause", ".status.cause"),
            AGE,
            MESSAGE,
        ),
        selectable=(".spec.domainName", ".status.source", ".status.target"),
        status_default={"phase": MigrationPhase.PENDING.value, **STATUS_DEFAULT},
    )

    kind: str = "XenMigration"
    spec: XenMigrationSpec
    status: XenMigrationStatus = Field(default_factory=XenMigrationStatus)
