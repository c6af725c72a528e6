"""XenDomains at random, from the CRD's own schema: no plan and no agent crashes over any, and what is taken can be read and goes away.

The first test needs no cluster. The others show the documents to a real API server, then apply some for good.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hack.cluster.api import ApiError
from hack.stack.stack import Stack
from kubexen.api.base import InvalidObject
from kubexen.api.domainstatus import Move
from kubexen.api.xendisk import XenDisk
from kubexen.api.xendomain import PowerState, XenDomain
from kubexen.api.xennetwork import XenNetwork
from kubexen.api.xenstoragepool import XenStoragePool
from kubexen.hypervisor.port import DomainState, Flags, Owner, ShutdownReason
from kubexen.plan import anchor, placement
from kubexen.plan import domain as planning
from kubexen.plan.addresses import assign
from kubexen.plan.domain import Host, Observed
from kubexen.plan.placement import NodeState, World
from kubexen.plan.problem import Problem
from kubexen.plan.resolve import References, config, domain_uuid, resolve
from kubexen.plan.unplaced import Largest
from tests.cluster.bad_manifests import disk, domain, interface, network, pool
from tests.cluster.schema_strategy import ABSENT, anything, from_schema
from tests.unit.api.builders import Document

CRD = Path(__file__).parents[2] / "crds/kubexen.dev_xendomains.yaml"
SPEC = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

SHOWN = 240
"""Documents that the API server is asked about."""
APPLIED = 40
NOW = datetime(2026, 1, 1, tzinfo=UTC)

POOLS = ("random-images", "random-shared", "random-nowhere")
NETWORKS = ("random-lan", "random-nowhere")


def sometimes(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value once in four times, else nothing."""
    return st.integers(0, 3).flatmap(lambda n: st.just(ABSENT) if n else values)


FILE = st.fixed_dictionaries(
    {"pool": st.sampled_from(POOLS), "file": st.sampled_from(("vmlinuz", "vmlinux", "initrd.gz", "a/b", ".kubexen/x", "."))}
)
DIRECT = st.fixed_dictionaries({"kernel": FILE}, optional={"initrd": FILE, "cmdline": st.text(max_size=20)})
SIZE = st.sampled_from(("1Mi", "32Mi", "64M", "0.1Gi", "100000Ki", 33554432))
CPUS = st.sampled_from(((1, ABSENT), (1, 4), (2, 2), (4, 32), (33, 33), (5, 512)))
TARGETS = st.sampled_from([f"xvd{letter}" for letter in "abcdefghijklmnop"])

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
AFFINITY = st.one_of(
    anything(),
    st.fixed_dictionaries({REQUIRED: anything()}),
    st.fixed_dictionaries({REQUIRED: st.fixed_dictionaries({"nodeSelectorTerms": anything() | st.lists(anything(), max_size=2)})}),
).map(lambda value: {"nodeAffinity": value})
"""The part of an affinity that Kubexen adds to."""

BIAS: Mapping[str, st.SearchStrategy[Any]] = {
    "powerState": st.sampled_from((*PowerState, PowerState.RUNNING, PowerState.RUNNING)).map(str),
    "type": st.sampled_from(("pv", "pvh", "pvh", "hvm")),
    "replicas": st.just(1),
    "uuid": sometimes(st.uuids().map(str)),
    "boot": st.one_of(
        *[st.fixed_dictionaries({"direct": DIRECT})] * 5,
        st.just({"firmware": {"type": "uefi"}}),
        st.just({"bootloader": {"name": "pvgrub"}}),
    ),
    "cpu": CPUS.flatmap(
        lambda pair: st.fixed_dictionaries(
            {"count": st.just(pair[0])} | ({} if pair[1] is ABSENT else {"max": st.just(pair[1])}),
            optional={"affinity": st.sampled_from(("all", "0", "0-3,^1", "3-1", "^0", "9999")), "weight": st.integers(1, 65535)},
        )
    ),
    "memory": st.one_of(
        *[st.fixed_dictionaries({"size": SIZE})] * 3,
        st.fixed_dictionaries({"size": SIZE, "max": st.sampled_from(("128Mi", "1Gi", "5T", "1Pi"))}),
    ),
    "disks": st.lists(
        st.fixed_dictionaries(
            {"name": st.from_regex(r"[a-z]{1,5}", fullmatch=True), "target": TARGETS,
             "disk": st.sampled_from(("one", "two", "nowhere"))},
            optional={"readOnly": st.booleans(), "shareable": st.booleans()},
        ),
        max_size=2, unique_by=(lambda d: d["name"], lambda d: d["target"]),
    ),
    "interfaces[].mac": sometimes(st.integers(0, 2**24 - 1).map(lambda n: f"00:16:3E:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}")),
    "interfaces[].address": sometimes(st.ip_addresses().map(str)),
    "interfaces[].network": st.sampled_from(NETWORKS),
    "interfaces[].rate": sometimes(st.just("1MB/s@20ms")),
    "graphics": st.just(ABSENT),
    "pci": st.just(ABSENT),
    "cloudInit": st.just(ABSENT),
    "onPoweroff": st.sampled_from(("destroy", "restart", "preserve", "rename-restart")),
    "evictionStrategy": st.lists(st.sampled_from(("LiveMigrate", "SaveRestore", "Restart")), max_size=3, unique=True),
    "shutdownGracePeriodSeconds": st.integers(0, 5),
    "affinity": sometimes(AFFINITY),
    "nodeSelector": sometimes(st.just({"kubexen.dev/xen": "true"})),
}

