"""Two real Xen hosts for the tests of this folder, started once a worker; their consoles are shown when a test fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hack.stack.stack import ROOT, Stack
from hack.xenlab.lab import Lab
from tests.stacks import started

LAB = pytest.StashKey[Lab]()


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A control plane, the controller, and the hosts xen1 and xen2 with their agents. Tests remove what they make."""
    the_stack = Stack(tmp_path_factory.mktemp("xen") / "stack", "xen", nodes=2)
    assert the_stack.lab is not None
    request.config.stash[LAB] = the_stack.lab
    with started(the_stack):
        yield the_stack


@pytest.fixture(scope="session")
def lab(stack: Stack) -> Lab:
    """The hosts alone."""
    assert stack.lab is not None
    return stack.lab


@pytest.fixture(scope="module")
def clean(stack: Stack) -> Iterator[None]:
    """The network that domain.py's domain wants; nothing is left of the domain after a file."""
    stack.kubectl("apply", "-f", str(ROOT / "examples/tiny/network.yaml"))
    yield
    stack.kubectl("delete", "xd,xact,xdisk", "--all", "--timeout=180s")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Put the last lines of every host's and guest's console, and of the agents, into a failed test's report."""
    report = yield
    the_lab = item.config.stash.get(LAB, None)
    if report.failed and the_lab:
        report.sections += the_lab.last_words()
    return report
