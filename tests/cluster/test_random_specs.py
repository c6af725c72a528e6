"""XenDomains at random, from the CRD's own schema: no plan and no agent crashes over any, and all of them go away again.

The first test needs no cluster. The others show the documents to a real API server, then apply some for good.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from hack.cluster.api import ApiError
from hack.stack.stack import Stack
from kubexen.api.base import InvalidObject
from kubexen.api.domainstatus import Move
from kubexen.api.xendisk import XenDisk
from kubexen.api.xendomain import XenDomain
from kubexen.api.xennetwork import XenNetwork
from kubexen.api.xenstoragepool import XenStoragePool
from kubexen.hypervisor.port import DomainState, Flags, Owner, ShutdownReason
from kubexen.plan import anchor, placement
from kubexen.plan import domain as planning
from kubexen.plan.addresses import assign
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import References, config, domain_uuid, request, reservation, resolve
from kubexen.plan.started import note
from kubexen.plan.step import Host, Observed
from kubexen.plan.unplaced import Largest
from kubexen.plan.world import NodeState, World
from tests.cluster.bad_manifests import disk, domain, interface, network, pool
from tests.cluster.schema_strategy import ABSENT, anything, from_schema
from tests.unit.api.builders import Document, put

pytestmark = pytest.mark.early

CRD = Path(__file__).parents[2] / "crds/kubexen.dev_xendomains.yaml"
SPEC = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

SHOWN = 160
"""Documents that the API server is asked about."""
APPLIED = 40
GOOD_BOOT = {"direct": {"kernel": {"pool": "random-images", "file": "vmlinuz"}}}
READY_REASONS = '{.items[*].status.conditions[?(@.type=="Ready")].reason}'
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def sometimes(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value once in four times, else nothing."""
    return st.integers(1, 4).flatmap(lambda n: values if n == 4 else st.just(ABSENT))


def mostly(*usual: Any, else_: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """One of the usual values seven times in eight."""
    return st.integers(1, 8).flatmap(lambda n: st.sampled_from(else_ if n == 8 else usual))


FILE = st.fixed_dictionaries(
    {
        "pool": mostly("random-images", else_=("random-shared", "nowhere")),
        "file": mostly("vmlinuz", "vmlinux", "initrd.gz", else_=("a/b", ".kubexen/x", ".")),
    }
)
CMDLINE = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=20)
DIRECT = st.fixed_dictionaries({"kernel": FILE}, optional={"initrd": FILE, "cmdline": CMDLINE})
OTHER_BOOTS = ({"firmware": {"type": "uefi"}}, {"bootloader": {"name": "pvgrub"}})
SIZE = st.sampled_from(("1Mi", "32Mi", "64M", "0.1Gi", "100000Ki", 33554432))
CPUS = mostly({"count": 1}, {"count": 1, "max": 4}, {"count": 2, "max": 2}, else_=({"count": 33}, {"count": 5, "max": 512}))
AFFINITIES = mostly("all", "0", "0-3,^1", else_=("3-1", "^0", "9999"))
TARGETS = st.sampled_from([f"xvd{letter}" for letter in "abcdefghijklmnop"])
MACS = st.integers(0, 2**16 - 1).map(lambda n: f"00:16:3E:00:{n >> 8:02x}:{n & 255:02x}")

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
SHAPES = st.one_of(st.sampled_from((True, 7, "x", [1], ["a"], [[]], {"a": 1}, {})), anything())
AFFINITY = st.one_of(
    SHAPES,
    st.fixed_dictionaries({REQUIRED: SHAPES}),
    st.fixed_dictionaries({REQUIRED: st.fixed_dictionaries({"nodeSelectorTerms": SHAPES})}),
).map(lambda value: {"nodeAffinity": value})
"""Right or wrong shapes of the part of an affinity that Kubexen adds to."""

