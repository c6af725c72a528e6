"""The parts of metav1 that Kubexen reads: ObjectMeta and LabelSelector. Written by Kubernetes, never by us."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from kubexen.api.base import Model, SpecModel
from kubexen.api.fields import Time


class OwnerReference(Model):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(Model):
    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    finalizers: list[str] = []
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []

    @property
    def deleting(self) -> bool:
        return self.deletion_timestamp is not None

    @property
    def key(self) -> str:
        """`namespace/name`, or the name alone for a cluster-scoped object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class LabelRequirement(SpecModel):
    """One requirement on a label."""

    key: str = Field(description="The label's key.", max_length=317)
    operator: str = Field(
        description="In, NotIn, Exists or DoesNotExist.",
        json_schema_extra={"enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
    )
    values: list[Annotated[str, Field(max_length=63)]] = Field(
        default=[], max_length=64, description="The values for In and NotIn."
    )

    def matches(self, labels: Mapping[str, str]) -> bool:
        present = self.key in labels
        match self.operator:
            case "In":
                return present and labels[self.key] in self.values
            case "NotIn":
                return not present or labels[self.key] not in self.values
            case "Exists":
                return present
            case "DoesNotExist":
                return not present
        return False


class LabelSelector(SpecModel):
    """Selects objects by their labels; an empty selector selects all."""

    match_labels: dict[str, Annotated[str, Field(max_length=63)]] = Field(
        default={}, max_length=64, description="Labels that must all be there with these values."
    )
    match_expressions: list[LabelRequirement] = Field(
        default=[], max_length=64, description="Requirements that must all hold."
    )

    def matches(self, labels: Mapping[str, str]) -> bool:
        wanted = all(labels.get(key) == value for key, value in self.match_labels.items())
        return wanted and all(requirement.matches(labels) for requirement in self.match_expressions)


def allows(selector: LabelSelector | None, namespace_labels: Mapping[str, str]) -> bool:
    """Whether a pool or a network may be used by a namespace with these labels: no selector allows none."""
    return selector is not None and selector.matches(namespace_labels)
