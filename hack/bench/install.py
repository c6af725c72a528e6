"""`helm install` to the first domain Ready, on one real Xen host whose dom0 is a real node, with the image there.

Called by __main__.py (`make bench-install`), and by the tests of an install, on two hosts. The host's CPU is emulated, so the time
that Python takes to import the agent there, and Xen to create the domain, is measured as well and taken off.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hack.bench import xen
from hack.stack import guest
from hack.stack.stack import AGENTS, ROOT, WAIT, Stack

PATIENCE = 2 * WAIT
"""Seconds that the domain may take, and before it the node."""
IDLE = "awk '/^cpu / {print $5}' /proc/stat"
AT_REST = f"idle=$({IDLE}); sleep 10; [ $(($({IDLE}) - idle)) -ge 500 ]"
"""In hundredths of a second: for half of the time nothing wanted dom0's one CPU."""


def measure(stack: Stack) -> dict[str, Any]:
    """Install the chart on nodes that have nothing of Kubexen but its image."""
    assert stack.lab is not None
    (host,) = stack.lab.hosts
    host.until(AT_REST, PATIENCE)  # its kubelet has just started; an administrator's has run for days
    begin = datetime.now(UTC)
    install(stack)
    stack.apply(guest.manifest())
    stack.wait_reason(guest.NAME, "Running", PATIENCE)
    figures = {"ready_s": (datetime.now(UTC) - begin).total_seconds(), **steps(stack, begin, guest.NAME)}
    figures["virsh_create_s"] = xen.virsh_create(host, xen.description(host, guest.XL_NAME))
    figures["net_s"] = figures["ready_s"] - figures["import_s"] - figures["virsh_create_s"]
    return {name: round(value, 1) for name, value in figures.items()}


def install(stack: Stack) -> None:
    """What an administrator does once."""
    stack.install()
    stack.kubectl("apply", "-f", str(ROOT / "examples/tiny/network.yaml"))


def steps(stack: Stack, begin: datetime, domain: str) -> dict[str, float]:
    """Seconds from `begin` to each step of a first domain's start, as Kubernetes tells them, which leaves out what a second had
    begun; and what of them the agent's import took at the least."""
    status = stack.get("xd", domain)["status"]
    (agent,) = _pods(stack, AGENTS, f"spec.nodeName={status['nodeName']}")
    (anchor,) = (pod for pod in _pods(stack, xen.NAMESPACE) if pod["metadata"]["uid"] == status["anchorUID"])
    at = {
        "agent_runs_s": _runs_since(agent),
        "host_ready_s": _ready_since(stack.get("xhost", status["nodeName"])["status"]),
        "anchor_made_s": datetime.fromisoformat(anchor["metadata"]["creationTimestamp"]),
        "anchor_runs_s": _runs_since(anchor),
        "domain_ready_s": _ready_since(status),
    }
    log = stack.kubectl("logs", "-n", AGENTS, agent["metadata"]["name"], "--timestamps")
    imported = datetime.fromisoformat(log.split(maxsplit=1)[0])  # when it can say something
    return {name: (when - begin).total_seconds() for name, when in at.items()} | {
        "import_s": (imported - at["agent_runs_s"]).total_seconds() - 1
    }


def _pods(stack: Stack, namespace: str, field_selector: str = "") -> list[dict[str, Any]]:
    path = f"/api/v1/namespaces/{namespace}/pods"
    return list(stack.cluster.api.get(path, fieldSelector=field_selector)["items"])


def _runs_since(pod: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"])


def _ready_since(status: dict[str, Any]) -> datetime:
    return next(datetime.fromisoformat(c["lastTransitionTime"]) for c in status["conditions"] if c["type"] == "Ready")