PASSING: Mapping[str, st.SearchStrategy[Any]] = {
    "replicas": st.just(1),
    "uuid": sometimes(st.uuids().map(str)),
    "boot": st.integers(1, 8).flatmap(
        lambda n: st.sampled_from(OTHER_BOOTS) if n == 8 else st.fixed_dictionaries({"direct": DIRECT})
    ),
    "cpu": CPUS.flatmap(
        lambda cpu: st.fixed_dictionaries(
            {name: st.just(value) for name, value in cpu.items()},
            optional={"affinity": AFFINITIES, "weight": st.integers(1, 65535)},
        )
    ),
    "memory": st.one_of(
        st.fixed_dictionaries({"size": SIZE}),
        st.fixed_dictionaries({"size": SIZE, "max": mostly("128Mi", "256Mi", else_=("5T", "1Pi"))}),
    ),
    "interfaces[].mac": sometimes(MACS),
    "interfaces[].address": sometimes(st.ip_addresses().map(str)),
    "interfaces[].network": mostly("random-lan", else_=("nowhere",)),
    "evictionStrategy": st.lists(st.sampled_from(("LiveMigrate", "SaveRestore", "Restart")), max_size=3, unique=True),
    "shutdownGracePeriodSeconds": st.integers(0, 5),
}
"""What lets a document pass the rules of the API server."""

ENDINGS = mostly("destroy", "restart", "preserve", else_=("rename-restart",))
CARRIED_OUT = PASSING | {
    "powerState": mostly("Running", "Paused", "Halted", else_=("Suspended",)),
    "type": mostly("pv", "pvh", else_=("hvm",)),
    "disks": st.lists(
        st.fixed_dictionaries(
            {
                "name": st.from_regex(r"[a-z]{1,5}", fullmatch=True),
                "target": TARGETS,
                "disk": mostly("one", "two", else_=("nowhere",)),
            },
            optional={"readOnly": st.booleans()},
        ),
        max_size=2,
        unique_by=(lambda d: d["name"], lambda d: d["target"], lambda d: d["disk"]),
    ),
    "interfaces[].rate": st.just(ABSENT),
    "interfaces[].model": st.just(ABSENT),
    "graphics": st.just(ABSENT),
    "pci": st.just(ABSENT),
    "cloudInit": st.just(ABSENT),
    "onPoweroff": ENDINGS,
    "onReboot": ENDINGS,
    "onCrash": ENDINGS,
    "affinity": sometimes(AFFINITY),
    "nodeSelector": sometimes(st.just({"kubexen.dev/xen": "true"})),
    "topologySpreadConstraints": st.just(ABSENT),
    "priorityClassName": st.just(ABSENT),
    "schedulerName": st.just(ABSENT),
}
"""What lets a domain start, most of the time."""

