"""cloud-init seeds of this host's domains: read from the anchors' Secrets, written as small ISO images, removed afterwards.

A seed is made anew for each start and kept until the domain has left, so that neither a guest's reboot nor another agent
needs the Secret. What is in one is never logged.
"""

from __future__ import annotations

import contextlib
import io
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import pycdlib

from kubexen.agent.storage.kubelet import Kubelet
from kubexen.api.conditions import Reason
from kubexen.api.xendomain import XenDomain
from kubexen.plan import seed
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import Resolved, domain_uuid


class Seeds:
    def __init__(self, root: Path, kubelet: Kubelet) -> None:
        self._folder, self._kubelet = root / seed.SEEDS.lstrip("/"), kubelet

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
                    f"{seed.field(volume)}: the anchor has no key {key.key!r} of Secret {key.secret_name!r}; make the Secret. "
                    "If the field was changed since the domain was placed: powerState Halted and back to Running",
                    retry_after=5,
                )
            given[volume] = found
        networks = {interface.name: interface.network for interface in resolved.interfaces}
        return seed.files(domain, domain_uuid(domain), networks, given)

    def write(self, domain: XenDomain, files: Mapping[str, bytes]) -> None:
        """Make the image. Raises Problem: SeedNotWritten."""
        path = self._folder / f"{domain_uuid(domain)}.iso"
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(image(files))
            unfinished.rename(path)
        except OSError as error:
            raise Problem("SeedNotWritten", f"{seed.path(domain_uuid(domain))}: {error.strerror}", retry_after=30) from None
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink()

    def remove(self, of: str) -> None:
        """Remove the seed of the domain of this UUID. Not there: success."""
        with contextlib.suppress(FileNotFoundError):
            (self._folder / f"{of}.iso").unlink()

    def known(self) -> set[str]:
        """The UUIDs of the domains that have a seed here."""
        try:
            return {name.removesuffix(".iso") for name in os.listdir(self._folder) if not name.startswith(".")}
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
