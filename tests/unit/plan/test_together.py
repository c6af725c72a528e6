"""Both plans at work on one domain, three hosts and whatever may happen to them.

A small world carries out the steps at once; hypothesis chooses what happens and who gets to look when. After each move
at most one host runs the domain, and when all is quiet again everything is as the spec asks.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from kubexen.api.conditions import find
from kubexen.api.domainstatus import AGENT_FIELDS, CONTROLLER_FIELDS, ClaimStatus, XenDomainStatus
from kubexen.api.quantity import Quantity
from kubexen.api.xendomain import PowerState, XenDomain
from kubexen.hypervisor.port import DomainState, ShutdownReason
from kubexen.plan import domain as agent
from kubexen.plan import placement
from kubexen.plan.anchor import Anchor, observe
from kubexen.plan.resolve import request, reservation
from kubexen.plan.started import note
from kubexen.plan.world import CreateAnchor, DropFinalizer, EndAnchor, NodeState, SetGate, Step, World
from tests.unit.plan.acts import constraints
from tests.unit.plan.builders import NOW, ON_ONE_NODE, SHARED, anchor, claim, domain, state, uses
from tests.unit.plan.test_placement_properties import crd_allows

STEPS = 6
"""As many as the agent takes in one pass, all on the status that it read at first."""


@dataclass
class Host:
    name: str
    boots: int = 1
    on: bool = True
    connected: bool = True  # whether its agent reaches the API server
    cordoned: bool = False
    fenced_boot: int | None = None
    domain: DomainState | None = None
    ended_at: datetime | None = None
    asked_at: datetime | None = None
    deaf: bool = False  # the guest ignores a request to shut down
    domids: int = 0

    @property
    def running(self) -> bool:
        return self.domain is not None and not self.domain.flags.shutdown


@dataclass
class Lab:
    xd: XenDomain | None
    claims: tuple[ClaimStatus, ...] = ()
    now: datetime = NOW
    anchors: list[Anchor] = field(default_factory=list)
    hosts: dict[str, Host] = field(default_factory=lambda: {n: Host(n) for n in ("xen1", "xen2", "xen3")})
    off: dict[str, str | None] = field(default_factory=dict)  # by anchor: the node that it may not be placed on
    made: int = 0
    events: list[str] = field(default_factory=list)

    # --- who looks

    def controller(self) -> None:
        if self.xd is None:
            return
        old = self.xd.status
        host = self.hosts.get(old.node_name or "")
        node = NodeState()
        if host:
            lost = not (host.on and host.connected)
            node = NodeState(cordoned=host.cordoned, lost=lost, fenced=host.fenced_boot == host.boots)
        strays = [h.name for h in self.hosts.values() if h.on and h.connected and h.domain and not old.node_name]
        result = placement.plan(
            self.xd, self.anchors, World(node=node, found_on=strays[0] if strays else None, claims=self.claims), self.now
        )
        if result.status is not None:
            assert crd_allows(old, result.status)
            self._write(result.status, CONTROLLER_FIELDS, placement.CONDITIONS)
        self.events += [event.reason for event in result.events]
        for step in result.steps:
            self._act(step)

    def _act(self, step: Step) -> None:
        match step:
            case EndAnchor(_, uid):
                self.anchors = [a for a in self.anchors if a.uid != uid]
            case SetGate(_, uid, ready):
                self.anchors = [dataclasses.replace(a, ready=ready) if a.uid == uid else a for a in self.anchors]
            case DropFinalizer():
                assert not self.anchors
                self.xd = None
            case CreateAnchor(manifest):
                self.made += 1
                wanted = constraints(manifest)
                made = observe({**manifest, "metadata": {"name": "", "uid": ""}})
                new = anchor(f"p{self.made}", wanted.get("on", ""), "Pending", age=0, ready=None, request=made.request,
                             mounts=made.mounts)
                self.off[new.uid] = wanted.get("off")
                self.anchors.append(new)

    def kubelets(self) -> None:
        """The scheduler, the kubelets, and guests that do what they were asked to."""
        placed = []
        for one in self.anchors:
            if not one.node and one.live:
                free = [h.name for h in self.hosts.values()
                        if h.on and h.connected and not h.cordoned and h.name != self.off[one.uid]]
                one = dataclasses.replace(one, node=free[self.made % len(free)] if free else "",
                                          unschedulable="" if free else "no node")
            elif one.node and one.phase == "Pending" and self.hosts[one.node].on:
                one = dataclasses.replace(one, phase="Running")
            placed.append(one)
        self.anchors = placed
        for host in self.hosts.values():
            if host.running and host.asked_at and not host.deaf and host.domain and not host.domain.flags.paused:
                self._end(host, ShutdownReason.POWEROFF)

    def agents(self) -> None:
        for host in self.hosts.values():
            if host.on and host.connected:
                self._agent(host)

    def _agent(self, host: Host) -> None:
        node = self.xd.status.node_name if self.xd else None
        if self.xd is None or node != host.name:
            if host.domain and node:  # left from before a fence; a stray of no node is only told
                host.domain = None
            return
        found = self.xd
        result = self._look(found, host)
        for _ in range(STEPS):
            if result.step is None:
                break
            self.events += [event.reason for event in result.events]
            self._do(host, result.step)
            done, result = result, self._look(found, host)
            if result.step == done.step and not isinstance(done.step, agent.Start):
                break
        if result.step is None:
            self.events += [event.reason for event in result.events]
        self._write(result.status, AGENT_FIELDS, agent.CONDITIONS)

    def _look(self, found: XenDomain, host: Host) -> agent.Plan:
        seen = agent.Observed(host.domain, ended_at=host.ended_at, asked_at=host.asked_at)
        return agent.plan(found, seen, agent.Host(host.name, f"{host.name}-{host.boots}"), None, self.now)

    def _do(self, host: Host, step: agent.Step) -> None:
        assert self.xd is not None
        match step:
            case agent.Start():
                assert host.domain is None
                host.domids += 1
                host.asked_at = host.ended_at = None
                flags = "--p---" if self.xd.spec.power_state == "Paused" else "-b----"
                most = self.xd.spec.memory.maximum
                assert self.xd.status.reserved == reservation(self.xd), "it may take more or less than is held for it"
                host.domain = state(flags, domid=host.domids, note=note(self.xd), max_memory_kib=most // 1024)
            case agent.Destroy(_, domid):
                assert host.domain is not None and host.domain.domid == domid
                host.domain = host.asked_at = None
            case agent.Shutdown():
                host.asked_at = self.now
            case agent.Pause() | agent.Unpause():
                assert host.domain is not None
                flags = "--p---" if isinstance(step, agent.Pause) else "-b----"
                host.domain = dataclasses.replace(host.domain, flags=state(flags).flags)

    def _write(self, new: XenDomainStatus, fields: frozenset[str], types: tuple[str, ...]) -> None:
        """Server-side apply: a manager's own fields and conditions, and nothing of another's."""
        assert self.xd is not None
        old = self.xd.status
        others = [c for c in old.conditions if c.type not in types]
        update = {name: getattr(new, name) for name in fields}
        update["conditions"] = [*others, *(c for c in new.conditions if c.type in types)]
        self.xd = self.xd.model_copy(update={"status": old.model_copy(update=update)})

    def _end(self, host: Host, reason: ShutdownReason) -> None:
        if host.running and host.domain:
            host.domain = dataclasses.replace(host.domain, flags=state("---s--").flags, shutdown_reason=reason)
            host.ended_at = self.now

    # --- what happens

    def happen(self, what: str) -> None:
        home = next((h for h in self.hosts.values() if h.domain), None)
        match what.split():
            case ["controller"]:
                self.controller()
            case ["kubelets"]:
                self.kubelets()
            case ["agents"]:
                self.agents()
            case ["wait", seconds]:
                self.now += timedelta(seconds=int(seconds))
            case ["delete"] if self.xd:
                metadata = self.xd.metadata.model_copy(update={"deletion_timestamp": self.now})
                self.xd = self.xd.model_copy(update={"metadata": metadata})
            case ["power", power] if self.xd:
                spec = self.xd.spec.model_copy(update={"power_state": PowerState(power)})
                metadata = self.xd.metadata.model_copy(update={"generation": self.xd.metadata.generation + 1})
                self.xd = self.xd.model_copy(update={"spec": spec, "metadata": metadata})
            case ["max", size] if self.xd:
                memory = self.xd.spec.memory.model_copy(update={"max": Quantity.parse(size)})
                spec = self.xd.spec.model_copy(update={"memory": memory})
                metadata = self.xd.metadata.model_copy(update={"generation": self.xd.metadata.generation + 1})
                self.xd = self.xd.model_copy(update={"spec": spec, "metadata": metadata})
            case ["drain", name]:
                self.hosts[name].cordoned = True
                self.anchors = [dataclasses.replace(a, deleting=True) if a.node == name else a for a in self.anchors]
            case ["uncordon"]:
                for host in self.hosts.values():
                    host.cordoned = False
            case ["evict"]:
                self.anchors = [dataclasses.replace(a, deleting=True) if a.node else a for a in self.anchors]
            case ["anchors", "fail"]:
                self.anchors = [dataclasses.replace(a, phase="Failed") for a in self.anchors]
            case ["anchors", "vanish"]:
                self.anchors = []
            case ["guest", reason] if home and home.domain:
                self._end(home, ShutdownReason(reason))
            case ["guest-reboots"] if home and home.running and home.domain:
                home.domids += 1
                home.domain = dataclasses.replace(home.domain, domid=home.domids)
            case ["deaf"] if home:
                home.deaf = True
            case ["xl-destroy"] if home:
                home.domain = None
            case ["xl-pause"] if home and home.running and home.domain:
                home.domain = dataclasses.replace(home.domain, flags=state("--p---").flags)
            case ["disconnect"] if home:
                home.connected = False
            case ["connect"]:
                for host in self.hosts.values():
                    host.connected = True
            case ["power-cut"] if home:
                home.on, home.domain = False, None
            case ["fence"]:
                for host in self.hosts.values():
                    host.fenced_boot = host.fenced_boot if host.on else host.boots
            case ["boot"]:
                for host in list(self.hosts.values()):
                    if not host.on:
                        self.hosts[host.name] = Host(host.name, host.boots + 1, fenced_boot=host.fenced_boot)
        assert sum(h.running for h in self.hosts.values()) <= 1, "one domain on two hosts"
        assert sum(h.domain is not None for h in self.hosts.values() if h.on) <= 1
        if any(claim.exclusive for claim in self.claims):
            assert len({a.node for a in self.anchors if a.mounts and a.node}) <= 1, "one claim on two nodes"

    def settle(self) -> None:
        for what in ("connect", "boot", "uncordon"):
            self.happen(what)
        for _ in range(60):
            before = (self.xd, tuple(self.anchors), tuple(h.domain for h in self.hosts.values()))
            for what in ("controller", "kubelets", "agents", "wait 20"):
                self.happen(what)
            if before == (self.xd, tuple(self.anchors), tuple(h.domain for h in self.hosts.values())) and self.calm():
                return
        raise AssertionError("it does not settle")

    def calm(self) -> bool:
        """Nothing is under way that time alone carries on."""
        status = self.xd.status if self.xd else None
        if status is None or not status.node_name:
            return True
        said = find(status.conditions, "DomainReady")
        return said is not None and said.reason in ("Running", "Paused", "PoweredOff", "Crashed")


LOOKS = ("controller", "kubelets", "agents")
HAPPENINGS = (
    "delete", "power Halted", "power Running", "power Paused", "power Running", "max 1Gi", "max 2Gi", "drain xen1", "drain xen2",
    "drain xen3", "uncordon", "evict", "anchors fail", "anchors vanish", "guest poweroff", "guest crash", "guest reboot",
    "guest-reboots", "deaf", "xl-destroy", "xl-pause", "disconnect", "connect", "power-cut", "fence", "boot",
    "wait 5", "wait 65",
)


@given(
    st.lists(st.sampled_from(LOOKS) | st.sampled_from(HAPPENINGS), max_size=40),
    st.sampled_from(("restart", "destroy", "preserve")), st.booleans(), st.sampled_from((None, ON_ONE_NODE, SHARED)),
)
@settings(max_examples=400, deadline=None)
def test_whatever_happens_it_runs_once_and_ends_as_the_spec_asks(
    story: list[str], on_crash: str, starts: bool, access: tuple[str, ...] | None
) -> None:
    claims = (claim(access=access),) if access else ()
    lab = Lab(domain(on_crash=on_crash, disks=uses("data") if access else []), claims)
    if starts:
        lab.settle()
    for what in story:
        lab.happen(what)
    lab.settle()

    there = [host.name for host in lab.hosts.values() if host.domain]
    if lab.xd is None:
        assert (lab.anchors, there) == ([], [])
        return
    status = lab.xd.status
    ready = find(status.conditions, "Ready")
    assert ready is not None
    told = f"{ready.status} {ready.reason}"
    if lab.xd.spec.power_state == "Halted":
        assert (told, lab.anchors, there) == ("True Halted", [], [])
    elif status.off is not None:
        assert told in ("True PoweredOff", "False Crashed")
        assert (lab.anchors, there) == ([], [])
    else:
        assert there == [status.node_name]
        assert status.reserved is not None
        assert [(a.uid, a.request) for a in lab.anchors] == [(status.anchor_uid, request(status.reserved))]
        kept = status.last_exit is not None
        assert told == ("False Crashed" if kept else f"True {lab.xd.spec.power_state}")
        assert status.observed_generation == lab.xd.metadata.generation
    if "xl-destroy" not in story:
        assert "DestroyedByHand" not in lab.events


def test_a_drain_there_and_back() -> None:
    lab = Lab(domain())
    lab.settle()
    assert lab.xd is not None
    for _ in range(2):
        home = lab.xd.status.node_name
        lab.happen(f"drain {home}")
        for _ in range(8):
            for what in ("controller", "kubelets", "agents"):
                lab.happen(what)
        assert lab.xd.status.node_name not in (None, home)
        assert [a.node for a in lab.anchors] == [lab.xd.status.node_name]
        lab.happen("uncordon")
    assert lab.events.count("Moving") == 2
    assert "AnchorLost" not in lab.events


def test_a_crash_loop_is_spaced_out() -> None:
    """Crashes at once after each start: starts after 0, 10, 20, 40, ... seconds."""
    lab = Lab(domain())
    lab.settle()
    begin, starts, domid = lab.now, [], 0
    for _ in range(80):
        lab.happen("guest crash")
        for _ in range(3):
            lab.happen("agents")
        home = next((h for h in lab.hosts.values() if h.running), None)
        if home and home.domain and home.domain.domid != domid:
            domid = home.domain.domid
            starts.append(int((lab.now - begin).total_seconds()))
        lab.happen("wait 1")
    assert starts == [0, 11, 32, 73]
