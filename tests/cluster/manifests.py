"""Manifests as small functions: what a test does not care about has a value that works on every simulated host.

Names and kinds only; the namespace is the tenant's to add.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubexen.api.names import API_VERSION

Manifest = dict[str, Any]

IMAGES, SHARED, LOCAL, GOLD = "images", "shared", "local", "gold"
LAN, GOLD_LAN = "lan", "gold-lan"
GOLD_LABELS = {"tier": "gold"}


def domain(name: str, *, disks: Iterable[str] = (), networks: Iterable[str] = (), **spec: Any) -> Manifest:
    """A PVH domain. `disks` are XenDisks, attached as xvda, xvdb and so on; `networks` become eth0, eth1 and so on."""
    return _object("XenDomain", name, {
        "type": "pvh",
        "boot": {"direct": {"kernel": {"pool": IMAGES, "file": "vmlinuz"},
                            "initrd": {"pool": IMAGES, "file": "initrd.gz"}}},
        "cpu": {"count": 1},
        "memory": {"size": "64Mi", "max": "128Mi"},
        "disks": [{"name": f"disk{n}", "disk": disk, "target": f"xvd{'abcdefgh'[n]}"} for n, disk in enumerate(disks)],
        "interfaces": [{"name": f"eth{n}", "network": network} for n, network in enumerate(networks)],
        **spec,
    })  # fmt: skip


def disk(name: str, pool: str = SHARED, **spec: Any) -> Manifest:
    """A blank disk of 1 MiB, unless it has a source."""
    return _object("XenDisk", name, {"pool": pool, **({} if "source" in spec else {"size": "1Mi"}), **spec})


def action(name: str, domain: str, act: str = "Start") -> Manifest:
    return _object("XenAction", name, {"domainName": domain, "action": act})


def environment() -> list[Manifest]:
    """What an administrator has set up: pools and networks for all, and for namespaces with GOLD_LABELS."""
    gold = {"matchLabels": GOLD_LABELS}
    return [
        _object("XenNetwork", LAN, {"bridge": "xenbr0", "namespaceSelector": {}}),
        _object("XenNetwork", GOLD_LAN, {"bridge": "xenbr0", "namespaceSelector": gold}),
        _pool(IMAGES, "/srv/images", shared=True, selector={}),
        _pool(SHARED, "/srv/shared", shared=True, selector={}),
        _pool(LOCAL, "/srv/pool", shared=False, selector={}),
        _pool(GOLD, "/srv/shared", shared=True, selector=gold),
    ]


def _pool(name: str, path: str, *, shared: bool, selector: Manifest) -> Manifest:
    return _object("XenStoragePool", name, {
        "directory": {"path": path}, "shared": shared, "namespaceSelector": selector,
    })  # fmt: skip


def _object(kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
