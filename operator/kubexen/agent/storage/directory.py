"""A pool that is a directory: administrators' files, and disks as raw images in Kubexen's own part of it.

Paths are the host's. `root` is where the host's file system is seen by this process ('/' in dom0 itself).
A disk is made under another name and gets its own when it is whole, so that a crash leaves no half-made disk. It gets it by a hard
link: whoever has made the disk meanwhile, on this host or another one, may have a guest on it already. The other name says which
agent of which node it is; what an earlier agent of the node could not finish goes when the next disk beside it is made.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kubexen.api.conditions import Reason
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import RESERVED

CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True)
class Space:
    total: int  # bytes
    free: int  # bytes


class Directory:
    def __init__(self, root: Path, node: str) -> None:
        self._root = root
        self._of_node = f".{node}~"
        self._own = f"{self._of_node}{uuid.uuid4().hex}~"

    def local(self, host_path: str) -> Path:
        """Where this process sees a path of the host."""
        return self._root / host_path.lstrip("/")

    def exists(self, pool: str) -> bool:
        """Whether the pool's directory is there."""
        return self.local(pool).is_dir()

    def space(self, pool: str) -> Space:
        """Raises OSError where the pool's directory is not there."""
        usage = shutil.disk_usage(self.local(pool))
        return Space(usage.total, usage.free)

    def file(self, host_path: str, pool: str, field: str) -> Path:
        """An administrator's file, in its pool even after links are followed, and none of a tenant's disks.

        Raises:
            Problem: FileNotFound.
        """
        path, base = self.local(host_path), self.local(pool)
        try:
            real, real_base = path.resolve(strict=True), base.resolve(strict=True)
        except (OSError, RuntimeError):
            raise Problem(
                Reason.FILE_NOT_FOUND, f"{field}: there is no file {host_path} on this host; put it into the pool",
                retry_after=30,
            ) from None
        inside = real.is_relative_to(real_base) and not real.is_relative_to(real_base / RESERVED)
        if not inside or not real.is_file():
            raise Problem(
                Reason.FILE_NOT_FOUND,
                f"{field}: {host_path} is no regular file inside the pool, links followed; put the file itself there",
                retry_after=30,
            )
        return path

    def size(self, host_path: str) -> int | None:
        """Bytes of a disk; None: it is not made."""
        try:
            return self.local(host_path).lstat().st_size
        except FileNotFoundError:
            return None

    def make(self, host_path: str, size: int | None, source: Path | None) -> int:
        """Make a disk, blank or as a copy, and return its size in bytes. There already: nothing is done.

        Raises:
            Problem: PoolUnusable (the directory is missing or full), InvalidSpec (smaller than its source).
        """
        made = self.size(host_path)
        if made is not None:
            return made
        path = self.local(host_path)
        unfinished = path.with_name(f"{self._own}{uuid.uuid4().hex}")
        try:
            pool = path.parent.parent.parent
            if not pool.is_dir():
                raise FileNotFoundError(2, "the pool's directory is not there", str(pool))
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._tidy(path.parent)
            length = source.stat().st_size if source else 0
            wanted = size if size is not None else length
            if wanted < length:
                raise Problem(Reason.INVALID_SPEC, f"spec.size is {wanted} bytes and its source has {length}", stalled=True)
            with unfinished.open("xb") as target:
                os.fchmod(target.fileno(), 0o600)
                if source:
                    _copy(source, target.fileno())
                target.truncate(wanted)
                os.fsync(target.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(unfinished, path)
            return path.lstat().st_size
        except OSError as error:
            raise Problem("PoolUnusable", f"{host_path}: {error.strerror}", retry_after=30) from error
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink()

    def _tidy(self, folder: Path) -> None:
        for left in folder.glob(f"{self._of_node}*"):
            if not left.name.startswith(self._own):
                left.unlink(missing_ok=True)

    @contextlib.contextmanager
    def opened(self, host_path: str) -> Iterator[int]:
        """A disk, open to be read.

        Raises:
            Problem: PoolUnusable.
        """
        try:
            file = os.open(self.local(host_path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise Problem("PoolUnusable", f"{host_path}: {error.strerror}", retry_after=30) from error
        try:
            yield file
        finally:
            os.close(file)

    def remove(self, host_path: str) -> None:
        """Remove a disk's data. Not there: success. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            self.local(host_path).unlink()


def _copy(source: Path, target: int) -> None:
    """Copy data and keep holes."""
    with source.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        position = 0
        while position < end:
            try:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                break  # only a hole is left
            stop = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            os.lseek(file.fileno(), start, os.SEEK_SET)
            os.lseek(target, start, os.SEEK_SET)
            while start < stop:
                chunk = os.read(file.fileno(), min(CHUNK, stop - start))
                if not chunk:
                    break
                view = memoryview(chunk)
                while view:
                    view = view[os.write(target, view):]
                start += len(chunk)
            position = stop
