"""What the kubelet's probes are told, by real processes: the leader, the controller that waits, and an agent."""

from __future__ import annotations

import asyncio
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import kopf
import pytest

from hack.cluster.ports import free_ports
from hack.cluster.process import Process
from hack.stack.hosts import ROOT
from hack.stack.stack import Stack
from kubexen.controller import handlers
from kubexen.controller.cache import Cache
from kubexen.controller.watches import Watches
from tests.cluster import manifests
from tests.cluster.tenant import Tenant, until


class Probed:
    """A process with probes."""

    def __init__(self, state: Path, module: str, *arguments: str) -> None:
        (self.port,) = free_ports(1)
        self.process = Process(module, state)
        self.process.start(
            [sys.executable, "-m", module, *arguments, "--health", f"127.0.0.1:{self.port}"], {"PYTHONPATH": str(ROOT / "operator")}
        )

    def ask(self, path: str) -> tuple[int, str]:
        """Status and text; 0 where nobody answers."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()
        except OSError:
            return 0, ""

    def until(self, path: str, status: int) -> str:
        """Until it is answered so; the text."""
        return str(until(lambda: (found := self.ask(path))[0] == status and found[1]))


@pytest.fixture
def second(tenant: Tenant, tmp_path: Path) -> Iterator[Probed]:
    """A second controller, which waits for the lead."""
    second = Probed(tmp_path, "kubexen.controller", "--kubeconfig", str(tenant.stack.state / "controller.kubeconfig"))
    yield second
    second.process.stop()
    tenant.stack.start_controller()


def test_the_controller_that_waits_is_ready_and_takes_over(tenant: Tenant, second: Probed) -> None:
    second.until("/readyz", 200)
    assert second.ask("/livez")[0] == 200
    assert "leads" not in second.process.log_tail()
    domid = tenant.run(manifests.domain("before"))["before"]["status"]["domid"]

    tenant.stack.controller.stop()

    tenant.run(manifests.domain("after"))
    assert "leads" in second.process.log_tail()
    assert (second.ask("/livez")[0], second.ask("/readyz")[0]) == (200, 200)
    assert tenant.where("before")[1].domid == domid


def test_a_controller_that_the_api_server_does_not_answer_is_alive_and_not_ready(tenant: Tenant, second: Probed) -> None:
    second.until("/readyz", 200)
    tenant.stack.cluster.pause_component("kube-apiserver")
    try:
        assert "the API server did not answer" in second.until("/readyz", 503)
        assert second.ask("/livez")[0] == 200
    finally:
        tenant.stack.cluster.resume_component("kube-apiserver")
    second.until("/readyz", 200)


async def test_kopf_watches_every_kind_and_each_is_heard_of(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that says that all of them are late."""
    monkeypatch.setenv("KUBECONFIG", str(stack.state / "controller.kubeconfig"))
    now = [0.0]
    watches = Watches(lambda: now[0])
    watches.expect(handlers.WATCHED, handlers.WATCH_SECONDS)
    now[0] += 1000
    assert len(watches.silent()) == len(handlers.WATCHED)
    end = asyncio.Event()
    registry, settings = handlers.registry(Cache(), watches), handlers.settings()
    running = asyncio.create_task(kopf.operator(registry=registry, settings=settings, clusterwide=True, stop_flag=end))
    async with asyncio.timeout(60):
        while watches.silent():
            await asyncio.sleep(0.05)
    end.set()
    await running


def test_an_agent_is_ready_when_it_has_seen_its_objects_and_its_host(tenant: Tenant, tmp_path: Path) -> None:
    host = tenant.host(tenant.stack.hosts[0].name)
    host.stop_agent()
    agent = Probed(tmp_path, "kubexen.agent", "--node", host.name, "--driver", host.uri, "--root", str(host.root),
                   "--kubeconfig", str(host.root / "kubeconfig"))  # fmt: skip
    try:
        agent.until("/readyz", 200)
        assert agent.ask("/livez")[0] == 200
        tenant.stack.cluster.pause_component("kube-apiserver")
        assert (agent.ask("/livez")[0], agent.ask("/readyz")[0]) == (200, 200), "no restart of the agent would mend that"
    finally:
        tenant.stack.cluster.resume_component("kube-apiserver")
        agent.process.stop()
        host.restart_agent()
