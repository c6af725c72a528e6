"""Documents of the kinds as a user writes them, each the smallest that is complete; `put` sets one field."""

import copy
from typing import Any

Document = dict[str, Any]


def _document(kind: str, name: str, spec: Document) -> Document:
    return {"apiVersion": "kubexen.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def domain(name: str = "web") -> Document:
    boot = {"direct": {"kernel": {"pool": "images", "file": "vmlinuz"}}}
    return _document("XenDomain", name, {"boot": boot, "memory": {"size": "512Mi"}})


def disk(name: str = "root") -> Document:
    return _document("XenDisk", name, {"pool": "local", "size": "1Gi"})


def pool(name: str = "local") -> Document:
    return _document("XenStoragePool", name, {"directory": {"path": "/srv/disks"}})


def network(name: str = "lan") -> Document:
    return _document("XenNetwork", name, {"bridge": "xenbr0"})


def host(name: str = "xen1") -> Document:
    return _document("XenHost", name, {})


def migration(name: str = "move") -> Document:
    return _document("XenMigration", name, {"domainName": "web"})


def action(name: str = "start") -> Document:
    return _document("XenAction", name, {"domainName": "web", "action": "Start"})


BUILDERS = {
    "XenDomain": domain,
    "XenDisk": disk,
    "XenStoragePool": pool,
    "XenNetwork": network,
    "XenHost": host,
    "XenMigration": migration,
    "XenAction": action,
}


def put(document: Document, path: str, value: Any) -> Document:
    """A copy with the field at this dotted path set, or taken away by `...`; objects on the way are made."""
    result = copy.deepcopy(document)
    *way, last = path.split(".")
    node = result
    for part in way:
        node = node.setdefault(part, {})
    if value is ...:
        node.pop(last, None)
    else:
        node[last] = value
    return result
