"""XenAction: one act on one domain that is no state, as a reboot: carried out at most once, then kept for a while.

The phase is written before the act, so that a restart of the one who acts never repeats it.
"""

from enum import StrEnum
from typing import ClassVar

from pydantic import ConfigDict, Field

from kubexen.api.base import SpecModel, rules
from kubexen.api.fields import ObjectName, Time
from kubexen.api.kind import AGE, STATUS_DEFAULT, Column, ConditionedStatus, KindInfo, Resource


class Act(StrEnum):
    START = "Start"
    REBOOT = "Reboot"
    RESET = "Reset"
    CORE_DUMP = "CoreDump"
    SYS_RQ = "SysRq"
    TRIGGER = "Trigger"


class ActionPhase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def finished(self) -> bool:
        return self in (ActionPhase.SUCCEEDED, ActionPhase.FAILED)


class XenActionSpec(SpecModel):
    """What act is asked for."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.domainName == oldSelf.domainName && self.action == oldSelf.action"
                " && has(self.argument) == has(oldSelf.argument)"
                " && (!has(self.argument) || self.argument == oldSelf.argument)",
                "a XenAction cannot be changed: make another",
            ),
            (
                "self.action == 'SysRq' ? has(self.argument) && self.argument.matches('^[0-9a-z]$')"
                " : self.action == 'Trigger' ? has(self.argument) && self.argument in"
                " ['nmi', 'reset', 'init', 'power', 'sleep', 's3resume'] : !has(self.argument)",
                "SysRq needs one letter or digit as argument; Trigger one of nmi, reset, init, power, sleep and"
                " s3resume; the others none",
            ),
        )
    )

    domain_name: ObjectName = Field(description="The XenDomain of this namespace to act on; xl reboot: domain-id.")
    action: Act = Field(
        description="Start (xl create, after the guest powered itself off), Reboot (xl reboot), Reset (xl reset), "
        "CoreDump (xl dump-core), SysRq (xl sysrq) or Trigger (xl trigger)."
    )
    argument: str | None = Field(
        default=None,
        max_length=32,
        description="The letter of a SysRq, or the name of a Trigger, as in nmi; xl sysrq: letter, xl trigger: trigger-name.",
    )
    ttl_seconds_after_finished: int = Field(
        default=3600, ge=0, le=31536000, description="Seconds that the object is kept after it has finished; no xl key."
    )


class XenActionStatus(ConditionedStatus):
    """How far the act is."""

    phase: ActionPhase = Field(default=ActionPhase.PENDING, description="Pending, Running, Succeeded or Failed.")
    node_name: str | None = Field(default=None, max_length=253, description="The node whose agent carries it out.")
    message: str = Field(default="", max_length=1024, description="How it ended.")
    start_time: Time | None = Field(default=None, description="When it started.")
    completion_time: Time | None = Field(default=None, description="When it ended.")


class XenAction(Resource):
    """One act on one domain."""

    info: ClassVar = KindInfo(
        kind="XenAction",
        plural="xenactions",
        short_name="xact",
        scope="Namespaced",
        columns=(
            Column("Domain", ".spec.domainName"),
            Column("Action", ".spec.action"),
            Column("Phase", ".status.phase"),
            AGE,
            Column("Message", ".status.message", priority=1),
        ),
        selectable=(".spec.domainName", ".status.nodeName"),
        status_default={"phase": ActionPhase.PENDING.value, **STATUS_DEFAULT},
    )

    kind: str = "XenAction"
    spec: XenActionSpec
    status: XenActionStatus = Field(default_factory=XenActionStatus)
