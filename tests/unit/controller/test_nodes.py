"""What the controller reads from Nodes."""

from __future__ import annotations

from typing import Any

from kubexen.controller.cache import Cache
from kubexen.controller.nodes import largest
from kubexen.kube.resources import NODES
from kubexen.plan.unplaced import Largest


def node(name: str, **allocatable: str) -> dict[str, Any]:
    resources = {f"kubexen.dev/{key.replace('_', '-')}": value for key, value in allocatable.items()}
    metadata = {"name": name, "uid": name, "resourceVersion": "1"}
    return {"metadata": metadata, "status": {"allocatable": resources}}


def test_amounts_as_the_api_server_writes_them() -> None:
    cache = Cache()
    assert largest(cache) == Largest(0, 0)
    for found in (node("xen1", memory_mib="47k", vcpus="8"), node("xen2", memory_mib="46999", vcpus="2k"), node("plain")):
        cache.put(NODES, found)
    assert largest(cache) == Largest(47000, 2000)
