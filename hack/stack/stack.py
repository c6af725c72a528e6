"""One stack in one state folder: what is started, in which order, and how it is ended."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hack.cluster import kubelet
from hack.cluster.cluster import Cluster, KubectlError
from hack.cluster.nodeconfig import IMAGE
from hack.cluster.process import Process
from hack.guard import Guard
from hack.image import image
from hack.stack import chart, dom0
from hack.stack.hosts import ROOT, SimulatedHost, XenLabHost
from hack.xenlab import build
from hack.xenlab.lab import Lab

NAMESPACE, AGENTS = "kubexen-system", "kubexen-agents"
"""Where the chart puts the controller, and the agents."""
CONTROLLER, AGENT = "kubexen-controller", "kubexen-agent"
"""Their ServiceAccounts there."""
TOKEN_LASTS = "720h"
"""A stack that stays up needs a restart by then: nobody renews its tokens, as a kubelet does a pod's."""
WAIT = 240.0
"""Seconds that anything may take on a host whose CPU is emulated."""
AGAIN = """
trap exit TERM
while :; do "$@"; echo "$0 ended ($?): started again"; sleep 1; done
"""
"""A shell's program that does for the controller what its Deployment does: it ends when it has lost its lead."""
LOCAL = "local"
"""The node on this machine, for the controller."""
RELEASE = "kubexen"
XEN = {"kubexen.dev/xen": "true"}


