"""Ways to break a part of the stack, each mended at its end: what an administrator does by mistake, or what fails by itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from hack.stack.hosts import BRIDGE, SimulatedHost
from hack.stack.stack import Stack
from tests.cluster.tenant import xl

XENDOMAINS = "etc/systemd/system/multi-user.target.wants/xendomains.service"
KEPT = "1024M"


@contextmanager
def toolstack(host: SimulatedHost) -> Iterator[None]:
    """libvirtd is stopped."""
    with xl(host) as sim:
        sim.stop_toolstack()
        try:
            yield
        finally:
            sim.start_toolstack()


@contextmanager
def xen(host: SimulatedHost) -> Iterator[None]:
    """The host was booted without Xen."""
    kind = host.root / "sys/hypervisor/type"
    kind.unlink()
    try:
        with toolstack(host):
            yield
    finally:
        kind.write_text("xen\n")


@contextmanager
def bridge(host: SimulatedHost) -> Iterator[None]:
    folder = host.root / "sys/class/net" / BRIDGE
    shutil.rmtree(folder)
    try:
        yield
    finally:
        (folder / "bridge").mkdir(parents=True)


@contextmanager
def pool(host: SimulatedHost, path: str) -> Iterator[None]:
    """A pool's directory is not mounted."""
    folder = host.root / path.lstrip("/")
    folder.rename(folder.with_name("elsewhere"))
    try:
        yield
    finally:
        folder.with_name("elsewhere").rename(folder)


@contextmanager
def setting(host: SimulatedHost, **settings: str) -> Iterator[None]:
    """Xen's version, or its command line, is another."""
    usual = {"version": "4.17.5", "command_line": f"dom0_mem={KEPT},max:{KEPT}"}
    with xl(host) as sim:
        sim.set(**settings)
        try:
            yield
        finally:
            sim.set(**{name: usual[name] for name in settings})


@contextmanager
def xendomains(host: SimulatedHost) -> Iterator[None]:
    """xendomains was enabled."""
    link = host.root / XENDOMAINS
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to("/lib/systemd/system/xendomains.service")
    try:
        yield
    finally:
        link.unlink()


@contextmanager
def agent(host: SimulatedHost) -> Iterator[None]:
    host.stop_agent()
    try:
        yield
    finally:
        host.restart_agent()


@contextmanager
def controller(stack: Stack) -> Iterator[None]:
    stack.controller.stop()
    try:
        yield
    finally:
        stack.start_controller()
