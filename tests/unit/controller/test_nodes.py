"""What the controller reads from Nodes."""

from __future__ import annotations

from typing import Any

from kubexen.controller.cache import Cache
from kubexen.controller.nodes import barred, largest
from kubexen.kube.kinds import XENHOSTS
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


def test_a_lost_host_and_a_fenced_one_may_be_given_no_domain() -> None:
    cache = Cache()
    now, before = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 0))
    names = ["xen0", "xen1", "xen2"]
    for name, fenced in zip(names, (None, now, before), strict=True):
        cache.put(XENHOSTS, {"metadata": {"name": name, "uid": name, "resourceVersion": "1"},
                             "spec": {"fencedBootID": fenced} if fenced else {}, "status": {"bootID": now}})
    assert barred(cache, names) == {"xen1"}
    cache.set_lost("xen0", True)
    assert barred(cache, names) == {"xen0", "xen1"}
