"""The load: domains created at a steady rate by one client, and how long each took to be Ready.

Called by __main__.py. It shares the machine with what it measures, so it is small: one kept connection that creates,
one watch that listens, no polling. Both clocks are this process's own.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import yaml

from hack.cluster.cluster import Cluster

NAMESPACE = "bench"
GROUP = "/apis/kubexen.dev/v1alpha1"
DOMAINS = f"{GROUP}/namespaces/{NAMESPACE}/xendomains"
DISKS = f"{GROUP}/namespaces/{NAMESPACE}/xendisks"

Object = dict[str, Any]

SHARED: tuple[tuple[str, Object], ...] = (
    ("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
    (f"{GROUP}/xenstoragepools", {
        "apiVersion": "kubexen.dev/v1alpha1", "kind": "XenStoragePool", "metadata": {"name": "bench-images"},
        "spec": {"directory": {"path": "/srv/images"}, "shared": True, "namespaceSelector": {}}}),
    (f"{GROUP}/xenstoragepools", {
        "apiVersion": "kubexen.dev/v1alpha1", "kind": "XenStoragePool", "metadata": {"name": "bench-disks"},
        "spec": {"directory": {"path": "/srv/pool"}, "namespaceSelector": {}}}),
    (f"{GROUP}/xennetworks", {
        "apiVersion": "kubexen.dev/v1alpha1", "kind": "XenNetwork", "metadata": {"name": "bench"},
        "spec": {"bridge": "xenbr0", "namespaceSelector": {}}}),
)
"""What all domains share, by collection; in place before the first is created."""


class Connection:
    """One kept connection to the API server, as administrator."""

    def __init__(self, cluster: Cluster) -> None:
        host, _, port = cluster.server.removeprefix("https://").partition(":")
        tls = ssl.create_default_context(cadata=_authority(cluster))
        self._connection = http.client.HTTPSConnection(host, int(port), context=tls, timeout=120)
        self._headers = {"Authorization": f"Bearer {cluster.admin_token}", "User-Agent": "hack.bench",
                         "Accept": "application/json", "Content-Type": "application/json"}

    def create(self, collection: str, body: Object) -> None:
        self._connection.request("POST", collection, json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{body['kind']} {body['metadata']['name']}: {text.decode()[:500]}")

    def watch(self, collection: str, seconds: int) -> Iterator[Object]:
        """Objects as they are made and changed, until `seconds` have passed or the connection is closed."""
        target = f"{collection}?watch=1&timeoutSeconds={seconds}"
        self._connection.request("GET", target, headers=self._headers)
        answer = self._connection.getresponse()
        while line := answer.readline():
            event = json.loads(line)
            if event["type"] in ("ADDED", "MODIFIED"):
                yield event["object"]

    def close(self) -> None:
        self._connection.close()


class Load:
    """Domains, each with a disk and an interface, created at `rate` a second. `run` returns their times to Ready."""

    def __init__(self, cluster: Cluster, count: int, rate: float) -> None:
        self._cluster, self._count, self._rate = cluster, count, rate
        self._created: dict[str, float] = {}
        self._ready: dict[str, float] = {}
        self._failed: list[BaseException] = []
        self._all_ready = threading.Event()

    def prepare(self) -> None:
        """Make what the domains share."""
        connection = Connection(self._cluster)
        for collection, body in SHARED:
            connection.create(collection, body)
        connection.close()

    def run(self, patience: float) -> list[float]:
        """Seconds from the call that created a domain to the watch's word that it is Ready, in order of creation.

        Args:
            patience: seconds after the last creation until the load is given up.
        """
        seconds = self._count / self._rate + patience
        listener = threading.Thread(target=self._listen, args=(int(seconds) + 60,), daemon=True)
        listener.start()
        self._create_all()
        if not self._all_ready.wait(patience) or self._failed:
            missing = sorted(self._created.keys() - self._ready.keys())
            raise RuntimeError(f"{len(missing)} of {self._count} domains are not Ready: {missing[:5]} ({self._failed})")
        return [self._ready[name] - created for name, created in self._created.items()]

    @property
    def achieved(self) -> float:
        """Domains a second that were really created."""
        times = list(self._created.values())
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0

    def _create_all(self) -> None:
        connection = Connection(self._cluster)
        start = time.monotonic()
        for number in range(self._count):
            # The schedule is fixed beforehand: a slow answer delays no later creation by more than it must.
            time.sleep(max(0.0, start + number / self._rate - time.monotonic()))
            name = f"bench-{number:05}"
            connection.create(DISKS, disk(name))
            self._created[name] = time.monotonic()
            connection.create(DOMAINS, domain(name))
        connection.close()

    def _listen(self, seconds: int) -> None:
        connection = Connection(self._cluster)
        try:
            for item in connection.watch(DOMAINS, seconds):
                name = item["metadata"]["name"]
                if name not in self._ready and is_ready(item):
                    self._ready[name] = time.monotonic()
                    if len(self._ready) == self._count:
                        return
        except Exception as error:
            self._failed.append(error)
        finally:
            self._all_ready.set()
            connection.close()


def _authority(cluster: Cluster) -> str:
    """The certificate authority of the administrator's kubeconfig."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    return base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()


def is_ready(item: Object) -> bool:
    """Whether condition Ready is True and about the spec as it is now."""
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        and condition.get("observedGeneration") == item["metadata"]["generation"]
        for condition in item.get("status", {}).get("conditions", ())
    )


def disk(name: str, namespace: str = NAMESPACE, pool: str = "bench-disks") -> Object:
    return {
        "apiVersion": "kubexen.dev/v1alpha1", "kind": "XenDisk", "metadata": {"name": name, "namespace": namespace},
        "spec": {"pool": pool, "size": "16Mi"},
    }


def domain(name: str, namespace: str = NAMESPACE, pool: str = "bench-images", network: str = "bench") -> Object:
    """With the disk of its own name."""
    return {
        "apiVersion": "kubexen.dev/v1alpha1", "kind": "XenDomain", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "type": "pvh",
            "boot": {"direct": {"kernel": {"pool": pool, "file": "vmlinuz"}, "initrd": {"pool": pool, "file": "initrd.gz"},
                                "cmdline": "console=hvc0"}},  # xen.py reads what the guest says there
            "cpu": {"count": 1},
            "memory": {"size": "128Mi"},
            "onCrash": "preserve",  # flags.py lets some crash
            "disks": [{"name": "root", "disk": name, "target": "xvda"}],
            "interfaces": [{"name": "eth0", "network": network}],
        },
    }
