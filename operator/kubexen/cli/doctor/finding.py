"""What a check has found: one thing, about one subject, with the way to mend it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    OK = "ok"
    NOTE = "note"  # to know, not to mend
    WARNING = "warning"  # it works, and may not for long
    ERROR = "error"  # something does not work until a person mends it


@dataclass(frozen=True)
class Finding:
    """`check` names the check (stable, for scripts); `subject` is what it is about, as in `Host xen1`."""

    severity: Severity
    subject: str
    check: str
    what: str
    mend: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "severity": str(self.severity)}


def ok(subject: str, check: str, what: str) -> Finding:
    return Finding(Severity.OK, subject, check, what)


def note(subject: str, check: str, what: str, mend: str = "") -> Finding:
    return Finding(Severity.NOTE, subject, check, what, mend)


def warning(subject: str, check: str, what: str, mend: str) -> Finding:
    return Finding(Severity.WARNING, subject, check, what, mend)


def error(subject: str, check: str, what: str, mend: str) -> Finding:
    return Finding(Severity.ERROR, subject, check, what, mend)


def failed(findings: list[Finding]) -> bool:
    """Whether anything does not work: the command's exit code."""
    return any(finding.severity is Severity.ERROR for finding in findings)
