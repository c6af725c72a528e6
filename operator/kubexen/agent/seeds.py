"""cloud-init seeds of this host's domains: read from the anchors' Secrets, written as small ISO images, removed afterwards.

A seed is made anew for each start and kept until the domain has left, so that neither a guest's reboot nor another agent
needs the Secret. What is in one is never logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import uuid
from collections.abc import Callable, Mapping, Set
from pathlib import Path

import pycdlib

from kubexen.agent.host import Host
from kubexen.agent.storage.kubelet import Kubelet
from kubexen.api.conditions import Reason
from kubexen.api.xendomain import XenDomain
from kubexen.plan import seed
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import Resolved, domain_uuid

IMAGE = ".iso"


class Seeds:
    def __init__(self, root: Path, kubelet: Kubelet, host: Host) -> None:
        self._folder, self._kubelet, self._host = root / seed.SEEDS.lstrip("/"), kubelet, host

    def read(self, domain: XenDomain, resolved: Resolved) -> dict[str, bytes] | None:
        """The files of the domain's seed; None: it has none.

        Raises:
            Problem: SecretNotFound, or what is wrong with an address.
        """
        if domain.spec.cloud_init is None:
            return None
        given = {}
        for volume, key in seed.secrets(domain).items():
            found = self._kubelet.secret(domain.status.anchor_uid or "", volume, volume)
            if found is None:
                raise Problem(
                    Reason.SECRET_NOT_FOUND,
                    f"{seed.field(volume)}: the anchor has no key {key.key!r} of Secret {key.secret_name!r}; make the Secret",
                    retry_after=5,
                )
            given[volume] = found
        networks = {interface.name: interface.network for interface in resolved.interfaces}
        return seed.files(domain, domain_uuid(domain), networks, given)

    async def write(self, domain: XenDomain, files: Mapping[str, bytes]) -> None:
        """Make the image, and a device over it: QEMU serves no raw file read-only (xen-disk, 7.2).

        Raises:
            Problem: SeedNotWritten.
            HypervisorError: no loop device can be made.
        """
        of = domain_uuid(domain)
        try:
            file = await asyncio.to_thread(self._write, f"{of}{IMAGE}", files)
        except OSError as error:
            raise Problem("SeedNotWritten", f"{seed.path(of)}: {error.strerror}", retry_after=30) from None
        try:
            device = await self._host.call(self._host.hypervisor.loop, f"{seed.LOOP}{of}", file, read_only=True)
        finally:
            os.close(file)
        unfinished = self._folder / f".{of}.{uuid.uuid4().hex}"
        unfinished.symlink_to(device)
        unfinished.rename(self._folder / of)

    def _write(self, name: str, files: Mapping[str, bytes]) -> int:
        """Write the image under another name first; the file, open to be read."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = self._folder / f".{name}.{uuid.uuid4().hex}"
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(image(files))
            unfinished.rename(self._folder / name)
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink()
        return os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)

    async def remove(self, of: str) -> None:
        """Remove the seed of the domain of this UUID. Not there: success.

        Raises:
            HypervisorError: its loop device cannot be removed.
        """
        for name in (of, f"{of}{IMAGE}"):
            with contextlib.suppress(FileNotFoundError):
                (self._folder / name).unlink()
        await self._host.call(self._host.hypervisor.unloop, f"{seed.LOOP}{of}")

    async def sweep(self, wanted: Callable[[], Set[str]]) -> None:
        """Remove all seeds but those of the domains of these UUIDs.

        Raises:
            HypervisorError: as `remove`.
        """
        loops = await self._host.call(self._host.hypervisor.loops)
        found = {name.removeprefix(seed.LOOP) for name in loops if name.startswith(seed.LOOP)}
        with contextlib.suppress(FileNotFoundError):
            found |= {name.removesuffix(IMAGE) for name in os.listdir(self._folder) if not name.startswith(".")}
        for of in found:
            if of not in wanted():
                await self.remove(of)


def image(files: Mapping[str, bytes]) -> bytes:
    """An ISO 9660 image with the label that cloud-init looks for."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=seed.VOLUME_LABEL)
    for number, (name, content) in enumerate(files.items()):
        iso.add_fp(io.BytesIO(content), len(content), f"/FILE{number}.;1", rr_name=name, joliet_path=f"/{name}")
    result = io.BytesIO()
    iso.write_fp(result)
    iso.close()
    return result.getvalue()
