"""Whether the cluster's definitions of our kinds are those of this version: no field and no rule of ours may be missing.

More than ours is a newer version, and is fine: objects are read without what is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubexen.api.crdgen import crd
from kubexen.api.kinds import KINDS
from kubexen.api.names import VERSION
from kubexen.cli.doctor.documents import condition
from kubexen.cli.doctor.finding import Finding, error, ok
from kubexen.cli.doctor.snapshot import CRDS, Snapshot

SUBJECT = "Cluster"
MEND = "helm upgrade, or kubectl apply --server-side --force-conflicts -f crds/"
NAMED = 3
"""How many of the missing fields are named."""


def check(snapshot: Snapshot) -> Iterator[Finding]:
    if not snapshot.read(CRDS):
        return
    found = snapshot.by_name(CRDS)
    for kind in KINDS:
        name = kind.info.crd_name
        there = found.get(name)
        if there is None:
            yield error(SUBJECT, "crd", f"the definition {name} is missing: its objects cannot be made", MEND)
            continue
        lacking = missing(crd(kind), there)
        established = condition(there, "Established")
        if established.get("status") != "True":
            yield error(SUBJECT, "crd", f"the definition {name} is not served: {established.get('message', 'no condition')}", MEND)
        elif lacking:
            more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
            yield error(SUBJECT, "crd", f"the definition {name} is older than this version: without "
                        f"{', '.join(lacking[:NAMED])}{more}", MEND)
        else:
            yield ok(SUBJECT, "crd", f"the definition {name} is this version's")


def missing(wanted: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """What is in the first definition and not in the second: fields by their path, rules by the path they are on."""
    versions = {version["name"]: version for version in there["spec"].get("versions") or ()}
    if VERSION not in versions:
        return [f"version {VERSION}"]
    (ours,), theirs = wanted["spec"]["versions"], versions[VERSION]
    lacking = sorted(_parts(ours["schema"]["openAPIV3Schema"]) - _parts(theirs["schema"]["openAPIV3Schema"]))
    result = [path if not rule else f"a rule on {path or 'the object'}" for path, rule in lacking]
    result += [f"the selectable field {path}" for path in _selectable(ours) if path not in _selectable(theirs)]
    result += [f"the subresource {name}" for name in ours["subresources"] if name not in (theirs.get("subresources") or {})]
    return result


def _selectable(version: dict[str, Any]) -> list[str]:
    return [entry["jsonPath"] for entry in version.get("selectableFields") or ()]


def _parts(node: dict[str, Any], path: str = "") -> set[tuple[str, str]]:
    """Every field (path, "") and every rule (path, rule) below."""
    found = {(path, rule["rule"]) for rule in node.get("x-kubernetes-validations") or ()}
    if path:
        found.add((path, ""))
    for name, field in (node.get("properties") or {}).items():
        found |= _parts(field, f"{path}.{name}" if path else name)
    for child in ("items", "additionalProperties"):
        if isinstance(node.get(child), dict):
            found |= _parts(node[child], f"{path}[]")
    return found
