"""What a person sees: a line a finding, the remedy below it, and nothing of what is fine."""

from __future__ import annotations

import io
import json

from rich.console import Console

from kubexen.cli.doctor import render
from kubexen.cli.doctor.finding import Finding, error, note, ok, warning

LONG = "word " * 60
FINDINGS = [
    ok("Cluster", "crd", "the definitions are this version's"),
    error("Host xen1", "pool", f"pool [images] is not there: {LONG}", "mount it"),
    note("Host xen1", "unmanaged", "domains that are not Kubexen's: old"),
    warning("Host xen2", "label", "no label", "kubectl label node xen2 kubexen.dev/xen=true"),
]


def shown(findings: list[Finding], *, verbose: bool = False, width: int | None = None) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=width is not None, color_system=None, width=width, highlight=False)
    render.show(findings, console, verbose=verbose)
    return file.getvalue()


def test_a_pipe_gets_a_line_each_with_the_remedy_below() -> None:
    assert shown(FINDINGS).splitlines() == [
        "Host xen1",
        f"  ✗ pool [images] is not there: {LONG}".rstrip(" ") + " ",
        "      → mount it",
        "  · domains that are not Kubexen's: old",
        "Host xen2",
        "  ! no label",
        "      → kubectl label node xen2 kubexen.dev/xen=true",
        "1 error, 1 warning, 1 note; 1 checks passed.",
    ]


def test_what_is_fine_is_shown_when_it_is_asked_for() -> None:
    assert shown(FINDINGS, verbose=True).startswith("Cluster\n  ✓ the definitions are this version's\n")


def test_all_is_well() -> None:
    assert shown(FINDINGS[:1]) == "All is well: 1 checks passed.\n"


def test_a_terminal_gets_no_line_wider_than_it_is() -> None:
    assert all(len(line) <= 60 for line in shown(FINDINGS, width=60).splitlines())


def test_json_says_the_same() -> None:
    found = json.loads(render.as_json(FINDINGS))
    assert found["healthy"] is False
    assert found["findings"][3] == {
        "severity": "warning", "subject": "Host xen2", "check": "label", "what": "no label",
        "mend": "kubectl label node xen2 kubexen.dev/xen=true",
    }  # fmt: skip
