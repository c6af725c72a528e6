"""What Xen's own answers read as: a row of libxc's, and the text of `xl list -v` and `xl info`."""

from __future__ import annotations

import pytest

from kubexen.hypervisor.drivers.libvirt.devices import devices_of
from kubexen.hypervisor.drivers.libvirt.flags import Sample, XlProbe, sample_of_xc, samples_of_xl, shutdown_reason
from kubexen.hypervisor.drivers.libvirt.host import cpu_model, parse_xl_info
from kubexen.hypervisor.drivers.libvirt.lowlevel import Commands
from kubexen.hypervisor.errors import Failed, Unreachable
from kubexen.hypervisor.port import BackendState, DeviceState, Flags, ShutdownReason

UUID = "5f0c1c8e-6f35-4e0c-9a53-1d2f0b1c9f11"
ROW = {
    "domid": 7,
    "online_vcpus": 1,
    "max_vcpu_id": 3,
    "hvm": 0,
    "dying": 0,
    "crashed": 0,
    "shutdown": 0,
    "paused": 0,
    "blocked": 1,
    "running": 0,
    "mem_kb": 98300,
    "cpu_time": 123,
    "maxmem_kb": 99328,
    "ssidref": 0,
    "shutdown_reason": 0,
    "handle": list(bytes.fromhex(UUID.replace("-", ""))),
    "cpupool": 0,
}


def test_a_row_of_libxc() -> None:
    assert sample_of_xc(ROW, 98304, 131072) == Sample(
        uuid=UUID,
        domid=7,
        flags=Flags(blocked=True),
        memory_kib=98300,
        max_memory_kib=131072,
        vcpus_online=1,
        vcpus=4,
        memory_target_kib=98304,
    )


def test_a_domain_being_built_has_no_sizes_in_the_xenstore_yet() -> None:
    sample = sample_of_xc({**ROW, "blocked": 0, "paused": 1}, None, None)
    assert (sample.max_memory_kib, sample.memory_target_kib, str(sample.flags)) == (99328, None, "--p---")


@pytest.mark.parametrize(
    ("code", "crashed", "reason", "state"),
    [
        (0, 0, ShutdownReason.POWEROFF, "---s--"),
        (1, 0, ShutdownReason.REBOOT, "---s--"),
        (2, 0, ShutdownReason.SUSPEND, "---s--"),
        (3, 1, ShutdownReason.CRASH, "---sc-"),
        (4, 0, ShutdownReason.WATCHDOG, "---s--"),
        (5, 0, ShutdownReason.SOFT_RESET, "---s--"),
        (255, 0, ShutdownReason.UNKNOWN, "---s--"),
    ],
)
def test_an_ended_domain_says_why(code: int, crashed: int, reason: ShutdownReason, state: str) -> None:
    sample = sample_of_xc({**ROW, "blocked": 0, "shutdown": 1 - crashed, "crashed": crashed, "shutdown_reason": code}, 1, 1)
    assert (sample.shutdown_reason, str(sample.flags)) == (reason, state)
    assert shutdown_reason(code) is reason


def test_a_live_domain_gives_no_reason() -> None:
    assert sample_of_xc(ROW, 1, 1).shutdown_reason is None


def xl_list(*rows: tuple[str, int, int, int, str, str, str]) -> str:
    """The text of `xl list -v`."""
    head = f"{'Name':<40} {'ID':>5} {'Mem':>5} VCPUs\tState\tTime(s)   UUID                            Reason-Code"
    lines = [
        f"{name:<40} {domid:>5} {mib:>5} {vcpus:>5}     {state}  {1.5:>8.1f} {uuid} {reason:>8} {'-':>16}"
        for name, domid, mib, vcpus, state, uuid, reason in rows
    ]
    return "\n".join([f"{head}\tSecurity Label", *lines, ""])


XL_LIST = xl_list(
    ("Domain-0", 0, 1024, 1, "r-----", "00000000-0000-0000-0000-000000000000", "-"),
    ("shop.web", 7, 128, 2, "-b----", UUID, "-"),
    ("a name with spaces", 12, 96, 1, "---s--", UUID, "0"),
    ("shop.crash", 13, 96, 1, "---sc-", UUID, "3"),
)


def test_xl_list() -> None:
    samples = samples_of_xl(XL_LIST)
    assert [(s.domid, str(s.flags), s.shutdown_reason, s.memory_kib) for s in samples] == [
        (7, "-b----", None, 131072),
        (12, "---s--", ShutdownReason.POWEROFF, 98304),
        (13, "---sc-", ShutdownReason.CRASH, 98304),
    ]
    assert samples[0].uuid == UUID


