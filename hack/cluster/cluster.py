"""A control plane in a state folder: started, asked, broken in parts on purpose, and ended.

Called by tests (as a fixture), the demo, the bench and the command `python -m hack.cluster`. Several run side by side.
What its components are told is in components.py; simulated nodes are in nodes.py, real ones in kubelet.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from hack.cluster import audit, kubelet
from hack.cluster.api import Api, ApiError
from hack.cluster.certificates import Credentials, kubeconfig, kubeconfig_by_certificate
from hack.cluster.components import PORTS, Layout
from hack.cluster.nodeconfig import SERVICE
from hack.cluster.nodes import SimulatedNodes
from hack.cluster.ports import free_ports
from hack.cluster.process import ComponentFailed, Process
from hack.guard import Guard
from hack.tools.build import CONTROL_PLANE, binary, tools

REPOSITORY = Path(__file__).parents[2]
PROFILES = REPOSITORY / "charts" / "kubexen" / "files" / "scheduler-profiles.yaml"
CLIENTS = ("node-proxy", "kube-controller-manager", "kube-scheduler", "kwok")
COMPONENTS = ("etcd", "kube-apiserver", *CLIENTS)
GOGC = "300"  # per cent: Go's collector took a seventh of a busy API server's CPU with 100
READY_TIMEOUT = 60.0  # seconds, for one component on a busy machine


class KubectlError(RuntimeError):
    """kubectl ended with an error; the message is what it said."""


class Cluster(SimulatedNodes):
    """One control plane. As a context manager it is started at the begin and, with all of its processes, ended at the
    end, also when this process is killed; `start(survive=True)` leaves them running."""

    def __init__(
        self,
        state: Path | str,
        *,
        node_monitor_grace_period: int | None = None,
        profiles: Path = PROFILES,
        cache: Path | None = None,
    ) -> None:
        """`node_monitor_grace_period`: seconds of silence that make a node NotReady; default: as before, else 40."""
        self.state = Path(state).absolute()
        self._profiles = profiles
        self._cache = cache
        saved = self._load()
        self._ports: dict[str, int] = saved.get("ports", {})
        self.node_monitor_grace_period = node_monitor_grace_period or saved.get("node_monitor_grace_period", 40)
        self._credentials = Credentials(self.state / "pki")
        self._processes = {name: Process(name, self.state) for name in COMPONENTS}
        self._guard = Guard("hack.cluster", self.state)

    # Life

    def start(self, *, survive: bool = False) -> None:
        """Start what does not run yet, and return when the cluster takes work. Tools that are missing are built."""
        tools(self._cache, CONTROL_PLANE)
        fresh = not any(process.pid for process in self._processes.values())
        self.state.mkdir(parents=True, exist_ok=True)
        self._credentials.ensure()
        if not survive:
            self._guard.start()
        try:
            self._start_on_free_ports(fresh)
        except BaseException:
            self.stop()
            raise

    def stop(self, *, delete: bool = False) -> None:
        """End every process, whoever started it. The state folder stays for a later start, unless `delete`."""
        for node in self.kubelets():
            node.stop()
        self._stop_components()
        self._guard.stop()
        if delete:
            shutil.rmtree(self.state, ignore_errors=True)

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # One component, for tests of faults

    def stop_component(self, name: str, *, kill: bool = False) -> None:
        """End one component (see COMPONENTS): SIGTERM, after 5 seconds SIGKILL; at once with SIGKILL if `kill`."""
        self._processes[name].stop(kill=kill)

    def start_component(self, name: str) -> None:
        """Start one component again, on the same port and data, and wait until it is healthy."""
        self._launch(name)
        self._wait_healthy(name)
        if self.pid("kube-apiserver"):
            self._wait_healthy("kube-apiserver")  # it takes a moment to find an etcd that is back
            self.wait_served()

    def pause_component(self, name: str) -> None:
        """Let a component hang (SIGSTOP): its connections stay open and nothing answers."""
        self._processes[name].signal(signal.SIGSTOP)

    def resume_component(self, name: str) -> None:
        self._processes[name].signal(signal.SIGCONT)
        self._wait_healthy(name)

    def pid(self, name: str) -> int | None:
        """The component's pid, None when it does not run."""
        return self._processes[name].pid

    def healthy(self, name: str) -> bool:
        """Whether the component answers its health check."""
        return bool(self._ports) and self._layout.healthy(name)

    def ended(self) -> dict[str, str]:
        """The components that do not run, each with the end of its log."""
        return {name: process.log_tail() for name, process in self._processes.items() if process.pid is None}

    # Real nodes

    def kubelets(self) -> list[kubelet.Kubelet]:
        """The real nodes on this machine."""
        return kubelet.nodes(self.state, self._cache)

    def add_kubelet(self, name: str = "local", labels: Mapping[str, str] | None = None) -> kubelet.Kubelet:
        """Make a real node on this machine (see `kubelet.lacking`), and wait until it takes pods."""
        node = kubelet.Kubelet(self.state, name, self._cache)
        api_server = f"127.0.0.1:{self._ports['kube-apiserver']}"
        node.start(self.kubelet_files(name, node.address), api_server, lease_seconds=self.node_monitor_grace_period)
        self.add_way(name, node.way)
        try:
            self.wait_node_ready(name)
        except TimeoutError as error:
            raise ComponentFailed(f"{error}\n{node.log_tail('kubelet')}") from None
        self.label_node(name, labels or {})
        return node

    def add_way(self, node: str, way: str) -> None:
        """Say how the API server reaches the kubelet of a node: `within PID` or `at HOST:PORT` (see ways.py)."""
        (self._layout.ways / node).write_text(way)

    def kubelet_files(self, name: str, address: str) -> dict[str, str]:
        """What the kubelet of a node needs to be one of this cluster: certificates, and the way to the API server."""
        ca = self._credentials.ca.read_bytes()
        certificate, key = self._credentials.issue(f"system:node:{name}", "system:nodes", name, address)
        server = f"https://{SERVICE}"
        return {
            "ca.crt": ca.decode(),
            "kubelet.crt": certificate,
            "kubelet.key": key,
            "kubeconfig": kubeconfig_by_certificate(server, ca, certificate, key),
        }

    # Access

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state / "kubeconfig"

    @property
    def server(self) -> str:
        return self._layout.server

    @property
    def admin_token(self) -> str:
        return self._credentials.token("admin")

    @cached_property
    def api(self) -> Api:  # type: ignore[override]
        """The REST API, as administrator."""
        return self.api_for(self.admin_token)

    def api_for(self, token: str) -> Api:
        """The REST API, as the user of this token."""
        return Api(self._ports["kube-apiserver"], self._credentials.ca.read_text(), token)

    def add_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Create a namespace and wait until pods can be created in it."""
        metadata = {"name": name, "labels": dict(labels or {})}
        self.api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        # A controller manager that has lost its API server for a moment takes up to a minute to watch again.
        self.api.wait(f"/api/v1/namespaces/{name}/serviceaccounts/default", lambda _: True, 120)

    def kubectl(self, *arguments: str, input: str | None = None, timeout: float = 120) -> str:
        """Run kubectl as administrator; its output, or KubectlError with what it complained about."""
        done = subprocess.run(
            [str(binary("kubectl", self._cache)), *arguments],
            env=os.environ | self.environment(),
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """KUBECONFIG and PATH for a process that uses this cluster."""
        folders = [str(folder) for folder in tools(self._cache, CONTROL_PLANE)]
        inherited = [part for part in os.environ.get("PATH", os.defpath).split(":") if part not in folders]
        return {"KUBECONFIG": str(self.kubeconfig), "PATH": ":".join(folders + inherited)}

    def kubeconfig_for(self, user_token: str, server_host: str = "10.0.2.2") -> str:
        """The text of a kubeconfig for who reaches the cluster by another address; the default is a QEMU guest's."""
        server = f"https://{server_host}:{self._ports['kube-apiserver']}"
        return kubeconfig(server, self._credentials.ca.read_bytes(), user_token)

    def service_account_token(self, namespace: str, name: str, node: str | None = None, duration: str = "24h") -> str:
        """A token of a ServiceAccount; bound to a Node it names that node in the user's extra, and ends with it."""
        bound = ["--bound-object-kind=Node", f"--bound-object-name={node}"] if node else []
        return self.kubectl(
            "create", "token", name, f"--namespace={namespace}", f"--duration={duration}", *bound
        ).strip()

    def wait_served(self, timeout: float = 60) -> None:
        """Wait until objects of every custom kind can be made, and kubectl finds the kind. An API server that is healthy may
        not be so far, and a definition's condition Established says that it will be, not that it is."""
        deadline = time.monotonic() + timeout
        while missing := self._not_served():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not served within {timeout:g} s: {missing}")
            time.sleep(0.1)

    def _not_served(self) -> str:
        """Which custom kinds cannot be used yet, or why nobody knows."""
        try:
            definitions = self.api.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
            known = self.kubectl("api-resources", "-o", "name", "--cached=false").split()
        except (ApiError, KubectlError) as error:
            return str(error)
        if missing := {definition["metadata"]["name"] for definition in definitions} - set(known):
            return ", ".join(sorted(missing))
        return next(filter(None, (self._refuses_all(definition["spec"]) for definition in definitions)), "")

    def _refuses_all(self, kind: Mapping[str, Any]) -> str:
        """Why no object of this custom kind can be made, be it right or wrong. For a while after its start an API server
        with a mutating policy for the kind answers 503, whatever the policy's failurePolicy."""
        group, names = kind["group"], kind["names"]
        namespace = "/namespaces/default" if kind["scope"] == "Namespaced" else ""
        for version in (v["name"] for v in kind["versions"] if v["served"]):
            body = {"apiVersion": f"{group}/{version}", "kind": names["kind"], "metadata": {"name": "served"}, "spec": {}}
            try:
                self.api.create(f"/apis/{group}/{version}{namespace}/{names['plural']}", body, dryRun="All")
            except ApiError as error:
                if error.code in (404, 429, 503):
                    return str(error)
        return ""

    # What was asked of it

    def audit_mark(self) -> int:
        """The present end of the audit log, to count from."""
        log = self.state / "audit.log"
        return log.stat().st_size if log.exists() else 0

    def audit(self, since: int = 0) -> Iterator[audit.Request]:
        """The requests that the API server has answered since a mark, each once."""
        return audit.read(self.state / "audit.log", since)

    # Within

    def _load(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.state / "cluster.json").read_text()))
        except FileNotFoundError:
            return {}

    def _save(self) -> None:
        settings = {"ports": self._ports, "node_monitor_grace_period": self.node_monitor_grace_period}
        (self.state / "cluster.json").write_text(json.dumps(settings, indent=2) + "\n")

    @property
    def _layout(self) -> Layout:
        grace = self.node_monitor_grace_period
        return Layout(self.state, self._ports, self._credentials, self._profiles, grace, self._cache)

    def _start_on_free_ports(self, fresh: bool) -> None:
        for last_try in (False, False, True):
            if not self._ports:
                self._ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
            self._save()
            self._layout.write_files()
            try:
                return self._start_components()
            except ComponentFailed as error:
                # Another process took a port between the choice and its use, or since the last stop.
                if last_try or not fresh or "address already in use" not in str(error):
                    raise
                self._stop_components()
                self._ports = {}
                self.__dict__.pop("api", None)
        return None

    def _stop_components(self) -> None:
        for name in (*CLIENTS, "kube-apiserver"):
            self._processes[name].signal(signal.SIGTERM)
        # Their second SIGTERM makes them end without further ado; etcd comes last and gets one.
        for name in reversed(COMPONENTS):
            self._processes[name].stop()

    def _start_components(self) -> None:
        for name in ("etcd", "kube-apiserver"):
            self._launch(name)
            self._wait_healthy(name)
        for name in CLIENTS:
            self._launch(name)
        for name in CLIENTS:
            self._wait_healthy(name)
        # The controllers run when the first of them has done its work; without it no pod can be created.
        self.api.wait("/api/v1/namespaces/default/serviceaccounts/default", lambda _: True)

    def _launch(self, name: str) -> None:
        self._processes[name].start(self._layout.command(name), {"GOGC": GOGC})

    def _wait_healthy(self, name: str) -> None:
        layout = self._layout
        self._processes[name].wait_ready(lambda: layout.healthy(name), READY_TIMEOUT)