class Stack:
    """`driver` is sim or xen. A folder that was started before keeps its driver and its number of hosts.

    With `kubelets` the dom0 of every lab host is a real node with the image, and all of Kubexen is what helm installs: agents are
    pods in the dom0s, the controller's run on a node of this machine, or in a dom0 where its rights allow none. Without, kwok
    stands for the nodes, and agents and the controller are processes. With `debian_guest` these dom0s have such a guest's disk, and
    every real node has `more_images` (archives) beside Kubexen's own.
    """

    def __init__(self, state: Path, driver: str = "xen", nodes: int = 2, *, sim_options: str = "",
                 full_look: float = 5.0, grace_period: int | None = None, kubelets: bool = False,
                 debian_guest: bool = False, more_images: Sequence[Path] = ()) -> None:
        self.state = state.resolve()
        settings = self.state / "stack.json"
        if settings.exists():
            found = json.loads(settings.read_text())
            driver, nodes, kubelets = found["driver"], found["nodes"], found["kubelets"]
        self.driver, self.nodes, self.kubelets = driver, nodes, kubelets
        self._debian_guest, self._more_images = debian_guest, more_images
        self._sim_options, self._full_look = sim_options, full_look
        grace = grace_period or (dom0.GRACE_SECONDS if kubelets else None)
        self.cluster = Cluster(self.state / "cluster", node_monitor_grace_period=grace)
        self._dom0_disk = self.state / "dom0.img"
        self.lab = self._lab() if driver == "xen" else None
        self.controller = Process("controller", self.state)
        self._guard = Guard("hack.stack", self.state)
        self.hosts: list[SimulatedHost] | list[XenLabHost] = []

    # --- its life

    def start(self, *, survive: bool = False) -> None:
        """Start whatever does not run; `survive`: it outlives this process."""
        if self.kubelets:
            self.start_nodes(survive=survive)
            self.install()
        else:
            self._start_processes(survive)
        for host in self.hosts:
            self.wait("xhost", host.name, "condition=Ready")

    def _start_processes(self, survive: bool) -> None:
        self._begin(survive)
        with ThreadPoolExecutor(2) as pool:
            lab = pool.submit(self._start_lab)
            self.cluster.start(survive=True)
            self._install_without_workloads()
            self.start_controller()
            lab.result()
        self.hosts = self._hosts()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._start_host, self.hosts))

    def stop(self) -> None:
        """End everything, whatever state it is in, and remove the state folder."""
        self.controller.stop()
        if self.driver == "sim":
            for host in self._hosts():
                host.stop_agent()
        if self.lab is not None:
            self.lab.stop()
        self.cluster.stop()
        self._guard.stop()
        shutil.rmtree(self.state, ignore_errors=True)

    def start_controller(self) -> None:
        config = self.state / "controller.kubeconfig"
        config.touch(mode=0o600)
        config.write_text(self._kubeconfig(self.cluster.service_account_token(NAMESPACE, CONTROLLER, duration=TOKEN_LASTS)))
        self.controller.start(
            ["sh", "-c", AGAIN, "controller", sys.executable, "-m", "kubexen.controller", "--kubeconfig", str(config)],
            {"PYTHONPATH": str(ROOT / "operator"), "TMPDIR": str(self.state)},  # the client writes certificates to files
        )

    def _begin(self, survive: bool) -> None:
        """Record what this is; a guard ends all of it with this process, unless it is to `survive`."""
        self.state.mkdir(parents=True, exist_ok=True)
        (self.state / "stack.json").write_text(json.dumps({"driver": self.driver, "nodes": self.nodes, "kubelets": self.kubelets}))
        if not survive:
            self._guard.start()

    def _kubeconfig(self, token: str, server: str = "127.0.0.1") -> str:
        return self.cluster.kubeconfig_for(token, server_host=server)

    def _lab(self) -> Lab:
        return Lab(self.state / "lab", nodes=self.nodes, extra_disk=self._dom0_disk if self.kubelets else None)

    def _start_lab(self) -> None:
        if self.lab is not None:
            if self.kubelets and not self.lab.exists:
                dom0.make_disk(self._images(), self._dom0_disk, build.debian_guest() if self._debian_guest else None)
            self.lab.start()
            self.lab.wait()

    def _install_without_workloads(self) -> None:
        """The chart, but its workloads: no kubelet would run them."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        self.apply(namespace, *chart.without_workloads(chart.render(NAMESPACE)))
        self.cluster.wait_served()

    def _hosts(self) -> list[SimulatedHost] | list[XenLabHost]:
        if self.lab is not None:
            return [XenLabHost(self.lab, n) for n in range(1, self.nodes + 1)]
        shared = self.state / "shared"
        return [
            SimulatedHost(self.state / "hosts" / f"xen{n}", f"xen{n}", shared, self._sim_options, self._full_look)
            for n in range(1, self.nodes + 1)
        ]

    def _start_host(self, host: SimulatedHost | XenLabHost) -> None:
        self.cluster.add_node(host.name, labels=XEN)
        self.start_agent(host)

    def start_agent(self, host: SimulatedHost | XenLabHost) -> None:
        """With a token that is bound to the host's Node, as a DaemonSet pod's: it ends with that very Node."""
        token = self.cluster.service_account_token(AGENTS, AGENT, node=host.name, duration=TOKEN_LASTS)
        host.start_agent(self._kubeconfig(token, host.api_server))

    # --- with kubelets

    def start_nodes(self, *, survive: bool = False) -> None:
        """The control plane and its nodes, and nothing of Kubexen's yet."""
        self._begin(survive)
        with ThreadPoolExecutor(2) as pool:
            lab = pool.submit(self._start_lab)
            self.cluster.start(survive=True)
            if not kubelet.lacking():
                local = self.cluster.add_kubelet(LOCAL)
                for archive in self._images():
                    local.load_image(archive)
            lab.result()
        self.hosts = self._hosts()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._start_node, self.hosts))

    def _images(self) -> list[Path]:
        return [image.archive(), *self._more_images]

    def _start_node(self, host: SimulatedHost | XenLabHost) -> None:
        assert isinstance(host, XenLabHost)
        dom0.install(host.host, self.cluster)
        self.cluster.wait_node_ready(host.name, WAIT)
        self.cluster.label_node(host.name, XEN)

    def install(self, **values: Any) -> None:
        """Install the chart, or upgrade it; `values` on top of what this stack needs."""
        repository, _, tag = IMAGE.rpartition(":")
        own: dict[str, Any] = {
            "images": {"kubexen": {"repository": repository, "tag": tag}},
            "scheduler": {"enabled": False},  # the control plane's own has the profile
            "agent": {"maxUnavailable": "100%"},  # each takes most of a minute to start where the CPU is emulated
        }
        if self.cluster.kubelets():
            own["controller"] = {"nodeSelector": {"kubernetes.io/hostname": LOCAL}}
        text = json.dumps(own | values)
        self.helm("upgrade", "--install", RELEASE, str(chart.CHART), "--create-namespace", "--values", "-", input=text)
        self.cluster.wait_served()

    def helm(self, *arguments: str, input: str | None = None) -> str:
        return chart.helm(*arguments, "--namespace", NAMESPACE, kubeconfig=self.cluster.kubeconfig, input=input)

    # --- its use

    def host(self, name: str) -> SimulatedHost | XenLabHost:
        return next(host for host in self.hosts if host.name == name)

    def environment(self) -> dict[str, str]:
        """KUBECONFIG and PATH for a user of this stack, with the plugin `kubectl xen`, which kubectl finds there."""
        plugin = self.state / "bin/kubectl-xen"
        plugin.parent.mkdir(exist_ok=True)
        plugin.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT / "operator"}" exec "{sys.executable}" -m kubexen.cli "$@"\n')
        plugin.chmod(0o755)
        environment = self.cluster.environment()
        return environment | {"PATH": f"{plugin.parent}:{environment['PATH']}"}

    def kubectl(self, *arguments: str, input: str | None = None, timeout: float = WAIT + 30) -> str:
        """kubectl's output; raises KubectlError with its words when it fails."""
        return self.cluster.kubectl(*arguments, input=input, timeout=timeout)

    def apply(self, *documents: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        return dict(json.loads(self.kubectl("get", kind, name, "-n", namespace, "-o", "json")))

    def wait(self, kind: str, name: str, what: str, seconds: float = WAIT, namespace: str = "default") -> None:
        """`kubectl wait`, also for an object that is not there yet; says what it is like when it takes too long."""
        end = time.monotonic() + seconds
        while True:
            left = max(1, int(end - time.monotonic()))
            try:
                self.kubectl("wait", f"{kind}/{name}", f"--for={what}", f"--timeout={left}s", "-n", namespace,
                             timeout=left + 30)
                return
            except KubectlError as error:
                if time.monotonic() >= end or ("NotFound" not in str(error) and "no matching" not in str(error)):
                    found = self.kubectl("get", kind, "-n", namespace, "-o", "yaml")
                    raise RuntimeError(f"{error}\n{found}\n{self.logs()}") from None
                time.sleep(0.2)

    def wait_reason(self, name: str, reason: str, seconds: float = WAIT, namespace: str = "default") -> None:
        """Until Ready says this reason."""
        self.wait("xd", name, f'jsonpath={{.status.conditions[?(@.type=="Ready")].reason}}={reason}', seconds, namespace)

    def last_words(self) -> list[tuple[str, str]]:
        """(title, text) of what real hosts and their guests said last; simulated ones have no consoles."""
        return self.lab.last_words() if self.lab else []

    def logs(self, lines: int = 30) -> str:
        if self.kubelets:
            return "\n".join(f"--- pods of {namespace}\n{self._pod_logs(namespace, lines)}" for namespace in (NAMESPACE, AGENTS))
        parts = [f"--- controller\n{self.controller.log_tail(lines)}"]
        parts += [f"--- agent {host.name}\n{host.agent_log(lines)}" for host in self.hosts]
        return "\n".join(parts)

    def overview(self) -> str:
        """What there is in all namespaces, and what became of it."""
        shown = self._said("get", "pods,xd,xhost,events", "--all-namespaces", "-o", "wide")
        return f"{shown}\n{self._said('describe', 'nodes')}"

    def _pod_logs(self, namespace: str, lines: int) -> str:
        return self._said("logs", "-n", namespace, "-l", "app.kubernetes.io/name=kubexen", "--prefix", f"--tail={lines}")

    def _said(self, *arguments: str) -> str:
        """What kubectl says, also where it fails: a pod that does not run has no log, an API server that is away tells nothing."""
        try:
            return self.kubectl(*arguments)
        except (KubectlError, subprocess.TimeoutExpired) as error:
            return str(error)
