"""Where a kubelet keeps the volumes of a pod on this host: the devices, folders and Secrets of an anchor.

Paths are the host's. `root` is where the host's file system is seen by this process; links are followed as the host would
follow them. It only looks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from kubexen.hypervisor.hostpath import local

FOLDER = "/var/lib/kubelet"
SECRETS = "kubernetes.io~secret"
CSI = "kubernetes.io~csi"


class Kubelet:
    def __init__(self, root: Path, folder: str = FOLDER) -> None:
        self._root, self._folder = root, folder

    def device(self, pod: str, volume: str) -> str | None:
        """The device of a PersistentVolume in block mode; None: the pod has none."""
        return next((path for path, _ in self._find(pod, "volumeDevices", volume)), None)

    def volume(self, pod: str, volume: str) -> str | None:
        """The folder of a PersistentVolume in filesystem mode; None: the pod has none."""
        for path, plugin in self._find(pod, "volumes", volume):
            if plugin != SECRETS:
                return f"{path}/mount" if plugin == CSI else path
        return None

    def secret(self, pod: str, volume: str, file: str) -> bytes | None:
        """What is in a file of a Secret's volume; None: it is not there."""
        folder = self._pod(pod, "volumes") / SECRETS / _name(volume)
        try:
            return self.local(str(folder / _name(file))).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def owner(self, path: str) -> str | None:
        """The uid of the pod that a path of a volume, or a bind mount of its device, belongs to; None: it is none."""
        try:
            kind, *names = PurePosixPath(path).relative_to(self._folder).parts
        except ValueError:
            return None
        return {"pods": names[0], "plugins": names[-1]}.get(kind) if names else None

    def binds(self, pod: str) -> list[str] | None:
        """The bind mounts that the kubelet keeps of the pod's devices, one each; None: this is no host that tells its mounts."""
        try:
            lines = (self._root / "proc/1/mountinfo").read_text().splitlines()
        except OSError:
            return None
        points = (line.split()[4] for line in lines if line)
        return [point for point in points if point.startswith(f"{self._folder}/plugins/") and point.endswith(f"/{pod}")]

    def local(self, host_path: str) -> Path:
        """Where this process sees a path of the host, each link followed within the host's file system.

        Raises:
            OSError: too many links.
        """
        return local(self._root, host_path)

    def _find(self, pod: str, kind: str, volume: str) -> Iterator[tuple[str, str]]:
        """Host paths of a volume, each with the plugin that it is of."""
        folder, name = self._pod(pod, kind), _name(volume)
        try:
            plugins = sorted(os.listdir(self.local(str(folder))))
        except (FileNotFoundError, NotADirectoryError):
            return
        for plugin in plugins:
            path = folder / plugin / name
            if os.path.lexists(self.local(str(path.parent)) / name):
                yield str(path), plugin

    def _pod(self, pod: str, kind: str) -> PurePosixPath:
        return PurePosixPath(self._folder) / "pods" / _name(pod) / kind


def _name(text: str) -> str:
    """One component of a path: whatever an object's author wrote, it leads nowhere else."""
    if not text or text in (".", "..") or "/" in text or "\0" in text:
        raise ValueError(f"{text!r} is no name")
    return text
