"""A tenant of the stack: one namespace, what is applied to it, and what its user and the hosts' administrator see.

Made by the fixture `tenant`, one for each test. It waits on watches; where only a host can tell, it looks again and again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hack.cluster.api import Object
from hack.stack.hosts import SimulatedHost
from hack.stack.stack import Stack
from kubexen.api.names import DOMAIN_LABEL
from kubexen.hypervisor.drivers.sim.host import SimHost
from kubexen.hypervisor.port import DomainState

PATIENCE = 60.0
"""Seconds until a wait is given up; on a machine that has nothing else to do the longest takes 30."""

KUBEXEN = "/apis/kubexen.dev/v1alpha1"
PLURALS = {"xd": "xendomains", "xdisk": "xendisks", "xact": "xenactions"}


class Tenant:
    def __init__(self, stack: Stack, namespace: str) -> None:
        self.stack, self.namespace = stack, namespace
        self.api = stack.cluster.api

    # What its user does

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        return self.stack.kubectl("-n", self.namespace, *arguments, input=input)

    def apply(self, *manifests: Object) -> None:
        documents = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "-f", "-", input=json.dumps(documents))

    def patch(self, name: str, kind: str = "xd", **spec: Any) -> None:
        """Change fields of an object's spec."""
        self.api.patch(self.path(kind, name), {"spec": spec})

    def power(self, name: str, state: str) -> None:
        self.patch(name, powerState=state)

    def delete(self, kind: str, *names: str) -> None:
        """Delete objects, and wait until they are gone."""
        self.kubectl("delete", kind, *names, f"--timeout={PATIENCE:.0f}s")

    def clear(self) -> None:
        """Delete all domains and disks, and wait until they are gone. A namespace's own way to it takes 10 s."""
        for kind in ("xd", "xdisk"):
            self.api.delete(self.path(kind))
            until(lambda kind=kind: not self.api.get(self.path(kind))["items"])

    def wait_namespace_gone(self) -> None:
        """Of a namespace that is being deleted, whose anchors have gone: Kubernetes is made to look at it again now, as
        docs/troubleshooting.md has it, and not within five minutes."""
        self.stack.kubectl("annotate", "namespace", self.namespace, f"looked-at={time.time():.0f}")
        self.api.wait_gone(f"/api/v1/namespaces/{self.namespace}", PATIENCE)

    def run(self, *manifests: Object, on: str | None = None) -> dict[str, Object]:
        """Apply, and wait until all domains among it are Running; `on`: at first the scheduler sees this node only."""
        with self.only(on):
            self.apply(*manifests)
            names = [m["metadata"]["name"] for m in manifests if m["kind"] == "XenDomain"]
            return {name: self.wait_reason(name, "Running") for name in names}

    @contextmanager
    def only(self, node: str | None) -> Iterator[None]:
        """While this lasts, every node but this one is cordoned."""
        others = [host.name for host in self.stack.hosts if node not in (None, host.name)]
        for other in others:
            self.cordon(other)
        try:
            yield
        finally:
            for other in others:
                self.cordon(other, False)

    def cordon(self, node: str, cordoned: bool = True) -> None:
        self.api.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": cordoned}})

    # What its user sees

    def path(self, kind: str, name: str = "") -> str:
        collection = f"{KUBEXEN}/namespaces/{self.namespace}/{PLURALS[kind]}"
        return f"{collection}/{name}" if name else collection

    def get(self, name: str, kind: str = "xd") -> Object:
        return self.api.get(self.path(kind, name))

    def wait(self, name: str, condition: Callable[[Object], Any], kind: str = "xd") -> Object:
        """Until the object is so."""
        return self.api.wait(self.path(kind, name), lambda found: bool(condition(found)), PATIENCE)

    def wait_reason(self, name: str, reason: str) -> Object:
        """Until Ready has this reason for the spec as it is now."""

        def reached(found: Object) -> bool:
            ready = condition(found, "Ready")
            # the first condition of an object, of the CRD's default, has seen no generation
            return bool(ready["reason"] == reason and ready.get("observedGeneration") == found["metadata"]["generation"])

        return self.wait(name, reached)

    def wait_restarted(self, name: str, domid: int) -> Object:
        """Until the domain is as its spec asks, under another domid than this one."""
        return self.wait(name, lambda found: is_ready(found) and found["status"].get("domid", domid) != domid)

    def wait_event(self, name: str, reason: str) -> Object:
        """Until an Event of this reason is there for the object of this name."""
        events = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        seen = set()
        for _, event in self.api.watch(events, PATIENCE, fieldSelector=f"regarding.name={name}"):
            if event["reason"] == reason:
                return event
            seen.add(event["reason"])
        raise TimeoutError(f"{name} has no Event {reason}, but {sorted(seen)}")

    def wait_series(self, name: str, reason: str, seconds: float) -> Object:
        """Until an Event of this reason was told more than once: as one object with a count."""
        events = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        for _, event in self.api.watch(events, seconds, fieldSelector=f"regarding.name={name},reason={reason}"):
            if event.get("series"):
                return event
        raise TimeoutError(f"no Event {reason} of {name} was told twice")

    def events(self, name: str, reason: str) -> list[Object]:
        found = self.api.get(
            f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events",
            fieldSelector=f"regarding.name={name},reason={reason}",
        )
        return list(found["items"])

    def anchors(self, name: str) -> list[Object]:
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        return list(self.api.get(pods, labelSelector=f"{DOMAIN_LABEL}={name}")["items"])

    def anchor(self, name: str) -> Object:
        """Its only anchor."""
        (anchor,) = self.anchors(name)
        return anchor

    # What the hosts' administrator sees and does

    def host(self, name: str) -> SimulatedHost:
        host = self.stack.host(name)
        assert isinstance(host, SimulatedHost)
        return host

    def host_of(self, name: str) -> SimulatedHost:
        """The host that the domain is bound to."""
        return self.host(self.get(name)["status"]["nodeName"])

    def elsewhere(self, node: str) -> str:
        """A node that is not this one."""
        return next(host.name for host in self.stack.hosts if host.name != node)

    @contextmanager
    def lost(self, node: str) -> Iterator[SimulatedHost]:
        """While this lasts, the node and its agent are silent; its domains run on, as on a host that only lost its network."""
        host, cluster = self.host(node), self.stack.cluster
        host.kill_agent()
        cluster.stop_heartbeat(node)
        try:
            yield host
        finally:
            cluster.resume_heartbeat(node)
            host.restart_agent()

    def xl_name(self, name: str) -> str:
        return f"{self.namespace}.{name}"

    def on_hosts(self, name: str | None = None) -> list[tuple[str, DomainState]]:
        """(host, domain) of each domain of this name, or of all of the tenant's, that any host has."""
        found = []
        for host in self.stack.hosts:
            with xl(self.host(host.name)) as sim:
                found += [(host.name, state) for state in sim.list()]
        wanted = self.xl_name(name or "")
        return [(h, s) for h, s in found if s.name == wanted or (name is None and s.name.startswith(wanted))]

    def where(self, name: str) -> tuple[str, DomainState]:
        """The one host that has the domain, and what it is there."""
        (found,) = self.on_hosts(name)
        return found

    def data_of(self, disk: str, node: str) -> Path:
        """Where a XenDisk's data is, or would be, as seen by this machine."""
        found = self.get(disk, "xdisk")
        pool = self.api.get(f"{KUBEXEN}/xenstoragepools/{found['spec']['pool']}")["spec"]["directory"]["path"]
        file = f".kubexen/disks/{found['metadata']['uid']}.raw"
        return self.host(node).root / pool.lstrip("/") / file


def xl(host: SimulatedHost) -> SimHost:
    """The host's own tools and its guests' hands; a context manager."""
    return SimHost(host.root / "xen")


def condition(found: Object, kind: str) -> Object:
    """A condition of an object; one that is not there has only empty values."""
    conditions = found.get("status", {}).get("conditions", [])
    none = {"type": kind, "status": "", "reason": "", "message": ""}
    return next((c for c in conditions if c["type"] == kind), none)


def is_ready(found: Object) -> bool:
    return bool(condition(found, "Ready")["status"] == "True")


def until(condition: Callable[[], Any]) -> Any:
    """Look at a host again and again until the condition gives something; what it gives."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE:.0f} s: {condition}")
        time.sleep(0.1)
    return found
