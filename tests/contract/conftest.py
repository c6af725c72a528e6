"""One suite for every driver of the port: which ones, and with what guests, is told on the command line.

    pytest tests/contract                                          the simulator and libvirt's test driver
    pytest tests/contract --driver xen:///system --timeout-each 120 \\
        --kernel FILE --initrd FILE --bridge xenbr0 --disk-dir DIR     in the dom0 of a real Xen host

It needs pytest and kubexen.hypervisor, no cluster. Skips are visible and must be in skips.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubexen.hypervisor.port import Hypervisor

from .guests import Guests, SimGuests, TestDriverGuests, XenGuests
from .lab import Lab, Options
from .skips import SKIPS

DEFAULT_DRIVERS = ["sim", "test:///default"]

# The defaults are here, not in addoption: pytest does not call that when it starts from another folder.
OPTIONS: dict[str, tuple[Any, str]] = {
    "kernel": ("/opt/guest/vmlinux", "the guests' kernel, a path on the host"),
    "initrd": ("/opt/guest/initrd.gz", "the guests' initial ramdisk, a path on the host"),
    "cmdline": ("console=hvc0 quiet", "the guests' kernel command line"),
    "bridge": ("xenbr0", "a bridge on the host"),
    "disk-dir": ("", "a directory on the host for the guests' disks; default: a temporary one"),
    "guest-memory": (128, "MiB of a guest"),
    "guest-marker": ("hb ", "what a guest prints on its console once a shell listens there (xen only)"),
    "timeout-each": (10.0, "seconds that any one change may take; a real host under emulation needs 120"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract", "the hosts under test")
    group.addoption("--driver", action="append", help="URI of a host; `sim`: a new one a test. May be repeated")
    for name, (default, text) in OPTIONS.items():
        group.addoption(f"--{name}", type=type(default), default=default, help=f"{text} ({default})")


def _option(config: pytest.Config, name: str) -> Any:
    return config.getoption(name.replace("-", "_"), OPTIONS[name][0])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(capability, ...): the test is skipped where a driver does not declare it")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "driver_uri" in metafunc.fixturenames:
        drivers = metafunc.config.getoption("driver", None) or DEFAULT_DRIVERS
        metafunc.parametrize("driver_uri", drivers, ids=[uri.split(":", 1)[0] for uri in drivers])


@pytest.fixture(autouse=True)
def lab(driver_uri: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """The host under test, without any domain of ours."""
    uri = f"sim://{tmp_path}/host" if driver_uri == "sim" else driver_uri
    config = request.config
    lab = Lab(
        uri,
        Options(
            kernel=_option(config, "kernel"),
            initrd=_option(config, "initrd"),
            cmdline=_option(config, "cmdline"),
            bridge=_option(config, "bridge"),
            disk_dir=Path(_option(config, "disk-dir") or tmp_path),
            memory_mib=_option(config, "guest-memory"),
            timeout=_option(config, "timeout-each"),
        ),
        _guests(uri, config),
    )
    try:
        _skip_what_is_missing(lab, request.node)
        yield lab
    finally:
        lab.close()


@pytest.fixture
def driver(lab: Lab) -> Hypervisor:
    return lab.driver


def _guests(uri: str, config: pytest.Config) -> Guests:
    scheme = uri.split(":", 1)[0]
    if scheme == "sim":
        return SimGuests(uri)
    if scheme == "test":
        return TestDriverGuests()
    return XenGuests(_option(config, "kernel"), _option(config, "initrd"), _option(config, "guest-marker"))


def _skip_what_is_missing(lab: Lab, test: pytest.Function) -> None:
    listed = SKIPS[lab.scheme]
    if test.originalname in listed:
        pytest.skip(f"{lab.scheme}: {listed[test.originalname]}")
    for marker in test.iter_markers("needs"):
        for capability in marker.args:
            if str(capability) not in lab.provides:
                if str(capability) not in listed:
                    pytest.fail(f"{lab.scheme} does not declare {capability}, and skips.py does not say why")
                pytest.skip(f"{lab.scheme}: {listed[str(capability)]}")
