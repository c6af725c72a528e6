"""kubexen.kube over a real API server: what a reflector tells, conflicts, leases, leader election and Events.

A small kind of its own (Thing) is used, so that no controller of the cluster touches the objects. Outages are made by
a forwarder in front of the API server, and by restarting it.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from kubexen.kube.client import Api
from kubexen.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    NotServed,
    Unavailable,
)
from kubexen.kube.events import EventRecorder
from kubexen.kube.lease import LeaderElection, LeaseHolder, micro_time
from kubexen.kube.reflector import Reflector
from kubexen.kube.resources import EVENTS, LEASES, NAMESPACES, Object, Resource

GROUP = "test.kubexen.dev"
THINGS = Resource(GROUP, "v1", "things", "Thing", namespaced=True)
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount", namespaced=True)

THING_CRD: Object = {
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".status.nodeName"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"count": {"type": "integer", "minimum": 0}, "color": {"type": "string"}},
                            },
                            "status": {
                                "type": "object",
                                "properties": {"nodeName": {"type": "string"}, "phase": {"type": "string"}},
                            },
                        },
                    }
                },
            }
        ],
    }
}

PATIENCE = 30.0
"""Seconds until a test gives up waiting."""


class Changes:
    """An on_change that keeps what it is told."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        self._new = asyncio.Event()

    def __call__(self, key: str, old: Object | None, new: Object | None) -> None:
        what = "added" if old is None else "removed" if new is None else "changed"
        self.log.append((what, key.rpartition("/")[2]))
        self._new.set()

    async def are(self, *expected: tuple[str, str]) -> None:
        """Waits for as many; they must be these, in any order, and no others."""
        async with asyncio.timeout(PATIENCE):
            while len(self.log) < len(expected):
                self._new.clear()
                await self._new.wait()
        assert sorted(self.log) == sorted(expected)
        self.log.clear()


class Wire:
    """A forwarder in front of the API server, which can be cut (connections end) or frozen (nothing passes)."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._whole = True
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Wire]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.mend()
            self._close_all()

    def cut(self) -> None:
        self._whole = False
        self._close_all()

    def freeze(self) -> None:
        self._flows.clear()

    def mend(self) -> None:
        self._whole = True
        self._flows.set()

    def _close_all(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.close()
            return
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


def read_kubeconfig(cluster: Any) -> Any:
    """The cluster's kubeconfig, fit to be written elsewhere: its files are relative to it."""
    file = Path(cluster.kubeconfig)
    kubeconfig = yaml.safe_load(file.read_text())
    for part in (*(c["cluster"] for c in kubeconfig["clusters"]), *(u["user"] for u in kubeconfig["users"])):
        for field in part.keys() & {"certificate-authority", "client-certificate", "client-key", "tokenFile"}:
            part[field] = str(file.parent / part[field])
    return kubeconfig


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.05)