class Tools(Commands):
    """A host's tools: what there is in its xenstore, by path."""

    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self._store = {f"/local/domain/{of[1:].replace('_', '/memory/')}": str(kib) for of, kib in sizes.items()}

    def run(self, *command: str) -> str:
        if command == ("xl", "list", "-v"):
            return XL_LIST
        tool, *paths = command
        assert tool == "xenstore-read"
        if missing := [path for path in paths if path not in self._store]:
            raise Unreachable(f"xenstore-read: couldn't read path {missing[0]}")
        return "".join(f"{self._store[path]}\n" for path in paths)


MIB = 1024


def test_by_xl_too_a_domain_has_the_maximum_and_the_target_of_its_memory() -> None:
    sizes = {f"d{domid}_{key}": kib * MIB for domid in (7, 12, 13) for key, kib in (("target", 130 + domid), ("static-max", 192))}
    samples = XlProbe(Tools(**sizes)).samples()
    assert [(s.domid, s.memory_target_kib, s.max_memory_kib) for s in samples] == [
        (7, 137 * MIB, 192 * MIB), (12, 142 * MIB, 192 * MIB), (13, 143 * MIB, 192 * MIB),
    ]  # fmt: skip


def test_by_xl_a_domain_that_has_gone_since_hides_no_other() -> None:
    samples = XlProbe(Tools(**{"d7_target": 160 * MIB, "d7_static-max": 192 * MIB})).samples()
    assert [(s.domid, s.memory_target_kib, s.max_memory_kib) for s in samples] == [
        (7, 160 * MIB, 192 * MIB), (12, None, 96 * MIB), (13, None, 96 * MIB),
    ]  # fmt: skip


def test_a_line_that_is_not_understood_is_not_skipped() -> None:
    with pytest.raises(Failed, match="xl list"):
        samples_of_xl(XL_LIST + "surprise\n")


def test_xl_info() -> None:
    about = parse_xl_info("host     : xen1\nxen_version   : 4.17.5\nxen_caps      : xen-3.0-x86_64 hvm-3.0-x86_32\n")
    assert about == {"host": "xen1", "xen_version": "4.17.5", "xen_caps": "xen-3.0-x86_64 hvm-3.0-x86_32"}


def test_cpu_model() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: A CPU @ 2.0GHz\n\nprocessor\t: 1\n") == "A CPU @ 2.0GHz"
    assert cpu_model("") == ""


class Store:
    """A xenstore as a dict of its leaves."""

    def __init__(self, leaves: dict[str, str]) -> None:
        self.leaves = leaves

    def read(self, path: str) -> str | None:
        return self.leaves.get(path)

    def ls(self, path: str) -> list[str]:
        return sorted({leaf[len(path) + 1 :].split("/")[0] for leaf in self.leaves if leaf.startswith(f"{path}/")})

    def write(self, path: str, value: str) -> None:
        self.leaves[path] = value

    def pause(self, domid: int) -> None:
        raise AssertionError("not asked for")

    unpause = pause


def test_devices() -> None:
    store = Store(
        {
            "/libxl/7/device/vbd/51712/backend": "/local/domain/0/backend/qdisk/7/51712",
            "/libxl/7/device/vbd/51712/dev": "xvda",
            "/local/domain/0/backend/qdisk/7/51712/state": "4",
            "/libxl/7/device/vbd/51728/backend": "/local/domain/0/backend/vbd/7/51728",
            "/libxl/7/device/vbd/51728/dev": "xvdb",
            "/local/domain/0/backend/vbd/7/51728/state": "2",
            "/libxl/7/device/vif/0/backend": "/local/domain/0/backend/vif/7/0",
            "/libxl/7/device/vbd/51744/backend": "/local/domain/0/backend/qdisk/7/51744",  # which is not there
            "/libxl/7/device/vbd/51744/dev": "xvdc",
            "/libxl/7/device/vif/0/mac": "00:16:3e:00:00:01",
            "/local/domain/0/backend/vif/7/0/state": "nonsense",
            "/libxl/8/device/vif/0/backend": "/local/domain/0/backend/vif/8/0",
        }
    )
    devices = devices_of(store, 7)
    assert devices.disks == (
        DeviceState("xvda", BackendState.CONNECTED),
        DeviceState("xvdb", BackendState.INIT_WAIT),
        DeviceState("xvdc", BackendState.UNKNOWN),
    )
    assert devices.interfaces == (DeviceState("00:16:3e:00:00:01", BackendState.UNKNOWN),)
    assert devices_of(store, 9).disks == ()


def test_a_build_that_never_ran() -> None:
    assert not sample_of_xc({**ROW, "cpu_time": 0}, 1, 1).ran
    assert sample_of_xc(ROW, 1, 1).ran
