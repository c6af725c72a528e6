"""`python -m hack.xenlab`: the lab by hand, and for scripts that are not Python."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from hack import guard, needs
from hack.progress import step
from hack.xenlab.build import BuildError, build, debian_guest
from hack.xenlab.host import HostError
from hack.xenlab.lab import Lab


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m hack.xenlab", description=__doc__)
    here = Path("build/xenlab")
    parser.add_argument("--state", type=Path, default=here, help="the lab's folder (default: %(default)s)")
    verbs = parser.add_subparsers(dest="verb", required=True)

    def verb(name: str, text: str, *positional: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        # After the verb too; SUPPRESS keeps a value that was given before it.
        sub.add_argument("--state", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        for argument in positional:
            sub.add_argument(argument)
        return sub

    making = verb("build", "build the hosts' and guests' images, where they are missing")
    making.add_argument("--debian-guest", action="store_true", help="and the disk of a Debian guest with cloud-init")
    up = verb("up", "power on every host of the lab that is off")
    up.add_argument("--nodes", type=int, default=2, help="hosts of a new lab (default: %(default)s)")
    up.add_argument("--memory", help="of each host of a new lab, its dom0's 1536M included (default: 3584M)")
    up.add_argument("--cpus", type=int, help="of each host of a new lab (default: 1)")
    verb("wait", "wait until every host is ready")
    down = verb("down", "power off every host and remove its disks")
    guard.add_option(down)
    verb("list", "show the hosts")
    verb("start", "power on one host", "host")
    verb("stop", "pull the plug of one host", "host")
    verb("reboot", "pull the plug of one host, boot it again and wait for it", "host")
    verb("ssh", "run a command, or a shell, in a dom0", "host").add_argument("command", nargs=argparse.REMAINDER)
    verb("put", "copy a file or folder to a path in a dom0", "host", "source", "target")
    verb("get", "copy a file or folder from a dom0 to a path here", "host", "source", "target")
    console = verb("console", "show the end of a host's console, or of a guest's", "host")
    console.add_argument("domain", nargs="?", help="the guest's domain name")
    console.add_argument("-n", "--lines", type=int, default=80)
    verb("type", "type a command into a guest's console: poweroff, reboot, crash, ...", "host", "domain", "command")
    agent = verb("install-agent", "put the agent into a dom0 and start it", "host", "kubeconfig")
    agent.add_argument("--source", default="operator", help="the folder with kubexen/ (default: %(default)s)")
    agent.add_argument("--args", default="", help="more arguments for the agent")
    log = verb("agent-log", "show the end of the agent's journal", "host")
    log.add_argument("-n", "--lines", type=int, default=100)
    return parser


def run(options: argparse.Namespace) -> int:
    """Carry out one verb."""
    if options.verb == "build":
        print(build().path)
        if options.debian_guest:
            print(debian_guest())
        return 0
    lab = Lab(options.state)
    if options.verb == "up":
        lab = Lab(options.state, options.nodes, options.memory, options.cpus)
        with step(f"start {lab.state.nodes} hosts"):
            lab.start()
        return 0
    if options.verb == "down":
        guard.wait(options)
        lab.stop()
        return 0
    if not lab.exists:
        raise HostError(f"there is no lab in {lab.folder}: `up` makes one")
    if options.verb == "wait":
        lab.wait()
        return 0
    if options.verb == "list":
        for host in lab.hosts:
            print(host.name, "up" if host.alive else "off", host.address, f"127.0.0.1:{host.port('ssh')}")
        return 0
    host = lab.host(options.host)
    match options.verb:
        case "start" | "stop" | "reboot":
            getattr(host, options.verb)()
        case "ssh":
            return subprocess.run(host.ssh_command(*options.command)).returncode
        case "put" | "get":
            getattr(host, options.verb)(options.source, options.target)
        case "console" if options.domain:
            print(host.guest_console_tail(options.domain, options.lines))
        case "console":
            print(host.console_tail(options.lines))
        case "type":
            host.guest_run(options.domain, options.command)
        case "install-agent":
            host.install_agent(options.source, Path(options.kubeconfig).read_text(), options.args)
        case "agent-log":
            print(host.agent_log(options.lines))
    return 0


def main() -> int:
    """Failures that a person can act on are one message, without a traceback."""
    try:
        return run(arguments().parse_args())
    except (HostError, BuildError, needs.MissingTools, ValueError) as error:
        print(f"xenlab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
