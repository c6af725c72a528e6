"""What a domain's spec refers to (disks, claims, pools, networks), checked, and turned into the plain data of the port.

Both sides use it: the controller to tell a user early what is wrong, the agent to know what to start. It never looks at
a host: whether a file is there is the agent's storage to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from kubexen.api.conditions import Reason
from kubexen.api.devices import DomainInterface
from kubexen.api.domainstatus import ClaimStatus, Reservation
from kubexen.api.fields import PoolFile
from kubexen.api.meta import allows
from kubexen.api.notimplemented import notimplemented
from kubexen.api.quantity import MIB
from kubexen.api.xendisk import XenDisk
from kubexen.api.xendomain import DomainType, LifecycleAction, XenDomain
from kubexen.api.xennetwork import XenNetwork
from kubexen.api.xenstoragepool import XenStoragePool
from kubexen.hypervisor import port
from kubexen.plan import affinity, claims, devices, seed
from kubexen.plan.claims import Claim
from kubexen.plan.problem import Problem

RESERVED = ".kubexen"
"""Kubexen's own directory in a pool: no tenant's `file` may lie in it."""


@dataclass(frozen=True)
class References:
    """The objects that a domain's spec may refer to, as they are now; keys are names."""

    disks: Mapping[str, XenDisk]
    pools: Mapping[str, XenStoragePool]
    networks: Mapping[str, XenNetwork]
    namespace_labels: Mapping[str, str]
    claims: Mapping[str, Claim] = field(default_factory=dict)


@dataclass(frozen=True)
class ResolvedDisk:
    """An entry of spec.disks with the objects behind it. `path` is where its data is, or will be, on the host."""

    name: str
    disk: XenDisk
    pool: XenStoragePool
    path: str
    target: str
    read_only: bool

    @property
    def source(self) -> PoolFile | None:
        return self.disk.spec.source.file if self.disk.spec.source else None


@dataclass(frozen=True)
class ResolvedClaim:
    """An entry of spec.disks that is a PersistentVolumeClaim. `path` is the same on every host."""

    name: str
    claim: ClaimStatus
    path: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class ResolvedInterface:
    name: str
    network: XenNetwork


@dataclass(frozen=True)
class Resolved:
    """A spec that can be carried out, as far as the API tells."""

    kernel: str
    initrd: str
    disks: tuple[ResolvedDisk, ...]
    claims: tuple[ResolvedClaim, ...]
    interfaces: tuple[ResolvedInterface, ...]

    def node(self) -> str | None:
        """The only node that can run the domain, because a node-local disk of it is there."""
        for disk in self.disks:
            if not disk.pool.spec.shared and disk.disk.status.node_name:
                return disk.disk.status.node_name
        return None


def resolve(domain: XenDomain, refs: References) -> Resolved:
    """Check all references of a spec.

    Raises:
        Problem: the first thing that keeps the domain from starting, in the order of the spec.
    """
    if missing := notimplemented(domain.spec):
        raise Problem(
            Reason.NOT_IMPLEMENTED,
            f"{', '.join(missing)}: this version does not carry this out yet; take it out of the spec",
            stalled=True,
        )
    direct = domain.spec.boot.direct
    if direct is None:
        raise Problem(Reason.INVALID_SPEC, "spec.boot: give direct", stalled=True)
    affinity.check(domain)
    seed.check(domain)
    kernel = pool_file(direct.kernel, "spec.boot.direct.kernel", refs)
    initrd = pool_file(direct.initrd, "spec.boot.direct.initrd", refs) if direct.initrd else ""
    return Resolved(
        kernel=kernel,
        initrd=initrd,
        disks=_disks(domain, refs),
        claims=_claims(domain, refs),
        interfaces=tuple(_interface(interface, refs) for interface in domain.spec.interfaces),
    )


def pool(name: str, field: str, refs: References) -> XenStoragePool:
    """The pool of this name, if this namespace may use it and this version can."""
    found = refs.pools.get(name)
    if found is None:
        raise Problem(
            Reason.POOL_NOT_FOUND, f"{field}: there is no XenStoragePool {name!r}; ask an administrator", retry_after=30
        )
    if not allows(found.spec.namespace_selector, refs.namespace_labels):
        raise Problem(
            Reason.NAMESPACE_NOT_ALLOWED,
            f"{field}: XenStoragePool {name!r} does not admit this namespace (its spec.namespaceSelector); "
            "ask an administrator",
            retry_after=30,
        )
    if missing := notimplemented(found.spec):
        raise Problem(
            Reason.NOT_IMPLEMENTED,
            f"{field}: XenStoragePool {name!r} has {', '.join(missing)}, which this version does not carry out yet; "
            "use another pool",
            stalled=True,
        )
    return found


