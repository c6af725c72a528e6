"""What the controller reads from Nodes."""

from __future__ import annotations

from typing import Any, cast

from kubexen.controller.cache import Cache
from kubexen.controller.nodes import OUT_OF_SERVICE, barred, largest, node_state, read_afresh
from kubexen.kube.kinds import XENHOSTS
from kubexen.kube.resources import NODES, Resource
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


async def test_before_a_fence_counts_the_node_is_read_afresh() -> None:
    """The picture of a watch that hangs may still have the taint that somebody has taken off."""
    cache = Cache()
    tainted = node("xen1") | {"spec": {"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]}}
    for res, found in ((NODES, tainted), (XENHOSTS, {"metadata": tainted["metadata"], "spec": {}, "status": {}})):
        cache.put(res, found)
    cache.set_lost("xen1", True)
    assert node_state(cache, "xen1").fenced

    class Server:
        async def list(self, res: Resource, *, field_selector: str) -> tuple[list[dict[str, Any]], str]:
            assert field_selector == "metadata.name=xen1"
            now = node("xen1") | {"metadata": {"name": "xen1", "uid": "xen1", "resourceVersion": "2"}}
            return ([now] if res is NODES else []), "2"

    await read_afresh(cast(Any, Server()), cache, "xen1")
    assert not node_state(cache, "xen1").fenced
    assert cache.host("xen1") is None
