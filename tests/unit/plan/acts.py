"""A placement's steps as short words, so that a table can be read: `create`, `end a1`, `gate a1 True`, `drop`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubexen.plan.anchor import claimed
from kubexen.plan.world import CreateAnchor, DropFinalizer, EndAnchor, Plan, SetGate, Step

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def constraints(manifest: Mapping[str, Any]) -> dict[str, str]:
    """`on`, `only` and `off` of an anchor's manifest, and the claims that it comes `with`."""
    spec = manifest["spec"]
    result = {"on": spec["nodeName"]} if "nodeName" in spec else {}
    terms = spec["affinity"].get("nodeAffinity", {}).get(REQUIRED, {}).get("nodeSelectorTerms", [])
    for field in terms[0].get("matchFields", ()) if terms else ():
        result["only" if field["operator"] == "In" else "off"] = field["values"][0]
    if claims := claimed(dict(manifest)):
        result["with"] = " ".join(sorted(claims))
    return result


def word(step: Step) -> str:
    match step:
        case CreateAnchor(manifest):
            return " ".join(["create", *(f"{key} {node}" for key, node in constraints(manifest).items())])
        case EndAnchor(_, uid):
            return f"end {uid}"
        case SetGate(_, uid, ready):
            return f"gate {uid} {ready}"
        case DropFinalizer():
            return "drop"


def words(plan: Plan) -> list[str]:
    return [word(step) for step in plan.steps]
