"""How a host is set up for domains, as far as only dom0 can tell: files of the host, and what Xen says of itself.

xenhost.py calls these every few seconds and tells the results on the XenHost (`status.checks`, the condition Healthy, Events);
`kubectl xen doctor` shows them. Each says how to mend what it found. Nothing here mends anything, and no text varies while the
host stays as it is: an idle host costs no write.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubexen.api.names import HOST_LABEL
from kubexen.api.xenhost import CheckResult, HostCheck, XenHostStatus
from kubexen.hypervisor.errors import HypervisorError
from kubexen.hypervisor.port import HostInfo

TESTED_XEN = ("4.17",)
"""What `make test` runs on."""

ENDERS = ("xendomains", "libvirt-guests")
"""Services that save or shut down every domain when they stop, and restore what they saved when the host boots."""

NO_XEN = "NoXen"

SHOW_ETC = "let the agent see the host's /etc, read-only, and tell it where with --etc"


@dataclass(frozen=True)
class Trouble:
    """What a person must know of the host. `key` is the same as long as it is the same trouble."""

    key: str
    reason: str
    message: str
    warning: bool = False


def look(etc: Path, info: HostInfo | None) -> list[HostCheck]:
    """All checks; without `info` (the hypervisor does not answer) those that need it are left out.

    `etc` is where this process sees the host's /etc; the distribution's units are looked for in usr/lib and lib beside it.
    """
    found = [_enders(etc)]
    if info is not None:
        fixed = dom0_memory(info.command_line)
        found += [fixed, _autoballoon(etc, given="dom0_mem=" in info.command_line), _version(info), _flags(info)]
    return found


def unreachable(root: Path, error: HypervisorError) -> tuple[str, str]:
    """Why the hypervisor does not answer, and how to mend it: reason and message of the condition Ready."""
    if not _is_xen(root):
        return NO_XEN, (
            "This host runs no Xen (/sys/hypervisor/type is not 'xen'). Boot its Xen entry (Debian: apt install xen-system-amd64, "
            f"and reboot), or take the label {HOST_LABEL} from its Node."
        )
    return error.reason, (
        f"{error}. Running domains run on. In dom0: systemctl restart libvirtd (or virtxend), journalctl -u libvirtd."
    )


def troubles(status: XenHostStatus) -> list[Trouble]:
    """Everything that is wrong with a host that answers, the worst first."""
    return sorted(_troubles(status), key=lambda trouble: trouble.warning)


def _troubles(status: XenHostStatus) -> Iterator[Trouble]:
    for network in status.networks:
        if not network.ready:
            yield Trouble(f"network/{network.name}", "BridgeMissing",
                          f"XenNetwork {network.name!r}: {_sentence(network.message, network.mend)}")
    for pool in status.pools:
        if not pool.ready:
            yield Trouble(f"pool/{pool.name}", "PoolUnusable",
                          f"XenStoragePool {pool.name!r}: {_sentence(pool.message, pool.mend)}")
    for check in status.checks:
        if check.result is not CheckResult.OK:
            yield Trouble(f"check/{check.name}", check.name, _sentence(check.message, check.mend),
                          check.result is CheckResult.WARNING)


def _sentence(message: str, mend: str | None) -> str:
    return f"{message}; {mend}." if mend else f"{message}."


def dom0_memory(command_line: str) -> HostCheck:
    """Whether dom0 has an amount of memory of its own: without it dom0 begins with all of it, and Kubexen has none to give."""
    name = "Dom0Memory"
    if not command_line:
        return HostCheck(name=name, result=CheckResult.WARNING, message="Xen's command line cannot be read: not checked",
                         mend="xl info shows it: dom0_mem with the same max: should be in it")
    size, most = _dom0_mem(command_line)
    how = "set GRUB_CMDLINE_XEN_DEFAULT=\"dom0_mem=2048M,max:2048M\" in /etc/default/grub, run update-grub and reboot"
    if size is None and most is None:
        return HostCheck(name=name, result=CheckResult.ERROR,
                         message="dom0's memory is not fixed: it begins with all of the host's, and guests have none",
                         mend=how)
    if most is None or size not in (None, most):
        return HostCheck(name=name, result=CheckResult.WARNING,
                         message="dom0's memory may change (dom0_mem without the same max:), and guests' with it",
                         mend=how)
    return HostCheck(name=name, result=CheckResult.OK, message=f"dom0 has {most}")


def _dom0_mem(command_line: str) -> tuple[str | None, str | None]:
    """Size and maximum of dom0_mem, in upper case; a later one counts."""
    size = most = None
    for value in re.findall(r"(?:^|\s)dom0_mem=(\S+)", command_line):
        for part in value.upper().split(","):
            if part.startswith("MAX:"):
                most = part.removeprefix("MAX:")
            elif not part.startswith("MIN:"):
                size = part
    return size, most


def _autoballoon(etc: Path, *, given: bool) -> HostCheck:
    """Whether a toolstack takes a domain's memory from dom0. `given`: dom0_mem is on the command line, which both take for 'no'."""
    name = "Autoballoon"
    if not (etc / "xen").is_dir():
        return HostCheck(name=name, result=CheckResult.WARNING, message="the host's /etc/xen cannot be seen: not checked",
                         mend=SHOW_ETC)
    asked = {
        "/etc/xen/xl.conf": _setting(etc / "xen/xl.conf", "autoballoon") or "auto",
        "/etc/libvirt/libxl.conf": _setting(etc / "libvirt/libxl.conf", "autoballoon") or "auto",
    }
    wrong = [file for file, value in asked.items() if value in ("on", "1") or (value == "auto" and not given)]
    if not wrong:
        return HostCheck(name=name, result=CheckResult.OK, message="no toolstack takes memory from dom0")
    return HostCheck(name=name, result=CheckResult.WARNING,
                     message=f"the toolstack takes memory from dom0 for a domain, past what Kubexen counts: autoballoon in "
                     f"{' and '.join(wrong)}",
                     mend='set it to "off" (xl.conf) and 0 (libxl.conf), and restart libvirtd')


