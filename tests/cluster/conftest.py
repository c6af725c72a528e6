"""What all tests of this folder share, and what each test makes on it and leaves nothing of.

`cluster` is a bare control plane: a test works in a namespace and on nodes of its own, and puts back what it stops.
`stack` is a whole Kubexen on two simulated hosts, with a control plane of its own; a test works in its `tenant`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from hack.cluster import Cluster
from hack.stack.stack import Stack
from tests.cluster import manifests
from tests.cluster.tenant import Tenant

AddNode = Callable[..., str]
FULL_LOOK = 5.0
"""Seconds between two looks of an agent at everything."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running control plane; a node that falls silent is NotReady after 10 seconds. Few modules use it, and one at rest
    costs CPU that the others then lack: it ends with its module."""
    with Cluster(tmp_path_factory.mktemp("cluster"), node_monitor_grace_period=10) as cluster:
        yield cluster


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """An empty namespace in which pods can be created."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.add_namespace(name)
    yield name
    cluster.api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def add_node(cluster: Cluster) -> Iterator[AddNode]:
    """Makes simulated nodes as `Cluster.add_node` does, under names of their own, which it returns."""
    names: list[str] = []

    def add(prefix: str = "node", **settings: Any) -> str:
        names.append(f"{prefix}-{uuid.uuid4().hex[:8]}")
        cluster.add_node(names[-1], **settings)
        return names[-1]

    yield add
    for name in names:
        cluster.delete_node(name)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Controller, agents and two hosts, set up by an administrator; a host that falls silent is NotReady after 10 s."""
    stack = Stack(tmp_path_factory.mktemp("stack") / "state", "sim", nodes=2, full_look=FULL_LOOK, grace_period=10)
    try:
        stack.start()
        stack.apply(*manifests.environment())
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def tenant(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Tenant]:
    """An empty namespace of the stack. At the end all of it goes, and every node takes pods again."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"kubexen.dev/test": request.node.originalname[:63].rstrip("_")}
    stack.cluster.add_namespace(name, labels)
    tenant = Tenant(stack, name)
    yield tenant
    for host in stack.hosts:
        tenant.cordon(host.name, False)
    tenant.clear()
    stack.cluster.api.delete(f"/api/v1/namespaces/{name}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails because a part of the cluster has died says so; one on the stack shows what its parts say."""
    report = yield
    used = getattr(item, "funcargs", {})
    stack = used.get("stack") or getattr(used.get("tenant"), "stack", None)
    cluster = stack.cluster if isinstance(stack, Stack) else used.get("cluster")
    if report.failed and isinstance(cluster, Cluster):
        report.sections += [(f"{name} does not run", tail) for name, tail in cluster.ended().items()]
    if report.failed and isinstance(stack, Stack):
        report.sections += [("what there is", stack.overview()), ("the stack", stack.logs(40))]
    return report
