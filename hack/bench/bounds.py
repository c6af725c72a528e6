"""The bounds of rangespec.yaml, and what of a run's figures is outside of them. Called by __main__.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

RANGESPEC = Path(__file__).parent / "rangespec.yaml"


@dataclass(frozen=True)
class Bound:
    """The largest value that a figure may have."""

    name: str
    max: float

    def holds(self, figures: Mapping[str, Any]) -> bool:
        """A figure that was not measured is outside of its bound."""
        value = figures.get(self.name)
        return isinstance(value, int | float) and value <= self.max


def load(bench: str, path: Path = RANGESPEC) -> list[Bound]:
    """The bounds of one bench: `sim` or `xen`."""
    return [Bound(name, float(spec["max"])) for name, spec in yaml.safe_load(path.read_text())[bench].items()]


def table(figures: Mapping[str, Any], bounds: list[Bound]) -> str:
    """Figures beside their bounds, a line each."""
    lines = [f"{'figure':<24}{'measured':>10}{'max':>8}"]
    for bound in bounds:
        verdict = "" if bound.holds(figures) else "  TOO HIGH"
        lines.append(f"{bound.name:<24}{figures.get(bound.name, '-'):>10}{bound.max:>8g}{verdict}")
    return "\n".join(lines)
