"""The cause of a failed start, out of libxl's log."""

from __future__ import annotations

from pathlib import Path

import libvirt

from kubexen.hypervisor.drivers.libvirt.libxllog import LibxlLog
from kubexen.hypervisor.drivers.libvirt.mapping import translate
from kubexen.hypervisor.errors import NoMemory
from tests.unit.hypervisor_libvirt.test_mapping import error_of

TIME = "2031-05-01 10:00:00.123+0000"
OLD = f"{TIME}: libxl: libxl_create.c:1921:domcreate_attach_devices: Domain 13:unable to add vif devices\n"
NEW = (
    f"{TIME}: xc: panic: xg_dom_core.c:689: xc_dom_find_loader: no loader found: Invalid kernel\n"
    f"{TIME}: libxl: libxl_dom.c:571:libxl__build_dom: xc_dom_parse_image failed\n"
    "{ not a message }\n"
    f"{TIME}: libxl: libxl_create.c:1640:domcreate_rebuild_done: Domain 14:cannot (re-)build domain: -3\n"
    f"{TIME}: libxl: libxl_create.c:1:f: and more\n"
)


def test_only_what_was_added_is_told(tmp_path: Path) -> None:
    path = tmp_path / "libxl-driver.log"
    path.write_text(OLD)
    log = LibxlLog(path)
    begin = log.end()
    assert log.since(begin) == ""
    path.write_text(OLD + NEW)
    assert log.since(begin) == (
        "no loader found: Invalid kernel; xc_dom_parse_image failed; Domain 14:cannot (re-)build domain: -3"
    )


def test_no_log(tmp_path: Path) -> None:
    log = LibxlLog(tmp_path / "none")
    assert (log.end(), log.since(0)) == (0, "")


def test_the_cause_is_in_the_message_and_may_tell_more() -> None:
    failed = error_of(libvirt.VIR_ERR_INTERNAL_ERROR, "libxenlight failed to create new domain 'web'")
    assert str(translate(failed, "create web", "no loader found")) == (
        "create web: libxenlight failed to create new domain 'web' (no loader found)"
    )
    assert type(translate(failed, "create web", "failed to balloon")) is NoMemory