SPECS = st.one_of(from_schema(SPEC, CARRIED_OUT), from_schema(SPEC, PASSING))
UNBIASED = from_schema(SPEC, {})
RANDOM = settings(
    deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


# --- the plans


class Anything(dict[str, Any]):
    """A mapping that has whatever is asked for; of every second name it has nothing."""

    def __init__(self, kind: type[Any], **spec: Any) -> None:
        super().__init__()
        self._kind, self._spec = kind, spec

    def get(self, name: str, default: Any = None) -> Any:
        if "nowhere" in name:
            return default
        return self._kind.parse({"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": self._spec})

    def __getitem__(self, name: str) -> Any:
        return self.get(name)


REFERENCES = References(
    disks=Anything(XenDisk, pool="shared", size="1Mi"),
    pools=Anything(XenStoragePool, directory={"path": "/srv/x"}, namespaceSelector={}),
    networks=Anything(XenNetwork, bridge="xenbr0", namespaceSelector={}),
    namespace_labels={},
)
HOST = Host("xen1", "boot-1")
NOT_LIVING = (Flags(shutdown=True), Flags(shutdown=True, crashed=True), Flags(dying=True))
WAITING = anchor.Anchor("a", "a1", "", "Pending", False, "2026-01-01T00:00:00Z",
                        unschedulable="0/2 nodes: 2 Insufficient kubexen.dev/memory-mib, 2 Insufficient kubexen.dev/vcpus.")
RUNNING = replace(WAITING, node="xen1", phase="Running", unschedulable="")
WORLDS = (
    World(),
    World(problem=Problem("InvalidSpec", "no", stalled=True)),
    World(only_node="xen1", largest=Largest(1000, 8)),
    World(node=NodeState(lost=True)),
    World(node=NodeState(fenced=True)),
    World(namespace_deleting=True),
    World(anchor_refused="exceeded quota"),
)


def state(domain: XenDomain, flags: Flags) -> DomainState:
    owner = Owner(domain.metadata.namespace, domain.metadata.name, domain.metadata.uid)
    return DomainState(
        uuid=domain_uuid(domain), name="shop.web", domid=7, flags=flags,
        shutdown_reason=ShutdownReason.CRASH if flags.shutdown else None, vcpus=1, vcpus_online=1, memory_kib=32768,
        max_memory_kib=65536, memory_target_kib=32768, owner=owner, note='{"cpu": {"count": 9}, "disks": 1}',
    )


def read(spec: Document, **status: Any) -> XenDomain:
    metadata = {"name": "web", "namespace": "shop", "uid": "5f0c1a52-7a0e-4d6e-9d42-2a4d7d3f0b11", "generation": 3}
    return XenDomain.parse({"metadata": metadata, "spec": spec, "status": status})


def decide(spec: Document) -> None:
    """Ask everything that decides. Only Problem may come out, and that only where it is declared."""
    unbound = read(spec)
    bound = read(spec, nodeName="xen1", anchorUID="a1")
    leaving = bound.model_copy(deep=True)
    leaving.status.move = Move(uid="a1", phase="Pending", cause="drain")
    for found in (unbound, bound, leaving):
        waiting, running = (replace(a, request=request(reservation(found))) for a in (WAITING, RUNNING))
        for world in WORLDS:
            for anchors in ((), (WAITING,), (waiting,), (running,), (replace(running, deleting=True), replace(waiting, uid="a2"))):
                json.dumps([vars(s) for s in placement.plan(found, anchors, world, NOW).steps])
    for options in ({"on": "xen1"}, {"only": "xen1"}, {"off": "xen1"}):
        json.dumps(anchor.manifest(unbound, **options))
    for flags in (None, Flags(blocked=True), Flags(paused=True), *NOT_LIVING):
        seen = Observed(state(bound, flags) if flags else None, ended_at=NOW)
        planning.owned(planning.plan(bound, seen, HOST, None, NOW).status)
    try:
        resolved = resolve(unbound, REFERENCES)
        unbound.status.mac_addresses = dict(assign(unbound, lambda mac: None))
    except Problem:
        return
    config(unbound, resolved, note=note(unbound))


def resolves(spec: Document) -> bool:
    try:
        resolve(read(spec), REFERENCES)
    except Problem:
        return False
    return True


@settings(RANDOM, max_examples=150)
@given(st.one_of(SPECS, SPECS, UNBIASED))
def test_no_plan_crashes(spec: Document) -> None:
    try:
        decide(spec)
    except InvalidObject as error:  # the API server would have refused most of these, too
        event(f"not read: {error.field}")


# --- the API server, and the hosts


def documents() -> list[Document]:
    """Domains at random; always the same."""
    found: list[Document] = []

    @settings(RANDOM, max_examples=SHOWN)
    @given(SPECS)
    def collect(spec: Document) -> None:
        found.append(spec)

    collect()
    return [domain(f"random-{n}") | {"spec": spec} for n, spec in enumerate(found)]


@dataclass(frozen=True)
class Answers:
    namespace: str
    shown: int
    taken: list[Document]
    refusals: list[str]


@pytest.fixture(scope="module")
def space(stack: Stack) -> Iterator[str]:
    """A namespace, and pools and a network for it."""
    name = f"random-{uuid.uuid4().hex[:6]}"
    given_ = (pool("random-images", "/srv/images"), pool("random-shared", "/srv/shared"), network("random-lan"))
    stack.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, *given_)
    yield name
    stack.kubectl("delete", "namespace", name, "--timeout=120s")
    for document in given_:
        stack.kubectl("delete", document["kind"], document["metadata"]["name"])


@pytest.fixture(scope="module")
def answers(stack: Stack, space: str) -> Answers:
    api, path = stack.cluster.api, f"/apis/kubexen.dev/v1alpha1/namespaces/{space}/xendomains?dryRun=All"

    def show(document: Document) -> Document | str:
        try:
            return api.create(path, document)
        except ApiError as error:
            return str(error)

    shown = documents()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(show, shown))
    taken = [document for document, answer in zip(shown, found, strict=True) if not isinstance(answer, str)]
    return Answers(space, len(shown), taken, [answer for answer in found if isinstance(answer, str)])


