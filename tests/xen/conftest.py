"""Two real Xen hosts for the tests of this folder, started once a run; their consoles are shown when a test fails."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from hack.xenlab.build import BuildError
from hack.xenlab.host import HostError
from hack.xenlab.lab import Lab
from hack.xenlab.needs import MissingTools

LAB = pytest.StashKey[Lab]()


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The hosts xen1 and xen2, ready. Tests remove the domains that they make."""
    the_lab = Lab(tmp_path_factory.mktemp("xenlab"), nodes=2)
    request.config.stash[LAB] = the_lab
    try:
        the_lab.start()
        the_lab.wait()
    except (MissingTools, BuildError, HostError) as error:
        the_lab.stop()
        pytest.fail(str(error), pytrace=False)
    yield the_lab
    the_lab.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Put the last lines of every host's and guest's console, and of the agents, into a failed test's report."""
    report = yield
    the_lab = item.config.stash.get(LAB, None)
    if report.failed and the_lab and the_lab.exists:
        for host in the_lab.hosts:
            report.sections.append((f"console of {host.name}", host.console_tail(15)))
            if not host.alive:
                continue
            try:
                for guest in host.guest_consoles():
                    report.sections.append((f"console of {guest} on {host.name}", host.guest_console_tail(guest, 15)))
                report.sections.append((f"agent on {host.name}", host.agent_log(40)))
            except (HostError, subprocess.TimeoutExpired) as error:
                report.sections.append((f"{host.name} does not answer", str(error)))
    return report
