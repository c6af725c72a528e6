"""What a kind is besides its schema (names, scope, columns, subresources), and the base class of all kinds.

Kind files declare it on their class as `info`; crdgen writes it into the CRD, clients take URL paths from it.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from kubexen.api.base import Model, StatusModel, list_map
from kubexen.api.conditions import PENDING, Condition
from kubexen.api.meta import ObjectMeta
from kubexen.api.names import API_VERSION, GROUP, VERSION


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; priority 1 is shown by `-o wide` only."""

    name: str
    path: str
    type: Literal["string", "integer", "boolean", "date"] = "string"
    priority: int = 0


AGE = Column("Age", ".metadata.creationTimestamp", "date")
READY = Column("Ready", '.status.conditions[?(@.type=="Ready")].status')
REASON = Column("Status", '.status.conditions[?(@.type=="Ready")].reason')
MESSAGE = Column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1)


@dataclass(frozen=True)
class Scale:
    """Paths of the scale subresource."""

    spec_replicas: str
    status_replicas: str
    selector: str


@dataclass(frozen=True)
class KindInfo:
    kind: str
    plural: str
    short_name: str
    scope: Literal["Namespaced", "Cluster"]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    scale: Scale | None = None
    rules: tuple[tuple[str, str], ...] = ()
    """CEL rules on the whole object, as (rule, message)."""
    status_default: dict[str, Any] | None = None

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def namespaced(self) -> bool:
        return self.scope == "Namespaced"

    @property
    def crd_name(self) -> str:
        return f"{self.plural}.{GROUP}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection (of one namespace, or of all), or of one object or its subresource."""
        parts = ["/apis", GROUP, VERSION]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


STATUS_DEFAULT: dict[str, Any] = {"conditions": [PENDING.to_dict()]}

Conditions = Annotated[
    list[Condition],
    Field(
        max_length=32,
        description="The state in words; each condition has one owner.",
        json_schema_extra=list_map("type"),
    ),
]


class ConditionedStatus(StatusModel):
    """A status with conditions."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="The metadata.generation that was last acted upon."
    )
    conditions: Conditions = []


class Resource(Model):
    """The base of all kinds. A subclass adds `spec` and `status`."""

    info: ClassVar[KindInfo]

    api_version: str = API_VERSION
    kind: str = ""
    metadata: ObjectMeta

    @property
    def key(self) -> str:
        return self.metadata.key

    @property
    def deleting(self) -> bool:
        return self.metadata.deleting
