"""Amounts of memory and storage as Kubernetes writes them (`512Mi`, `1Gi`), and as bytes, KiB and MiB as Xen counts.

Models use Quantity as a field's type: it is an int of bytes, and is written in its canonical form.
"""

import re
from decimal import Decimal
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

KIB = 1024
MIB = 1024**2
LARGEST = 2**63 - 1
"""What Kubernetes keeps exactly."""

PATTERN = r"^[0-9]{1,19}(\.[0-9]{1,9})?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$"

_MATCH = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?")
_BINARY = {"Pi": 1024**5, "Ti": 1024**4, "Gi": 1024**3, "Mi": MIB, "Ki": KIB}
_UNITS = {**_BINARY, "P": 1000**5, "T": 1000**4, "G": 1000**3, "M": 1000**2, "k": 1000, "": 1}


class Quantity(int):
    """An amount in bytes. `str()` gives the canonical form: the greatest binary unit without a remainder."""

    @classmethod
    def parse(cls, value: object) -> "Quantity":
        """Read `512Mi`, `1.5Gi`, `1G` or a number of bytes, rounded up to whole bytes. Raises ValueError."""
        if isinstance(value, int) and not isinstance(value, bool):
            return cls._within(value)
        match = _MATCH.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{value!r} is no quantity: write a number and a unit, as in 512Mi or 1Gi")
        amount = Decimal(match[1]) * _UNITS[match[2] or ""]
        return cls._within(int(amount.to_integral_value("ROUND_CEILING")))

    @classmethod
    def _within(cls, size: int) -> "Quantity":
        if not 0 <= size <= LARGEST:
            raise ValueError(f"{size} is not between 0 and 8Ei")
        return cls(size)

    @classmethod
    def from_kib(cls, kib: int) -> "Quantity":
        return cls(kib * KIB)

    @classmethod
    def from_mib(cls, mib: int) -> "Quantity":
        return cls(mib * MIB)

    @property
    def kib(self) -> int:
        """KiB, rounded up."""
        return -(-int(self) // KIB)

    @property
    def mib(self) -> int:
        """MiB, rounded up."""
        return -(-int(self) // MIB)

    def __str__(self) -> str:
        for suffix, unit in _BINARY.items():
            if self and self % unit == 0:
                return f"{self // unit}{suffix}"
        return int.__repr__(self)

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "pattern": PATTERN,
            "maxLength": 32,
        }
