"""Takes secrets out of what goes into a support bundle. What is not known to be harmless goes, rather than what is known to harm.

Pure: documents and texts in, the same without secrets out. bundle.py decides what is packed at all; Secrets never come here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from kubexen.kube.resources import Object

GONE = "REDACTED"

HARMLESS_PARAMETERS = frozenset([
    "console", "root", "rootfstype", "rootflags", "ro", "rw", "quiet", "init", "rdinit", "debug", "loglevel", "earlyprintk",
    "panic", "nomodeset", "selinux", "apparmor", "net.ifnames", "com1", "com2", "bootscrub", "dom0_mem", "dom0_max_vcpus",
    "dom0_vcpus_pin", "loglvl", "guest_loglvl", "iommu", "sched", "cpufreq", "vga", "noreboot", "no-real-mode", "edd",
    "smt", "spec-ctrl", "ucode", "placeholder",
])  # fmt: skip
"""Of a kernel's or Xen's command line; of any other the value goes."""

HARMLESS_ARGUMENTS = frozenset([
    "node", "driver", "root", "etc", "namespace", "agent-namespace", "full-look", "anchor-image", "leader-elect",
    "no-leader-elect", "verbose", "log-level", "health", "vcpus-per-cpu", "config", "v",
])  # fmt: skip
"""Of our own processes."""

HARMLESS_LABELS = re.compile(r"(^|\.)(kubernetes\.io|k8s\.io|kubexen\.dev|helm\.sh)/")

_SENSITIVE = (
    r"passw(?:or)?d|passphrase|secret|token|credentials?|private[-_]?key|api[-_]?key|access[-_]?key|authorization|cookie"
)
_SENSITIVE_KEY = re.compile(rf"(?:{_SENSITIVE})$", re.IGNORECASE)
_SCRUBS = (
    re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL),
    re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}"),  # a JSON Web Token, as ServiceAccounts have
    re.compile(r"(?<=://)[^/\s@]+(?=@)"),  # user:password@host
    re.compile(r"(?<=[Bb]earer )\s*\S+"),
    re.compile(rf"""(?<![\w])[\w.-]*(?:{_SENSITIVE})[\w.-]*["']?\s*[=:]\s*("[^"]*"|'[^']*'|\S+)""", re.IGNORECASE),
)


def text(value: str) -> str:
    """Free text (a log, a message) without what looks like a secret."""
    for pattern in _SCRUBS:
        value = pattern.sub(_keep_name, value)
    return value


def _keep_name(match: re.Match[str]) -> str:
    if match.re.groups:
        return match.group(0)[: match.start(1) - match.start(0)] + GONE
    return GONE


def document(obj: Object) -> Object:
    """A Kubernetes object without secrets, and without what only makes it long."""
    result: Object = _walk(obj)
    metadata = result.get("metadata", {})
    metadata.pop("managedFields", None)
    if obj.get("kind") == "Node":
        result.get("status", {}).pop("images", None)
    return result


def _walk(value: Any, key: str = "") -> Any:
    if key in _BY_KEY and value is not None:
        return _BY_KEY[key](value)
    match value:
        case dict():
            return {name: _walk(item, name) for name, item in value.items()}
        case list():
            return [_walk(item) for item in value]
        case str():
            return GONE if value and _SENSITIVE_KEY.search(key) else text(value)
    return value


def _values(value: Any) -> Any:
    """A map's keys without its values; text goes."""
    return dict.fromkeys(value, GONE) if isinstance(value, dict) else GONE


def _annotations(value: Any) -> Any:
    """kubectl keeps a whole earlier object in one of them, and anybody may keep anything in others."""
    return {name: GONE for name in value if not name.endswith("/last-applied-configuration")}


def _labels(value: Any) -> Any:
    return {name: text(str(item)) if HARMLESS_LABELS.search(name) else GONE for name, item in value.items()}


def _named(value: Any) -> Any:
    """Environment variables and HTTP headers: names, and references to where a value comes from."""
    return [{**_walk(item), **({"value": GONE} if "value" in item else {})} for item in value]


def _arguments(value: Any) -> Any:
    if not isinstance(value, list):
        return GONE
    return [value[0] if index == 0 and not value[0].startswith("-") and "=" not in value[0] else _argument(item)
            for index, item in enumerate(value)]


def _argument(item: str) -> str:
    name, equals, _ = item.partition("=")
    if not item.startswith("-"):
        return GONE
    if name.lstrip("-") in HARMLESS_ARGUMENTS:
        return item
    return f"{name}={GONE}" if equals else item


def _command_line(value: Any) -> Any:
    return " ".join(_parameter(item) for item in str(value).split())


def _parameter(item: str) -> str:
    name, equals, _ = item.partition("=")
    if name in HARMLESS_PARAMETERS:
        return text(item)
    return f"{name}={GONE}" if equals else GONE


def _reference(value: Any) -> Any:
    """Of cloud-init, the Secret's name and key."""
    if not isinstance(value, dict):
        return GONE
    return {name: item if name in ("secretName", "key", "optional") else GONE for name, item in value.items()}


_BY_KEY: Mapping[str, Callable[[Any], Any]] = {
    "annotations": _annotations,
    "labels": _labels,
    "env": _named,
    "httpHeaders": _named,
    "args": _arguments,
    "command": _arguments,
    "cmdline": _command_line,
    "commandLine": _command_line,
    "userData": _reference,
    "networkData": _reference,
    "vendorData": _reference,
    "volumeAttributes": _values,
    "stringData": _values,
    "binaryData": _values,
}
