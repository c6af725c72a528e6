"""Each error of libvirt's has its place in our tree."""

from __future__ import annotations

import libvirt
import pytest

from kubexen.hypervisor import errors
from kubexen.hypervisor.drivers.libvirt.mapping import BY_NAME, NOT_OURS, translate

LEVELS = {"NONE", "WARNING", "ERROR"}  # of severity, not errors
NAMES = sorted(name.removeprefix("VIR_ERR_") for name in dir(libvirt) if name.startswith("VIR_ERR_"))


def error_of(code: int, message: str = "it broke", domain: int = libvirt.VIR_FROM_LIBXL) -> libvirt.libvirtError:
    error = libvirt.libvirtError(message)
    error.err = (code, domain, message, libvirt.VIR_ERR_ERROR, None, None, None, -1, -1)
    return error


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LEVELS])
def test_every_code_is_mapped_or_listed(name: str) -> None:
    assert (name in BY_NAME) != (name in NOT_OURS), f"VIR_ERR_{name} is in none of the tables, or in both"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LEVELS])
def test_every_code_leaves_as_one_of_ours(name: str) -> None:
    ours = translate(error_of(getattr(libvirt, f"VIR_ERR_{name}")), "create web")
    assert type(ours) is BY_NAME.get(name, errors.Failed)
    assert str(ours) == "create web: it broke"


def test_the_tables_name_only_what_libvirt_has() -> None:
    assert not (set(BY_NAME) | NOT_OURS) - set(NAMES)


@pytest.mark.parametrize(
    ("code", "domain", "message", "expected"),
    [
        ("INTERNAL_ERROR", "RPC", "client socket is closed", errors.Unreachable),
        ("SYSTEM_ERROR", "RPC", "Cannot recv data: Connection reset by peer", errors.Unreachable),
        ("INTERNAL_ERROR", "RPC", "End of file while reading data", errors.Unreachable),
        ("SYSTEM_ERROR", "LIBXL", "Cannot open '/x': Permission denied", errors.Failed),
        ("INTERNAL_ERROR", "LIBXL", "libxenlight failed to create new domain 'web'", errors.Failed),
        ("INTERNAL_ERROR", "LIBXL", "libxenlight failed to free memory for domain 'web'", errors.NoMemory),
        ("OPERATION_TIMEOUT", "LIBXL", "Timed out during operation: cannot acquire state change lock", errors.Busy),
        ("OPERATION_TIMEOUT", "LIBXL", "something else took long", errors.TimedOut),
        ("OPERATION_FAILED", "DOMAIN", "domain 'web' already exists with uuid 5f", errors.AlreadyExists),
        ("OPERATION_INVALID", "DOMAIN", "domain is already active as 'web'", errors.AlreadyExists),
        ("OPERATION_INVALID", "DOMAIN", "domain 'web' is already being started", errors.AlreadyExists),
        ("OPERATION_INVALID", "LIBXL", "domain is not running", errors.WrongState),
        ("INVALID_ARG", "TEST", "unsupported flags (0x1) in function f", errors.Unsupported),
    ],
)
def test_what_a_code_alone_does_not_tell(code: str, domain: str, message: str, expected: type[Exception]) -> None:
    error = error_of(getattr(libvirt, f"VIR_ERR_{code}"), message, getattr(libvirt, f"VIR_FROM_{domain}"))
    assert type(translate(error, "act")) is expected


def test_a_code_of_a_newer_libvirt_is_failed() -> None:
    assert type(translate(error_of(9999), "act")) is errors.Failed


def test_real_errors() -> None:
    conn = libvirt.open("test:///default")
    with pytest.raises(libvirt.libvirtError) as caught:
        conn.lookupByName("nobody")
    assert type(translate(caught.value, "look")) is errors.NotFound
    with pytest.raises(libvirt.libvirtError) as caught:
        conn.createXML("<domain")
    assert type(translate(caught.value, "create")) is errors.InvalidConfig
    conn.close()


def test_an_error_without_details() -> None:
    assert type(translate(libvirt.libvirtError("gone"), "act")) is errors.Failed
