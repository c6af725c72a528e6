"""`python -m hack.bench [sim|xen|install]`: figures, a table and an exit code.

sim (`make bench`): 500 domains at 10 a second on 20 simulated hosts. xen (`make bench-xen`): starts on one real host. install
(`make bench-install`): from `helm install` to a first domain on such a host. Each writes its figures as a file of build/bench,
and ends with 1 when one is outside of rangespec.yaml.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hack.bench import bounds, flags, install, xen
from hack.bench.cost import Memory, Requests, cpu_seconds, only_child
from hack.bench.load import DOMAINS, NAMESPACE, Load
from hack.cluster.cluster import COMPONENTS
from hack.stack.hosts import SimulatedHost
from hack.stack.stack import ROOT, Stack

OUTPUTS = {"sim": "start.json", "xen": "start-xen.json", "install": "install.json"}
SIM_OPTIONS = "cpus=64&memory=64Gi&create_ms=50"
FULL_LOOK = 30.0
CRASHES = 20
"""Of domains, when all of them run."""
PATIENCE = 120.0
"""Seconds that the last domain may take: a run that is far too slow is to end with figures, not with an error."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.bench", description=__doc__)
    parser.add_argument("bench", nargs="?", choices=OUTPUTS, default="sim")
    parser.add_argument("--nodes", type=int, default=20, help="simulated hosts")
    parser.add_argument("--domains", type=int, default=500, help="on simulated hosts")
    parser.add_argument("--rate", type=float, default=10.0, help="domains created a second")
    parser.add_argument("--rounds", type=int, default=7, help="starts on the real host (xen)")
    parser.add_argument("--output", type=Path, help="default: a file of build/bench")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kubexen-bench-") as folder:
        figures = run(Path(folder) / "stack", arguments)
    output = arguments.output or ROOT / "build/bench" / OUTPUTS[arguments.bench]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + "\n")
    if arguments.bench == "sim":
        show(figures)
    else:
        print(json.dumps(figures, indent=2))
    return judge(figures, arguments.bench)


def run(state: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Bring up what the bench is run on, and end it after it."""
    simulated = arguments.bench == "sim"
    nodes = arguments.nodes if simulated else 1
    stack = Stack(state, "sim" if simulated else "xen", nodes=nodes, sim_options=SIM_OPTIONS, full_look=FULL_LOOK,
                  kubelets=arguments.bench == "install")
    try:
        print(f"starting a control plane and its hosts: {nodes}", flush=True)
        if stack.kubelets:
            stack.start_nodes()
            return install.measure(stack)
        stack.start()
        return measure(stack, arguments.domains, arguments.rate) if simulated else xen.measure(stack, arguments.rounds)
    finally:
        stack.stop()


def measure(stack: Stack, domains: int, rate: float) -> dict[str, Any]:
    """Run the load on a stack that has just started."""
    controller = only_child(_pid(stack.controller.pid))  # a shell keeps it running
    agents = [_pid(host.agent.pid) for host in stack.hosts if isinstance(host, SimulatedHost)]
    idle = Memory.of(controller).now, _largest(agents)
    load = Load(stack.cluster, domains, rate)
    load.prepare()
    processes = {name: [_pid(stack.cluster.pid(name))] for name in COMPONENTS} | {
        "controller": [controller], "agents": agents, "bench": [os.getpid()]}
    used = {name: cpu_seconds(pids) for name, pids in processes.items()}
    mark, start = stack.cluster.audit_mark(), time.monotonic()
    print(f"creating {domains} domains, {rate:g} a second", flush=True)
    times = load.run(PATIENCE)
    _wait_for_anchors(stack, domains)
    elapsed = time.monotonic() - start
    requests = Requests.of(stack.cluster.audit(mark))
    crashes = flags.on_simulated_hosts(stack, DOMAINS, CRASHES)
    centiles = statistics.quantiles(times, n=100, method="inclusive")
    return {
        "domains": domains,
        "nodes": len(agents),
        "rate": round(load.achieved, 2),
        "p50_s": round(centiles[49], 3),
        "p95_s": round(centiles[94], 3),
        "p99_s": round(centiles[98], 3),
        "max_s": round(max(times), 3),
        "flags_p50_s": round(statistics.median(crashes), 3),
        "flags_max_s": round(max(crashes), 3),
        "writes_per_start": round(requests.writes() / domains, 3),
        "requests_per_start": requests.ours(domains),
        "requests_of_others_per_start": round(requests.others() / domains, 3),
        "controller_idle_mb": idle[0],
        "controller_peak_mb": Memory.of(controller).peak,
        "controller_after_mb": Memory.of(controller).now,
        "agent_idle_mb": idle[1],
        "agent_after_mb": _largest(agents),
        "cpu_ms_per_start": {
            name: round((cpu_seconds(pids) - used[name]) * 1000 / domains, 1) for name, pids in processes.items()
        },
        "seconds": round(elapsed, 1),
        "load_average": os.getloadavg()[0],
        "cpus": os.cpu_count(),
    }


def _wait_for_anchors(stack: Stack, domains: int) -> None:
    """That a domain is Ready is told to its anchor last; this write belongs to the start, too."""
    ready = set()
    for _, pod in stack.cluster.api.watch(f"/api/v1/namespaces/{NAMESPACE}/pods", PATIENCE):
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ())):
            ready.add(pod["metadata"]["name"])
        if len(ready) == domains:
            return
    raise RuntimeError(f"only {len(ready)} of {domains} anchors are Ready")


def show(figures: dict[str, Any]) -> None:
    """Print what has no bound."""
    print(f"\n{figures['domains']} domains, {figures['rate']:g} a second, on {figures['nodes']} hosts; "
          f"{figures['cpus']} cores, load average {figures['load_average']:.1f}")
    print(f"\nslowest: p99 {figures['p99_s']} s, max {figures['max_s']} s; "
          f"after it: controller {figures['controller_after_mb']} MB, agent {figures['agent_after_mb']} MB")
    print(_columns("CPU a start", "ms", figures["cpu_ms_per_start"]))
    print(_columns("API requests of ours, a start", "number", figures["requests_per_start"]))


def judge(figures: dict[str, Any], bench: str) -> int:
    """Print what has a bound; 1 when one is broken."""
    limits = bounds.load(bench)
    print("\n" + bounds.table(figures, limits))
    broken = [limit.name for limit in limits if limit.verdict(figures)]
    if broken:
        print(f"\noutside of {bounds.RANGESPEC.relative_to(ROOT)}: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def _columns(title: str, unit: str, values: dict[str, float]) -> str:
    return "\n".join([f"\n{title:<48}{unit:>10}", *(f"  {name:<46}{value:>10}" for name, value in values.items())])


def _largest(pids: Sequence[int]) -> float:
    return max(Memory.of(pid).now for pid in pids)


def _pid(pid: int | None) -> int:
    if pid is None:
        raise RuntimeError("a process of the stack has ended; its log is in the state folder")
    return pid


if __name__ == "__main__":
    sys.exit(main())
