"""A pod's volumes as a kubelet lays them out below its folder, for a host that is a directory."""

from __future__ import annotations

from pathlib import Path

KUBELET = "/var/lib/kubelet"


class Layout:
    """`root`: the host's file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def at(self, host_path: str) -> Path:
        return self.root / host_path.lstrip("/")

    def pod(self, uid: str) -> Path:
        return self.at(f"{KUBELET}/pods/{uid}")

    def block(self, pod: str, volume: str, device: str, plugin: str = "kubernetes.io~local-volume") -> Path:
        """A link to the device, as for a volume in block mode."""
        link = self.pod(pod) / "volumeDevices" / plugin / volume
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(device)
        return link

    def files(self, pod: str, volume: str, plugin: str = "kubernetes.io~nfs") -> Path:
        """The folder that a volume in filesystem mode is mounted on."""
        folder = self.pod(pod) / "volumes" / plugin / volume
        if plugin == "kubernetes.io~csi":
            folder /= "mount"
        folder.mkdir(parents=True)
        return folder

    def secret(self, pod: str, volume: str, **content: bytes) -> Path:
        """A Secret: files by links through a folder that is swapped as a whole when the Secret changes."""
        folder = self.pod(pod) / "volumes/kubernetes.io~secret" / volume
        data = folder / "..2026_03_01_12_00_00.1"
        data.mkdir(parents=True)
        (folder / "..data").symlink_to(data.name)
        for name, text in content.items():
            (data / name.replace("_", "-")).write_bytes(text)
            (folder / name.replace("_", "-")).symlink_to(f"..data/{name.replace('_', '-')}")
        return folder
