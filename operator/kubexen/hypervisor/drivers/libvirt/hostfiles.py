"""The Python bindings that belong to the Xen of this host, below a root that is '/' in dom0 itself.

The agent's image has no Xen in it, since what is bound to a Xen version must be the host's. In a container the host's /usr
is mounted below the root, read-only; nothing else of the host is needed here. lowlevel.py calls this.
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
_MISSING = re.compile(r"(?P<name>[\w.+-]+): cannot open shared object file")


class HostFiles:
    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

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


def xen_version() -> str:
    """Such as 4.17. Raises ImportError where no Xen runs."""
    try:
        return ".".join((VERSION / part).read_text().strip() for part in ("major", "minor"))
    except OSError as error:
        raise ImportError(f"no Xen runs here: {error}") from error
