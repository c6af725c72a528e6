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

from kubexen.agent.devices import FileDevices
from kubexen.agent.storage.kubelet import Kubelet
from kubexen.api.conditions import Reason
from kubexen.api.xendomain import XenDomain
from kubexen.plan import seed
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import Resolved, domain_uuid

IMAGE = ".iso"


class Seeds:
    def __init__(self, root: Path, kubelet: Kubelet, devices: FileDevices) -> None:
        self._folder, self._kubelet, self._devices = root / seed.SEEDS.lstrip("/"), kubelet, devices

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
        """Make the image, and a device over it.

        Raises:
            Problem: SeedNotWritten.
            HypervisorError: no loop device can be made.
        """
        of = domain_uuid(domain)
        try:
            file = await asyncio.to_thread(self._write, f"{of}{IMAGE}", files)
        except OSError as error:
            raise Problem("SeedNotWritten", f"{seed.SEEDS}/{of}{IMAGE}: {error.strerror}", retry_after=30) from None
        try:
            await self._devices.make(of, seed.DEVICE, file)
        finally:
            os.close(file)

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

    def remove(self, of: str) -> None:
        """Remove the image of the domain of this UUID. Not there: success."""
        with contextlib.suppress(FileNotFoundError):
            (self._folder / f"{of}{IMAGE}").unlink()

    async def sweep(self, wanted: Callable[[], Set[str]]) -> None:
        """Remove all images but those of the domains of these UUIDs."""
        for of in await asyncio.to_thread(self._made) - wanted():
            if of not in wanted():  # asked anew: a domain may have come meanwhile
                await asyncio.to_thread(self.remove, of)

    def _made(self) -> set[str]:
        """The UUIDs of the domains that have an image."""
        try:
            return {name.removesuffix(IMAGE) for name in os.listdir(self._folder) if not name.startswith(".")}
        except FileNotFoundError:
            return set()


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
