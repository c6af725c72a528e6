"""Reading objects: defaults, what an agent of another version meets, clear errors, and what is written back."""

from typing import Any

import pytest

from kubexen.api.base import InvalidObject
from kubexen.api.domainstatus import AGENT_FIELDS, CONTROLLER_FIELDS, XenDomainStatus
from kubexen.api.kinds import KINDS
from kubexen.api.meta import LabelSelector, allows
from kubexen.api.xendomain import DomainType, LifecycleAction, PowerState, XenDomain
from kubexen.api.xenhost import XenHost
from tests.unit.api.builders import BUILDERS, domain, host, put


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.info.kind)
def test_the_smallest_object_is_read_and_written_back(kind: Any) -> None:
    document = BUILDERS[kind.info.kind]()
    parsed = kind.parse(document)
    assert parsed.kind == kind.info.kind
    assert kind.parse(parsed.to_dict()) == parsed


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.info.kind)
def test_what_a_newer_version_tells_is_ignored_and_what_it_asks_for_is_kept(kind: Any) -> None:
    document = BUILDERS[kind.info.kind]()
    newer = put(put(document, "status.mood", {"a": 1}), "metadata.managedFields", [{}])
    assert kind.parse(newer) == kind.parse(document)
    assert kind.parse(put(newer, "spec.colour", "red")).spec.to_dict()["colour"] == "red"


def test_defaults_are_xls_or_the_designs() -> None:
    spec = XenDomain.parse(domain()).spec
    assert (spec.power_state, spec.type, spec.cpu.count, spec.cpu.maximum) == (PowerState.RUNNING, DomainType.PVH, 1, 1)
    assert (spec.on_poweroff, spec.on_reboot, spec.on_crash) == (
        LifecycleAction.DESTROY,
        LifecycleAction.RESTART,
        LifecycleAction.RESTART,
    )
    assert (spec.memory.maximum.mib, spec.shutdown_grace_period_seconds) == (512, 60)
    assert spec.eviction_strategy == ["LiveMigrate", "SaveRestore", "Restart"]


INVALID = {
    "no memory": ("spec.memory", ..., "spec.memory", "required"),
    "a quantity with a space": ("spec.memory.size", "512 Mi", "spec.memory.size", "512Mi"),
    "an unknown power state": ("spec.powerState", "On", "spec.powerState", "'Running'"),
    "a kernel outside the pool": (
        "spec.boot.direct.kernel.file",
        "a/../../etc/shadow",
        "spec.boot.direct.kernel.file",
        "'..'",
    ),
    "an absolute kernel": ("spec.boot.direct.kernel.file", "/boot/vmlinuz", "spec.boot.direct.kernel.file", "leading"),
    "an affinity that xl cannot read": ("spec.cpu.affinity", "0-3;5", "spec.cpu.affinity", "pattern"),
    "a range of CPUs that goes down": ("spec.cpu.affinity", "0,^5-2", "spec.cpu.affinity", "goes up, as in 2-5: ^5-2 does not"),
    "a multicast mac": (
        "spec.interfaces",
        [{"name": "eth0", "network": "lan", "mac": "01:16:3e:00:00:01"}],
        "spec.interfaces[0].mac",
        "pattern",
    ),
    "an address that is none": (
        "spec.interfaces",
        [{"name": "eth0", "network": "lan", "address": "192.0.2.256"}],
        "spec.interfaces[0].address",
        "IPv4",
    ),
    "a list for an object": ("spec", [], "spec", "dictionary"),
}


@pytest.mark.parametrize("path, value, field, message", INVALID.values(), ids=INVALID)
def test_an_object_that_cannot_be_read_names_the_field(path: str, value: Any, field: str, message: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        XenDomain.parse(put(domain(), path, value))
    assert caught.value.field == field
    assert message in caught.value.message


@pytest.mark.parametrize("document", [None, 5, "x", [], {}, {"metadata": None}], ids=repr)
def test_what_is_no_object_is_refused_in_the_same_way(document: Any) -> None:
    with pytest.raises(InvalidObject):
        XenDomain.parse(document)


@pytest.mark.parametrize("text", ["", "^", "3-", "-3", "1--2", "1-2-3", ",", "0,", ",0", "0,,1", "0 1", "^^1", "all,^1", "10000"])
def test_what_is_no_affinity(text: str) -> None:
    with pytest.raises(InvalidObject, match=r"spec\.cpu\.affinity: .*pattern"):
        XenDomain.parse(put(domain(), "spec.cpu.affinity", text))


@pytest.mark.parametrize("text", ["all", "0", "7-7", "0-3,5,^1", "2-10", "^1,0-3"])
def test_an_affinity(text: str) -> None:
    assert XenDomain.parse(put(domain(), "spec.cpu.affinity", text)).spec.cpu.affinity == text


def test_a_mac_is_read_in_lower_case() -> None:
    document = put(domain(), "spec.interfaces", [{"name": "eth0", "network": "lan", "mac": "00:16:3E:AA:BB:CC"}])
    assert XenDomain.parse(document).spec.interfaces[0].mac == "00:16:3e:aa:bb:cc"


def test_each_writer_of_a_status_sends_its_own_fields_only() -> None:
    status = XenDomainStatus(node_name="xen1", anchor_uid="a", domid=7, boot_id="b", state="-b----")
    controllers, agents = status.to_dict(only=CONTROLLER_FIELDS), status.to_dict(only=AGENT_FIELDS)
    assert (controllers["nodeName"], controllers["anchorUID"]) == ("xen1", "a")
    assert (agents["domid"], agents["bootID"], agents["state"]) == (7, "b", "-b----")
    assert not controllers.keys() & agents.keys()
    assert "conditions" not in controllers.keys() | agents.keys()


def test_a_fence_counts_for_the_boot_it_names() -> None:
    ours, other = "5f0c1a52-7a0e-4d6e-9d42-2a4d7d3f0b11", "5f0c1a52-7a0e-4d6e-9d42-2a4d7d3f0b12"
    fenced = put(put(host(), "spec.fencedBootID", ours), "status.bootID", ours)
    assert XenHost.parse(fenced).fenced
    assert not XenHost.parse(put(fenced, "status.bootID", other)).fenced
    assert not XenHost.parse(host()).fenced


SELECTORS = {
    "none allows none": (None, False),
    "empty allows all": ({}, True),
    "label": ({"matchLabels": {"team": "shop"}}, True),
    "other value": ({"matchLabels": {"team": "bank"}}, False),
    "In": ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["bank", "shop"]}]}, True),
    "NotIn": ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["shop"]}]}, False),
    "NotIn of a label that is not there": (
        {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["a"]}]},
        True,
    ),
    "Exists": ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
    "DoesNotExist": ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
    "both must hold": (
        {"matchLabels": {"team": "shop"}, "matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]},
        False,
    ),
}


@pytest.mark.parametrize("selector, allowed", SELECTORS.values(), ids=SELECTORS)
def test_which_namespaces_may_use_a_pool(selector: Any, allowed: bool) -> None:
    parsed = None if selector is None else LabelSelector.parse(selector)
    assert allows(parsed, {"team": "shop"}) is allowed


def test_paths_of_the_rest_api() -> None:
    assert XenDomain.info.path() == "/apis/kubexen.dev/v1alpha1/xendomains"
    one = "/apis/kubexen.dev/v1alpha1/namespaces/shop/xendomains/web/status"
    assert XenDomain.info.path("shop", "web", "status") == one
    assert XenHost.info.path(name="xen1") == "/apis/kubexen.dev/v1alpha1/xenhosts/xen1"
