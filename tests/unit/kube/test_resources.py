"""Paths and keys."""

from __future__ import annotations

import pytest

from kubexen.kube.resources import LEASES, NODES, PODS, Resource, key_of, split_key

THINGS = Resource("example.com", "v1alpha1", "things", "Thing", namespaced=True)


@pytest.mark.parametrize(
    ("res", "where", "path"),
    [
        pytest.param(PODS, (), "/api/v1/pods", id="all of a core kind"),
        pytest.param(PODS, ("shop",), "/api/v1/namespaces/shop/pods", id="a namespace's"),
        pytest.param(PODS, ("shop", "web"), "/api/v1/namespaces/shop/pods/web", id="one"),
        pytest.param(PODS, ("shop", "web", "status"), "/api/v1/namespaces/shop/pods/web/status", id="a subresource"),
        pytest.param(NODES, (None, "n1"), "/api/v1/nodes/n1", id="cluster-scoped"),
        pytest.param(NODES, (None, "a/b?c"), "/api/v1/nodes/a%2Fb%3Fc", id="a name cannot leave its place"),
        pytest.param(
            LEASES, ("ns", "l"), "/apis/coordination.k8s.io/v1/namespaces/ns/leases/l", id="a built-in kind of a group"
        ),
        pytest.param(THINGS, (), "/apis/example.com/v1alpha1/things", id="a custom kind"),
    ],
)
def test_path(res: Resource, where: tuple[str | None, ...], path: str) -> None:
    assert res.path(*where) == path


@pytest.mark.parametrize(
    ("res", "where", "message"),
    [
        pytest.param(NODES, ("shop", "n1"), "cluster-scoped", id="namespace of a cluster-scoped kind"),
        pytest.param(PODS, (None, "web"), "needs a namespace", id="a name without its namespace"),
        pytest.param(PODS, ("shop", None, "status"), "needs a name", id="a subresource of nothing"),
    ],
)
def test_path_refused(res: Resource, where: tuple[str | None, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        res.path(*where)


def test_api_version() -> None:
    assert PODS.api_version == "v1"
    assert THINGS.api_version == "example.com/v1alpha1"


@pytest.mark.parametrize(("namespace", "name", "key"), [("shop", "web", "shop/web"), (None, "xen1", "xen1")])
def test_keys_go_both_ways(namespace: str | None, name: str, key: str) -> None:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    assert key_of({"metadata": metadata}) == key
    assert split_key(key) == (namespace, name)
