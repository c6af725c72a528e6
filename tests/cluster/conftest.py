"""The control plane that all tests of this folder share, and what each test makes on it and leaves nothing of.

`cluster` is for the session: a test works in a namespace and on nodes of its own, and puts back what it stops.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from hack.cluster import Cluster

AddNode = Callable[..., str]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running control plane; a node that falls silent is NotReady after 10 seconds."""
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails because a part of the cluster has died says so."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, Cluster):
        report.sections += [(f"{name} does not run", tail) for name, tail in cluster.ended().items()]
    return report
