"""All kinds of the group, for what handles each of them: the CRD generator, clients, tests."""

from kubexen.api.kind import Resource
from kubexen.api.xenaction import XenAction
from kubexen.api.xendisk import XenDisk
from kubexen.api.xendomain import XenDomain
from kubexen.api.xenhost import XenHost
from kubexen.api.xenmigration import XenMigration
from kubexen.api.xennetwork import XenNetwork
from kubexen.api.xenstoragepool import XenStoragePool

KINDS: tuple[type[Resource], ...] = (
    XenAction,
    XenDisk,
    XenDomain,
    XenHost,
    XenMigration,
    XenNetwork,
    XenStoragePool,
)
