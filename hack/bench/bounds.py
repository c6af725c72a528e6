"""The bounds of rangespec.yaml, and what of a run's figures is outside of them. Called by __main__.py."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

RANGESPEC = Path(__file__).parent / "rangespec.yaml"


@dataclass(frozen=True)
class Bound:
    """The largest value that a figure may have, and the least one that can be true."""

    name: str
    max: float
    min: float = -math.inf

    def verdict(self, figures: Mapping[str, Any]) -> str:
        """What is wrong with the figure; nothing: it is within its bound."""
        value = figures.get(self.name)
        if not isinstance(value, int | float):
            return "NOT MEASURED"
        return "TOO HIGH" if value > self.max else "TOO LOW" if value < self.min else ""


def load(bench: str, path: Path = RANGESPEC) -> list[Bound]:
    """The bounds of one bench: `sim`, `xen` or `install`."""
    return [Bound(name, **spec) for name, spec in yaml.safe_load(path.read_text())[bench].items()]


def table(figures: Mapping[str, Any], bounds: list[Bound]) -> str:
    """Figures beside their bounds, a line each."""
    lines = [f"{'figure':<24}{'measured':>10}{'max':>8}"]
    for bound in bounds:
        line = f"{bound.name:<24}{figures.get(bound.name, '-'):>10}{bound.max:>8g}  {bound.verdict(figures)}"
        lines.append(line.rstrip())
    return "\n".join(lines)
