"""The generated CRDs: up to date, structural, described, bounded where CEL looks, with what users rely on."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubexen.api.crdgen import crd, drift, main, render, schema, structural
from kubexen.api.kinds import KINDS
from kubexen.api.xendomain import XenDomain
from kubexen.api.xenhost import XenHost

CRDS = Path(__file__).parents[3] / "crds"

Node = dict[str, Any]

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.info.kind)


def walk(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in node:
        yield from walk(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from walk(node["additionalProperties"], f"{path}{{}}")


def at(kind: Any, path: str) -> Node:
    return dict(walk(schema(kind)))[path]


def test_the_committed_files_are_up_to_date() -> None:
    assert drift(CRDS) == [], "run `make generate`"


def test_check_names_what_drifted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    changed = tmp_path / "kubexen.dev_xendomains.yaml"
    changed.write_text(changed.read_text().replace("pvh", "pvx"))
    (tmp_path / "kubexen.dev_xenghosts.yaml").write_text("")
    (tmp_path / "kubexen.dev_xenhosts.yaml").unlink()
    assert main(["--check", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert [name in errors for name in ("xendomains", "xenghosts", "xenhosts", "xendisks")] == [True, True, True, False]
    assert main([str(tmp_path)]) == 0
    assert drift(tmp_path) == []


def test_a_file_a_kind_without_anchors_or_aliases() -> None:
    texts = render()
    assert len(texts) == len(KINDS)
    for text in texts.values():
        assert yaml.safe_load(text)["kind"] == "CustomResourceDefinition"
        assert not re.search(r"(^|\s)[&*]id\d", text)


@every_kind
def test_the_schema_is_structural(kind: Any) -> None:
    for path, node in walk(schema(kind)):
        for refused in ("$ref", "const", "examples", "discriminator", "uniqueItems", "exclusiveMinimum", "title"):
            assert refused not in node, path
        assert "type" in node or node["x-kubernetes-int-or-string"], path
        assert ("anyOf" in node) == ("x-kubernetes-int-or-string" in node), path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert node.get("default", ...) is not None, path
        if node.get("type") == "array":
            keys = node.get("x-kubernetes-list-map-keys", [])
            assert set(keys) <= set(node["items"].get("required", [])), path


@every_kind
def test_every_field_is_described_and_bounded(kind: Any) -> None:
    for path, node in walk(schema(kind)):
        if (path.endswith(("[]", "{}")) and node["type"] == "string") or path == ".metadata":
            continue
        assert node.get("description", "").endswith("."), path
    for path, node in walk(schema(kind)):
        if not path.startswith((".spec", ".status")):
            continue
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if node.get("type") == "string" and "enum" not in node and "format" not in node:
            assert "maxLength" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


XL_KEY = r"; xl( [a-z-]+)?: [a-z]|\(xl [a-z-]+|; no xl key"
"""In a description: a key of xl.cfg, an argument of a command of xl's, such a command, or that there is none."""


@every_kind
def test_every_field_of_a_spec_names_its_xl_key(kind: Any) -> None:
    for path, node in walk(at(kind, ".spec")):
        if path and not path.endswith(("[]", "{}")) and ".namespaceSelector." not in path:
            assert re.search(XL_KEY, node["description"]), path


XL_SHOWS = {
    "XenDomain": {
        "domid": "xl list: ID", "state": "xl list: State", "memory.current": "xl list: Mem", "cpu.online": "xl list: VCPUs",
        "disks[].target": "xl: vdev of disk", "interfaces[].mac": "xl: mac of vif", "uuid": "xl: uuid",
    },
    "XenHost": {
        "nodeName": "xl info: host", "kernel": "xl info: release", "scheduler": "xl info: xen_scheduler",
        "xen.version": "xl info: xen_version", "xen.caps": "xl info: xen_caps",
        "xen.commandLine": "xl info: xen_commandline",
        "cpus.physical": "xl info: nr_cpus", "cpus.nodes": "xl info: nr_nodes", "cpus.mhz": "xl info: cpu_mhz",
        "cpus.coresPerSocket": "xl info: cores_per_socket", "cpus.threadsPerCore": "xl info: threads_per_core",
        "memory.total": "xl info: total_memory", "memory.free": "xl info: free_memory",
        **{f"{which}[].{field}": f"xl list: {column}" for which in ("unmanaged", "orphaned")
           for field, column in (("memory", "Mem"), ("vcpus", "VCPUs"))},
        "unmanaged[].name": "xl list: Name", "unmanaged[].domid": "xl list: ID",
    },
}  # fmt: skip


