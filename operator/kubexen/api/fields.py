"""Types of single fields that more than one kind uses: names, addresses, times, paths, rates.

What a pattern or a CEL rule refuses at the API server is refused here too, so an agent never trusts an object's author.
"""

import ipaddress
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainSerializer

from kubexen.api.base import HANDED_ON, SpecModel, rules

MAX_AMOUNT = "1Pi"
"""Of memory and of a disk; what lies far beyond cannot be counted in bytes."""

ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
]
"""The name of another object."""

ItemName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""The name of an item of a list."""

Uuid = Annotated[str, Field(max_length=36, pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


def lower(text: str) -> str:
    return text.lower()


Mac = Annotated[
    str,
    Field(max_length=17, pattern=r"^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$"),
    AfterValidator(lower),
]
"""A unicast MAC address; lower case in Python."""


def ip_address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def ip_network(text: str) -> str:
    return str(ipaddress.ip_network(text))


IpAddress = Annotated[
    str,
    Field(max_length=45, json_schema_extra=rules(("isIP(self)", "must be an IPv4 or IPv6 address, as in 192.0.2.10"))),
    AfterValidator(ip_address),
]

Cidr = Annotated[
    str,
    Field(
        max_length=49,
        json_schema_extra=rules(
            (
                "isCIDR(self) && cidr(self).masked() == cidr(self)",
                "must be a network with its prefix length and no host bits, as in 192.0.2.0/24",
            )
        ),
    ),
    AfterValidator(ip_network),
]

Rate = Annotated[str, Field(max_length=32, pattern=r"^[0-9]{1,9}[KMG]?[bB]/s(@[0-9]{1,9}(us|ms|s))?$")]
"""xl's rate: bits (b) or bytes (B) a second, with an optional interval, as in 10Mb/s or 1MB/s@20ms."""


def _rising(cpus: str) -> str:
    for part in cpus.split(","):
        first, dash, last = part.removeprefix("^").partition("-")
        if dash and int(first) > int(last):
            raise ValueError(f"a range of CPUs goes up, as in 2-5: {part} does not")
    return cpus


CpuSet = Annotated[
    str,
    Field(
        max_length=255,
        pattern=r"^(all|\^?[0-9]{1,4}(-[0-9]{1,4})?(,\^?[0-9]{1,4}(-[0-9]{1,4})?)*)$",
        json_schema_extra=rules(
            (
                "self.findAll('[0-9]+-[0-9]+').all(range, int(range.split('-')[0]) <= int(range.split('-')[1]))",
                "a range of CPUs goes up, as in 2-5",
            )
        ),
    ),
    AfterValidator(_rising),
]
"""xl's way to name physical CPUs, as in 0-3,5,^1."""


def _no_escape(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError("must not contain '..'")
    return path


def _inside(path: str) -> str:
    if path.startswith("/"):
        raise ValueError("must be a path inside the pool, without a leading '/'")
    return _no_escape(path)


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must be an absolute path")
    return _no_escape(path)


_NO_ESCAPE = ("!self.split('/').exists(part, part == '..')", "must not contain '..'")

RelativePath = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        pattern=r"^[A-Za-z0-9._+~:/-]+$",
        json_schema_extra=rules(
            ("!self.startsWith('/')", "must be a path inside the pool, without a leading '/'"), _NO_ESCAPE
        ),
    ),
    AfterValidator(_inside),
]

AbsolutePath = Annotated[
    str,
    Field(
        min_length=2,
        max_length=255,
        pattern=r"^[A-Za-z0-9._+~:/-]+$",
        json_schema_extra=rules(("self.startsWith('/')", "must be an absolute path"), _NO_ESCAPE),
    ),
    AfterValidator(_absolute),
]


def rfc3339(time: datetime) -> str:
    """As Kubernetes writes times: UTC, whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]

Anything = Annotated[dict[str, Any], Field(json_schema_extra=HANDED_ON)]
"""A part of a Pod that is handed on as it is; the API server checks it when the anchor is made."""


class PoolFile(SpecModel):
    """A file that an administrator put into a storage pool."""

    pool: ObjectName = Field(description="The XenStoragePool that holds the file; no xl key.")
    file: RelativePath = Field(description="The file's path inside the pool; no xl key.")
