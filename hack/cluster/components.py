"""The components of the control plane as command lines, with the files that they read.

Called by cluster.py, which starts them. It starts nothing and chooses no port.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from hack.cluster import audit
from hack.cluster.certificates import Credentials, kubeconfig
from hack.cluster.kubelet import WAYS
from hack.cluster.nodes import MANAGED_LABEL, MANAGED_VALUE
from hack.tools.build import binary, build

PORTS = ("etcd", "etcd-peer", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
# How the API server reaches nodes: by the proxy of ways.py.
EGRESS = """\
apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: HTTPConnect
    transport:
      uds: {{udsName: "@{name}"}}
"""
OWN_STAGES = Path(__file__).parent / "stages"


@dataclass(frozen=True)
class Layout:
    """Where a cluster's parts are: its state folder, its ports and the settings that its components need."""

    state: Path
    ports: Mapping[str, int]
    credentials: Credentials
    profiles: Path  # the scheduler's, as in the chart
    node_monitor_grace_period: int  # seconds
    cache: Path | None

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.ports['kube-apiserver']}"

    @property
    def ways(self) -> Path:
        """The folder that says how each real node's kubelet is reached: see ways.py."""
        return self.state / "ways"

    @property
    def proxy(self) -> str:
        """The name of the proxy's socket. It has no path: the state folder's may be too long for one."""
        return f"kubexen-{hashlib.sha256(str(self.state).encode()).hexdigest()[:12]}"

    def kubeconfig(self, user: str) -> Path:
        return self.state / "config" / f"{user.removeprefix('system:')}.kubeconfig"

    def write_files(self) -> None:
        """Write what the components read; the same again for a state folder that has it."""
        config = self.state / "config"
        config.mkdir(parents=True, exist_ok=True)
        (config / "audit-policy.yaml").write_text(audit.POLICY)
        ca = self.credentials.ca.read_bytes()
        for user in ("kwok", "system:kube-controller-manager", "system:kube-scheduler"):
            _write_private(self.kubeconfig(user), kubeconfig(self.server, ca, self.credentials.token(user)))
        _write_private(self.state / "kubeconfig", kubeconfig(self.server, ca, self.credentials.token("admin")))
        scheduler = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": str(self.kubeconfig("system:kube-scheduler"))},
            "leaderElection": {"leaderElect": False},
            **yaml.safe_load(self.profiles.read_text()),
        }
        (config / "scheduler.yaml").write_text(yaml.safe_dump(scheduler, sort_keys=False))
        (config / "egress.yaml").write_text(EGRESS.format(name=self.proxy))
        self.ways.mkdir(exist_ok=True)

    def command(self, component: str) -> list[str]:
        if component == "node-proxy":
            return [sys.executable, str(WAYS), "to-nodes", self.proxy, str(self.ways)]
        flags = {
            "etcd": self._etcd,
            "kube-apiserver": self._apiserver,
            "kube-controller-manager": self._controller_manager,
            "kube-scheduler": self._scheduler,
            "kwok": self._kwok,
        }[component]()
        return [str(binary(component, self.cache)), *flags]

    def healthy(self, component: str) -> bool:
        """Whether the component answers its health check."""
        if component == "node-proxy":
            with socket.socket(socket.AF_UNIX) as connection:
                return connection.connect_ex(f"\0{self.proxy}") == 0
        scheme, path = {
            "etcd": ("http", "/health"),
            "kube-apiserver": ("https", "/readyz"),
            "kwok": ("http", "/healthz"),
        }.get(component, ("https", "/healthz"))
        tls = ssl.create_default_context(cafile=str(self.credentials.ca)) if scheme == "https" else None
        return answers(f"{scheme}://127.0.0.1:{self.ports[component]}{path}", tls, timeout=2)

    def _etcd(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{self.ports[name]}" for name in ("etcd", "etcd-peer"))
        return [
            f"--data-dir={self.state / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",  # a crash of the machine may cost the data: these are tests
            "--log-level=warn",
        ]

    def _apiserver(self) -> list[str]:
        return [
            f"--etcd-servers=http://127.0.0.1:{self.ports['etcd']}",
            *self._serving("kube-apiserver"),
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",  # the Service `kubernetes` cannot have a loopback address as endpoint
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.credentials.service_account_public_key}",
            f"--service-account-signing-key-file={self.credentials.service_account_key}",
            f"--token-auth-file={self.credentials.tokens}",
            f"--client-ca-file={self.credentials.ca}",  # kubelets come with certificates
            f"--egress-selector-config-file={self.state / 'config' / 'egress.yaml'}",
            f"--kubelet-client-certificate={self.credentials.kubelet_client_certificate}",
            f"--kubelet-client-key={self.credentials.kubelet_client_key}",
            f"--kubelet-certificate-authority={self.credentials.ca}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged",
            f"--audit-policy-file={self.state / 'config' / 'audit-policy.yaml'}",
            f"--audit-log-path={self.state / 'audit.log'}",
            "--audit-log-mode=blocking",  # a request is in the log when the next one of the same client begins
            "--audit-log-maxsize=100000",  # MB; its default of 100 would rotate the log under its reader
        ]

    def _controller_manager(self) -> list[str]:
        grace = self.node_monitor_grace_period
        return [
            f"--kubeconfig={self.kubeconfig('system:kube-controller-manager')}",
            *self._serving("kube-controller-manager"),
            f"--service-account-private-key-file={self.credentials.service_account_key}",
            "--use-service-account-credentials",
            f"--root-ca-file={self.credentials.ca}",
            "--kube-api-qps=200",  # the default of 20 makes its start 4 s longer
            "--kube-api-burst=400",
            "--leader-elect=false",  # there is one, and it is to live through an outage of the API server
            f"--node-monitor-grace-period={grace}s",
            f"--node-monitor-period={min(5, max(1, grace // 4))}s",
        ]

    def _scheduler(self) -> list[str]:
        return [f"--config={self.state / 'config' / 'scheduler.yaml'}", *self._serving("kube-scheduler")]

    def _kwok(self) -> list[str]:
        stages = sorted([*(build("kwok", self.cache) / "stages").glob("*.yaml"), *OWN_STAGES.glob("*.yaml")])
        return [
            f"--kubeconfig={self.kubeconfig('kwok')}",
            f"--manage-nodes-with-label-selector={MANAGED_LABEL}={MANAGED_VALUE}",
            f"--node-lease-duration-seconds={self.node_monitor_grace_period}",  # renewed four times in that
            f"--server-address=127.0.0.1:{self.ports['kwok']}",
            *(f"--config={stage}" for stage in stages),
        ]

    def _serving(self, component: str) -> list[str]:
        return [
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports[component]}",
            f"--tls-cert-file={self.credentials.server_certificate}",
            f"--tls-private-key-file={self.credentials.server_key}",
        ]


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def answers(url: str, tls: ssl.SSLContext | None, timeout: float) -> bool:
    """Whether a health check on this machine's loopback is good. No proxy of the environment stands between the two."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))
    try:
        with opener.open(url, timeout=timeout) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