def network(name: str, field: str, refs: References) -> XenNetwork:
    """The network of this name, if this namespace may use it and this version can."""
    found = refs.networks.get(name)
    if found is None:
        raise Problem(
            Reason.NETWORK_NOT_FOUND, f"{field}: there is no XenNetwork {name!r}; ask an administrator", retry_after=30
        )
    if not allows(found.spec.namespace_selector, refs.namespace_labels):
        raise Problem(
            Reason.NAMESPACE_NOT_ALLOWED,
            f"{field}: XenNetwork {name!r} does not admit this namespace (its spec.namespaceSelector); "
            "ask an administrator",
            retry_after=30,
        )
    if missing := notimplemented(found.spec):
        raise Problem(
            Reason.NOT_IMPLEMENTED,
            f"{field}: XenNetwork {name!r} has {', '.join(missing)}, which this version does not carry out yet; "
            "use another network",
            stalled=True,
        )
    return found


def directory(found: XenStoragePool) -> PurePosixPath:
    """The pool's directory on a host. resolve() has refused pools of any other kind."""
    if found.spec.directory is None:
        raise Problem(Reason.NOT_IMPLEMENTED, f"XenStoragePool {found.metadata.name!r} has no directory", stalled=True)
    return PurePosixPath(found.spec.directory.path)


def pool_file(file: PoolFile, field: str, refs: References) -> str:
    """The host path of an administrator's file. Never one of Kubexen's own: those are other tenants' disks."""
    path = PurePosixPath(file.file)
    # RESERVED at any depth: one pool's directory may lie in another's.
    if not path.parts or path.is_absolute() or ".." in path.parts or RESERVED in path.parts:
        raise Problem(
            Reason.INVALID_SPEC,
            f"{field}.file: {file.file!r} is no path of an administrator's file in the pool "
            f"({RESERVED} is Kubexen's own); name a file that an administrator put there",
            stalled=True,
        )
    return str(directory(pool(file.pool, f"{field}.pool", refs)) / path)


def disk_path(found: XenDisk, in_pool: XenStoragePool) -> str:
    """Where a disk's data is: the same path on every host, for as long as the disk lives."""
    return str(directory(in_pool) / RESERVED / "disks" / f"{found.metadata.uid}.raw")


def _interface(interface: DomainInterface, refs: References) -> ResolvedInterface:
    where = f"spec.interfaces[{interface.name}]"
    found = network(interface.network, where, refs)
    if interface.address:
        seed.subnet(interface, found)
    elif found.spec.addresses:
        raise Problem(
            Reason.NOT_IMPLEMENTED,
            f"{where}: this version hands out no addresses of XenNetwork {interface.network!r} (its spec.addresses); "
            "give the interface an address, and spec.cloudInit, or use another network",
            stalled=True,
        )
    return ResolvedInterface(interface.name, found)


def _claims(domain: XenDomain, refs: References) -> tuple[ResolvedClaim, ...]:
    result: list[ResolvedClaim] = []
    for entry in domain.spec.disks:
        if not entry.claim_name:
            continue
        where = f"spec.disks[{entry.name}]: PersistentVolumeClaim {entry.claim_name!r}"
        found = refs.claims.get(entry.claim_name)
        if found is None:
            raise Problem(Reason.DISK_NOT_FOUND, f"{where} is not in this namespace; make it", retry_after=5)
        if found.problem:
            raise Problem(Reason.DISK_NOT_FOUND, f"{where} {found.problem}", retry_after=30)
        if any(other.claim.uid == found.status.uid for other in result):
            raise Problem(Reason.DISK_IN_USE, f"{where} stands in the list twice; take one entry out", stalled=True)
        result.append(ResolvedClaim(
            entry.name, found.status, claims.path(found.status), entry.target, read_only=entry.read_only
        ))
    return tuple(result)


def _disks(domain: XenDomain, refs: References) -> tuple[ResolvedDisk, ...]:
    result: list[ResolvedDisk] = []
    for entry in domain.spec.disks:
        if entry.claim_name:
            continue
        field = f"spec.disks[{entry.name}]"
        found = refs.disks.get(entry.disk or "")
        if found is None:
            raise Problem(
                Reason.DISK_NOT_FOUND, f"{field}: there is no XenDisk {entry.disk!r} in this namespace; make it",
                retry_after=30,
            )
        if found.deleting:
            raise Problem(Reason.DISK_NOT_FOUND, f"{field}: XenDisk {entry.disk!r} is being deleted", retry_after=30)
        if any(other.disk.metadata.uid == found.metadata.uid for other in result):
            raise Problem(
                Reason.DISK_IN_USE, f"{field}: XenDisk {entry.disk!r} stands in the list twice; take one entry out",
                stalled=True,
            )
        if missing := notimplemented(found.spec):
            raise Problem(
                Reason.NOT_IMPLEMENTED,
                f"{field}: XenDisk {entry.disk!r} has {', '.join(missing)}, which this version does not carry out yet; "
                "use another disk",
                stalled=True,
            )
        holder = found.status.used_by
        if holder and holder.uid != domain.metadata.uid:
            raise Problem(
                Reason.DISK_IN_USE,
                f"{field}: XenDisk {entry.disk!r} is held by XenDomain {holder.name!r}; "
                "halt that and take the disk out of it, or give this one a disk of its own",
                retry_after=30,
            )
        in_pool = pool(found.spec.pool, f"XenDisk {entry.disk!r} spec.pool", refs)
        if found.spec.source and found.spec.source.file:
            pool_file(found.spec.source.file, f"XenDisk {entry.disk!r} spec.source.file", refs)
        result.append(
            ResolvedDisk(
                entry.name, found, in_pool, disk_path(found, in_pool), entry.target, read_only=entry.read_only
            )
        )
    nodes = {d.disk.status.node_name for d in result if not d.pool.spec.shared and d.disk.status.node_name}
    if len(nodes) > 1:
        raise Problem(
            Reason.WAITING_FOR_NODE,
            f"spec.disks: these node-local disks are on different nodes ({', '.join(sorted(n for n in nodes if n))})",
            stalled=True,
        )
    return tuple(result)


