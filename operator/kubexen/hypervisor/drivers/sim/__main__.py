"""`python -m kubexen.hypervisor.drivers.sim DIRECTORY COMMAND`: a simulated host's xl, and its guests' hands.

For the demo and for playing by hand; it must exist (a driver makes it when it opens it).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kubexen.hypervisor.drivers.sim.host import SimHost
from kubexen.hypervisor.drivers.sim.store import FILE
from kubexen.hypervisor.errors import HypervisorError

_BY_NAME = {
    "poweroff": (SimHost.guest_poweroff, "the guest powers off"),
    "reboot": (SimHost.guest_reboot, "the guest reboots"),
    "crash": (SimHost.guest_crash, "the guest crashes"),
    "ignore-shutdown": (SimHost.ignore_shutdown, "the guest does not answer shutdown requests any more"),
    "destroy": (SimHost.xl_destroy, "xl destroy"),
    "pause": (SimHost.xl_pause, "xl pause"),
    "unpause": (SimHost.xl_unpause, "xl unpause"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kubexen.hypervisor.drivers.sim", description="A simulated Xen host."
    )
    parser.add_argument("directory", type=Path)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="xl list")
    for name, (_, text) in _BY_NAME.items():
        commands.add_parser(name, help=text).add_argument("name")
    create = commands.add_parser("create", help="a domain of somebody else, as if by xl create")
    create.add_argument("name")
    create.add_argument("mib", type=int, nargs="?", default=128)
    commands.add_parser("reboot-host", help="the machine reboots")
    setting = commands.add_parser("set", help="change the machine: memory 2Gi, create_ms 5000, ...")
    setting.add_argument("setting")
    setting.add_argument("value")
    fail = commands.add_parser("fail", help="the next such call of a driver fails")
    fail.add_argument("call")
    fail.add_argument("error", help="NoMemory, TimedOut, ...")
    latency = commands.add_parser("latency", help="such calls take longer")
    latency.add_argument("call")
    latency.add_argument("ms", type=int)
    commands.add_parser("calls", help="the acts that drivers were asked for")
    commands.add_parser("reset", help="forget all domains, calls, faults and changes")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; 1 and a line on stderr if the host refuses it."""
    args = _parser().parse_args(argv)
    if not (args.directory / FILE).exists():
        print(f"{args.directory} is no simulated host", file=sys.stderr)
        return 1
    with SimHost(args.directory) as host:
        try:
            _run(host, args)
        except HypervisorError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
    return 0


def _run(host: SimHost, args: argparse.Namespace) -> None:
    if args.command in _BY_NAME:
        _BY_NAME[args.command][0](host, args.name)
    elif args.command == "list":
        print(host.xl_list())
    elif args.command == "create":
        host.xl_create_unmanaged(args.name, args.mib * 1024)
    elif args.command == "reboot-host":
        host.reboot_host()
    elif args.command == "set":
        host.set(**{args.setting: args.value})
    elif args.command == "fail":
        host.fail_next(args.call, args.error)
    elif args.command == "latency":
        host.set_latency(args.call, args.ms)
    elif args.command == "calls":
        for call in host.calls():
            print(f"{call.at:.3f} {call.name} {call.uuid}")
    elif args.command == "reset":
        host.reset()


if __name__ == "__main__":
    sys.exit(main())
