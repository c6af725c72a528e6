"""What all models share: camelCase in the API, snake_case in Python, and one error for an object that cannot be read.

Every module of api/ builds on it. It knows nothing of Kubernetes' REST API and nothing of Xen.
"""

from collections.abc import Set
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel


class InvalidObject(ValueError):
    """An object that does not fit its model: `field` is the path as a person writes it, as in `spec.memory.size`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message

    @classmethod
    def from_validation(cls, error: ValidationError) -> "InvalidObject":
        first = error.errors(include_url=False, include_context=False)[0]
        return cls(_path(first["loc"]), first["msg"].removeprefix("Value error, "))


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


class Model(BaseModel):
    """A document, or a part of one. Unknown fields are ignored, so that an older agent survives a newer CRD."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore",
        defer_build=True,  # a part is built with its whole, and a kind that is not read here never: a tenth of an agent's start
    )

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Read a plain document; raises InvalidObject and nothing else."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise InvalidObject.from_validation(error) from error

    def to_dict(self, only: Set[str] | None = None) -> dict[str, Any]:
        """The document for the API: camelCase, plain JSON types, without fields that have no value.

        `only` names attributes (snake_case): a writer of server-side apply sends no other's fields.
        """
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, include=set(only) if only else None)


class SpecModel(Model):
    """A part of a spec: ours to read and never to write, hence frozen. What it does not know is kept, for notimplemented.py."""

    model_config = ConfigDict(frozen=True, extra="allow")


class StatusModel(Model):
    """A part of a status."""


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL rules, as (rule, message), for json_schema_extra of a field or of a model."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


def unchangeable(field: str) -> str:
    """The CEL rule that an optional field can be neither changed, nor added, nor taken away after creation."""
    return f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"


def list_map(*keys: str) -> dict[str, Any]:
    """A list whose items are told apart by these keys: unique, and merged one by one by server-side apply."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


HANDED_ON: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}
"""json_schema_extra of what is handed on as it is: nobody here has to know what else is in it."""

DEFAULT_EMPTY: dict[str, Any] = {"default": {}}
"""json_schema_extra of a nested model that is filled with its own defaults when it is not given."""
