"""Kubexen's kinds as REST resources, for the client and the reflector."""

from __future__ import annotations

from kubexen.api.kind import KindInfo
from kubexen.api.names import GROUP, VERSION
from kubexen.api.xenaction import XenAction
from kubexen.api.xendisk import XenDisk
from kubexen.api.xendomain import XenDomain
from kubexen.api.xenhost import XenHost
from kubexen.api.xenmigration import XenMigration
from kubexen.api.xennetwork import XenNetwork
from kubexen.api.xenstoragepool import XenStoragePool
from kubexen.kube.resources import Resource


def resource(info: KindInfo) -> Resource:
    return Resource(GROUP, VERSION, info.plural, info.kind, namespaced=info.namespaced)


XENACTIONS = resource(XenAction.info)
XENDISKS = resource(XenDisk.info)
XENDOMAINS = resource(XenDomain.info)
XENHOSTS = resource(XenHost.info)
XENMIGRATIONS = resource(XenMigration.info)
XENNETWORKS = resource(XenNetwork.info)
XENSTORAGEPOOLS = resource(XenStoragePool.info)
