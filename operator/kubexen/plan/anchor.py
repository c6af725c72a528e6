"""The anchor: a small pod that is a domain's hold on a node. What it looks like, and what of it counts.

Made by the controller from here, never by a user. It asks the scheduler for what the domain takes from a Xen host; its
container does nothing. An anchor ends only when its domain has left (docs/concepts.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kubexen import VERSION
from kubexen.api.domainstatus import ClaimStatus, VolumeMode
from kubexen.api.names import (
    ANCHOR_FINALIZER,
    ANCHOR_READINESS_GATE,
    API_VERSION,
    DOMAIN_LABEL,
    MEMORY_RESOURCE,
    PLACEMENT_ANNOTATION,
    SCHEDULER_NAME,
    VCPUS_RESOURCE,
)
from kubexen.api.quantity import Quantity
from kubexen.api.xendomain import XenDomain
from kubexen.plan import claims as claims_
from kubexen.plan import seed
from kubexen.plan.resolve import Request, request, reservation

GRACE_SECONDS = 365 * 24 * 3600
"""An anchor's grace period: the domain decides when it ends, not the kubelet's clock."""

MOST_CPU = "200m"
"""An anchor's limit, which only its start needs: what the runtime does in its cgroup takes 60 ms of a CPU, thus 6 s with 1 % of one
(a limit of 10m or less) and 0.4 s with this."""

IMAGE = f"kubexen:{VERSION}"
"""As the chart has it by itself. A policy of the chart's refuses an anchor of any image but the one that its values name."""

LIVE = ("Pending", "Running")

PLACEMENT_FIELDS = (
    "nodeSelector", "affinity", "tolerations", "topologySpreadConstraints", "priorityClassName", "schedulerName",
)
"""Fields of a spec that are about where the domain may be."""

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True)
class Anchor:
    """A pod that the controller takes for a domain's anchor."""

    name: str
    uid: str
    node: str  # "" while it is not placed
    phase: str
    deleting: bool
    created: str
    ready: bool | None = None  # its readiness gate; None: not written yet
    unschedulable: str = ""  # the scheduler's word, while it finds no node
    disruption: str = ""  # why its end was asked for, as in EvictionByEvictionAPI
    request: Request | None = None
    mounts: frozenset[str] = frozenset()  # its claims and Secrets, as `mounts` names them
    placement: str = ""  # where it may be, as `placement` tells of a spec

    @property
    def live(self) -> bool:
        """Whether the scheduler counts its requests, and its end was not asked for."""
        return self.phase in LIVE and not self.deleting

    @property
    def counted(self) -> bool:
        """Whether the scheduler counts its requests on its node."""
        return self.phase in LIVE and self.node != ""

    @property
    def running(self) -> bool:
        return self.phase == "Running" and self.node != "" and not self.deleting

    def mounts_all(self, domain: XenDomain) -> bool:
        """Whether it mounts all that the domain's spec names: a pod's volumes cannot be changed."""
        return self.mounts.issuperset(reservation(domain).mounts)


def observe(pod: dict[str, Any]) -> Anchor:
    """The anchor that a pod document shows."""
    metadata, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    gate = conditions.get(ANCHOR_READINESS_GATE)
    return Anchor(
        name=metadata["name"],
        uid=metadata["uid"],
        node=spec.get("nodeName") or "",
        phase=status.get("phase") or "Pending",
        deleting="deletionTimestamp" in metadata,
        created=metadata.get("creationTimestamp") or "",
        ready=None if gate is None else gate.get("status") == "True",
        unschedulable=scheduled.get("message", "unschedulable") if scheduled.get("status") == "False" else "",
        disruption=conditions.get("DisruptionTarget", {}).get("reason", ""),
        request=_request(spec),
        mounts=mounts(spec.get("volumes") or ()),
        placement=(metadata.get("annotations") or {}).get(PLACEMENT_ANNOTATION, ""),
    )


