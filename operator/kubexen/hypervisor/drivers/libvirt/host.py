"""The host as `xl info` shows it, by either way to Xen, or as libvirt tells it. platform.py calls it."""

from __future__ import annotations

import uuid
from pathlib import Path

from kubexen.hypervisor.drivers.libvirt.connection import Connection
from kubexen.hypervisor.drivers.libvirt.lowlevel import Commands, LowLevel
from kubexen.hypervisor.port import HostInfo

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CPU_INFO = Path("/proc/cpuinfo")

_PROCESS_ID = str(uuid.uuid4())


def host_by_xc(connection: Connection, xen: LowLevel) -> HostInfo:
    physical, about, dom0 = xen.physinfo(), xen.xeninfo(), xen.domain_getinfo(0, 1)[0]
    return HostInfo(
        boot_id=BOOT_ID.read_text().strip(),
        hypervisor_version=f"{about['xen_major']}.{about['xen_minor']}{about['xen_extra']}",
        toolstack_version=_toolstack(connection),
        driver=connection.uri,
        flags_source="xc",
        cpus=physical["nr_cpus"],
        cpu_model=cpu_model(CPU_INFO.read_text()),
        threads_per_core=physical["threads_per_core"],
        cores_per_socket=physical["cores_per_socket"],
        nodes=physical["nr_nodes"],
        total_memory_kib=physical["total_memory"],
        free_memory_kib=physical["free_memory"],
        dom0_memory_kib=dom0["mem_kb"],
        scheduler=xen.scheduler(),
        capabilities=tuple(about["xen_caps"].split()),
        command_line=about.get("xen_commandline", ""),
    )


def host_by_xl(connection: Connection, commands: Commands) -> HostInfo:
    about = parse_xl_info(commands.run("xl", "info"))
    dom0 = commands.run("xl", "list", "0").splitlines()[1].split()
    return HostInfo(
        boot_id=BOOT_ID.read_text().strip(),
        hypervisor_version=about["xen_version"],
        toolstack_version=_toolstack(connection),
        driver=connection.uri,
        flags_source="xl",
        cpus=int(about["nr_cpus"]),
        cpu_model=cpu_model(CPU_INFO.read_text()),
        threads_per_core=int(about["threads_per_core"]),
        cores_per_socket=int(about["cores_per_socket"]),
        nodes=int(about["nr_nodes"]),
        total_memory_kib=int(about["total_memory"]) * 1024,
        free_memory_kib=int(about["free_memory"]) * 1024,
        dom0_memory_kib=int(dom0[2]) * 1024,
        scheduler=about["xen_scheduler"],
        capabilities=tuple(about["xen_caps"].split()),
        command_line=about.get("xen_commandline", ""),
    )


def host_by_libvirt(connection: Connection) -> HostInfo:
    """For drivers with no Xen below. Their domains end with this process, so an id of its own stands for the boot's;
    they take no memory either, so all of it counts as free."""
    with connection.calls("look at the host") as conn:
        model, memory_mib, cpus, _, nodes, _, cores, threads = conn.getInfo()
        version = conn.getVersion()
    return HostInfo(
        boot_id=_PROCESS_ID,
        hypervisor_version=_dotted(version),
        toolstack_version=_toolstack(connection),
        driver=connection.uri,
        flags_source="libvirt",
        cpus=cpus,
        cpu_model=model,
        threads_per_core=threads,
        cores_per_socket=cores,
        nodes=nodes,
        total_memory_kib=memory_mib * 1024,
        free_memory_kib=memory_mib * 1024,
        dom0_memory_kib=0,
        scheduler="",
    )


def parse_xl_info(text: str) -> dict[str, str]:
    """The `key : value` lines of `xl info`."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def cpu_model(cpuinfo: str) -> str:
    """The first `model name` of /proc/cpuinfo."""
    return parse_xl_info(cpuinfo.split("\n\n", 1)[0]).get("model name", "")


def _toolstack(connection: Connection) -> str:
    with connection.calls("ask libvirt's version") as conn:
        return f"libvirt {_dotted(conn.getLibVersion())}"


def _dotted(version: int) -> str:
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
