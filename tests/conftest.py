"""In which order tests run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs a whole stack comes last: once it is up, it leaves less of the machine to others, and what has a cluster of its
    own takes long. Where files are dealt out to workers, those marked early and then the largest come first, so that no worker is
    left with one at the end."""
    sizes = Counter(item.path for item in items) if hasattr(config, "workerinput") else Counter[Path]()

    def place(item: pytest.Item) -> tuple[bool, bool, int]:
        return "stack" in getattr(item, "fixturenames", ()), item.get_closest_marker("early") is None, -sizes[item.path]

    items.sort(key=place)
