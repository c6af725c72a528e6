"""In which order tests run."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a whole stack comes last: once it is up, it leaves less of the machine to others, and what has a cluster of its
    own takes long."""
    items.sort(key=lambda item: "stack" in getattr(item, "fixturenames", ()))
