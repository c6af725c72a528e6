"""Loop devices of dom0's kernel: a block device over an open file. platform.py has one; beside libvirt, by ioctl.

A loop device holds the very file that it was given, so nobody can put another in its place by its name, and it outlives
the process that made it. Each carries its name in the field that the kernel keeps for the file's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from kubexen.hypervisor.errors import Failed, Unsupported

PREFIX = "kubexen/"

# linux/loop.h
_CONTROL_GET_FREE = 0x4C82
_CONFIGURE = 0x4C0A
_GET_STATUS64 = 0x4C05
_CLEAR_FD = 0x4C01
_SET_CAPACITY = 0x4C07
_READ_ONLY = 1
_DIRECT_IO = 16
_NAME_BYTES = 64
# struct loop_info64: device, inode, rdevice, offset, sizelimit, number, encrypt type, its key size, flags, file name, crypt
# name, key, init
_INFO = struct.Struct("=QQQQQIIII64s64s32s2Q")
# struct loop_config: fd, block size, info, reserved
_CONFIG = struct.Struct(f"=II{_INFO.size}s8Q")

TRIES = 8
CLOSED_WITHIN = 5.0
"""Seconds that what has a device open beside its domain may take: udev looks into each that changes, for a moment."""


class Loops(Protocol):
    def make(self, name: str, file: int, *, read_only: bool) -> str: ...

    def remove(self, name: str) -> None: ...

    def names(self) -> Sequence[str]: ...


class NoLoops:
    """Where there is no dom0."""

    def make(self, name: str, file: int, *, read_only: bool) -> str:
        raise Unsupported("this host makes no loop devices")

    def remove(self, name: str) -> None:
        """There is none."""

    def names(self) -> Sequence[str]:
        return ()


class LoopDevices:
    def __init__(
        self, root: Path = Path("/"), blocks: Path = Path("/sys/block"), closed_within: float = CLOSED_WITHIN
    ) -> None:
        """Below `root` is the host's /dev: a container's own has no node of a device that came after it."""
        self._devices, self._blocks, self._closed_within = root / "dev", blocks, closed_within

    def make(self, name: str, file: int, *, read_only: bool) -> str:
        wanted = os.fstat(file)
        ours = list(self._ours(name))
        for device, found, is_read_only in ours:
            if (found, is_read_only) == ((_encoded(wanted.st_dev), wanted.st_ino), read_only):
                with _open(device, os.O_RDONLY) as loop:
                    fcntl.ioctl(loop, _SET_CAPACITY)  # the file may have grown
                return _on_host(device)
        if ours:
            self.remove(name)
        try:
            return self._attach(name, file, read_only)
        except OSError as error:
            raise Failed(f"no loop device for {name}: {error.strerror}") from error

    def remove(self, name: str) -> None:
        """Return when the file is let go of: whoever hears that it is may mount it elsewhere.

        Raises:
            Failed: somebody has the device open. It goes when it is closed.
        """
        end = time.monotonic() + self._closed_within
        while still := self._clear_all(name):
            if time.monotonic() > end:
                raise Failed(f"{_on_host(still[0])} is open elsewhere, and holds its file until it is closed")
            time.sleep(0.05)

    def names(self) -> Sequence[str]:
        return sorted({name for _, name, _, _ in self._all()})

    def _attach(self, name: str, file: int, read_only: bool) -> str:
        flags = _READ_ONLY if read_only else 0
        encoded = f"{PREFIX}{name}".encode()
        if len(encoded) >= _NAME_BYTES:
            raise OSError(errno.ENAMETOOLONG, f"the name {name!r} is too long")
        for _ in range(TRIES):
            with _open(self._devices / "loop-control", os.O_RDWR) as control:
                number = fcntl.ioctl(control, _CONTROL_GET_FREE)
            device = self._devices / f"loop{number}"
            with _open(device, os.O_RDWR) as loop:
                # Without direct I/O, dom0 would keep a guest's data twice. Not every file system has it.
                for more in (_DIRECT_IO, 0):
                    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags | more, encoded, b"", b"", 0, 0)
                    try:
                        fcntl.ioctl(loop, _CONFIGURE, _CONFIG.pack(file, 0, info, *(0,) * 8))
                        return _on_host(device)
                    except OSError as error:
                        if error.errno == errno.EBUSY:
                            break  # somebody was quicker
                        if error.errno != errno.EINVAL or not more:
                            raise
        raise OSError(errno.EBUSY, "no loop device is free")

    def _ours(self, name: str) -> Iterator[tuple[Path, tuple[int, int], bool]]:
        return ((device, file, read_only) for device, found, file, read_only in self._all() if found == name)

    def _all(self) -> list[tuple[Path, str, tuple[int, int], bool]]:
        """Our devices: each with its name, the file's device and inode, and whether it is read-only.

        Raises:
            Failed: one that is in use cannot be looked at. To take it for none of ours would leave it, and what it holds, for ever.
        """
        result = []
        for folder in self._in_use():
            device = self._devices / folder.name
            try:
                with _open(device, os.O_RDONLY) as loop:
                    info = _INFO.unpack(fcntl.ioctl(loop, _GET_STATUS64, bytes(_INFO.size)))
            except OSError as error:
                if error.errno == errno.ENXIO or not _is_in_use(folder):
                    continue  # it was detached meanwhile
                raise Failed(f"{_on_host(device)} is in use and cannot be looked at: {error.strerror}") from error
            name = info[9].rstrip(b"\0").decode(errors="replace")
            if name.startswith(PREFIX):
                result.append((device, name.removeprefix(PREFIX), (info[0], info[1]), bool(info[8] & _READ_ONLY)))
        return result

    def _in_use(self) -> list[Path]:
        """Their folders in sysfs."""
        try:
            names = os.listdir(self._blocks)
        except OSError as error:
            raise Failed(f"loop devices cannot be listed: {self._blocks}: {error.strerror}") from error
        return [self._blocks / name for name in sorted(names) if name.startswith("loop") and _is_in_use(self._blocks / name)]

    def _clear_all(self, name: str) -> list[Path]:
        """Detach those of this name; which of them are there still."""
        for device, _, _ in self._ours(name):
            self._clear(device)
        return [device for device, _, _ in self._ours(name)]

    def _clear(self, device: Path) -> None:
        """Detach it; one that is still open somewhere goes when it is closed, and the kernel says nothing of it."""
        try:
            with _open(device, os.O_RDONLY) as loop:
                fcntl.ioctl(loop, _CLEAR_FD)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise Failed(f"{_on_host(device)}: {error.strerror}") from error


def _is_in_use(folder: Path) -> bool:
    return (folder / "loop").is_dir()


def _on_host(device: Path) -> str:
    return f"/dev/{device.name}"


def _encoded(device: int) -> int:
    """A device's number as the kernel tells it in loop_info64 (huge_encode_dev)."""
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


@contextlib.contextmanager
def _open(path: Path, mode: int) -> Iterator[int]:
    descriptor = os.open(path, mode | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
