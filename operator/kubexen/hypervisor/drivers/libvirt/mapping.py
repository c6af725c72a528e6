"""From libvirt's errors to the tree of `hypervisor/errors.py`: by code, libvirt's text is kept.

connection.py calls it for every failed call, platform.py for a failed start. What is in neither table below is an error
that a newer libvirt has added: it becomes Failed, and the unit test that walks libvirt's codes names it.
"""

from __future__ import annotations

import libvirt

from kubexen.hypervisor.errors import (
    AlreadyExists,
    Busy,
    Failed,
    HypervisorError,
    InvalidConfig,
    NoMemory,
    NotFound,
    TimedOut,
    Unreachable,
    Unsupported,
    WrongState,
)

BY_NAME: dict[str, type[HypervisorError]] = {
    # The daemon, or the way to it.
    "NO_CONNECT": Unreachable,
    "INVALID_CONN": Unreachable,
    "NO_CLIENT": Unreachable,
    "NO_SERVER": Unreachable,
    "RPC": Unreachable,
    "GNUTLS_ERROR": Unreachable,
    "SSH": Unreachable,
    "LIBSSH": Unreachable,
    "UNKNOWN_HOST": Unreachable,
    "NO_HOSTNAME": Unreachable,
    "AUTH_FAILED": Unreachable,
    "AUTH_CANCELLED": Unreachable,
    "AUTH_UNAVAILABLE": Unreachable,
    # The domain.
    "NO_DOMAIN": NotFound,
    "INVALID_DOMAIN": NotFound,
    "NO_DOMAIN_METADATA": NotFound,
    "NO_DEVICE": NotFound,
    "DEVICE_MISSING": NotFound,
    "DOM_EXIST": AlreadyExists,
    "OPERATION_INVALID": WrongState,
    "RESOURCE_BUSY": Busy,
    "OPERATION_TIMEOUT": TimedOut,
    "NO_MEMORY": NoMemory,
    # What was asked for.
    "INVALID_ARG": InvalidConfig,
    "INVALID_MAC": InvalidConfig,
    "XML_ERROR": InvalidConfig,
    "XML_DETAIL": InvalidConfig,
    "XML_INVALID_SCHEMA": InvalidConfig,
    "OS_TYPE": InvalidConfig,
    "NO_KERNEL": InvalidConfig,
    "NO_ROOT": InvalidConfig,
    "NO_SOURCE": InvalidConfig,
    "NO_TARGET": InvalidConfig,
    "NO_NAME": InvalidConfig,
    "NO_OS": InvalidConfig,
    "DRIVER_FULL": InvalidConfig,
    "OVERFLOW": InvalidConfig,
    # What this host can do.
    "NO_SUPPORT": Unsupported,
    "CONFIG_UNSUPPORTED": Unsupported,
    "ARGUMENT_UNSUPPORTED": Unsupported,
    "OPERATION_UNSUPPORTED": Unsupported,
    "CPU_INCOMPATIBLE": Unsupported,
    "NO_XEN": Unsupported,
    "CALL_FAILED": Unsupported,  # 'not supported by the connection driver'
    "OPERATION_DENIED": Unsupported,  # a read-only connection
    "ACCESS_DENIED": Unsupported,
}

# Networks, storage, secrets, snapshots, node devices, and what only other hypervisors' drivers raise: Failed.
NOT_OURS = frozenset(
    {
        "OK",
        "INTERNAL_ERROR",
        "SYSTEM_ERROR",
        "OPERATION_FAILED",
        "OPERATION_ABORTED",
        "XEN_CALL",
        "NO_XENSTORE",
        "GET_FAILED",
        "POST_FAILED",
        "HTTP_ERROR",
        "SEXPR_SERIAL",
        "OPEN_FAILED",
        "READ_FAILED",
        "PARSE_FAILED",
        "CONF_SYNTAX",
        "WRITE_FAILED",
        "INVALID_NETWORK",
        "NETWORK_EXIST",
        "NO_NETWORK",
        "BUILD_FIREWALL",
        "INVALID_NETWORK_PORT",
        "NETWORK_PORT_EXIST",
        "NO_NETWORK_PORT",
        "INVALID_STORAGE_POOL",
        "INVALID_STORAGE_VOL",
        "NO_STORAGE_POOL",
        "NO_STORAGE_VOL",
        "STORAGE_POOL_BUILT",
        "STORAGE_PROBE_FAILED",
        "STORAGE_VOL_EXIST",
        "INVALID_NODE_DEVICE",
        "NO_NODE_DEVICE",
        "NO_SECURITY_MODEL",
        "INVALID_INTERFACE",
        "NO_INTERFACE",
        "MULTIPLE_INTERFACES",
        "INVALID_NWFILTER",
        "NO_NWFILTER",
        "INVALID_NWFILTER_BINDING",
        "NO_NWFILTER_BINDING",
        "INVALID_SECRET",
        "NO_SECRET",
        "INVALID_DOMAIN_SNAPSHOT",
        "NO_DOMAIN_SNAPSHOT",
        "SNAPSHOT_REVERT_RISKY",
        "INVALID_DOMAIN_CHECKPOINT",
        "NO_DOMAIN_CHECKPOINT",
        "CHECKPOINT_INCONSISTENT",
        "NO_DOMAIN_BACKUP",
        "INVALID_STREAM",
        "HOOK_SCRIPT_FAILED",
        "MIGRATE_PERSIST_FAILED",
        "MIGRATE_UNSAFE",
        "MIGRATE_FINISH_OK",
        "BLOCK_COPY_ACTIVE",
        "AGENT_UNRESPONSIVE",
        "AGENT_UNSYNCED",
        "DBUS_SERVICE",
        "MULTIPLE_DOMAINS",
    }
)

_BY_CODE = {getattr(libvirt, f"VIR_ERR_{name}"): error for name, error in BY_NAME.items() if hasattr(libvirt, f"VIR_ERR_{name}")}

# A connection that breaks in the middle of a call says so as an internal or a system error of these parts of libvirt.
_TRANSPORTS = (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE, libvirt.VIR_FROM_STREAMS)
_BREAKS = (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR)

# libvirt has no codes for these; the texts are of its libxl driver.
_BY_TEXT: tuple[tuple[str, type[HypervisorError]], ...] = (
    ("state change lock", Busy),  # another job holds the domain, nothing was begun
    ("failed to balloon", NoMemory),
    ("not enough free memory", NoMemory),
    ("failed to free memory", NoMemory),
    ("already exists with uuid", AlreadyExists),
    ("is already defined with uuid", AlreadyExists),
    ("is already active", AlreadyExists),
    ("is already being started", AlreadyExists),
    ("client socket is closed", Unreachable),
    ("unsupported flags", Unsupported),
)


def translate(error: libvirt.libvirtError, act: str, cause: str = "") -> HypervisorError:
    """The error of ours for libvirt's `error`, which `act` (as in 'create web') met; `cause`: what else is known."""
    message = str(error.get_error_message() or error)
    if cause:
        message = f"{message} ({cause})"
    return _kind(error.get_error_code(), error.get_error_domain(), message)(f"{act}: {message}")


def _kind(code: int | None, source: int | None, message: str) -> type[HypervisorError]:
    for text, kind in _BY_TEXT:
        if text in message:
            return kind
    if source in _TRANSPORTS and code in _BREAKS:
        return Unreachable
    return _BY_CODE.get(code, Failed)
