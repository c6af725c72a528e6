"""What the controller reads of a domain's claims, and which domain may have one. Used by domains.py.

Claims are read when an anchor is to be made or a domain bound or evicted, not watched: most claims of a cluster are no
domain's, and a bound domain's are in its status. One that is missing is looked for again every few seconds. Secrets are
never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubexen.api.xendomain import PowerState, XenDomain
from kubexen.controller.cache import Cache
from kubexen.kube.client import Api
from kubexen.kube.errors import NotFound
from kubexen.kube.resources import CLAIMS, EVENTS, VOLUMES
from kubexen.plan import claims
from kubexen.plan.anchor import Anchor, age
from kubexen.plan.claims import Claim
from kubexen.plan.placement import PATIENCE

LONGEST_WORDS = 500


@dataclass(frozen=True)
class Volumes:
    """`places`: terms of a node selector, where the claims' volumes can be."""

    claims: dict[str, Claim] = field(default_factory=dict)
    places: tuple[dict[str, Any], ...] = ()


async def read(api: Api, domain: XenDomain, anchors: Sequence[Anchor]) -> Volumes:
    """The claims of a domain: as they are now where something is decided by them, else as they were when it was bound."""
    names = set(claims.named(domain))
    leaving = domain.deleting or domain.spec.power_state is PowerState.HALTED
    evicted = any(anchor.deleting for anchor in anchors)
    if not names or leaving or (domain.status.node_name and not evicted):
        return Volumes(claims.recorded(domain))
    found: dict[str, Claim] = {}
    places: list[dict[str, Any]] = [{}]
    for name in sorted(names):
        try:
            found[name] = claims.observe(await api.get(CLAIMS, name, domain.metadata.namespace))
            volume = found[name].status.volume_name
            if evicted and volume and (terms := claims.node_terms(await api.get(VOLUMES, volume))):
                places = [_joined(one, other) for one in places for other in terms]
        except NotFound:
            continue
    return Volumes(found, tuple(place for place in places if place))


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {key: [*one.get(key, ()), *other.get(key, ())] for key in {**one, **other}}


def check(cache: Cache, domain: XenDomain) -> None:
    """That no other domain has, or comes first for, a claim of the spec. A domain that is gone holds its claims as long as
    it runs on as an orphan: its anchor stands for it.

    Raises:
        Problem: DiskInUse.
    """
    for name in claims.named(domain):
        key = f"{domain.metadata.namespace}/{name}"
        others = (cache.domain(other) for other in cache.domains_with_claim(key) - {domain.key})
        claims.check_order(domain, name, (other for other in others if other is not None))
        for owner, uid in cache.anchored_with_claim(key):
            if uid != domain.metadata.uid:
                raise claims.in_use(name, owner, "whose anchor still has it")


async def mounting(api: Api, domain: XenDomain, anchors: Sequence[Anchor], now: datetime) -> str:
    """What the kubelet says of an anchor that is placed and does not run: its newest warning."""
    for anchor in anchors:
        if anchor.node and anchor.phase == "Pending" and not anchor.deleting and age(anchor, now) > PATIENCE:
            found, _ = await api.list(
                EVENTS, domain.metadata.namespace, field_selector=f"regarding.uid={anchor.uid},type=Warning"
            )
            if found:
                last = max(found, key=_last)
                return f"{last.get('reason')}: {last.get('note')}"[:LONGEST_WORDS]
    return ""


def _last(event: dict[str, Any]) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("deprecatedLastTimestamp"), event.get("eventTime"))
    return max(str(time) for time in (*times, "") if time is not None)

