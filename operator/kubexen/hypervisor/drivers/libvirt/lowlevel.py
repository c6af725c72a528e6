"""Xen itself, beside libvirt: reading what libvirt caches or does not know, and the few acts that it cannot do.

`LowLevel` uses the bindings of dom0's own Xen (xen.lowlevel.xc and xs: 3 ms for 20 domains); `Commands` does the same
by xl and the xenstore tools (290 ms) where those bindings do not fit this Python. Both are the host's (hostfiles.py).
flags.py, host.py, devices.py and platform.py use them. Reading beside libvirt is safe; of the acts here none changes what
libvirt keeps about a domain.
"""

from __future__ import annotations

import errno
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from kubexen.hypervisor.drivers.libvirt.hostfiles import HostFiles
from kubexen.hypervisor.errors import Unreachable
from kubexen.hypervisor.hostpath import in_host

COMMAND_SECONDS = 30
SCHEDULERS = {5: "credit", 6: "credit2", 7: "arinc653", 8: "rtds", 9: "null"}  # XEN_SCHEDULER_* of public/domctl.h


class Xen(Protocol):
    """Acts and the xenstore, by either way. A path that is not there reads as None, and lists as nothing."""

    def pause(self, domid: int) -> None: ...

    def unpause(self, domid: int) -> None: ...

    def read(self, path: str) -> str | None: ...

    def ls(self, path: str) -> list[str]: ...

    def write(self, path: str, value: str) -> None: ...


class LowLevel:
    """The bindings of this dom0's Xen. One lock around all: their handles are not thread-safe."""

    def __init__(self, files: HostFiles) -> None:
        """Raises ImportError when the bindings are not there, or not for this Python."""
        xc, xs = files.bindings("xc"), files.bindings("xs")
        self._errors = (xc.Error, xs.Error)
        self._lock = threading.Lock()
        try:
            self._xc, self._xs = xc.xc(), xs.xs()
        except self._errors as error:
            raise Unreachable(f"Xen does not answer: {error}") from error

    def domain_getinfo(self, first: int, most: int) -> list[dict[str, Any]]:
        """At most `most` domains, from the domid `first` on."""
        try:
            found: list[dict[str, Any]] = self._call("domain_getinfo", self._xc.domain_getinfo, first, most)
        except Unreachable as error:
            if first > 0 and getattr(error.__cause__, "args", ())[:1] == (errno.ESRCH,):  # none from there on
                return []
            raise
        return found

    def physinfo(self) -> dict[str, Any]:
        found: dict[str, Any] = self._call("physinfo", self._xc.physinfo)
        return found

    def xeninfo(self) -> dict[str, Any]:
        found: dict[str, Any] = self._call("xeninfo", self._xc.xeninfo)
        return found

    def scheduler(self) -> str:
        """Xen's scheduler by the name that `xl info` gives it; the binding knows its number only."""
        number = self._call("sched_id_get", self._xc.sched_id_get)
        return SCHEDULERS.get(number, f"scheduler-{number}")

    def pause(self, domid: int) -> None:
        self._call("pause", self._xc.domain_pause, domid)

    def unpause(self, domid: int) -> None:
        self._call("unpause", self._xc.domain_unpause, domid)

    def read(self, path: str) -> str | None:
        value = self._call("xenstore read", self._xs.read, "", path)
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    def ls(self, path: str) -> list[str]:
        return list(self._call("xenstore list", self._xs.ls, "", path) or [])

    def write(self, path: str, value: str) -> None:
        self._call("xenstore write", self._xs.write, "", path, value)

    def _call(self, act: str, function: Any, *arguments: Any) -> Any:
        with self._lock:
            try:
                return function(*arguments)
            except self._errors as error:
                raise Unreachable(f"{act}: {error}") from error


class Commands:
    """The same by the tools of Xen's own toolstack."""

    def __init__(self, root: Path = Path("/")) -> None:
        """`root`: where this process sees the host's file system."""
        self._root = root

    def pause(self, domid: int) -> None:
        self.run("xl", "pause", str(domid))

    def unpause(self, domid: int) -> None:
        self.run("xl", "unpause", str(domid))

    def read(self, path: str) -> str | None:
        return self._or_none("xenstore-read", path)

    def read_each(self, paths: Sequence[str]) -> list[str | None]:
        """As read() of each, for values of one line: by one process, unless one of them is not there."""
        found = self._or_none("xenstore-read", *paths) if paths else ""
        return list(found.splitlines()) if found is not None else [self.read(path) for path in paths]

    def ls(self, path: str) -> list[str]:
        return (self._or_none("xenstore-list", path) or "").splitlines()

    def write(self, path: str, value: str) -> None:
        self.run("xenstore-write", path, value)

    def run(self, *command: str) -> str:
        try:
            return subprocess.run(
                in_host(self._root, *command),
                capture_output=True,
                check=True,
                text=True,
                timeout=COMMAND_SECONDS,
                env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            ).stdout
        except subprocess.CalledProcessError as error:
            raise Unreachable(f"{' '.join(command)}: {error.stderr.strip()}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreachable(f"{' '.join(command)}: {error}") from error

    def _or_none(self, *command: str) -> str | None:
        try:
            return self.run(*command).rstrip("\n")
        except Unreachable as error:
            if "couldn't read path" in str(error) or "could not list path" in str(error):
                return None
            raise
