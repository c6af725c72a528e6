"""The chart as helm renders it, and objects in it by kind and name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hack.stack import chart

Find = Callable[..., chart.Document]


@pytest.fixture(scope="session")
def documents() -> list[chart.Document]:
    """With the values as they are shipped."""
    return chart.render()


@pytest.fixture
def find() -> Find:
    def find(documents: list[chart.Document], kind: str, name: str, namespace: str | None = None) -> Any:
        (found,) = [
            d for d in documents if (d["kind"], d["metadata"]["name"]) == (kind, name)
            and namespace in (None, d["metadata"].get("namespace"))
        ]  # fmt: skip
        return found

    return find
