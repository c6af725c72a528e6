"""The claims of this host's domains: found where the kubelet of their anchors has them, checked, held, given one path each.

A disk's path is a link in /run/kubexen/disks, named by the claim's uid: to the kubelet's device, as `_lasting` says, or to a loop
device over the claim's disk.img. The links are all that is remembered, so that an agent that starts takes hold again before it
knows anything else. docs/volumes.md says why they are held, and why in two ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from kubexen.agent.host import Host
from kubexen.agent.storage.holds import holds
from kubexen.agent.storage.kubelet import Kubelet
from kubexen.agent.storage.links import lead
from kubexen.api.conditions import Reason
from kubexen.api.domainstatus import VolumeMode
from kubexen.api.xendomain import XenDomain
from kubexen.plan import devices
from kubexen.plan.claims import DISKS
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import Resolved, ResolvedClaim

logger = logging.getLogger(__name__)

IMAGE = "disk.img"
SECTOR = 512
QCOW2 = struct.Struct(">4sIQ")
"""The begin of a qcow2 image: magic, version, where the name of its backing file is (0: it has none)."""


@dataclass
class Opened:
    """A claim that was found and checked. `file`: its disk.img, open; None: `device` is the kubelet's."""

    claim: ResolvedClaim
    device: str = ""
    file: int | None = None


class Claims:
    def __init__(self, root: Path, kubelet: Kubelet, host: Host) -> None:
        self._links = root / DISKS.lstrip("/")
        self._kubelet, self._host = kubelet, host
        self._holds = holds(root, kubelet.local)
        self._held: dict[str, str] = {}  # by the claim's uid: what its link said when it was held
        self._holding = threading.Lock()
        self._changing = asyncio.Lock()  # links and loop devices

    # --- before a start

    @contextlib.asynccontextmanager
    async def opened(self, domain: XenDomain, resolved: Resolved) -> AsyncIterator[list[Opened]]:
        """All of a domain's claims, found and checked; nothing is made yet.

        Raises:
            Problem: why one cannot be used.
        """
        found: list[Opened] = []
        try:
            for claim in resolved.claims:
                found.append(await asyncio.to_thread(self._open, domain, claim))  # a file server may not answer
            yield found
        finally:
            for one in found:
                if one.file is not None:
                    os.close(one.file)

    def _open(self, domain: XenDomain, entry: ResolvedClaim) -> Opened:
        anchor, claim = domain.status.anchor_uid or "", entry.claim
        what = f"spec.disks[{entry.name}]: PersistentVolumeClaim {claim.name!r}"
        block = claim.volume_mode is VolumeMode.BLOCK
        find = self._kubelet.device if block else self._kubelet.volume
        path = find(anchor, claim.volume_name)
        if path is None:
            raise Problem(
                Reason.WAITING_FOR_DISK,
                f"{what}: the kubelet of {self._host.node} has no volume {claim.volume_name!r} for the anchor; is it a kind of "
                "volume that a kubelet mounts (a hostPath is none)?", retry_after=5,
            )
        if block:
            device = self._lasting(path)
            if device is None:
                raise Problem(
                    Reason.WAITING_FOR_DISK,
                    f"{what}: the kubelet of {self._host.node} has not mapped volume {claim.volume_name!r} since the host's boot",
                    retry_after=2,
                )
            return Opened(entry, device=device)
        try:
            return Opened(entry, file=_open_image(self._kubelet.local(path), read_only=entry.read_only))
        except FileNotFoundError:
            raise Problem(
                Reason.DISK_NOT_FOUND,
                f"{what} has no {IMAGE}; put a raw image there (as with `truncate -s 10G {IMAGE}` in a pod that mounts it)",
                retry_after=10,
            ) from None
        except OSError as error:
            raise Problem(Reason.WAITING_FOR_DISK, f"{what}: {IMAGE}: {error.strerror}", retry_after=10) from error
        except ValueError as error:
            raise Problem(Reason.INVALID_SPEC, f"{what}: {IMAGE} {error}", stalled=True, retry_after=30) from None

    async def attach(self, opened: Iterable[Opened]) -> None:
        """Take hold of each, and give it its path.

        Raises:
            Problem: WaitingForDisk, it cannot be held.
            HypervisorError: no loop device can be made.
        """
        async with self._changing:
            for one in opened:
                device, claim, call = one.device, one.claim.claim, self._host.call
                if one.file is not None:
                    device = await call(self._host.hypervisor.loop, claim.uid, one.file, read_only=one.claim.read_only)
                await asyncio.to_thread(lead, self._links / claim.uid, device)
                try:
                    await asyncio.to_thread(self._hold, claim.uid, device)
                except OSError as error:
                    raise Problem(Reason.WAITING_FOR_DISK, f"PersistentVolumeClaim {claim.name!r} cannot be held on host "
                                  f"{self._host.node}: {error}", retry_after=10) from error

    # --- while a domain is here

    def take_hold(self) -> None:
        """Hold whatever has a link: at the start of an agent, before anything else."""
        for uid, target in self._known().items():
            self._keep(uid, target)

    async def follow(self, domain: XenDomain) -> None:
        """Of a domain that is here: hold its devices by the anchor that it has now, which may be another than before."""
        if domain.status.claims:
            async with self._changing:
                await asyncio.to_thread(self._follow, domain)

    def _follow(self, domain: XenDomain) -> None:
        known = self._known()
        for claim in domain.status.claims:
            target = known.get(claim.uid)
            if claim.volume_mode is VolumeMode.BLOCK:
                device = self._kubelet.device(domain.status.anchor_uid or "", claim.volume_name)
                lasting = self._lasting(device) if device is not None else None
                if lasting not in (None, target):
                    lead(self._links / claim.uid, lasting)
                    target = lasting
            if target is not None:
                self._keep(claim.uid, target)

    def _keep(self, uid: str, target: str) -> None:
        """Hold what a domain has already, as far as it can be."""
        try:
            self._hold(uid, target)
        except OSError as error:
            logger.warning("claim %s: %s cannot be held: %s", uid, target, error)

    # --- when it has left

    async def release(self, uids: Iterable[str]) -> None:
        """Let go of claims: then the kubelet can unmount them.

        Raises:
            HypervisorError: a loop device cannot be removed.
            OSError: what holds it cannot be ended.
        """
        async with self._changing:
            for uid in uids:
                await self._release(uid)

    async def sweep(self, wanted: Callable[[], Set[str]]) -> None:
        """Let go of all claims but those that are wanted: what nobody gave back.

        Raises:
            HypervisorError, OSError: as `release`.
        """
        async with self._changing:
            loops = await self._host.call(self._host.hypervisor.loops)
            for uid in {*self._known(), *(name for name in loops if not name.startswith(devices.LOOP))} - wanted():
                if uid not in wanted():  # asked anew: a domain may have come meanwhile
                    await self._release(uid)

    async def _release(self, uid: str) -> None:
        await asyncio.to_thread(self._let_go, uid)
        await self._host.call(self._host.hypervisor.unloop, uid)
        with contextlib.suppress(FileNotFoundError):  # last: it is what tells of the others
            (self._links / uid).unlink()

    # --- within

    def _known(self) -> dict[str, str]:
        """What each link says, by the claim's uid."""
        try:
            return {name: os.readlink(self._links / name) for name in os.listdir(self._links) if not name.startswith(".")}
        except FileNotFoundError:
            return {}

    def _hold(self, uid: str, target: str) -> None:
        """Keep what the link says open, through every mount that the kubelet would have to undo before it gives up the
        device. A loop device needs none of that: the kernel has its file open.

        Raises:
            OSError: it cannot be held; what was held before stays so.
        """
        pod = self._kubelet.owner(target)
        with self._holding:
            if pod is not None and self._held.get(uid) != target:
                binds = self._of_device(target, self._kubelet.binds(pod) or ())
                self._holds.hold(uid, list(dict.fromkeys([target, *binds])))
                self._held[uid] = target

    def _lasting(self, device: str) -> str | None:
        """The path of a pod's device that stays as long as it is held: the kubelet's bind mount of it.

        The link in the pod's own folder is gone before the kubelet finds that it cannot unmount, and a guest's reboot or another
        agent's start would find no device. And it outlives the host's boot, after which it may lead to somebody else's device:
        None, if the kubelet has no such mount (yet).
        """
        pod = self._kubelet.owner(device)
        binds = self._kubelet.binds(pod) if pod is not None else None
        if binds is None:
            return device
        try:
            return next(self._of_device(device, binds), None)
        except FileNotFoundError:  # it leads to nothing
            return None

    def _of_device(self, target: str, binds: Iterable[str]) -> Iterator[str]:
        """Those of the mounts that are of this very device."""
        number = os.stat(self._kubelet.local(target)).st_rdev
        for bind in binds:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self._kubelet.local(bind)).st_rdev == number:
                    yield bind

    def _let_go(self, uid: str) -> None:
        with self._holding:
            self._held.pop(uid, None)
            self._holds.drop(uid)


