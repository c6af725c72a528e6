"""The command `python -m hack.cluster up|down|env|status --state DIR`. All it does is in cluster.py."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from hack import guard
from hack.cluster.cluster import COMPONENTS, Cluster
from hack.cluster.process import ComponentFailed
from hack.tools.golang import BuildError


def up(cluster: Cluster) -> int:
    start = time.monotonic()
    cluster.start(survive=True)
    print(f"control plane ready in {time.monotonic() - start:.1f} s: {cluster.server}, KUBECONFIG={cluster.kubeconfig}")
    return 0


def down(cluster: Cluster, options: argparse.Namespace) -> int:
    guard.wait(options)
    cluster.stop(delete=options.delete)
    return 0


def env(cluster: Cluster) -> int:
    if not cluster.kubeconfig.exists():
        print(f"error: there is no cluster in {cluster.state}", file=sys.stderr)
        return 1
    for name, value in cluster.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def status(cluster: Cluster) -> int:
    healthy = True
    for name in COMPONENTS:
        pid = cluster.pid(name)
        state = "stopped" if pid is None else "healthy" if cluster.healthy(name) else "not healthy"
        healthy = healthy and state == "healthy"
        print(f"{name:25} {state:12} {pid or ''}".rstrip())
    return 0 if healthy else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help in {
        "up": "start a control plane, or what is missing of it; it keeps running",
        "down": "end its processes",
        "env": "print what a shell needs to use it: eval the output",
        "status": "show its components; the exit code is 0 when all are healthy",
    }.items():
        command = commands.add_parser(name, help=help)
        command.add_argument("--state", type=Path, required=True, help="its folder: data, logs, kubeconfig, audit.log")
        if name == "up":
            command.add_argument("--node-monitor-grace-period", type=int, metavar="S", help="default: 40 seconds")
        if name == "down":
            command.add_argument("--delete", action="store_true", help="delete the folder too")
            guard.add_option(command)
    options = parser.parse_args()
    try:
        if options.command == "up":
            return up(Cluster(options.state, node_monitor_grace_period=options.node_monitor_grace_period))
        cluster = Cluster(options.state)
        if options.command == "down":
            return down(cluster, options)
        return {"env": env, "status": status}[options.command](cluster)
    except (BuildError, ComponentFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
