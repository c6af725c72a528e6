"""Which pods are a domain's anchors: those that this controller made or that the domain's status has recorded, and no other,
whatever it looks like."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kubexen.api.xendomain import XenDomain
from kubexen.controller.cache import Cache
from kubexen.kube.kinds import XENDOMAINS
from kubexen.kube.resources import PODS, Object
from kubexen.plan.anchor import manifest
from tests.unit.plan import builders as build

POD_UID = "11111111-2222-4333-8444-555555555555"


def pod(domain: XenDomain, uid: str = POD_UID, version: int = 5, **spec: Any) -> Object:
    """A pod as the controller would make it, running on xen2."""
    document = copy.deepcopy(manifest(domain))
    document["metadata"] |= {"name": "web-anchor-1", "uid": uid, "resourceVersion": str(version)}
    document["spec"] |= {"nodeName": "xen2", **spec}
    document["status"] = {"phase": "Running"}
    return document


def cache_with(domain: XenDomain, anchor_uid: str | None = None) -> tuple[Cache, XenDomain]:
    cache = Cache()
    document = domain.to_dict() | {"status": {"nodeName": "xen1", "anchorUID": anchor_uid} if anchor_uid else {}}
    document["metadata"]["resourceVersion"] = "1"
    cache.put(XENDOMAINS, document)
    found = cache.domain(domain.key)
    assert found is not None
    return cache, found


def names(found: list[Any]) -> list[str]:
    return [anchor.name for anchor in found]


def test_a_pod_that_looks_like_an_anchor_in_every_way_is_a_stranger() -> None:
    cache, domain = cache_with(build.domain())
    cache.put(PODS, pod(domain))
    assert (names(cache.anchors(domain)), names(cache.strangers(domain))) == ([], ["web-anchor-1"])


def test_one_that_was_made_here_is_an_anchor_until_it_is_gone() -> None:
    cache, domain = cache_with(build.domain())
    cache.made(pod(domain))
    assert (names(cache.anchors(domain)), names(cache.strangers(domain))) == (["web-anchor-1"], [])
    cache.put(PODS, pod(domain, version=6))
    assert names(cache.anchors(domain)) == ["web-anchor-1"]
    cache.remove(PODS, pod(domain, version=7))
    cache.put(PODS, pod(domain, version=8))
    assert names(cache.strangers(domain)) == ["web-anchor-1"]


def test_one_whose_uid_the_status_has_recorded_is_an_anchor_for_a_controller_that_starts_anew() -> None:
    cache, domain = cache_with(build.domain(), anchor_uid=POD_UID)
    cache.put(PODS, pod(domain))
    cache.put(PODS, pod(domain, uid="other") | {"metadata": pod(domain, uid="other")["metadata"] | {"name": "forged"}})
    assert (names(cache.anchors(domain)), names(cache.strangers(domain))) == (["web-anchor-1"], ["forged"])


def test_one_that_was_heard_of_before_its_maker_took_it_is_told_again() -> None:
    cache, domain = cache_with(build.domain())
    told: list[tuple[str, int]] = []
    cache.subscribe(lambda res, key, old, new: told.append((key, len(cache.anchors(domain)))))
    cache.put(PODS, pod(domain))
    cache.made(pod(domain))
    assert told == [("shop/web-anchor-1", 0), ("shop/web-anchor-1", 1)]


def without(document: Object, field: str) -> Object:
    del document["metadata"][field]
    return document


@pytest.mark.parametrize("field", ["labels", "ownerReferences"])
def test_without_its_label_or_its_owner_it_is_not_even_a_stranger(field: str) -> None:
    cache, domain = cache_with(build.domain())
    cache.made(without(pod(domain), field))
    assert cache.anchors(domain) == cache.strangers(domain) == []


def test_the_recorded_one_stays_the_anchor_when_its_owner_is_taken_off() -> None:
    """As `kubectl delete --cascade=orphan` does."""
    cache, domain = cache_with(build.domain(), anchor_uid=POD_UID)
    cache.put(PODS, without(pod(domain), "ownerReferences"))
    assert names(cache.anchors(domain)) == ["web-anchor-1"]
    assert cache.abandoned(domain.key) == []


def test_what_an_object_that_is_gone_has_left_is_abandoned() -> None:
    cache, domain = cache_with(build.domain(), anchor_uid=POD_UID)
    earlier = pod(build.domain(uid="another"), uid="earlier")
    earlier["metadata"]["name"] = "of-an-earlier-one"
    ownerless = without(pod(domain, uid="ownerless"), "ownerReferences")
    ownerless["metadata"]["name"] = "ownerless"
    tenants = without(copy.deepcopy(ownerless), "finalizers")
    tenants["metadata"] |= {"name": "a-tenants-pod", "uid": "tenants"}
    for document in (pod(domain), earlier, ownerless, tenants):
        cache.put(PODS, document)
    assert names(cache.anchors(domain)) == ["web-anchor-1"]
    assert sorted(names(cache.abandoned(domain.key))) == ["of-an-earlier-one", "ownerless"]
    cache.remove(XENDOMAINS, domain.to_dict())
    assert sorted(names(cache.abandoned(domain.key))) == ["of-an-earlier-one", "ownerless", "web-anchor-1"]