def test_at_least_half_pass_the_api_server(answers: Answers) -> None:
    assert answers.shown >= SHOWN
    assert len(answers.taken) >= answers.shown / 2, answers.refusals[:10]


def test_some_are_refused_and_told_the_field(answers: Answers) -> None:
    assert answers.refusals
    for refusal in answers.refusals:
        assert refusal.startswith("422: XenDomain.kubexen.dev")
        assert "spec" in refusal


def test_what_the_api_server_takes_can_be_read_and_planned(answers: Answers) -> None:
    for document in answers.taken:
        decide(document["spec"])
    assert sum(resolves(document["spec"]) for document in answers.taken) >= len(answers.taken) / 4


def logs(stack: Stack) -> dict[str, str]:
    processes = {"controller": stack.controller} | {host.name: host.agent for host in stack.hosts}
    return {name: process.log.read_text() for name, process in processes.items()}


@dataclass(frozen=True)
class Run:
    """What happened while the domains were there: the logs, the agents' processes before and after, of whom nothing was said."""

    logged: dict[str, str]
    before: dict[str, int | None]
    after: dict[str, int | None]
    silent: list[str]
    reasons: Counter[str]
    left: list[str]


@pytest.fixture(scope="module")
def run(stack: Stack, answers: Answers) -> Run:
    def pids() -> dict[str, int | None]:
        return {host.name: host.agent.pid for host in stack.hosts}

    begin, before = {name: len(text) for name, text in logs(stack).items()}, pids()
    space = answers.namespace
    chosen = answers.taken[:: len(answers.taken) // APPLIED][:APPLIED]  # the first ones are the simplest
    disks = [disk(name, pool="random-shared") for name in ("one", "two")]
    stack.apply(*[put(document, "metadata.namespace", space) for document in (*disks, *chosen)])
    names = [document["metadata"]["name"] for document in chosen]
    silent = []
    deadline = time.monotonic() + 60
    for name in names:
        try:  # Each is told something of the spec it has.
            stack.wait("xd", name, "jsonpath={.status.observedGeneration}=1", max(1.0, deadline - time.monotonic()), space)
        except RuntimeError:
            silent.append(name)
    good = domain("good", boot=GOOD_BOOT, interfaces=[interface(network="random-lan")])
    bad = domain("bad", boot=GOOD_BOOT, cpu={"count": 1, "affinity": "1,^1"})
    stack.apply(*(put(one, "metadata.namespace", space) for one in (good, bad)))
    stack.wait_reason("good", "Running", namespace=space)
    stack.wait_reason("bad", "InvalidSpec", namespace=space)
    reasons = Counter(stack.kubectl("get", "xd", "-n", space, "-o", f"jsonpath={READY_REASONS}").split())
    stack.kubectl("delete", "xd,xdisk", "--all", "-n", space, "--timeout=120s")
    left = stack.kubectl("get", "xd,xdisk,pods", "-n", space, "-o", "name").split()
    logged = {name: text[begin[name]:] for name, text in logs(stack).items()}
    return Run(logged, before, pids(), silent, reasons, left)


def test_every_domain_is_told_something(run: Run) -> None:
    assert run.silent == []


def test_some_start_and_some_cannot(run: Run) -> None:
    assert run.reasons["Running"] > 1  # one is the good one
    assert run.reasons["NotImplemented"]
    assert run.reasons["InvalidSpec"]


def test_controller_and_agents_live(run: Run) -> None:
    assert None not in run.before.values()
    assert run.after == run.before
    assert "controller ended" not in run.logged["controller"]


def test_nothing_was_raised_that_nobody_expected(run: Run) -> None:
    for name, text in run.logged.items():
        assert "Traceback" not in text, f"{name}: {text[text.index('Traceback') - 300:][:3000]}"


def test_all_go_away(stack: Stack, answers: Answers, run: Run) -> None:
    assert run.left == []
    assert answers.namespace not in "".join(host.xl_list() for host in stack.hosts)
