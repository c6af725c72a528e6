"""The probes' answers: what must be heard of again and again, and how the kubelet is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from kubexen.kube import health
from kubexen.kube.health import Pulse


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_was_heard_of_within_its_bound_is_not_silent() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    pulse.expect("nodes", 300)
    pulse.expect("pods", 60)
    clock.now += 60
    assert pulse.silent() == []
    clock.now += 1
    assert pulse.silent() == ["pods: not heard of for 61 s, at most 60 s are expected"]
    pulse.beat("pods")
    assert pulse.silent() == []
    clock.now += 240
    assert [line.split(":")[0] for line in pulse.silent()] == ["nodes", "pods"]


def test_what_nobody_expects_is_never_missed() -> None:
    pulse = Pulse(Clock())
    pulse.beat("secrets")
    assert pulse.silent() == []


@pytest.fixture
async def probes(unused_tcp_port: int) -> AsyncIterator[tuple[str, list[str], list[str]]]:
    """The address, and the lists of what is wrong."""
    dead: list[str] = []
    late: list[str] = []
    served = asyncio.create_task(
        health.serve(f"127.0.0.1:{unused_tcp_port}", alive=lambda: list(dead), ready=lambda: list(late))
    )
    yield f"http://127.0.0.1:{unused_tcp_port}", dead, late
    served.cancel()
    await asyncio.wait({served})


async def ask(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as client:
        while True:
            try:
                async with client.get(url) as answer:
                    return answer.status, await answer.text()
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.01)  # it is being started


async def test_each_path_has_its_own_check_and_names_what_is_wrong(probes: tuple[str, list[str], list[str]]) -> None:
    url, dead, late = probes
    assert await ask(f"{url}/livez") == (200, "ok\n")
    assert await ask(f"{url}/readyz") == (200, "ok\n")
    late.append("xendomains: not listed yet")
    assert await ask(f"{url}/livez") == (200, "ok\n")
    assert await ask(f"{url}/readyz") == (503, "xendomains: not listed yet\n")
    dead += ["pods: silent", "nodes: silent"]
    assert await ask(f"{url}/livez") == (503, "pods: silent\nnodes: silent\n")
    late.clear()
    assert await ask(f"{url}/readyz") == (200, "ok\n")


async def test_a_port_that_is_taken_is_an_error_at_once(probes: tuple[str, list[str], list[str]]) -> None:
    url, _, _ = probes
    await ask(f"{url}/livez")
    with pytest.raises(OSError):
        await health.serve(url.removeprefix("http://"), alive=list, ready=list)