SPECS = from_schema(SPEC, BIAS)
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
        for world in WORLDS:
            for anchors in ((), (WAITING,), (RUNNING,), (replace(RUNNING, deleting=True), replace(WAITING, uid="a2"))):
                json.dumps([vars(s) for s in placement.plan(found, anchors, world, NOW).steps])
    for options in ({"on": "xen1"}, {"only": "xen1"}, {"off": "xen1"}):
        json.dumps(anchor.manifest(unbound, **options))
    for flags in (None, Flags(blocked=True), Flags(paused=True), *NOT_LIVING):
        seen = Observed(state(bound, flags) if flags else None, ended_at=NOW)
        planning.owned(planning.plan(bound, seen, HOST, None, NOW).status)
    try:
        resolved = resolve(unbound, REFERENCES)
        unbound.status.mac_addresses = dict(assign(unbound, lambda mac: None))
    except Problem as problem:
        assert problem.message
        assert problem.reason
    else:
        config(unbound, resolved, note=planning.note(unbound))


@settings(RANDOM, max_examples=300)
@given(st.one_of(SPECS, SPECS, UNBIASED))
def test_no_plan_crashes(spec: Document) -> None:
    try:
        read(spec)
    except InvalidObject as error:
        assert error.message
    else:
        decide(spec)


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


def logs(stack: Stack) -> dict[str, str]:
    processes = {"controller": stack.controller} | {host.name: host.agent for host in stack.hosts}
    return {name: process.log.read_text() for name, process in processes.items()}


@dataclass(frozen=True)
class Run:
    """What happened while the domains were there: the logs, the processes before and after, and who said nothing."""

    logged: dict[str, str]
    before: dict[str, int | None]
    after: dict[str, int | None]
    silent: list[str]
    left: list[str]


@pytest.fixture(scope="module")
def run(stack: Stack, answers: Answers) -> Run:
    def pids() -> dict[str, int | None]:
        return {"controller": stack.controller.pid} | {host.name: host.agent.pid for host in stack.hosts}

    begin, before = {name: len(text) for name, text in logs(stack).items()}, pids()
    space = answers.namespace
    stack.apply(*[one | {"metadata": one["metadata"] | {"namespace": space}}
                  for one in (disk("one", pool="random-shared"), disk("two", pool="random-shared"), *answers.taken[:APPLIED])])
    names = [document["metadata"]["name"] for document in answers.taken[:APPLIED]]
    silent = []
    deadline = time.monotonic() + 60
    for name in names:
        try:  # Each is told something of the spec it has.
            stack.wait("xd", name, "jsonpath={.status.observedGeneration}=1", max(1.0, deadline - time.monotonic()), space)
        except RuntimeError:
            silent.append(name)
    stack.kubectl("apply", "-n", space, "-f", "-", input=json.dumps(domain("good", boot=GOOD_BOOT, interfaces=GOOD_INTERFACES)))
    stack.wait_reason("good", "Running", namespace=space)
    stack.kubectl("delete", "xd,xdisk", "--all", "-n", space, "--timeout=120s")
    left = stack.kubectl("get", "xd,xdisk,pods", "-n", space, "-o", "name").split()
    logged = {name: text[begin[name]:] for name, text in logs(stack).items()}
    return Run(logged, before, pids(), silent, left)


GOOD_BOOT = {"direct": {"kernel": {"pool": "random-images", "file": "vmlinuz"}}}
GOOD_INTERFACES = [interface(network="random-lan")]


def test_every_domain_is_told_something(run: Run) -> None:
    assert run.silent == []


def test_controller_and_agents_live(run: Run) -> None:
    assert None not in run.before.values()
    assert run.after == run.before


def test_nothing_was_raised_that_nobody_expected(run: Run) -> None:
    for name, text in run.logged.items():
        assert "Traceback" not in text, f"{name}: {text[text.index('Traceback') - 300:][:3000]}"


def test_all_go_away(stack: Stack, answers: Answers, run: Run) -> None:
    assert run.left == []
    assert answers.namespace not in "".join(host.xl_list() for host in stack.hosts)
