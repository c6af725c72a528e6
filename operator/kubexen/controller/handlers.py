"""The Kopf side: every event of a watched kind goes into the cache, and the cache tells which keys to look at again.

The only module that knows Kopf. Handlers are `on.event` only: they write nothing to objects, keep nothing, decide nothing.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from typing import Any

import kopf

from kubexen.api.names import DOMAIN_LABEL
from kubexen.controller.cache import Cache
from kubexen.controller.watches import Watches
from kubexen.kube.kinds import XENACTIONS, XENDISKS, XENDOMAINS, XENHOSTS, XENMIGRATIONS, XENNETWORKS, XENSTORAGEPOOLS
from kubexen.kube.resources import NAMESPACES, NODES, PODS, Resource

WATCHED: tuple[Resource, ...] = (
    XENSTORAGEPOOLS,
    XENNETWORKS,
    XENHOSTS,
    NODES,
    NAMESPACES,
    XENDISKS,
    PODS,
    XENACTIONS,
    XENMIGRATIONS,
    XENDOMAINS,
)
"""In the order in which they are listed at the start: what is referred to before who refers to it."""

SELECTORS = {PODS: DOMAIN_LABEL}
"""Label selectors; kinds that are not named are watched whole."""

WATCH_SECONDS = 290
"""How long a watch lasts before the server ends it and Kopf asks for the next one."""


def registry(cache: Cache, watches: Watches) -> kopf.OperatorRegistry:
    """Handlers that feed the cache."""
    result = kopf.OperatorRegistry()
    for res in WATCHED:
        kopf.on.event(res.group, res.version, res.plural, registry=result, id=f"see-{res.plural}")(_feed(cache, res))
    kopf.on.login(registry=result, id="kubeconfig")(_login(watches))
    return result


def _feed(cache: Cache, res: Resource) -> Callable[..., Any]:
    async def see(event: kopf.RawEvent, **_: Any) -> None:
        document: Any = event["object"]
        if event["type"] == "DELETED":
            cache.remove(res, document)
        else:
            cache.put(res, document)

    return see


def _login(watches: Watches) -> Callable[..., Any]:
    """Kopf logs in anew whenever the API server refuses its credentials: a pod's token is another one after an hour."""

    async def login(**kwargs: Any) -> kopf.AiohttpSession | None:
        found = _service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
        return watches.connection(found) if found is not None else None

    return login


def _service_account(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Of a pod: as Kopf has it, but by the address that every pod is given. Kopf's name for it needs the cluster's DNS, and a
    controller that cannot be without that would end when it fails."""
    found = kopf.login_with_service_account(**kwargs)
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    if found is None or not host:
        return found
    return dataclasses.replace(found, server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")


class NoDiff(kopf.DiffBaseStorage):
    """Handlers that only listen compare nothing. Kopf's own storage copies every object of every event to find out what
    changed since the last handling: half of the controller's CPU time in the bench."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[kopf.FieldSpec] | None = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        pass


def settings() -> kopf.OperatorSettings:
    """Kopf's settings for handlers that only listen: no events, no scanning, no annotations."""
    result = kopf.OperatorSettings()
    result.persistence.diffbase_storage = NoDiff()
    result.posting.enabled = False
    result.scanning.disabled = True
    result.peering.standalone = True
    result.watching.chunk_size = 500
    result.watching.server_timeout = WATCH_SECONDS
    result.watching.reconnect_backoff = 1.0
    result.watching.label_selectors["pods"] = DOMAIN_LABEL
    return result
