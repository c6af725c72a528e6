"""DomainConfig to XML and back: alone, through libvirt, and with any text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubexen.hypervisor.drivers.libvirt.config import METADATA_URI, from_xml, parse_affinity, parse_metadata, to_xml
from kubexen.hypervisor.errors import InvalidConfig
from kubexen.hypervisor.port import DiskConfig, DomainConfig, DomainType, InterfaceConfig, Owner
from tests.unit.hypervisor_libvirt.builders import config, fresh

CASES = {
    "plain": {},
    "pvh": {"type": DomainType.PVH},
    "nothing optional": {"disks": (), "interfaces": ()},
    "boot": {"initrd": "/i", "cmdline": "root=/dev/xvda1 quiet 'a & b' <c> \"d\""},
    "affinity": {"affinity": "0-3,5,^1"},
    "weight": {"weight": 512},
    "cap": {"cap": 50},
    "preserved on reboot": {"restart_on_reboot": False},
    "note of many lines": {"note": "boot=1\n  <generation & 'all'>\tx\n"},
    "all vcpus": {"vcpus": 4, "max_vcpus": 4},
    "many disks": {"disks": tuple(DiskConfig(f"/d/{n}", f"xvd{n}") for n in "abcdef")},
    "two interfaces": {"interfaces": tuple(InterfaceConfig(f"00:16:3e:00:00:0{n}", f"br{n}") for n in range(2))},
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_round_trip(changes: dict[str, Any]) -> None:
    assert from_xml(to_xml(config(**changes))) == config(**changes)


@pytest.fixture(scope="module")
def conn() -> Iterator[Any]:
    conn = libvirt.open("test:///default")
    yield conn
    conn.close()


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_round_trip_through_libvirt(conn: Any, changes: dict[str, Any]) -> None:
    """libvirt accepts it, and what it fills in does not change what we read. It writes a cpuset its own way."""
    wanted = fresh(**changes)
    domain = conn.createXML(to_xml(wanted))
    try:
        found = from_xml(domain.XMLDesc())
        metadata = parse_metadata(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, METADATA_URI))
    finally:
        domain.destroy()
    assert found == dataclasses.replace(wanted, affinity={"0-3,5,^1": "0,2-3,5"}.get(wanted.affinity, wanted.affinity))
    assert metadata == (wanted.owner, wanted.note)


lines = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=30)
notes = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"], include_characters="\n\t"), max_size=100)


@given(name=lines, kernel=lines, cmdline=lines, owner=st.builds(Owner, lines, lines, lines), note=notes, bridge=lines)
def test_round_trip_of_any_text(name: str, kernel: str, cmdline: str, owner: Owner, note: str, bridge: str) -> None:
    wanted = config(
        name=name,
        kernel=kernel,
        cmdline=cmdline,
        owner=owner,
        note=note,
        interfaces=(InterfaceConfig("00:16:3e:00:00:01", bridge),),
    )
    assert from_xml(to_xml(wanted)) == wanted


@given(note=st.text())
def test_any_note_is_kept_or_refused(note: str) -> None:
    try:
        xml = to_xml(config(note=note))
    except InvalidConfig:
        return
    assert from_xml(xml).note == note


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a\nb"},
        {"cmdline": "a\x00b"},
        {"kernel": "/a\x1b"},
        {"note": "a\rb"},
        {"owner": Owner("n", "\x07", "u")},
        {"disks": (DiskConfig("/a\n", "xvda"),)},
        {"interfaces": (InterfaceConfig("00:16:3e:00:00:01", "br\ud800"),)},
    ],
    ids=str,
)
def test_characters_that_do_not_survive_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match="holds the character"):
        to_xml(config(**changes))


def test_an_ended_domain_stays() -> None:
    domain = ET.fromstring(to_xml(config()))
    assert [domain.findtext(key) for key in ("on_poweroff", "on_reboot", "on_crash")] == [
        "preserve",
        "restart",
        "preserve",
    ]
    assert ET.fromstring(to_xml(config(restart_on_reboot=False))).findtext("on_reboot") == "preserve"


def test_a_disk_format_is_never_probed() -> None:
    drivers = ET.fromstring(to_xml(config())).findall("devices/disk/driver")
    assert [(driver.get("name"), driver.get("type")) for driver in drivers] == [("qemu", "raw"), ("phy", "raw")]


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<domain/>",
        "not xml",
        to_xml(config()).replace("kubexen.dev/domain/1", "else.where/1"),
        to_xml(config()).replace("xenpv", "pc"),
    ],
)
def test_what_is_not_ours_is_refused(xml: str) -> None:
    with pytest.raises(InvalidConfig):
        from_xml(xml)


@pytest.mark.parametrize("xml", ["", "<domain/>", '<domain namespace="a" name="b"/>', "<domain"])
def test_metadata_that_names_no_owner(xml: str) -> None:
    assert parse_metadata(xml) is None


def test_frozen_fields_are_all_carried() -> None:
    """A field that is added to DomainConfig must be added to the XML, too: else it is lost in silence."""
    assert {field.name for field in dataclasses.fields(DomainConfig)} == {
        *("uuid", "name", "owner", "type", "kernel", "vcpus", "max_vcpus", "memory_kib", "max_memory_kib", "initrd"),
        *("cmdline", "affinity", "weight", "cap", "disks", "interfaces", "restart_on_reboot", "note"),
    }


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0", {0}), ("0-3,5,^1", {0, 2, 3, 5}), (" 1 , 2", {1, 2}), ("^1,1", {1}), ("1,^1", set())],
)
def test_affinity(text: str, cpus: set[int]) -> None:
    assert parse_affinity(text) == cpus


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "0,,1", "^1-2", "1.5", "1;2", "all", "999999", "3-1"])
def test_what_is_no_affinity(text: str) -> None:
    with pytest.raises(InvalidConfig, match="affinity"):
        parse_affinity(text)
