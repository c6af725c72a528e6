"""Domains of a stack with real kubelets, and their anchors, as tests of this folder ask for them."""

from __future__ import annotations

from typing import Any

from hack.stack.stack import AGENTS, NAMESPACE, WAIT, Stack
from hack.xenlab.host import XenHost
from hack.xenlab.lab import Lab
from kubexen.api.names import DOMAIN_LABEL

PODS = "/api/v1/namespaces/default/pods"
CONTROLLER = "deployment/kubexen-controller"
WORKLOADS = {"daemonset/kubexen-agent": AGENTS, CONTROLLER: NAMESPACE}
"""All of Kubexen's, and their namespaces."""
SLOW = 2 * WAIT  # seconds that several things in a row may take


def where(stack: Stack, lab: Lab, name: str) -> tuple[XenHost, int]:
    """The host that a domain is on, and its domid."""
    status = stack.get("xd", name)["status"]
    return lab.host(status["nodeName"]), int(status["domid"])


def boot(host: XenHost, guest: str) -> str:
    """What tells one boot of a guest from another."""
    return host.guest_output(guest, "cat /proc/sys/kernel/random/boot_id")


def pods(stack: Stack, namespace: str, **labels: str) -> list[dict[str, Any]]:
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    return list(stack.cluster.api.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)["items"])


def anchors(stack: Stack, domain: str) -> list[dict[str, Any]]:
    return pods(stack, "default", **{DOMAIN_LABEL: domain})


def rolled_out(stack: Stack, *workloads: str) -> None:
    """Wait until these, or all of Kubexen's, are ready as they are to be."""
    for what in workloads or WORKLOADS:
        stack.kubectl("rollout", "status", what, "-n", WORKLOADS[what], f"--timeout={SLOW:.0f}s", timeout=SLOW + 30)
