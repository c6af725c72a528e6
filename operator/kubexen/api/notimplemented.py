"""Which fields of a spec this version does not carry out: an object that sets one is Stalled, reason NotImplemented.

Nothing is ignored silently. Only values that ask for something count: a field left at its default never does. A field that this
version does not know asks for something, of a newer one: the CRD is the newer one's while an upgrade is under way.
"""

from collections.abc import Iterator

from kubexen.api.base import HANDED_ON, SpecModel
from kubexen.api.devices import DiskDevice
from kubexen.api.xenaction import Act, XenActionSpec
from kubexen.api.xendisk import DiskFormat, XenDiskSpec
from kubexen.api.xendomain import DomainType, EvictionStrategy, LifecycleAction, PowerState, XenDomainSpec
from kubexen.api.xenmigration import XenMigrationSpec
from kubexen.api.xennetwork import XenNetworkSpec
from kubexen.api.xenstoragepool import XenStoragePoolSpec

ENDINGS = frozenset({LifecycleAction.DESTROY, LifecycleAction.RESTART, LifecycleAction.PRESERVE})
TYPES = frozenset({DomainType.PV, DomainType.PVH})
STRATEGIES = frozenset({EvictionStrategy.RESTART})
ACTS = frozenset({Act.START})


def notimplemented(spec: SpecModel) -> list[str]:
    """Names of the fields, as in `spec.disks[tools].device`; none: all of it is carried out."""
    match spec:
        case XenDomainSpec():
            fields = _domain(spec)
        case XenDiskSpec():
            fields = _set(spec.format is not DiskFormat.RAW, "format")
        case XenStoragePoolSpec():
            fields = _given(spec, "lvm", "devices", "allow_pygrub")
        case XenNetworkSpec():
            fields = _given(spec, "vlan", "mtu", "mac_pool", "rate")
        case XenMigrationSpec():
            fields = _set(spec.strategy is not None and spec.strategy not in STRATEGIES, "strategy")
        case XenActionSpec():
            fields = _set(spec.action not in ACTS, "action")
        case _:
            fields = iter(())
    return [f"spec.{field}" for field in (*fields, *_unknown(spec))]


def _unknown(model: SpecModel, prefix: str = "") -> Iterator[str]:
    if model.model_config.get("json_schema_extra") == HANDED_ON:
        return
    yield from (f"{prefix}{name}" for name in model.model_extra or {})
    for attribute, field in type(model).model_fields.items():
        value, name = getattr(model, attribute), f"{prefix}{field.alias}"
        if isinstance(value, SpecModel):
            yield from _unknown(value, f"{name}.")
        elif isinstance(value, list):
            for number, item in enumerate(value):
                if isinstance(item, SpecModel):
                    yield from _unknown(item, f"{name}[{getattr(item, 'name', number)}].")


def _domain(spec: XenDomainSpec) -> Iterator[str]:
    yield from _set(spec.power_state is PowerState.SUSPENDED, "powerState")
    yield from _set(spec.type not in TYPES, "type")
    yield from _given(spec.boot, "bootloader", "firmware", prefix="boot.")
    for disk in spec.disks:
        prefix = f"disks[{disk.name}]."
        yield from _set(disk.device is not DiskDevice.DISK, f"{prefix}device")
        yield from _given(disk, "shareable", prefix=prefix)
    by_cloud_init = () if spec.cloud_init else ("address",)  # an address reaches a guest in its seed only
    for interface in spec.interfaces:
        yield from _given(interface, *by_cloud_init, "rate", "model", prefix=f"interfaces[{interface.name}].")
    yield from _given(spec, "graphics", "pci")
    yield from _set(spec.on_poweroff not in ENDINGS, "onPoweroff")
    yield from _set(spec.on_reboot not in ENDINGS, "onReboot")
    yield from _set(spec.on_crash not in ENDINGS, "onCrash")


def _set(asked: bool, field: str) -> Iterator[str]:
    if asked:
        yield field


def _given(model: SpecModel, *attributes: str, prefix: str = "") -> Iterator[str]:
    """Of these attributes, those that have a value, under the names that a user writes."""
    fields = type(model).model_fields
    for attribute in attributes:
        value = getattr(model, attribute)
        if value is not None and value is not False and value != []:
            yield f"{prefix}{fields[attribute].alias}"
