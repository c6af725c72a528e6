"""What belongs to the Xen of this host: its Python bindings and its tools, below a root that is '/' in dom0 itself.

The agent's image has no Xen in it, since what is bound to a Xen version must be the host's. In a container the host's /usr
is mounted below the root, read-only, and tools run in the host's own file system. lowlevel.py calls this.
"""

from __future__ import annotations

import ctypes
import importlib
import re
import sys
from pathlib import Path
from typing import Any

VERSION = Path("/sys/hypervisor/version")
LIBRARIES = ("usr/lib/*-linux-gnu", "usr/lib64", "usr/lib")
LOADER = "ld-linux-*.so.*"
_MISSING = re.compile(r"(?P<name>[\w.+-]+): cannot open shared object file")


class HostFiles:
    def __init__(self, root: Path = Path("/"), host: Path = Path("/")) -> None:
        """`root`: below it is the host's /usr; `host`: all of its file system."""
        self.root, self._host = root, host

    def command(self, name: str) -> list[str]:
        """The begin of a command line that runs one of the toolstack's programs.

        From a container it runs in the host's root: it takes the host's locks, reads its settings and runs its scripts. There
        leads the host's own chroot, run by the host's own loader with the host's own libraries, so that no version of the image's
        has to fit. Raises FileNotFoundError.
        """
        if self.root == Path("/"):
            return [name]
        chroot = next((path for path in (self.root / "usr/sbin/chroot", self.root / "usr/bin/chroot") if path.is_file()), None)
        if chroot is None:
            raise FileNotFoundError("the host has no program chroot")
        found = ":".join(str(path) for pattern in LIBRARIES for path in sorted(self.root.glob(pattern)))
        return [str(self._loader()), "--library-path", found, str(chroot), str(self._host), name]

    def bindings(self, name: str) -> Any:
        """xen.lowlevel.NAME of the Xen that runs: distributions keep it beside that Xen, off Python's path.

        Libraries that this system does not have are the host's. Raises ImportError where anything does not fit.
        """
        folder = str(self.root / f"usr/lib/xen-{xen_version()}/lib/python")
        if folder not in sys.path:
            sys.path.append(folder)
        loaded: set[str] = set()
        while True:
            try:
                return importlib.import_module(f"xen.lowlevel.{name}")
            except ImportError as error:
                self._load_missing(error, loaded)

    def _load_missing(self, error: Exception, loaded: set[str]) -> None:
        """Load the library that an import lacked: the linker takes one that is loaded for the one that it looks for."""
        missing = _MISSING.search(str(error))
        if missing is None or missing["name"] in loaded:
            raise ImportError(str(error)) from error
        loaded.add(missing["name"])
        paths = [path for pattern in LIBRARIES for path in self.root.glob(f"{pattern}/{missing['name']}")]
        if not paths:
            raise ImportError(str(error)) from error
        while True:
            try:
                ctypes.CDLL(str(paths[0]))
                return
            except OSError as deeper:
                self._load_missing(deeper, loaded)

    def _loader(self) -> Path:
        for pattern in LIBRARIES:
            for path in sorted(self.root.glob(f"{pattern}/{LOADER}")):
                if path.resolve().is_relative_to(self.root.resolve()):  # a link to /lib would lead to the image's own
                    return path
        raise FileNotFoundError("the host's dynamic loader is not among the files that are mounted here")


def xen_version() -> str:
    """Such as 4.17. Raises ImportError where no Xen runs."""
    try:
        return ".".join((VERSION / part).read_text().strip() for part in ("major", "minor"))
    except OSError as error:
        raise ImportError(f"no Xen runs here: {error}") from error
