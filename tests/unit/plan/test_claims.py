"""Claims: what is read of one, and that two domains never have the same one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import permutations
from typing import Any

import pytest

from kubexen.api.conditions import Reason
from kubexen.api.domainstatus import VolumeMode, XenDomainStatus
from kubexen.api.xendomain import XenDomain
from kubexen.plan import claims
from kubexen.plan.problem import Problem
from tests.unit.plan.builders import SHARED, claim, domain, uses

DOCUMENT: dict[str, Any] = {
    "metadata": {"name": "data", "uid": "u"},
    "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block", "volumeName": "pv-1"},
    "status": {"phase": "Bound"},
}


def test_what_is_read_of_a_claim() -> None:
    found = claims.observe(DOCUMENT)
    assert (found.status.name, found.status.uid, found.status.volume_name) == ("data", "u", "pv-1")
    assert (found.status.volume_mode, found.status.exclusive, found.problem) == (VolumeMode.BLOCK, True, "")
    assert claims.path(found.status) == "/run/kubexen/disks/u"


def test_a_claim_that_no_volume_was_found_for_yet_can_be_used() -> None:
    found = claims.observe({"metadata": DOCUMENT["metadata"], "spec": {"accessModes": list(SHARED)}})
    assert (found.status.volume_name, found.problem) == ("", "")
    assert found.status.volume_mode is VolumeMode.FILESYSTEM


UNUSABLE: dict[str, dict[str, Any]] = {
    "is being deleted": {"metadata": {**DOCUMENT["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}},
    "has lost its PersistentVolume": {"status": {"phase": "Lost"}},
}


@pytest.mark.parametrize("says", UNUSABLE)
def test_a_claim_that_cannot_be_used(says: str) -> None:
    assert claims.observe(DOCUMENT | UNUSABLE[says]).problem.startswith(says)


MODES = {
    "ReadWriteOnce": True, "ReadWriteOncePod": True, "ReadOnlyMany": True, "ReadWriteMany": False,
    "ReadWriteOnce ReadWriteMany": False,
}


@pytest.mark.parametrize("modes, exclusive", MODES.items())
def test_which_can_be_on_one_node_only(modes: str, exclusive: bool) -> None:
    assert bool(claims.exclusive([claim(access=modes.split())])) == exclusive


TERMS = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]


def test_where_a_volume_can_be() -> None:
    assert claims.node_terms({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": TERMS}}}}) == TERMS
    assert claims.node_terms({"spec": {}}) == []


# --- two domains, one claim


@dataclass(frozen=True)
class Wants:
    """A domain that names the claim, unless it says otherwise."""

    created: str = "2026-03-01T11:00:00Z"
    bound: bool = False
    holds: bool = False
    names: bool = True

    def as_domain(self, name: str) -> XenDomain:
        held = [claim()] if self.holds else []
        status = XenDomainStatus(node_name=f"on-{name}" if self.bound else None, claims=held)
        found = domain(status, name=name, uid=name, disks=uses("data") if self.names else [])
        metadata = found.metadata.model_copy(update={"creation_timestamp": datetime.fromisoformat(self.created)})
        return found.model_copy(update={"metadata": metadata})


LATER = "2026-03-01T11:30:00Z"
ORDER: dict[str, tuple[Wants, Wants]] = {
    "the older one": (Wants(), Wants(LATER)),
    "the bound one": (Wants(LATER, bound=True, holds=True), Wants()),
    "who holds it, although it is off": (Wants(LATER, holds=True), Wants()),
    "who holds it, although the other is bound": (Wants(LATER, holds=True), Wants(bound=True)),
    "who holds it, although its spec names it no more": (Wants(LATER, bound=True, holds=True, names=False), Wants()),
}


@pytest.mark.parametrize("first, second", ORDER.values(), ids=ORDER)
def test_who_has_it(first: Wants, second: Wants) -> None:
    for one, other in permutations(("a", "b")):
        has, waits = first.as_domain(one), second.as_domain(other)
        claims.check_order(has, "data", [waits])
        with pytest.raises(Problem) as caught:
            claims.check_order(waits, "data", [has])
        assert caught.value.reason == Reason.DISK_IN_USE
        assert f"PersistentVolumeClaim 'data' is held by XenDomain {one!r}" in caught.value.message


def test_of_two_that_both_hold_it_none_is_started_twice() -> None:
    """A late answer of an earlier leader may write a second holder: the agents find out, whoever asks later."""
    one, other = (Wants(bound=True, holds=True).as_domain(name) for name in ("a", "b"))
    with pytest.raises(Problem) as caught:
        claims.check_sole(other, other.status.claims, [one, other])
    assert caught.value.reason == Reason.DISK_IN_USE
    assert "which is on node on-a" in caught.value.message


def test_who_is_on_no_node_or_holds_another_claim_is_in_nobodys_way() -> None:
    one = Wants(bound=True, holds=True).as_domain("a")
    off = Wants(holds=True).as_domain("b")
    other = Wants(bound=True).as_domain("c")
    claims.check_sole(one, one.status.claims, [one, off, other])
