"""Conditions: their model, their types and reasons, and pure helpers to set, find and remove one in a list.

Each has one owner: of a XenDomain's, DomainReady and RestartRequired are the agent's, the others the controller's; a XenHost's
Ready and Healthy are the agent's.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import ConfigDict, Field

from kubexen.api.base import Model
from kubexen.api.fields import Time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    READY = "Ready"
    SCHEDULED = "Scheduled"
    MIGRATABLE = "Migratable"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    DOMAIN_READY = "DomainReady"
    RESTART_REQUIRED = "RestartRequired"
    IN_USE = "InUse"
    HEALTHY = "Healthy"


class Reason(StrEnum):
    """What a person reads in the STATUS column. An error of the hypervisor brings its own reason."""

    # As the spec asks.
    RUNNING = "Running"
    PAUSED = "Paused"
    SUSPENDED = "Suspended"
    HALTED = "Halted"
    POWERED_OFF = "PoweredOff"
    READY = "Ready"
    IN_USE = "InUse"
    SCHEDULED = "Scheduled"
    SUCCEEDED = "Succeeded"

    # On the way there.
    PENDING = "Pending"
    STARTING = "Starting"
    STOPPING = "Stopping"
    RESTARTING = "Restarting"
    PAUSING = "Pausing"
    RESUMING = "Resuming"
    CHANGING = "Changing"
    MIGRATING = "Migrating"
    EVICTING = "Evicting"
    RELEASED = "Released"
    DELETING = "Deleting"
    CREATING = "Creating"
    WAITING_FOR_NODE = "WaitingForNode"
    WAITING_FOR_DISK = "WaitingForDisk"
    WAITING_FOR_NETWORK = "WaitingForNetwork"
    WAITING_FOR_MEMORY = "WaitingForMemory"
    WAITING_FOR_QUOTA = "WaitingForQuota"
    WAITING_FOR_DOMAIN = "WaitingForDomain"
    WAITING_FOR_DETACH = "WaitingForDetach"
    CRASH_LOOP = "CrashLoop"
    CRASHED = "Crashed"
    NODE_LOST = "NodeLost"
    NOWHERE_TO_GO = "NowhereToGo"
    FOUND_ELSEWHERE = "FoundElsewhere"

    # Needs a person.
    NOT_IMPLEMENTED = "NotImplemented"
    INVALID_SPEC = "InvalidSpec"
    ANCHOR_REFUSED = "AnchorRefused"
    DISK_NOT_FOUND = "DiskNotFound"
    DISK_IN_USE = "DiskInUse"
    NETWORK_NOT_FOUND = "NetworkNotFound"
    POOL_NOT_FOUND = "PoolNotFound"
    FILE_NOT_FOUND = "FileNotFound"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    MAC_TAKEN = "MacTaken"
    UUID_TAKEN = "UuidTaken"
    DOMAIN_NOT_FOUND = "DomainNotFound"
    START_FAILED = "StartFailed"
    FAILED = "Failed"


class Condition(Model):
    """One observation of an object's state, as in metav1.Condition."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(
        description="What is observed, as in Ready.",
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z]([A-Za-z0-9]*[A-Za-z0-9])?$",
    )
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: str = Field(
        description="Why, in one word for machines and people.",
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
    )
    message: str = Field(description="Why, in a sentence that says what to do.", max_length=32768)
    last_transition_time: Time = Field(description="When the status last changed (not the reason or the message).")
    observed_generation: int | None = Field(
        default=None, ge=0, description="The metadata.generation that this was observed for."
    )

    @property
    def is_true(self) -> bool:
        return self.status is ConditionStatus.TRUE


def set_condition(
    conditions: Iterable[Condition],
    type: str,
    status: ConditionStatus | bool | None,
    reason: str,
    message: str,
    generation: int | None,
    now: datetime,
) -> list[Condition]:
    """The conditions with one of them set; None means Unknown. lastTransitionTime moves only when the status flips."""
    if not isinstance(status, ConditionStatus):
        status = {True: ConditionStatus.TRUE, False: ConditionStatus.FALSE, None: ConditionStatus.UNKNOWN}[status]
    result = list(conditions)
    index = next((i for i, condition in enumerate(result) if condition.type == type), len(result))
    old = result[index] if index < len(result) else None
    since = old.last_transition_time if old and old.status is status else now.replace(microsecond=0)
    result[index : index + 1] = [
        Condition(
            type=str(type),
            status=status,
            reason=str(reason),
            message=message,
            last_transition_time=since,
            observed_generation=generation,
        )
    ]
    return result


def find(conditions: Iterable[Condition], type: str) -> Condition | None:
    return next((condition for condition in conditions if condition.type == type), None)


def remove(conditions: Iterable[Condition], type: str) -> list[Condition]:
    return [condition for condition in conditions if condition.type != type]


PENDING = Condition(
    type=ConditionType.READY,
    status=ConditionStatus.UNKNOWN,
    reason=Reason.PENDING,
    message="Not looked at yet.",
    last_transition_time=EPOCH,
)
"""Every object's first condition, a static default of the CRD: no tool takes a new object for a finished one."""
