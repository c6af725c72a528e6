"""Writes the CustomResourceDefinitions of all kinds: `python -m kubexen.api.crdgen [--check] OUTDIR`.

pydantic's JSON schema is turned into the structural schema that the API server accepts: references inlined, optional
fields without null, enums instead of constants. What has no such form is an error here, not at the API server.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kubexen.api.kind import Column, Resource
from kubexen.api.kinds import KINDS
from kubexen.api.names import GROUP, VERSION

Schema = dict[str, Any]

HEADER = "# Written by `python -m kubexen.api.crdgen` from operator/kubexen/api; do not edit.\n"

_PLAIN = "type description default enum format pattern minLength maxLength minimum maximum minItems maxItems required"
_OURS = "int-or-string preserve-unknown-fields validations list-type list-map-keys"
_KEPT = frozenset([*_PLAIN.split(), "maxProperties", "anyOf", *(f"x-kubernetes-{name}" for name in _OURS.split())])


def structural(node: Schema, definitions: Mapping[str, Schema], defaults: bool = True) -> Schema:
    """The node in the form that the API server accepts. Raises ValueError for what has none.

    Defaults are left out of list items: `kubectl apply` and Argo CD compare lists whole, and would see a difference
    for ever between the item that was applied and the one that the server filled in.
    """
    node = _inlined(node, definitions)
    properties = node.pop("properties", None)
    items = node.pop("items", None)
    values = node.pop("additionalProperties", False)
    node.pop("title", None)
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if unknown := node.keys() - _KEPT:
        raise ValueError(f"no structural form for {sorted(unknown)} in {node}")
    if properties is not None:
        node["properties"] = {name: structural(field, definitions, defaults) for name, field in properties.items()}
    if items is not None:
        node["items"] = structural(items, definitions, defaults=False)
    if isinstance(values, dict):
        if "x-kubernetes-preserve-unknown-fields" not in node:
            node["additionalProperties"] = structural(values, definitions, defaults)
    elif values and properties is None:  # what a model keeps besides its fields is for its readers: the server prunes it
        node["x-kubernetes-preserve-unknown-fields"] = True
    if "type" not in node and "x-kubernetes-int-or-string" not in node:
        raise ValueError(f"no type in {node}")
    if not defaults or _says_nothing(node):
        node.pop("default", None)
    return node


def _inlined(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """The node without references and without the null of an optional field; what stands beside them wins."""
    node = dict(node)
    if "$ref" in node:
        definition = definitions[node.pop("$ref").removeprefix("#/$defs/")]
        return _inlined({**definition, **node}, definitions)
    if "anyOf" in node and "x-kubernetes-int-or-string" not in node:
        variants = [variant for variant in node.pop("anyOf") if variant != {"type": "null"}]
        if len(variants) != 1:
            raise ValueError(f"a union of {variants} has no structural form")
        return _inlined({**variants[0], **node}, definitions)
    return node


def _says_nothing(node: Schema) -> bool:
    """Whether the default is what 'not given' means anyway; only an object's `{}` brings its fields' defaults."""
    default = node.get("default", ...)
    return default is None or (default in ("", [], {}) and "properties" not in node)


def schema(kind: type[Resource]) -> Schema:
    """The schema of one kind's objects."""
    document = kind.model_json_schema(by_alias=True)
    definitions = document["$defs"]
    fields = document["properties"]
    status = structural(fields["status"], definitions, defaults=False)
    if kind.info.status_default is not None:
        status["default"] = kind.info.status_default
    result: Schema = {
        "description": (kind.__doc__ or "").strip(),
        "type": "object",
        "required": [name for name in document["required"] if name != "metadata"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The schema's version."},
            "kind": {"type": "string", "description": "The object's kind."},
            "metadata": {"type": "object"},
            "spec": structural(fields["spec"], definitions),
            "status": status,
        },
    }
    if not result["required"]:
        del result["required"]
    if kind.info.rules:
        result["x-kubernetes-validations"] = [
            {"rule": rule, "message": message} for rule, message in kind.info.rules
        ]
    return result


def _column(column: Column) -> Schema:
    result: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.priority:
        result["priority"] = column.priority
    return result


def crd(kind: type[Resource]) -> Schema:
    """The CustomResourceDefinition of one kind."""
    info = kind.info
    subresources: Schema = {"status": {}}
    if info.scale:
        subresources["scale"] = {
            "specReplicasPath": info.scale.spec_replicas,
            "statusReplicasPath": info.scale.status_replicas,
            "labelSelectorPath": info.scale.selector,
        }
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in info.columns],
        "subresources": subresources,
        "schema": {"openAPIV3Schema": schema(kind)},
    }
    if info.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in info.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        # Without the definition its objects are gone, and with them every domain's: `helm uninstall` leaves it.
        "metadata": {"name": info.crd_name, "annotations": {"helm.sh/resource-policy": "keep"}},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": info.kind,
                "listKind": f"{info.kind}List",
                "plural": info.plural,
                "singular": info.singular,
                "shortNames": [info.short_name],
                "categories": ["xen"],
            },
            "scope": info.scope,
            "versions": [version],
        },
    }


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> dict[str, str]:
    """File name and text of every CRD."""
    return {
        f"{GROUP}_{kind.info.plural}.yaml": HEADER
        + yaml.dump(crd(kind), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
        for kind in KINDS
    }


def drift(folder: Path) -> list[str]:
    """Names of the files in the folder that are not what render() gives: changed, missing or too many."""
    wanted = render()
    found = {path.name: path.read_text() for path in folder.glob("*.yaml")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="crdgen", description="Write the CRDs of all kinds.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is not up to date")
    parser.add_argument("folder", type=Path, metavar="OUTDIR")
    options = parser.parse_args(arguments)
    changed = drift(options.folder)
    if options.check:
        for name in changed:
            print(f"{options.folder / name} is not up to date", file=sys.stderr)
        return 1 if changed else 0
    options.folder.mkdir(parents=True, exist_ok=True)
    texts = render()
    for name in changed:
        path = options.folder / name
        if name in texts:
            path.write_text(texts[name])
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
