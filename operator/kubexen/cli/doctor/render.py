"""Findings for a person (a line each, grouped by subject, with the remedy below) and for a program (JSON)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from kubexen.cli.doctor.finding import Finding, Severity, failed

MARKS = {
    Severity.OK: ("✓", "green"),
    Severity.NOTE: ("·", "cyan"),
    Severity.WARNING: ("!", "yellow"),
    Severity.ERROR: ("✗", "bold red"),
}


def as_json(findings: Sequence[Finding]) -> str:
    document = {"healthy": not failed(list(findings)), "findings": [finding.to_dict() for finding in findings]}
    return json.dumps(document, indent=2, ensure_ascii=False)


def show(findings: Sequence[Finding], console: Console, *, verbose: bool) -> None:
    """What is fine is only counted, unless `verbose`."""
    subjects: dict[str, list[Finding]] = {}
    for finding in findings:
        if verbose or finding.severity is not Severity.OK:
            subjects.setdefault(finding.subject, []).append(finding)
    for subject, found in subjects.items():
        console.print(Text(subject, style="bold"))
        for finding in found:
            mark, style = MARKS[finding.severity]
            _line(console, Text.assemble((f"{mark} ", style), finding.what), 2)
            if finding.mend:
                _line(console, Text.assemble(("→ ", "dim"), finding.mend), 6)
    console.print(summary(findings))


def summary(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.severity for finding in findings)
    parts = [_count(counts[severity], str(severity)) for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE)]
    trouble = ", ".join(part for part in parts if part)
    fine = f"{counts[Severity.OK]} checks passed"
    return f"{trouble}; {fine}." if trouble else f"All is well: {fine}."


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}" if number else ""


def _line(console: Console, text: Text, indent: int) -> None:
    """Wrapped for a terminal; whole for a pipe, where `grep` wants it so."""
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent)))
    else:
        console.print(Text(" " * indent) + text, soft_wrap=True)