@every_kind
def test_what_a_status_shows_as_xl_does_says_where(kind: Any) -> None:
    for path, shown in XL_SHOWS.get(kind.info.kind, {}).items():
        assert at(kind, f".status.{path}")["description"].endswith(f"; {shown}."), path


@every_kind
def test_an_amount_says_its_unit(kind: Any) -> None:
    for path, node in walk(schema(kind)):
        if node.get("x-kubernetes-int-or-string"):
            assert re.search(r"as in [0-9]+[MG]i\b", node["description"]), path


FIELDS = """
powerState type replicas uuid boot.direct.kernel.pool boot.direct.kernel.file boot.direct.initrd.file boot.direct.root
boot.direct.cmdline boot.bootloader.name boot.firmware.type boot.firmware.order cpu.count cpu.max cpu.affinity
cpu.weight cpu.cap memory.size memory.max disks[].name disks[].disk disks[].claimName disks[].target disks[].device
disks[].readOnly disks[].shareable interfaces[].name interfaces[].network interfaces[].mac interfaces[].address
interfaces[].rate interfaces[].model graphics.vnc pci[].device cloudInit.userData.secretName cloudInit.userData.key
cloudInit.networkData.key shutdownGracePeriodSeconds onPoweroff onReboot onCrash evictionStrategy nodeSelector affinity
tolerations topologySpreadConstraints priorityClassName schedulerName
"""


def test_a_domains_schema_has_every_field_of_the_design() -> None:
    fields = {path.removeprefix(".spec.") for path, _ in walk(schema(XenDomain)) if path.startswith(".spec.")}
    assert fields >= set(FIELDS.split())


def test_a_domain_is_listed_as_xl_list_does() -> None:
    columns = crd(XenDomain)["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = [column["name"].upper() for column in columns if not column.get("priority")]
    assert shown == ["ID", "MEM", "VCPUS", "STATE", "STATUS", "NODE", "AGE"]


def test_agents_can_select_their_domains_and_budgets_can_count_them() -> None:
    version = crd(XenDomain)["spec"]["versions"][0]
    assert version["selectableFields"] == [{"jsonPath": ".status.nodeName"}]
    assert version["subresources"]["scale"]["specReplicasPath"] == ".spec.replicas"


@every_kind
def test_paths_that_kubernetes_looks_at_are_in_the_schema(kind: Any) -> None:
    paths = {path for path, _ in walk(schema(kind))} | {".metadata.creationTimestamp"}
    version = crd(kind)["spec"]["versions"][0]
    looked_at = [field["jsonPath"] for field in version.get("selectableFields", [])]
    looked_at += version["subresources"].get("scale", {}).values()
    looked_at += [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    for path in looked_at:
        assert re.sub(r"\[\?.*?\)\]", "[]", path) in paths


@every_kind
def test_an_object_is_not_taken_for_finished_before_it_was_looked_at(kind: Any) -> None:
    (condition,) = at(kind, ".status")["default"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "Unknown", "Pending")
    assert condition["lastTransitionTime"] == "1970-01-01T00:00:00Z"


@every_kind
def test_what_is_compared_whole_has_no_defaults(kind: Any) -> None:
    for path, node in walk(schema(kind)):
        if "[]" in path or path.startswith(".status."):
            assert "default" not in node, path


def test_defaults_that_say_nothing_are_left_out_and_those_that_fill_in_are_kept() -> None:
    assert "default" not in at(XenDomain, ".spec.disks")
    assert "default" not in at(XenDomain, ".spec.nodeSelector")
    assert at(XenDomain, ".spec.cpu")["default"] == {}
    assert at(XenDomain, ".spec.cpu.count")["default"] == 1
    assert "required" not in schema(XenHost)


NO_FORM = {
    "a union": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    "a tuple": {"type": "array", "prefixItems": [{"type": "string"}]},
    "an exclusive bound": {"type": "integer", "exclusiveMinimum": 0},
    "no type": {"description": "Anything."},
}


@pytest.mark.parametrize("node", NO_FORM.values(), ids=NO_FORM)
def test_what_has_no_structural_form_is_an_error_here(node: Node) -> None:
    with pytest.raises(ValueError, match=r"no structural form|no type"):
        structural(node, {})