def config(domain: XenDomain, resolved: Resolved, *, note: str) -> port.DomainConfig:
    """The port's plain data for a checked spec. MAC addresses are those that the controller assigned."""
    spec = domain.spec
    direct = spec.boot.direct
    cmdline = " ".join(part for part in (f"root={direct.root}" if direct and direct.root else "",
                                         direct.cmdline if direct else "") if part)
    macs = domain.status.mac_addresses
    return port.DomainConfig(
        uuid=domain_uuid(domain),
        name=domain_name(domain),
        owner=port.Owner(domain.metadata.namespace, domain.metadata.name, domain.metadata.uid),
        type=port.DomainType.PVH if spec.type is DomainType.PVH else port.DomainType.PV,
        kernel=resolved.kernel,
        initrd=resolved.initrd,
        cmdline=cmdline,
        vcpus=spec.cpu.count,
        max_vcpus=spec.cpu.maximum,
        memory_kib=spec.memory.size // 1024,
        max_memory_kib=spec.memory.maximum // 1024,
        affinity=affinity.cpuset(spec.cpu.affinity),
        weight=spec.cpu.weight or 256,
        cap=spec.cpu.cap or 0,
        disks=tuple(_disk_configs(domain, resolved)),
        interfaces=tuple(
            port.InterfaceConfig(macs[i.name], i.network.spec.bridge) for i in resolved.interfaces if i.name in macs
        ),
        restart_on_reboot=host_reboots(spec.on_reboot, spec.cpu.to_dict()),
        note=note,
    )


def host_reboots(on_reboot: str, cpu: Mapping[str, object]) -> bool:
    """Whether the host carries out a guest's reboot by itself: not where libvirt would forget the domain's share of the CPUs."""
    return on_reboot == LifecycleAction.RESTART and not {"weight", "cap"} & cpu.keys()


def _disk_configs(domain: XenDomain, resolved: Resolved) -> Iterator[port.DiskConfig]:
    """In the order of the spec, and the seed last."""
    found = {
        c.name: port.DiskConfig(c.path, c.target, read_only=c.read_only, block_device=True) for c in resolved.claims
    }
    for disk in resolved.disks:
        path = devices.path(domain_uuid(domain), disk.target) if disk.read_only else disk.path
        found[disk.name] = port.DiskConfig(path, disk.target, read_only=disk.read_only, block_device=disk.read_only)
    yield from (found[entry.name] for entry in domain.spec.disks)
    if domain.spec.cloud_init is not None:
        yield port.DiskConfig(
            devices.path(domain_uuid(domain), seed.DEVICE), seed.target(domain), read_only=True, block_device=True
        )


def domain_uuid(domain: XenDomain) -> str:
    """The domain's UUID: the user's, or the object's uid."""
    return domain.spec.uuid or domain.metadata.uid


def domain_name(domain: XenDomain) -> str:
    """The name in `xl list`. A namespace has no dot, so two objects never share it."""
    return f"{domain.metadata.namespace}.{domain.metadata.name}"


class Request(NamedTuple):
    """What an anchor asks of a node: kubexen.dev/memory-mib and kubexen.dev/vcpus."""

    memory_mib: int
    vcpus: int


def reservation(domain: XenDomain) -> Reservation:
    """What an anchor has to give it, as its spec is now."""
    mounts = {claims.word(name) for name in claims.named(domain)}
    mounts |= {seed.word(volume, key.secret_name, key.key) for volume, key in seed.secrets(domain).items()}
    return Reservation(memory=domain.spec.memory.maximum, vcpus=domain.spec.cpu.maximum, mounts=sorted(mounts))


def request(reserved: Reservation) -> Request:
    """What it takes from a host: its maxima, and Xen's own structures for it.

    libxl reckons 256 pages (1 MiB) a vCPU and two pages (8 KiB) a MiB for page tables of a PVH guest
    (libxl_get_required_shadow_memory); 1 MiB more is for what Xen keeps for any domain.
    """
    mib = -(-reserved.memory // MIB)
    overhead = 1 + reserved.vcpus + -(-mib // 128)
    return Request(mib + overhead, reserved.vcpus)
