"""The agent's view of a hypervisor that is away when the agent starts: a simulated host, its toolstack stopped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubexen.agent.host import Host, pause_after
from kubexen.hypervisor.drivers import opener
from kubexen.hypervisor.drivers.sim.host import SimHost
from kubexen.hypervisor.errors import InvalidConfig, Unreachable


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    """Watched, and away."""
    found = Host(opener(f"sim://{tmp_path}"), "xen1", poll_seconds=0.05)
    with SimHost(tmp_path) as sim:
        sim.stop_toolstack()
    watching = asyncio.create_task(found.watch(lambda _: None))
    yield found
    watching.cancel()
    await asyncio.wait({watching})
    found.close()


async def test_it_is_asked_and_says_why_it_does_not_answer(host: Host) -> None:
    await host.asked.wait()
    assert not host.looked.is_set()
    with pytest.raises(Unreachable, match="toolstack"):
        await host.info()


async def test_it_is_opened_as_soon_as_it_answers(host: Host, tmp_path: Path) -> None:
    await host.asked.wait()
    with SimHost(tmp_path) as sim:
        sim.xl_create_unmanaged("old-mail")
        sim.start_toolstack()
    await host.looked.wait()
    assert [state.name for state in host.domains.values()] == ["old-mail"]
    assert host.boot_id == (await host.info()).boot_id != ""
    assert host.error is None


async def test_a_look_never_waits_for_what_is_done(tmp_path: Path) -> None:
    host = Host(opener(f"sim://{tmp_path}"), "xen1")
    watching = asyncio.create_task(host.watch(lambda _: None))
    await host.looked.wait()
    go_on = threading.Event()
    acts = [asyncio.create_task(host.call(go_on.wait, about=f"domain {n}")) for n in range(8)]
    await asyncio.sleep(0)  # all of them are handed to threads
    assert await host.look() == {}
    assert (await host.info()).boot_id == host.boot_id
    assert not any(act.done() for act in acts)
    go_on.set()
    await asyncio.gather(*acts)
    watching.cancel()
    await asyncio.wait({watching})
    host.close()


@pytest.mark.parametrize(("took", "pause"), [(0.001, 1.0), (1.5, 4.5), (60.0, 5.0)])
def test_a_host_that_answers_slowly_is_asked_less_often(took: float, pause: float) -> None:
    assert pause_after(took, 1.0) == pause


async def test_what_can_never_be_opened_ends_the_agent() -> None:
    host = Host(opener("sim://no/such?setting"), "xen1")
    with pytest.raises(InvalidConfig):
        await host.watch(lambda _: None)
    host.close()


async def test_an_attempt_that_hangs_is_one_and_is_used_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that takes the connection and says nothing must not use up the threads."""
    monkeypatch.setattr("kubexen.agent.host.CALL_SECONDS", 0.05)
    loop, calls = asyncio.get_running_loop(), []
    go_on: asyncio.Future[None] = loop.create_future()

    def hang() -> object:
        calls.append(1)
        asyncio.run_coroutine_threadsafe(_wait(go_on), loop).result()
        return opener(f"sim://{tmp_path}")()

    host = Host(hang, "xen1", poll_seconds=0.01)  # type: ignore[arg-type]
    watching = asyncio.create_task(host.watch(lambda _: None))
    await host.asked.wait()
    assert "no answer" in str(host.error)
    go_on.set_result(None)
    await host.looked.wait()
    assert len(calls) == 1
    watching.cancel()
    await asyncio.wait({watching})
    host.close()


async def _wait(future: asyncio.Future[None]) -> None:
    await future