async def until_any(events: Iterable[asyncio.Event]) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    done, pending = await asyncio.wait(waits, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    for wait in pending:
        wait.cancel()
    assert done


@asynccontextmanager
async def running(*coroutines: Any) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def api(cluster: Any) -> AsyncIterator[Api]:
    api = await Api.connect(str(cluster.kubeconfig), user_agent="kubexen-test")
    yield api
    await api.close()


@pytest.fixture
async def wire(cluster: Any, tmp_path: Path) -> AsyncIterator[tuple[Wire, Api]]:
    """The forwarder, and a client whose requests go through it."""
    kubeconfig = read_kubeconfig(cluster)
    connection = kubeconfig["clusters"][0]["cluster"]
    url = urlsplit(connection["server"])
    assert url.hostname and url.port
    async with Wire(url.hostname, url.port).open() as wire:
        connection["server"] = f"https://127.0.0.1:{wire.port}"
        (tmp_path / "wired").write_text(yaml.safe_dump(kubeconfig))
        api = await Api.connect(str(tmp_path / "wired"), user_agent="kubexen-test", timeout=5)
        yield wire, api
        await api.close()


@pytest.fixture
async def namespace(api: Api) -> AsyncIterator[str]:
    """A namespace of the test's own, with Things served."""
    await api.apply(CRDS, f"things.{GROUP}", THING_CRD, manager="test")

    async def served() -> bool:
        try:
            await api.list(THINGS)
        except NotServed:
            return False
        return True

    await until(served)
    name = f"kube-{uuid.uuid4().hex[:8]}"
    await api.create(NAMESPACES, {"metadata": {"name": name}})
    yield name
    await api.delete(NAMESPACES, name)


@pytest.fixture
def make(api: Api, namespace: str) -> Callable[..., Awaitable[Object]]:
    async def make(name: str, **spec: Any) -> Object:
        return await api.create(THINGS, {"metadata": {"name": name}, "spec": spec}, namespace)

    return make


Make = Callable[..., Awaitable[Object]]


# The reflector


async def test_adds_changes_and_deletions_are_told(api: Api, namespace: str, make: Make) -> None:
    await make("before")
    changes = Changes()
    reflector = Reflector(api, THINGS, namespace=namespace, on_change=changes)
    async with running(reflector.run()):
        await changes.are(("added", "before"))
        assert reflector.synced.is_set()
        await make("after", count=1)
        await changes.are(("added", "after"))
        await api.merge(THINGS, "after", {"spec": {"count": 2}}, namespace)
        await changes.are(("changed", "after"))
        kept = reflector.store[f"{namespace}/after"]
        assert kept["spec"] == {"count": 2}
        assert "managedFields" not in kept["metadata"]
        await api.delete(THINGS, "before", namespace)
        await changes.are(("removed", "before"))
        assert list(reflector.store) == [f"{namespace}/after"]
        assert reflector.healthy


async def test_a_list_of_many_pages_is_complete(api: Api, namespace: str, make: Make) -> None:
    names = {f"t{number}" for number in range(7)}
    for name in names:
        await make(name)
    changes = Changes()
    reflector = Reflector(api, THINGS, namespace=namespace, on_change=changes, page=3)
    async with running(reflector.run()):
        await changes.are(*(("added", name) for name in names))
    assert {obj["metadata"]["name"] for obj in reflector.store.values()} == names


async def test_a_field_selector_shows_one_nodes_objects_come_and_go(api: Api, namespace: str, make: Make) -> None:
    async def place(name: str, node: str) -> None:
        await api.apply(
            THINGS, name, {"status": {"nodeName": node}}, namespace, manager="controller", subresource="status"
        )

    for name in ("here", "there"):
        await make(name)
    await place("here", "n1")
    await place("there", "n2")
    changes = Changes()
    reflector = Reflector(api, THINGS, namespace=namespace, field_selector="status.nodeName=n1", on_change=changes)
    async with running(reflector.run()):
        await changes.are(("added", "here"))
        await place("there", "n1")
        await changes.are(("added", "there"))
        await place("here", "n2")
        await changes.are(("removed", "here"))
        assert list(reflector.store) == [f"{namespace}/there"]
    assert (await api.get(THINGS, "here", namespace))["status"] == {"nodeName": "n2"}, "removed means: not here"


async def test_a_relist_of_what_is_known_tells_nothing(api: Api, namespace: str, make: Make) -> None:
    await make("a")
    changes = Changes()
    reflector = Reflector(api, THINGS, namespace=namespace, on_change=changes, relist_seconds=1)
    async with running(reflector.run()):
        await changes.are(("added", "a"))
        kept = reflector.store[f"{namespace}/a"]
        await asyncio.sleep(3.5)
        assert changes.log == []
        assert reflector.store[f"{namespace}/a"] is kept
        await make("b")
        await changes.are(("added", "b"))


async def test_a_restart_of_the_api_server_is_survived(cluster: Any, api: Api, namespace: str, make: Make) -> None:
    await make("a")
    changes = Changes()
    reflector = Reflector(api, THINGS, namespace=namespace, on_change=changes)
    async with running(reflector.run()):
        await changes.are(("added", "a"))
        await asyncio.to_thread(restart_api_server, cluster)
        await make("b")
        await api.merge(THINGS, "a", {"spec": {"count": 2}}, namespace)
        await changes.are(("added", "b"), ("changed", "a"))


async def test_what_was_missed_is_told_after_a_410(
    cluster: Any, api: Api, wire: tuple[Wire, Api], namespace: str, make: Make
) -> None:
    line, distant = wire
    for name in ("kept", "deleted", "replaced", "edited"):
        await make(name)
    changes = Changes()
    reflector = Reflector(distant, THINGS, namespace=namespace, on_change=changes)
    async with running(reflector.run()):
        await changes.are(*(("added", name) for name in ("kept", "deleted", "replaced", "edited")))
        _, version = await api.list(THINGS, namespace)
        line.cut()
        await api.delete(THINGS, "deleted", namespace)
        await api.delete(THINGS, "replaced", namespace)
        await make("replaced")
        await make("made")
        await api.merge(THINGS, "edited", {"spec": {"count": 2}}, namespace)
        # after a restart the server knows no changes of before: the version seen last is too old
        await asyncio.to_thread(restart_api_server, cluster)
        with pytest.raises(Gone):
            await first_event(api, namespace, version)
        assert changes.log == []
        line.mend()
        await changes.are(
            ("removed", "deleted"),
            ("removed", "replaced"),
            ("added", "replaced"),
            ("added", "made"),
            ("changed", "edited"),
        )


async def test_a_line_on_which_nothing_comes_is_given_up(
    api: Api, wire: tuple[Wire, Api], namespace: str, make: Make
) -> None:
    line, distant = wire
    changes = Changes()
    reflector = Reflector(distant, THINGS, namespace=namespace, on_change=changes, inactivity_timeout=1.5)
    async with running(reflector.run()):
        await make("a")
        await changes.are(("added", "a"))
        line.freeze()

        async def unhealthy() -> bool:
            return not reflector.healthy

        await until(unhealthy)
        await make("b")
        assert changes.log == []
        line.mend()
        await changes.are(("added", "b"))


async def first_event(api: Api, namespace: str, version: str) -> Object:
    events = api.watch(THINGS, namespace, resource_version=version, timeout_seconds=20, inactivity_timeout=20)
    async with aclosing(events):
        async for event in events:
            return event
    raise AssertionError("the watch ended without an event")


def restart_api_server(cluster: Any) -> None:
    cluster.stop_component("kube-apiserver")
    cluster.start_component("kube-apiserver")


# Writing


async def test_what_an_old_version_writes_is_a_conflict(api: Api, namespace: str, make: Make) -> None:
    old = (await make("a", count=1))["metadata"]["resourceVersion"]
    await api.merge(THINGS, "a", {"spec": {"count": 2}}, namespace)
    late = {"metadata": {"resourceVersion": old}, "spec": {"count": 3}}
    with pytest.raises(Conflict):
        await api.merge(THINGS, "a", late, namespace)
    with pytest.raises(Conflict):
        await api.apply(THINGS, "a", late, namespace, manager="test", force=True)
    with pytest.raises(Conflict):
        await api.delete(THINGS, "a", namespace, resource_version=old)
    assert (await api.get(THINGS, "a", namespace))["spec"] == {"count": 2}


async def test_a_status_of_an_old_version_is_a_conflict(api: Api, namespace: str, make: Make) -> None:
    old = (await make("a"))["metadata"]["resourceVersion"]
    body: Object = {"status": {"nodeName": "n1"}}
    await api.apply(THINGS, "a", body, namespace, manager="controller", subresource="status")
    late: Object = {"metadata": {"resourceVersion": old}, "status": {"nodeName": "n2"}}
    with pytest.raises(Conflict):
        await api.apply(THINGS, "a", late, namespace, manager="controller", subresource="status")


async def test_a_field_of_another_manager_is_taken_by_force_only(api: Api, namespace: str) -> None:
    await api.apply(THINGS, "a", {"spec": {"count": 1}}, namespace, manager="one")
    with pytest.raises(Conflict) as error:
        await api.apply(THINGS, "a", {"spec": {"count": 2}}, namespace, manager="two", force=False)
    assert [cause.field for cause in error.value.causes] == [".spec.count"]
    taken = await api.apply(THINGS, "a", {"spec": {"count": 2}}, namespace, manager="two")
    assert taken["spec"] == {"count": 2}


async def test_two_managers_each_own_their_status_fields(api: Api, namespace: str, make: Make) -> None:
    await make("a")
    for manager, status in (("controller", {"nodeName": "n1"}), ("agent", {"phase": "Up"}), ("controller", {})):
        result = await api.apply(THINGS, "a", {"status": status}, namespace, manager=manager, subresource="status")
    assert result["status"] == {"phase": "Up"}


async def test_a_json_patch_is_tested_first(api: Api, namespace: str, make: Make) -> None:
    await make("a", count=1)
    ops = [
        {"op": "test", "path": "/spec/count", "value": 1},
        {"op": "replace", "path": "/spec/count", "value": 2},
    ]
    assert (await api.json_patch(THINGS, "a", ops, namespace))["spec"] == {"count": 2}
    with pytest.raises(Invalid):
        await api.json_patch(THINGS, "a", ops, namespace)


async def test_a_delete_of_another_uid_is_a_conflict(api: Api, namespace: str, make: Make) -> None:
    uid = (await make("a"))["metadata"]["uid"]
    with pytest.raises(Conflict):
        await api.delete(THINGS, "a", namespace, uid=str(uuid.uuid4()))
    await api.delete(THINGS, "a", namespace, uid=uid)
    with pytest.raises(NotFound):
        await api.delete(THINGS, "a", namespace)


async def test_what_is_wrong_is_told_by_its_kind(api: Api, namespace: str, make: Make) -> None:
    await make("a")
    with pytest.raises(AlreadyExists):
        await make("a")
    with pytest.raises(NotFound) as missing:
        await api.get(THINGS, "b", namespace)
    assert missing.value.details["name"] == "b"
    with pytest.raises(Invalid) as invalid:
        await make("c", count=-1)
    assert [cause.field for cause in invalid.value.causes] == ["spec.count"]
    with pytest.raises(NotServed):
        await api.get(Resource(GROUP, "v1", "nothings", "Nothing", namespaced=True), "a", namespace)
    with pytest.raises(NotServed):
        await api.get(Resource("nowhere.kubexen.dev", "v1", "things", "Thing", namespaced=True), "a", namespace)
    with pytest.raises(NotFound):
        await api.create(THINGS, {"metadata": {"name": "a"}}, "no-such-namespace")


async def test_a_watch_ends_after_its_time(api: Api, namespace: str) -> None:
    _, version = await api.list(THINGS, namespace)
    events = api.watch(THINGS, namespace, resource_version=version, timeout_seconds=1, inactivity_timeout=20)
    async with asyncio.timeout(PATIENCE), aclosing(events):
        assert {event["type"] async for event in events} <= {"BOOKMARK"}


async def test_a_rotated_token_is_read_again(cluster: Any, api: Api, namespace: str, tmp_path: Path) -> None:
    await api.create(SERVICE_ACCOUNTS, {"metadata": {"name": "nobody"}}, namespace)
    review: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = await api.create(SERVICE_ACCOUNTS, review, namespace, name="nobody", subresource="token")
    kubeconfig = read_kubeconfig(cluster)
    for user in kubeconfig["users"]:
        user["user"] = {"tokenFile": "token"}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    (tmp_path / "token").write_text("of yesterday")
    other = await Api.connect(str(tmp_path / "kubeconfig"), user_agent="kubexen-test")
    try:
        with pytest.raises(Forbidden) as unknown:
            await other.list(THINGS, namespace)
        assert unknown.value.status == 401
        (tmp_path / "token").write_text(answer["status"]["token"])
        with pytest.raises(Forbidden, match="nobody") as known:
            await other.list(THINGS, namespace)
        assert known.value.status == 403
    finally:
        await other.close()


# Leases


async def test_an_agents_lease_is_made_renewed_and_taken_up_after_an_outage(
    api: Api, wire: tuple[Wire, Api], namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    line, distant = wire
    holder = LeaseHolder(distant, namespace, "xen1", "agent-a", duration=2, renew_every=0.5)

    async def spec() -> Object:
        try:
            return (await api.get(LEASES, "xen1", namespace))["spec"] | {}
        except NotFound:
            return {}

    async def renewed_after(time: str) -> None:
        async def later() -> bool:
            return (await spec()).get("renewTime", "") > time

        await until(later)

    assert not holder.held
    async with running(holder.run()) as (task,):
        await renewed_after("")
        first = await spec()
        assert (first["holderIdentity"], first["leaseDurationSeconds"]) == ("agent-a", 2)
        await renewed_after(first["renewTime"])
        assert holder.held
        line.freeze()

        async def expired() -> bool:
            return not holder.held

        await until(expired)
        assert f"lease {namespace}/xen1 was not renewed: no answer" in caplog.text
        line.cut()
        line.mend()
        await renewed_after((await spec())["renewTime"])
        assert not task.done()
    again = LeaseHolder(api, namespace, "xen1", "agent-b", duration=2, renew_every=0.5)
    before = (await spec())["renewTime"]
    async with running(again.run()):
        await renewed_after(before)
    assert (await spec())["holderIdentity"] == "agent-b"


class Candidate:
    """A process that wants to lead; notes in a common log when it starts and stops."""

    def __init__(self, api: Api, namespace: str, name: str, log: list[str], *, duration: float = 3) -> None:
        self.name = name
        self.log = log
        self.started = asyncio.Event()
        self.election = LeaderElection(
            api, namespace, "controller", name, duration=duration, renew_deadline=duration - 1, retry=0.3
        )

    async def run(self) -> None:
        await self.election.run(self._lead, lambda: self.log.append(f"{self.name} stops"))

    async def _lead(self) -> None:
        self.log.append(f"{self.name} starts")
        self.started.set()
        await asyncio.Event().wait()

    async def leads(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.started.wait()
        assert self.election.leading


async def test_one_leads_for_longer_than_its_lease(api: Api, namespace: str) -> None:
    log: list[str] = []
    a, b = (Candidate(api, namespace, name, log, duration=5) for name in "ab")
    async with running(a.run()):
        await a.leads()
        async with running(b.run()):
            await asyncio.sleep(6)
            assert log == ["a starts"]
            assert a.election.leading and not b.election.leading


async def test_the_lead_is_handed_over_when_it_ends(api: Api, namespace: str) -> None:
    log: list[str] = []
    # nobody sees it expire in a test's patience: b leads because it was given back
    a, b = (Candidate(api, namespace, name, log, duration=10 * PATIENCE) for name in "ab")
    async with running(a.run()) as (first,):
        await a.leads()
        async with running(b.run()):
            first.cancel()
            await b.leads()
            assert log == ["a starts", "a stops", "b starts"]
            lease = await api.get(LEASES, "controller", namespace)
            assert lease["spec"]["holderIdentity"] == "b"
            assert lease["spec"]["leaseTransitions"] == 1


async def test_the_lease_is_given_back_to_a_server_that_is_slow(
    api: Api, wire: tuple[Wire, Api], namespace: str
) -> None:
    line, distant = wire
    log: list[str] = []
    a = Candidate(distant, namespace, "a", log, duration=10 * PATIENCE)
    async with running(a.run()) as (first,):
        await a.leads()
        line.freeze()
        first.cancel()
        await asyncio.sleep(1)  # longer than it waits between two tries
        line.mend()
        await asyncio.wait({first})
    lease = await api.get(LEASES, "controller", namespace)
    assert not lease["spec"].get("holderIdentity")


async def test_the_lease_is_given_back_though_it_was_written_since(api: Api, namespace: str) -> None:
    """As it is when the end comes while a renewal is under way: the server carries it out, the answer is lost."""
    a = Candidate(api, namespace, "a", [])
    async with running(a.run()) as (first,):
        await a.leads()
        await api.merge(LEASES, "controller", {"spec": {"renewTime": micro_time()}}, namespace)
        first.cancel()
        await asyncio.wait({first})
    lease = await api.get(LEASES, "controller", namespace)
    assert not lease["spec"].get("holderIdentity")


async def test_of_many_that_find_the_lease_free_one_leads(api: Api, namespace: str) -> None:
    await api.create(LEASES, {"metadata": {"name": "controller"}, "spec": {}}, namespace)
    log: list[str] = []
    candidates = [Candidate(api, namespace, name, log) for name in "abcdefghijklmnop"]
    # a connection for each, so that all of them have read the Lease before the first one writes it
    await asyncio.gather(*(api.get(LEASES, "controller", namespace) for _ in candidates))
    async with running(*(candidate.run() for candidate in candidates)):
        await until_any(candidate.started for candidate in candidates)
        await asyncio.sleep(1)  # several tries of the others
        assert len(log) == 1
        assert sum(candidate.election.leading for candidate in candidates) == 1


@pytest.mark.parametrize("fault", ["cut", "freeze"])
async def test_a_leader_that_cannot_renew_stops_before_another_starts(
    api: Api, wire: tuple[Wire, Api], namespace: str, fault: str
) -> None:
    line, distant = wire
    log: list[str] = []
    a, b = Candidate(distant, namespace, "a", log), Candidate(api, namespace, "b", log)
    async with running(a.run()) as (first,):
        await a.leads()
        async with running(b.run()):
            getattr(line, fault)()
            await b.leads()
            assert log == ["a starts", "a stops", "b starts"]
            assert first.done() and first.exception() is None
            assert not a.election.leading


async def test_what_the_work_raises_comes_out_and_the_lease_is_given_back(api: Api, namespace: str) -> None:
    async def fail() -> None:
        raise RuntimeError("the work broke")

    election = LeaderElection(api, namespace, "controller", "a")
    with pytest.raises(RuntimeError, match="the work broke"):
        await election.run(fail)
    lease = await api.get(LEASES, "controller", namespace)
    assert "holderIdentity" not in lease["spec"]


# Events


async def test_events_are_written_and_the_same_one_is_counted(api: Api, namespace: str, make: Make) -> None:
    thing = await make("web")
    recorder = EventRecorder(api, "kubexen-test", "xen1")

    async def events() -> list[Object]:
        found, _ = await api.list(EVENTS, namespace, field_selector="regarding.name=web")
        return sorted(found, key=lambda event: str(event["reason"]))

    async def two() -> bool:
        return len(await events()) == 2

    async with running(recorder.run()):
        recorder.event(thing, "Normal", "Started", "web was started")
        recorder.event(thing, "Warning", "Crashed", "it crashed " + "x" * 2000, related=thing)
        await until(two)
        for _ in range(4):
            recorder.event(thing, "Normal", "Started", "web was started")
    await recorder.flush()
    crashed, started = await events()
    assert (started["type"], started["note"], started["regarding"]["uid"]) == (
        "Normal",
        "web was started",
        thing["metadata"]["uid"],
    )
    assert (started["reportingController"], started["reportingInstance"]) == ("kubexen-test", "xen1")
    assert started["series"]["count"] == 5
    assert (crashed["type"], len(crashed["note"]), crashed.get("series")) == ("Warning", 1024, None)
    assert crashed["related"]["name"] == "web"


async def test_events_of_an_outage_come_after_it(api: Api, wire: tuple[Wire, Api], namespace: str, make: Make) -> None:
    line, distant = wire
    thing = await make("web")
    recorder = EventRecorder(distant, "kubexen-test", "xen1")

    async def written() -> bool:
        found, _ = await api.list(EVENTS, namespace)
        return [event["reason"] for event in found] == ["Lost"]

    line.cut()
    async with running(recorder.run()):
        for _ in range(3):
            recorder.event(thing, "Normal", "Lost", "while nobody listened")
        await asyncio.sleep(0.5)
        line.mend()
        await until(written)
    found, _ = await api.list(EVENTS, namespace)
    assert found[0]["series"]["count"] == 3


async def test_an_event_that_cannot_be_written_harms_nobody(api: Api, namespace: str, make: Make) -> None:
    thing = await make("web")
    recorder = EventRecorder(api, "kubexen-test", "xen1")
    recorder.event({}, "Normal", "Broken", "an object without metadata")
    nowhere = json.loads(json.dumps(thing))
    nowhere["metadata"]["namespace"] = "no-such-namespace"
    recorder.event(nowhere, "Normal", "Nowhere", "its namespace is gone")
    recorder.event(thing, "Normal", "Fine", "this one is")
    async with running(recorder.run()):

        async def fine() -> bool:
            found, _ = await api.list(EVENTS, namespace)
            return [event["reason"] for event in found] == ["Fine"]

        await until(fine)


async def test_a_cluster_scoped_objects_events_are_in_default(api: Api, namespace: str) -> None:
    recorder = EventRecorder(api, "kubexen-test", "controller")
    recorder.event(await api.get(NAMESPACES, namespace), "Normal", "Seen", "it is there")
    await recorder.flush()
    found, _ = await api.list(EVENTS, "default", field_selector=f"regarding.name={namespace}")
    assert [event["reason"] for event in found] == ["Seen"]


async def test_an_api_server_that_is_away_is_unavailable(wire: tuple[Wire, Api], namespace: str) -> None:
    line, distant = wire
    line.cut()
    with pytest.raises(Unavailable) as error:
        await distant.get(NAMESPACES, namespace)
    assert isinstance(error.value, ApiError) and error.value.status == 0