def _open_image(folder: Path, *, read_only: bool) -> int:
    """A claim's disk.img, which its tenant made: no link, no device, no pipe, and no image that leads to another file.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is none that a guest may get.
    """
    with contextlib.ExitStack() as stack:
        base = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, base)
        # First only pinned: to open a pipe or a device does something already, and the name may be another's a moment later.
        pinned = os.open(IMAGE, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base)
        stack.callback(os.close, pinned)
        if not stat.S_ISREG(os.fstat(pinned).st_mode):
            raise ValueError("is no regular file; put the image itself there")
        file = os.open(f"/proc/self/fd/{pinned}", (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    try:
        _check_image(file)
    except BaseException:
        os.close(file)
        raise
    return file


def _check_image(file: int) -> None:
    found = os.fstat(file)
    if found.st_size == 0 or found.st_size % SECTOR:
        raise ValueError(f"has {found.st_size} bytes; make it a multiple of {SECTOR}")
    begin = os.pread(file, QCOW2.size, 0)
    if len(begin) == QCOW2.size:
        magic, _, backing = QCOW2.unpack(begin)
        if magic == b"QFI\xfb" and backing:
            raise ValueError(
                "is a qcow2 image that names a backing file, and is taken for a raw one; put a raw image there "
                "(`qemu-img convert -O raw`)"
            )
