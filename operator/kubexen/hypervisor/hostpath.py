"""The host, as this process sees it: below a root that is '/' in dom0 itself, and /proc/1/root in a container.

Used by the agent's storage and by the drivers. It only looks, and runs nothing.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

MOST_LINKS = 40


def in_host(root: Path, *command: str) -> list[str]:
    """The command line that runs a program of the host in the host's own root: with its libraries, locks, settings and scripts."""
    return list(command) if root == Path("/") else ["chroot", str(root), *command]


def local(root: Path, host_path: str) -> Path:
    """Where this process sees a path of the host, each link followed within the host's file system.

    Raises:
        OSError: too many links.
    """
    done = root
    todo = list(reversed(PurePosixPath(host_path).parts[1:]))
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done if done == root else done.parent
            continue
        try:
            is_link = stat.S_ISLNK(os.lstat(done / part).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            is_link = False
        if not is_link:
            done /= part
            continue
        if (links := links + 1) > MOST_LINKS:
            raise OSError(40, "too many links", host_path)
        target = PurePosixPath(os.readlink(done / part))
        done = root if target.is_absolute() else done
        todo += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    return done