def _setting(file: Path, name: str) -> str | None:
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return None
    found = re.findall(rf"^\s*{name}\s*=\s*[\"']?(\w+)", text, re.MULTILINE)
    return found[-1].lower() if found else None


def _enders(etc: Path) -> HostCheck:
    """Whether a service would end every domain behind the agent's back."""
    name = "Xendomains"
    if not (etc / "systemd").is_dir() and not (etc / "init.d").is_dir():
        return HostCheck(name=name, result=CheckResult.WARNING, message="the host's /etc cannot be seen: not checked",
                         mend=SHOW_ETC)
    enabled = [service for service in ENDERS if _starts_at_boot(etc, service)]
    if not enabled:
        return HostCheck(name=name, result=CheckResult.OK, message=f"{' and '.join(ENDERS)} do not start")
    units = " ".join(f"{service}.service" for service in enabled)
    return HostCheck(name=name, result=CheckResult.ERROR,
                     message=f"{' and '.join(enabled)} start at boot: they save or shut down every domain when they stop, and "
                     f"bring back what they saved, which may run elsewhere by then",
                     mend=f"systemctl mask {units} (and do not stop them)")


def _starts_at_boot(etc: Path, service: str) -> bool:
    unit = f"{service}.service"
    here = etc / "systemd/system" / unit
    if here.is_symlink() and here.readlink() == Path("/dev/null"):
        return False  # masked
    # by name: such a link points to a path of the host, which may be nothing here
    if any(os.path.lexists(folder / unit) for folder in (etc / "systemd/system").glob("*.wants")):
        return True
    folders = (etc / "systemd/system", etc.parent / "lib/systemd/system", etc.parent / "usr/lib/systemd/system")
    native = any((folder / unit).exists() for folder in folders)
    return not native and any(etc.glob(f"rc[2-5].d/S[0-9][0-9]{service}"))


def _version(info: HostInfo) -> HostCheck:
    version = info.hypervisor_version
    tested = any(version == known or version.startswith(f"{known}.") for known in TESTED_XEN)
    if tested or not info.driver.startswith(("xen", "sim")):
        return HostCheck(name="XenVersion", result=CheckResult.OK, message=f"Xen {version}")
    return HostCheck(name="XenVersion", result=CheckResult.WARNING,
                     message=f"this version of Kubexen was not tested on Xen {version}, only on {', '.join(TESTED_XEN)}",
                     mend="try it on a host that nobody needs, or install a Xen that was tested")


_SOURCES: Mapping[str, str] = {"xc": "by Xen's own library", "sim": "by the simulator"}


def _flags(info: HostInfo) -> HostCheck:
    source = info.flags_source
    if source in _SOURCES:
        return HostCheck(name="StateFlags", result=CheckResult.OK, message=f"domains are read {_SOURCES[source]}")
    return HostCheck(name="StateFlags", result=CheckResult.WARNING,
                     message=f"domains are read by {source!r} only, a hundred times slower and with less in it: Xen's own "
                     "Python bindings cannot be used",
                     mend="let the agent see the bindings of its host's Xen, for its Python; its log says what is wrong")


def _is_xen(root: Path) -> bool:
    try:
        return (root / "sys/hypervisor/type").read_text().strip() == "xen"
    except OSError:
        return False
