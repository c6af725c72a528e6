"""All that the doctor looks at, read once: plain documents, and the API server's word on who may do what.

The checks see this alone, so a test is a snapshot and what must be found in it. What may not be read is noted, not raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from kubexen.api.names import DOMAIN_LABEL
from kubexen.cli.doctor.rights import AGENT, CONTROLLER, MYSELF, Right, needed
from kubexen.kube.client import Api
from kubexen.kube.errors import Forbidden, NotServed
from kubexen.kube.kinds import XENACTIONS, XENDISKS, XENDOMAINS, XENHOSTS, XENMIGRATIONS, XENNETWORKS, XENSTORAGEPOOLS
from kubexen.kube.resources import LEASES, NAMESPACES, NODES, PODS, Object, Resource

_ADMISSION = "admissionregistration.k8s.io"
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
MUTATING = Resource(_ADMISSION, "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", namespaced=False)
MUTATING_BINDINGS = Resource(
    _ADMISSION, "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", namespaced=False)
VALIDATING = Resource(_ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False)
VALIDATING_BINDINGS = Resource(
    _ADMISSION, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", namespaced=False)
ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount", namespaced=True)
_REVIEWS = "authorization.k8s.io"
SELF_REVIEW = Resource(_REVIEWS, "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False)
REVIEW = Resource(_REVIEWS, "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)

OURS = (XENDOMAINS, XENDISKS, XENNETWORKS, XENSTORAGEPOOLS, XENHOSTS, XENMIGRATIONS, XENACTIONS)
EVERYWHERE = (*OURS, NODES, NAMESPACES, CRDS, MUTATING, MUTATING_BINDINGS, VALIDATING, VALIDATING_BINDINGS)
INSTALLED = (PODS, LEASES, ACCOUNTS)
"""Read in the namespaces of the controller and the agents only; of pods, the anchors of all namespaces besides."""


@dataclass(frozen=True)
class Snapshot:
    """Attributes:
    system, agents: the namespaces of the controller and of the agents; they may be one.
    objects: by the resource's name, as in `nodes` or `xenhosts.kubexen.dev`.
    unread: why a resource could not be read.
    rights: each with the API server's answer.
    """

    now: datetime
    system: str
    agents: str
    objects: Mapping[str, Sequence[Object]] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    rights: Sequence[tuple[Right, bool]] = ()

    def of(self, res: Resource) -> Sequence[Object]:
        return self.objects.get(str(res), ())

    def read(self, *resources: Resource) -> bool:
        """Whether all of these could be read: what is not there is not proven otherwise."""
        return not any(str(res) in self.unread for res in resources)

    def by_name(self, res: Resource) -> dict[str, Object]:
        """Of a cluster-scoped kind."""
        return {obj["metadata"]["name"]: obj for obj in self.of(res)}

    def lease(self, name: str) -> Object | None:
        """A Lease of Kubexen's, in the controller's or the agents' namespace."""
        found = [obj for obj in self.of(LEASES) if obj["metadata"]["name"] == name]
        return max(found, key=lambda obj: (obj.get("spec") or {}).get("renewTime") or "", default=None)


async def take(api: Api, system: str, agents: str) -> Snapshot:
    """Raises ApiError where there is no answer at all."""
    namespaces = sorted({system, agents})
    wishes = [Right(MYSELF, "list", res.group, res.plural) for res in (*EVERYWHERE, PODS)]
    wishes += [Right(MYSELF, "list", res.group, res.plural, namespace=n) for res in INSTALLED for n in namespaces]
    wishes.append(Right(MYSELF, "create", REVIEW.group, REVIEW.plural))
    mine = await _ask(api, wishes)
    objects: dict[str, list[Object]] = {}
    unread: dict[str, str] = {}

    async def read(res: Resource, namespace: str = "", selector: str = "") -> None:
        try:
            found, _ = await api.list(res, namespace or None, label_selector=selector)
        except (Forbidden, NotServed) as refusal:
            unread[str(res)] = "it is not served" if isinstance(refusal, NotServed) else refusal.message
        else:
            objects.setdefault(str(res), []).extend(found)

    await asyncio.gather(
        *(read(res) for res in EVERYWHERE),
        *(read(res, namespace) for res in INSTALLED for namespace in namespaces),
        read(PODS, selector=DOMAIN_LABEL),
    )
    accounts = [f"{a['metadata']['namespace']}:{a['metadata']['name']}" for a in objects.get(str(ACCOUNTS), ())
                if a["metadata"]["name"] in (CONTROLLER, AGENT)]
    others = await _ask(api, needed(system, agents, accounts))
    return Snapshot(datetime.now(UTC), system, agents, objects, unread, [*mine, *others])


async def _ask(api: Api, rights: Iterable[Right]) -> list[tuple[Right, bool]]:
    """The API server's answers; none where the caller may not ask for others."""
    try:
        return list(await asyncio.gather(*(_review(api, right) for right in rights)))
    except Forbidden:
        return []


async def _review(api: Api, right: Right) -> tuple[Right, bool]:
    attributes = {"verb": right.verb, "group": right.group, "resource": right.resource, "subresource": right.subresource,
                  "namespace": right.namespace, "name": right.name}
    spec: Object = {"resourceAttributes": {key: value for key, value in attributes.items() if value}}
    if right.who != MYSELF:
        spec["user"] = f"system:serviceaccount:{right.who}"
        namespace = right.who.partition(":")[0]
        spec["groups"] = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    answer = await api.create(SELF_REVIEW if right.who == MYSELF else REVIEW, {"metadata": {}, "spec": spec})
    return right, bool(answer["status"].get("allowed"))
