"""Claims for a tenant of the stack, and what a kubelet would do with them: simulated nodes have none.

`Kubelets` watches the tenant's pods and lays out each one's volumes below its host's folder, as a kubelet has them when a pod
runs, and takes them away when the pod is gone. Kubexen's own parts are as on a real host.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import shutil
import threading
from pathlib import Path
from typing import Any

from hack.cluster.api import ApiError, Object
from tests.cluster import manifests
from tests.cluster.manifests import Manifest
from tests.cluster.tenant import Tenant
from tests.unit.agent.kubelet_layout import Layout

PLUGINS = {"nfs": "kubernetes.io~nfs", "iscsi": "kubernetes.io~iscsi", "local": "kubernetes.io~local-volume"}
SIZE = 1024**2
WATCH_SECONDS = 600.0


def uses(*claims: str, first: str = "a") -> list[Manifest]:
    """Entries of spec.disks."""
    return [{"name": f"claim{n}", "claimName": name, "target": f"xvd{chr(ord(first) + n)}"} for n, name in enumerate(claims)]


def claiming(name: str, *claims: str, **spec: Any) -> Manifest:
    """A domain with these claims as its disks."""
    found = manifests.domain(name, **spec)
    found["spec"]["disks"] = uses(*claims)
    return found


class Kubelets:
    """A context manager; made by the fixture `kubelets`."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant, self.api = tenant, tenant.api
        self._volumes: list[str] = []
        self._laid_out: dict[str, Path] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ended = threading.Event()
        self.seen: list[tuple[str, Object]] = []  # events of pods, in order

    def __enter__(self) -> Kubelets:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.tenant.clear()
        self._ended.set()
        for volume in self._volumes:
            self.api.delete(f"/api/v1/persistentvolumes/{volume}")

    # --- what an administrator and a user make

    def claim(self, name: str, access: str = "ReadWriteOnce", *, kind: str = "iscsi", node: str = "", late: str = "") -> Path:
        """A bound claim, and its volume's content as this machine sees it: a device's bytes (iscsi, local) or a folder with a
        disk.img (nfs). `late`: a storage class that leaves it to the scheduler to bind it."""
        volume = f"{self.tenant.namespace}-{name}"
        mode = "Filesystem" if kind == "nfs" else "Block"
        source = {
            "nfs": {"server": "192.0.2.1", "path": "/export"},
            "iscsi": {"targetPortal": "192.0.2.1:3260", "iqn": "iqn.2026-01.dev.kubexen:test", "lun": 0},
            "local": {"path": "/dev/disk"},
        }[kind]
        common = {"accessModes": [access], "volumeMode": mode, "storageClassName": late}
        spec: Manifest = {**common, "capacity": {"storage": "1Mi"}, kind: source}
        if node:
            term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
            spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [term]}}
        content = self._content(volume)
        content.mkdir(parents=True)
        data = content / ("disk.img" if mode == "Filesystem" else "device")
        data.write_bytes(bytes(SIZE))
        self._volumes.append(volume)
        self.api.create("/api/v1/persistentvolumes", {
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": spec,
        })  # fmt: skip
        self.tenant.apply({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {**common, "volumeName": "" if late else volume, "resources": {"requests": {"storage": "1Mi"}}},
        })  # fmt: skip
        return data

    def secret(self, name: str, **content: str) -> None:
        data = {key: base64.b64encode(text.encode()).decode() for key, text in content.items()}
        self.tenant.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})

    def mount(self, claim: str, pod: Object) -> None:
        """Give a pod a claim that it does not ask for."""
        layout = Layout(self.tenant.host(pod["spec"]["nodeName"]).root)
        self._lay_out_claim(layout, pod["metadata"]["uid"], claim)

    # --- what they see

    def uid(self, claim: str) -> str:
        return str(self._get("persistentvolumeclaims", claim)["metadata"]["uid"])

    def links(self, node: str) -> dict[str, str]:
        """The disks of a host by the uids of their claims, and where each leads."""
        folder = self.tenant.host(node).root / "run/kubexen/disks"
        return {link.name: str(link.readlink()) for link in folder.iterdir()} if folder.exists() else {}

    def seeds(self, node: str) -> list[Path]:
        return sorted((self.tenant.host(node).root / "run/kubexen/seeds").glob("*.iso"))

    # --- the kubelets

    def _run(self) -> None:
        pods = f"/api/v1/namespaces/{self.tenant.namespace}/pods"
        while not self._ended.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):  # the API server is away
                for kind, pod in self.api.watch(pods, WATCH_SECONDS):
                    if self._ended.is_set():
                        return
                    self._follow(kind, pod)
            self._ended.wait(0.2)

    def _follow(self, kind: str, pod: Object) -> None:
        self.seen.append((kind, pod))
        if kind == "DELETED":
            self._remove(pod["metadata"]["uid"])
        elif pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]:
            self._lay_out(pod)

    def _lay_out(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if uid in self._laid_out:
            return
        layout = Layout(self.tenant.host(pod["spec"]["nodeName"]).root)
        self._laid_out[uid] = layout.pod(uid)
        for volume in pod["spec"].get("volumes") or ():
            if "secret" in volume:
                self._lay_out_secret(layout, uid, volume)
            elif "persistentVolumeClaim" in volume:
                self._lay_out_claim(layout, uid, volume["persistentVolumeClaim"]["claimName"])

    def _lay_out_secret(self, layout: Layout, uid: str, volume: Manifest) -> None:
        (item,) = volume["secret"]["items"]
        try:
            data = self._get("secrets", volume["secret"]["secretName"])["data"]
            layout.secret(uid, volume["name"], **{item["path"].replace("-", "_"): base64.b64decode(data[item["key"]])})
        except (ApiError, KeyError):
            return  # a real kubelet would not run the pod

    def _lay_out_claim(self, layout: Layout, uid: str, claim: str) -> None:
        name = self._get("persistentvolumeclaims", claim)["spec"]["volumeName"]
        spec = self.api.get(f"/api/v1/persistentvolumes/{name}")["spec"]
        plugin = next(plugin for kind, plugin in PLUGINS.items() if kind in spec)
        content = self._content(name)
        if spec["volumeMode"] == "Block":
            device = layout.at(f"/dev/{name}")
            device.parent.mkdir(exist_ok=True)
            if not device.exists():
                device.hardlink_to(content / "device")
            layout.block(uid, name, f"/dev/{name}", plugin)
            return
        folder = layout.files(uid, name, plugin)
        for file in content.iterdir():
            if file.is_symlink():
                (folder / file.name).symlink_to(file.readlink())
            else:
                (folder / file.name).hardlink_to(file)

    def _remove(self, uid: str) -> None:
        if (folder := self._laid_out.pop(uid, None)) is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _content(self, volume: str) -> Path:
        return self.tenant.stack.state / "volumes" / volume

    def _get(self, plural: str, name: str) -> dict[str, Any]:
        return self.api.get(f"/api/v1/namespaces/{self.tenant.namespace}/{plural}/{name}")
