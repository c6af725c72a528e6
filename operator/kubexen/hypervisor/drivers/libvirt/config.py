"""DomainConfig as libvirt's domain XML, and back. Data only: no libvirt call, no policy, no look at the host.

driver.py calls it. Who a domain belongs to and the caller's note travel in the domain's own metadata, so they are lost
exactly when the domain is.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from kubexen.hypervisor.errors import InvalidConfig
from kubexen.hypervisor.port import DiskConfig, DomainConfig, DomainType, InterfaceConfig, Owner

METADATA_KEY = "kubexen"
METADATA_URI = "https://kubexen.dev/domain/1"

DEFAULT_WEIGHT = 256  # credit2's own
DEFAULT_CAP = 0

# libvirt's words for a domain's type: the machine, and the operating system type.
_TYPES = {DomainType.PV: ("xenpv", "linux"), DomainType.PVH: ("xenpvh", "xenpvh")}

_CPUS = re.compile(r"\^(?P<out>\d{1,5})|(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?")
_NOT_A_LINE = re.compile("[^\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOT_A_TEXT = re.compile("[^\t\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

ET.register_namespace(METADATA_KEY, METADATA_URI)


def to_xml(config: DomainConfig) -> str:
    """The domain XML that starts `config`.

    Raises:
        InvalidConfig: a text holds characters that XML or a guest's command line cannot.
    """
    _check_text(config)
    domain = ET.Element("domain", type="xen")
    _add(domain, "name", config.name)
    _add(domain, "uuid", config.uuid)
    _add_metadata(domain, config)
    _add(domain, "memory", str(config.max_memory_kib), unit="KiB")
    _add(domain, "currentMemory", str(config.memory_kib), unit="KiB")
    vcpu = _add(domain, "vcpu", str(config.max_vcpus), placement="static", current=str(config.vcpus))
    if config.affinity:
        vcpu.set("cpuset", config.affinity)
    machine, os_type = _TYPES[config.type]
    os = _add(domain, "os")
    _add(os, "type", os_type, arch="x86_64", machine=machine)
    _add(os, "kernel", config.kernel)
    if config.initrd:
        _add(os, "initrd", config.initrd)
    if config.cmdline:
        _add(os, "cmdline", config.cmdline)
    _add(domain, "clock", offset="utc")
    # An ended domain stays, with its reason to be read, until the caller destroys it.
    _add(domain, "on_poweroff", "preserve")
    _add(domain, "on_reboot", "restart" if config.restart_on_reboot else "preserve")
    _add(domain, "on_crash", "preserve")
    devices = _add(domain, "devices")
    for disk in config.disks:
        _add_disk(devices, disk)
    for interface in config.interfaces:
        vif = _add(devices, "interface", type="bridge")
        _add(vif, "mac", address=interface.mac)
        _add(vif, "source", bridge=interface.bridge)
    console = _add(devices, "console", type="pty")
    _add(console, "target", type="xen", port="0")
    return ET.tostring(domain, encoding="unicode")


def from_xml(xml: str) -> DomainConfig:
    """The configuration that `to_xml` made this of, also after libvirt has filled in what it adds.

    Raises:
        InvalidConfig: not a domain that `to_xml` can have made.
    """
    try:
        domain = ET.fromstring(xml)
        metadata = domain.find(f"metadata/{{{METADATA_URI}}}domain")
        found = None if metadata is None else _owner_and_note(metadata)
        if metadata is None or found is None:
            raise InvalidConfig("the domain's XML says no owner")
        weight, cap = _share(metadata) or (DEFAULT_WEIGHT, DEFAULT_CAP)
        vcpu = _child(domain, "vcpu")
        os = _child(domain, "os")
        max_vcpus = int(vcpu.text or "")
        return DomainConfig(
            uuid=_text(domain, "uuid"),
            name=_text(domain, "name"),
            owner=found[0],
            note=found[1],
            type=_type(_child(os, "type")),
            kernel=_text(os, "kernel"),
            initrd=os.findtext("initrd", ""),
            cmdline=os.findtext("cmdline", ""),
            max_vcpus=max_vcpus,
            vcpus=int(vcpu.get("current", max_vcpus)),
            affinity=vcpu.get("cpuset", ""),
            max_memory_kib=int(_text(domain, "memory")),
            memory_kib=int(_text(domain, "currentMemory")),
            weight=weight,
            cap=cap,
            disks=tuple(_disk(element) for element in domain.findall("devices/disk")),
            interfaces=tuple(_interface(element) for element in domain.findall("devices/interface")),
            restart_on_reboot=_text(domain, "on_reboot") == "restart",
        )
    except (ET.ParseError, KeyError, ValueError) as error:
        raise InvalidConfig(f"not a domain of ours: {error!r}") from error


def share(xml: str) -> tuple[int, int] | None:
    """The weight and cap that a domain was given with this XML; None: it has Xen's own."""
    metadata = ET.fromstring(xml).find(f"metadata/{{{METADATA_URI}}}domain")
    return None if metadata is None else _share(metadata)


