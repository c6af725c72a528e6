"""MAC addresses: the same at each start, in Xen's range, and nobody else's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubexen.api.conditions import Reason
from kubexen.api.domainstatus import XenDomainStatus
from kubexen.plan.addresses import assign, derive
from kubexen.plan.problem import Problem
from tests.unit.plan.builders import UID, domain

ETH0 = {"name": "eth0", "network": "lan"}
MINE = "02:00:00:00:00:01"


def nobody(_: str) -> None:
    return None


@given(st.text(), st.text(), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_every_derived_address_is_in_xens_range(uid: str, interface: str, attempt: int) -> None:
    assert re.fullmatch(r"00:16:3e(:[0-9a-f]{2}){3}", derive(uid, interface, attempt))


def test_an_address_depends_on_the_object_and_the_interface_alone() -> None:
    first = assign(domain(interfaces=[ETH0, {"name": "eth1", "network": "lan"}]), nobody)
    renamed = domain(name="other", memory={"size": "1Gi"}, interfaces=[{"name": "eth1", "network": "wan"}, ETH0])
    assert assign(renamed, nobody) == first
    assert first["eth0"] != first["eth1"]
    assert assign(domain(uid="another", interfaces=[ETH0]), nobody)["eth0"] != first["eth0"]


def test_a_users_own_address_is_taken_as_it_is() -> None:
    assert assign(domain(interfaces=[{**ETH0, "mac": MINE.upper()}]), nobody) == {"eth0": MINE}


def test_no_interface_no_address() -> None:
    assert assign(domain(XenDomainStatus(mac_addresses={"gone": MINE})), nobody) == {}


def test_a_collision_gives_the_next_address_and_that_stays() -> None:
    first, second = derive(UID, "eth0", 0), derive(UID, "eth0", 1)
    settled = assign(domain(interfaces=[ETH0]), lambda mac: "shop/db" if mac == first else None)
    assert settled == {"eth0": second}
    # The other domain is gone; the address stays as the guest knows it.
    again = domain(XenDomainStatus(mac_addresses=dict(settled)), interfaces=[ETH0])
    assert assign(again, nobody) == settled


def test_an_address_that_was_given_to_another_meanwhile_is_not_kept() -> None:
    kept = derive(UID, "eth0", 3)
    status = XenDomainStatus(mac_addresses={"eth0": kept})
    found = assign(domain(status, interfaces=[ETH0]), lambda mac: "shop/db" if mac == kept else None)
    assert found == {"eth0": derive(UID, "eth0", 0)}


def test_an_address_that_the_user_took_back_is_not_kept() -> None:
    status = XenDomainStatus(mac_addresses={"eth0": MINE})
    assert assign(domain(status, interfaces=[ETH0]), nobody) == {"eth0": derive(UID, "eth0", 0)}


def test_a_derived_address_steps_aside_for_one_that_the_user_chose_for_a_later_interface() -> None:
    first = derive(UID, "eth0", 0)
    found = assign(domain(interfaces=[ETH0, {"name": "eth1", "network": "lan", "mac": first}]), nobody)
    assert found == {"eth0": derive(UID, "eth0", 1), "eth1": first}


@pytest.mark.parametrize(
    "entry, says", [({**ETH0, "mac": MINE}, f"mac {MINE} belongs to XenDomain shop/db"), (ETH0, "no MAC address is free")],
    ids=["the user's own", "all that could be derived"],
)
def test_an_address_of_another_domain(entry: dict[str, str], says: str) -> None:
    with pytest.raises(Problem) as caught:
        assign(domain(interfaces=[entry]), lambda _: "shop/db")
    assert (caught.value.reason, caught.value.stalled) == (Reason.MAC_TAKEN, True)
    assert says in caught.value.message
