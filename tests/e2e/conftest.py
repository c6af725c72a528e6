"""A cluster with a real node on this machine, its image loaded; and figures, shown at the end of a run."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from hack.cluster import Cluster
from hack.cluster.kubelet import PARTS, Kubelet, lacking
from hack.image import image
from hack.stack.stack import Stack
from hack.xenlab.lab import Lab
from kubexen import VERSION
from tests.stacks import started

NEXT = "next"
Figure = Callable[[str, float], None]
FIGURES = pytest.StashKey[dict[str, float]]()
FORBIDDEN = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def figure(request: pytest.FixtureRequest) -> Figure:
    """Notes a figure, by its name with its unit, to be shown at the end."""
    return request.config.stash.setdefault(FIGURES, {}).__setitem__


@pytest.fixture(scope="session")
def archive() -> Path:
    """The image, as nodes load it."""
    return image.archive()


@pytest.fixture(scope="session")
def next_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of the version after this one, which is this one but for what it says of itself. Its tag is NEXT."""
    source = tmp_path_factory.mktemp("next")
    image.copy_source(source)
    module = source / "operator/kubexen/__init__.py"
    module.write_text(module.read_text().replace(f'VERSION = "{VERSION}"', f'VERSION = "{NEXT}"'))
    return image.archive(NEXT, source)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def allowed(request: pytest.FixtureRequest) -> None:
    """A machine that keeps even root from namespaces or cgroups has no node of its own: the dom0s of lab hosts are the nodes
    then, and that is said at the end of the run. Whatever else is missing, somebody can bring it."""
    if os.geteuid() != 0:
        pytest.fail("real nodes need root: run the level e2e as root", pytrace=False)
    if reason := lacking():
        request.config.stash[FORBIDDEN] = reason
        pytest.skip(f"this machine allows no node of its own: {reason}")


@pytest.fixture(scope="module")
def node(allowed: None, cluster: Cluster, archive: Path, figure: Figure) -> Kubelet:
    """A real node; it ends with the cluster."""
    begin = time.monotonic()
    node = cluster.add_kubelet("local")
    figure("a node on this machine is Ready after, s", time.monotonic() - begin)
    begin = time.monotonic()
    node.load_image(archive)
    figure("the image is loaded after, s", time.monotonic() - begin)
    return node


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, next_archive: Path, figure: Figure) -> Iterator[Stack]:
    """The dom0s of two real Xen hosts as real nodes with two versions of the image, and nothing of Kubexen's in the cluster yet."""
    folder = tmp_path_factory.mktemp("dom0") / "stack"
    stack = Stack(folder, "xen", nodes=2, kubelets=True, debian_guest=True, more_images=[next_archive])
    begin = time.monotonic()
    with started(stack, stack.start_nodes):
        figure("two Xen hosts are real nodes after, s", time.monotonic() - begin)
        yield stack


@pytest.fixture(scope="session")
def lab(stack: Stack) -> Lab:
    assert stack.lab is not None
    return stack.lab


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace in which pods must be as Pod Security's `restricted` wants them; at the end they are forced to go."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.add_namespace(name, {"pod-security.kubernetes.io/enforce": "restricted"})
    yield name
    cluster.kubectl("delete", "pods", "--all", "-n", name, "--grace-period=0", "--force")
    cluster.api.delete(f"/api/v1/namespaces/{name}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if reason := terminalreporter.config.stash.get(FORBIDDEN, ""):
        terminalreporter.write_line(f"NOT TESTED: this machine allows no node of its own ({reason}); the nodes were dom0s")
    for name, value in terminalreporter.config.stash.get(FIGURES, {}).items():
        terminalreporter.write_line(f"{name}: {value:.1f}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what its node's parts say, or Kubexen's pods and the consoles of its Xen hosts and guests."""
    report = yield
    node, stack = (getattr(item, "funcargs", {}).get(name) for name in ("node", "stack"))
    if report.failed and isinstance(node, Kubelet):
        report.sections += [(part, node.log_tail(part, 30)) for part in PARTS]
    if report.failed and isinstance(stack, Stack):
        report.sections += [("what there is", stack.overview()), ("Kubexen's pods", stack.logs()), *stack.last_words()]
    return report