def _share(metadata: ET.Element) -> tuple[int, int] | None:
    scheduler = metadata.find("{*}scheduler")
    return None if scheduler is None else (int(scheduler.attrib["weight"]), int(scheduler.attrib["cap"]))


def parse_affinity(text: str) -> set[int]:
    """The CPUs of a cpuset as libvirt reads it: numbers and ranges in order, ^ takes one out again.

    Raises:
        InvalidConfig: not a cpuset.
    """
    cpus: set[int] = set()
    for part in text.split(","):
        match = _CPUS.fullmatch(part.strip())
        if match is None:
            raise InvalidConfig(f"affinity {text!r}: {part.strip()!r} is neither a CPU nor a range of them")
        if match["out"]:
            cpus.discard(int(match["out"]))
            continue
        first, last = int(match["first"]), int(match["last"] or match["first"])
        if first > last:
            raise InvalidConfig(f"affinity {text!r}: {part.strip()!r} goes down")
        cpus.update(range(first, last + 1))
    return cpus


def parse_metadata(xml: str) -> tuple[Owner, str] | None:
    """Owner and note out of the metadata element as libvirt gives it (it drops the namespace); None: not ours."""
    try:
        return _owner_and_note(ET.fromstring(xml))
    except ET.ParseError:
        return None


def _owner_and_note(metadata: ET.Element) -> tuple[Owner, str] | None:
    try:
        owner = Owner(metadata.attrib["namespace"], metadata.attrib["name"], metadata.attrib["uid"])
    except KeyError:
        return None
    return owner, metadata.findtext("{*}note", "")


def _add_metadata(domain: ET.Element, config: DomainConfig) -> None:
    owner = config.owner
    ours = _add(_add(domain, "metadata"), f"{{{METADATA_URI}}}domain", namespace=owner.namespace, name=owner.name, uid=owner.uid)
    if config.note:
        _add(ours, f"{{{METADATA_URI}}}note", config.note)
    if (config.weight, config.cap) != (DEFAULT_WEIGHT, DEFAULT_CAP):
        # libvirt's XML has no place for them in a Xen domain; the driver sets them once the domain is there.
        _add(ours, f"{{{METADATA_URI}}}scheduler", weight=str(config.weight), cap=str(config.cap))


def _add_disk(devices: ET.Element, disk: DiskConfig) -> None:
    """A file goes through QEMU's backend (qdisk), a block device straight to the kernel's (phy). The format is
    always told: a guest that writes a qcow2 header onto its raw disk must not gain anything by it."""
    kind = "block" if disk.block_device else "file"
    element = _add(devices, "disk", type=kind, device="disk")
    _add(element, "driver", name="phy" if disk.block_device else "qemu", type="raw")
    _add(element, "source", **{"dev" if disk.block_device else "file": disk.path})
    _add(element, "target", dev=disk.target, bus="xen")
    if disk.read_only:
        _add(element, "readonly")


def _disk(element: ET.Element) -> DiskConfig:
    block = element.get("type") == "block"
    return DiskConfig(
        path=_child(element, "source").attrib["dev" if block else "file"],
        target=_child(element, "target").attrib["dev"],
        read_only=element.find("readonly") is not None,
        block_device=block,
    )


def _interface(element: ET.Element) -> InterfaceConfig:
    return InterfaceConfig(mac=_child(element, "mac").attrib["address"], bridge=_child(element, "source").attrib["bridge"])


def _type(element: ET.Element) -> DomainType:
    for kind, words in _TYPES.items():
        if words == (element.get("machine"), element.text):
            return kind
    raise ValueError(f"machine {element.get('machine')!r}")


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _child(element: ET.Element, tag: str) -> ET.Element:
    child = element.find(tag)
    if child is None:
        raise ValueError(f"no <{tag}>")
    return child


def _text(element: ET.Element, tag: str) -> str:
    return _child(element, tag).text or ""


def _check_text(config: DomainConfig) -> None:
    lines = {
        "name": config.name,
        "kernel": config.kernel,
        "initrd": config.initrd,
        "cmdline": config.cmdline,
        "affinity": config.affinity,
        "owner": config.owner.namespace + config.owner.name + config.owner.uid,
        **{f"disk {disk.target}": disk.path + disk.target for disk in config.disks},
        **{f"interface {vif.mac}": vif.mac + vif.bridge for vif in config.interfaces},
    }
    for field, text in lines.items():
        if match := _NOT_A_LINE.search(text):
            raise InvalidConfig(f"{field} holds the character {match[0]!r}")
    if match := _NOT_A_TEXT.search(config.note):
        raise InvalidConfig(f"note holds the character {match[0]!r}")