def placement(domain: XenDomain, place: Sequence[Mapping[str, Any]] = ()) -> str:
    """A digest of all that says where the domain may be: an anchor that was made for another one is of no use.

    Args:
        place: what `manifest` has of it, for an anchor that only keeps a place.
    """
    spec = domain.spec.to_dict()
    said = [*(spec.get(field) for field in PLACEMENT_FIELDS), *(dict(term) for term in place)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def mounts(volumes: Iterable[dict[str, Any]]) -> frozenset[str]:
    """Claims and keys of Secrets among a pod's volumes, each as one word."""
    result = set()
    for volume in volumes:
        if claim := volume.get("persistentVolumeClaim"):
            result.add(claims_.word(claim["claimName"]))
        elif secret := volume.get("secret"):
            keys = ",".join(item["key"] for item in secret.get("items") or ())
            result.add(seed.word(volume["name"], secret.get("secretName", ""), keys))
    return frozenset(result)


def claimed(pod: dict[str, Any]) -> set[str]:
    """The names of the claims that a pod mounts."""
    volumes = pod.get("spec", {}).get("volumes") or ()
    return {v["persistentVolumeClaim"]["claimName"] for v in volumes if v.get("persistentVolumeClaim")}


def _request(spec: dict[str, Any]) -> Request | None:
    containers = spec.get("containers") or [{}]
    asked = containers[0].get("resources", {}).get("requests") or {}
    try:
        return Request(*(Quantity.parse(asked[name]) for name in (MEMORY_RESOURCE, VCPUS_RESOURCE)))
    except (KeyError, ValueError):
        return None


def owner(pod: dict[str, Any]) -> dict[str, Any]:
    """The reference to the XenDomain that owns the pod, as a controller does; empty: there is none (any more)."""
    references = pod["metadata"].get("ownerReferences") or ()
    return next((r for r in references if r.get("controller") and r.get("kind") == XenDomain.info.kind), {})


def manifest(
    domain: XenDomain, *, claims: Sequence[ClaimStatus] = (), image: str = IMAGE, on: str = "", only: str = "",
    off: str = "", place: Sequence[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The pod to create.

    Args:
        claims: what it mounts, beside the spec's Secrets.
        on: bound to this node past the scheduler, where the domain already is; it asks for what that was started with.
        only: the scheduler may take no other node (a disk of it is there).
        off: the scheduler may not take this node (the domain is to leave it).
        place: it only keeps a place and mounts nothing, on nodes of these terms (none: any): the claims are still held
            elsewhere.
    """
    spec = domain.spec
    asked = request((domain.status.reserved if on else None) or reservation(domain))
    volumes, devices, folders = ([], [], []) if place is not None else _volumes(domain, claims, again=bool(on))
    terms = [{"key": "metadata.name", "operator": "In", "values": [only]}] if only else []
    terms += [{"key": "metadata.name", "operator": "NotIn", "values": [off]}] if off else []
    requests = {
        "cpu": "1m",
        "memory": "16Mi",
        MEMORY_RESOURCE: str(asked.memory_mib),
        VCPUS_RESOURCE: str(asked.vcpus),
    }
    pod: dict[str, Any] = {
        "schedulerName": spec.scheduler_name or SCHEDULER_NAME,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "dnsPolicy": "Default",  # it looks nothing up; the cluster's own brings a warning where there is none
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 65535, "runAsGroup": 65535, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "readinessGates": [{"conditionType": ANCHOR_READINESS_GATE}],
        "affinity": _affinity(spec.affinity or {}, terms, place or ()),
        "tolerations": [
            *(toleration.to_dict() for toleration in spec.tolerations),
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
            {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"},
        ],
        "containers": [
            {
                "name": "anchor",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                # Both are given: a LimitRange of the namespace would else give it more of dom0.
                "resources": {"requests": requests, "limits": requests | {"cpu": MOST_CPU}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                **({"volumeDevices": devices} if devices else {}),
                **({"volumeMounts": folders} if folders else {}),
            }
        ],
        **({"volumes": volumes} if volumes else {}),
    }
    if on:
        pod["nodeName"] = on
    if spec.node_selector:
        pod["nodeSelector"] = dict(spec.node_selector)
    if spec.priority_class_name:
        pod["priorityClassName"] = spec.priority_class_name
    if spec.topology_spread_constraints:
        pod["topologySpreadConstraints"] = [constraint.to_dict() for constraint in spec.topology_spread_constraints]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{domain.metadata.name[:50].rstrip('-.')}-anchor-",
            "namespace": domain.metadata.namespace,
            "labels": {**domain.metadata.labels, DOMAIN_LABEL: domain.metadata.name},
            "annotations": {PLACEMENT_ANNOTATION: placement(domain, place or ())},
            "finalizers": [ANCHOR_FINALIZER],
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": domain.info.kind,
                    "name": domain.metadata.name,
                    "uid": domain.metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": pod,
    }


Part = list[dict[str, Any]]


def _secrets(domain: XenDomain) -> Part:
    """Volumes of the keys that the seed is made of."""
    return [
        {"name": name, "secret": {"secretName": key.secret_name, "items": [{"key": key.key, "path": name}], "defaultMode": 0o400}}
        for name, key in seed.secrets(domain).items()
    ]


def _volumes(domain: XenDomain, claims: Sequence[ClaimStatus], *, again: bool) -> tuple[Part, Part, Part]:
    """The pod's volumes, and its container's devices and mounts: a kubelet mounts nothing that no container asks for.

    Args:
        again: for a domain that runs. If its spec names other volumes by now, the next start is under another anchor, and a
            Secret that is not there must not keep this one from running.
    """
    reserved = domain.status.reserved
    changed = again and reserved is not None and reserved.mounts != reservation(domain).mounts
    volumes, devices = [] if changed else _secrets(domain), []
    folders: Part = [{"name": v["name"], "mountPath": f"/seed/{v['name']}", "readOnly": True} for v in volumes]
    for number, claim in enumerate(claims):
        name = f"claim-{number}"
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim.name}})
        if claim.volume_mode is VolumeMode.BLOCK:
            devices.append({"name": name, "devicePath": f"/dev/{name}"})
        else:
            folders.append({"name": name, "mountPath": f"/claims/{number}", "readOnly": True})
    return volumes, devices, folders


def _affinity(given: dict[str, Any], fields: Part, place: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The user's affinity with what we add to it."""
    try:
        return _with_own_anchors_apart(_with_node_terms(given, fields, place))
    except (AttributeError, TypeError, ValueError):
        return given  # no affinity of a Pod's: the API server says so when the anchor is made


def _with_own_anchors_apart(affinity: dict[str, Any]) -> dict[str, Any]:
    """No anti-affinity to the domain's own anchors: the second one of a move may stand near the first."""
    if not affinity.get("podAntiAffinity"):
        return affinity
    anti = dict(affinity["podAntiAffinity"])
    if required := anti.get(REQUIRED):
        anti[REQUIRED] = [_apart(term) for term in required]
    if preferred := anti.get(PREFERRED):
        anti[PREFERRED] = [{**entry, "podAffinityTerm": _apart(entry["podAffinityTerm"])} for entry in preferred
                           if "podAffinityTerm" in entry]
    return {**affinity, "podAntiAffinity": anti}


def _apart(term: dict[str, Any]) -> dict[str, Any]:
    if not term.get("labelSelector"):  # it selects nothing, and Kubernetes refuses the keys then
        return term
    return {**term, "mismatchLabelKeys": [*term.get("mismatchLabelKeys", ()), DOMAIN_LABEL]}


def _with_node_terms(affinity: dict[str, Any], fields: Part, place: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The user's affinity with requirements on the node's name, and with those of `place`, added to each of its terms
    (terms are alternatives, and so are those of `place`: each with each).

    One that is none stays as it is: the API server refuses the pod, and says which field.
    """
    if not fields and not place:
        return affinity
    try:
        node = {**(affinity.get("nodeAffinity") or {})}
        required = {**(node.get(REQUIRED) or {})}
        terms = required.get("nodeSelectorTerms") or [{}]
        required["nodeSelectorTerms"] = [_both(term, more, fields) for term in terms for more in place or [{}]]
    except (AttributeError, TypeError):
        return affinity
    node[REQUIRED] = required
    return {**affinity, "nodeAffinity": node}


def _both(one: dict[str, Any], other: dict[str, Any], fields: Part) -> dict[str, Any]:
    joined = {
        key: [*(one.get(key) or ()), *(other.get(key) or ()), *more]
        for key, more in (("matchExpressions", ()), ("matchFields", fields))
    }
    return {**one, **{key: requirements for key, requirements in joined.items() if requirements}}


def age(anchor: Anchor, now: datetime) -> float:
    """Seconds since the pod was created."""
    return (now - datetime.fromisoformat(anchor.created)).total_seconds() if anchor.created else 0.0
