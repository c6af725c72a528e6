"""values.yaml: what is unknown or of another type is refused with the key's name, and what is known reaches its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from hack.stack import chart
from hack.stack.chart import ChartError, Document
from tests.unit.chart.conftest import Find

VALUES: Document = yaml.safe_load((chart.CHART / "values.yaml").read_text())
SCHEMA: Document = json.loads((chart.CHART / "values.schema.json").read_text())

REFUSED: dict[str, tuple[Document, str]] = {
    "an unknown key": ({"replicas": 3}, "replicas"),
    "an unknown key in a part": ({"controller": {"replica": 3}}, "replica"),
    "an unknown key of an image": ({"images": {"anchor": {"name": "pause"}}}, "name"),
    "an unknown resource": ({"agent": {"resources": {"limits": {"disk": "1Gi"}}}}, "disk"),
    "an unknown key of a toleration": ({"controller": {"tolerations": [{"kye": "a"}]}}, "kye"),
    "a text for a number": ({"vcpusPerCpu": "eight"}, "/vcpusPerCpu"),
    "a number out of range": ({"controller": {"replicas": 0}}, "/controller/replicas"),
    "a text for a switch": ({"scheduler": {"enabled": "no"}}, "/scheduler/enabled"),
    "a text for a list": ({"agent": {"poolDirectories": "/srv"}}, "/agent/poolDirectories"),
    "a path that is none": ({"agent": {"poolDirectories": ["srv/images"]}}, "/agent/poolDirectories/0"),
    "a path that goes up": ({"agent": {"poolDirectories": ["/srv/../etc"]}}, "/agent/poolDirectories/0"),
    "a kubelet's folder that is no path": ({"agent": {"kubeletRoot": "kubelet"}}, "/agent/kubeletRoot"),
    "the whole host": ({"agent": {"poolDirectories": ["/"]}}, "/agent/poolDirectories/0"),
    "a level that is none": ({"logLevel": "loud"}, "/logLevel"),
    "a policy that is none": ({"images": {"kubexen": {"pullPolicy": "Sometimes"}}}, "/images/kubexen/pullPolicy"),
    "a namespace that is none": ({"namespaces": {"agents": "Kubexen_Agents"}}, "/namespaces/agents"),
    "agents in the controller's namespace": ({"namespaces": {"agents": "kubexen-system"}}, "namespaces.agents"),
    "a tenant in Kubexen's namespace": ({"namespaces": {"tenants": ["kubexen-agents"]}}, "namespaces.tenants"),
}


@pytest.mark.parametrize("values, key", REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_refused_with_the_keys_name(values: Document, key: str) -> None:
    with pytest.raises(ChartError) as refusal:
        chart.render(values=values)
    assert key in str(refusal.value)


def objects(schema: Document, path: str = "") -> Iterator[tuple[str, Document]]:
    if schema.get("type") == "object":
        yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from objects(child, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from objects(schema["items"], f"{path}[]")


def test_no_part_of_the_schema_lets_unknown_keys_in() -> None:
    parts = [*objects(SCHEMA), *(found for name, part in SCHEMA["$defs"].items() for found in objects(part, f"${name}"))]
    assert len(parts) > 8
    for path, part in parts:
        assert part["additionalProperties"] in (False, {"type": "string"}), path


def test_the_schema_knows_every_value_that_is_shipped_and_no_other() -> None:
    def keys(values: Any, schema: Document) -> None:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        if isinstance(values, dict) and "properties" in schema:
            optional = {"digest", "repository", "tag", "pullPolicy", "cpu", "ephemeral-storage"}
            assert values.keys() <= schema["properties"].keys()
            assert schema["properties"].keys() - values.keys() <= optional
            for name, value in values.items():
                keys(value, schema["properties"][name])

    keys(VALUES, SCHEMA)


def arguments(document: Document) -> list[str]:
    return list(document["spec"]["template"]["spec"]["containers"][0]["args"])


def test_values_reach_their_place(find: Find) -> None:
    documents = chart.render("xen", {
        "namespaces": {"agents": "xen-agents", "tenants": ["shop"]},
        "images": {
            "kubexen": {"repository": "registry.example.com/kubexen", "tag": "7", "pullPolicy": "Always"},
            "anchor": {"repository": "registry.example.com/pause", "digest": "sha256:" + "a" * 64},
            "scheduler": {"repository": "registry.example.com/scheduler", "tag": "v1"},
            "pullSecrets": [{"name": "mine"}],
        },
        "logLevel": "debug", "vcpusPerCpu": 3,
        "controller": {"replicas": 1, "resources": {"limits": {"memory": "1Gi"}}, "nodeSelector": {"a": "b"}},
        "agent": {"driver": "test:///default", "poolDirectories": ["/srv/a", "/mnt/b"], "kubeletRoot": "/data/kubelet",
                  "healthPort": 5000, "maxUnavailable": 3},
    })  # fmt: skip
    controller = find(documents, "Deployment", "kubexen-controller", "xen")
    args = arguments(controller)
    assert {"--agent-namespace=xen-agents", "--namespace=xen", "--vcpus-per-cpu=3", "--log-level=debug"} <= set(args)
    anchor = f"registry.example.com/pause@sha256:{'a' * 64}"
    assert f"--anchor-image={anchor}" in arguments(controller)
    policy = find(documents, "ValidatingAdmissionPolicy", "kubexen-controller-pod")
    assert f"'{anchor}'" in " ".join(rule["expression"] for rule in policy["spec"]["validations"])
    pod = controller["spec"]["template"]["spec"]
    assert (pod["containers"][0]["image"], pod["containers"][0]["imagePullPolicy"]) == ("registry.example.com/kubexen:7", "Always")
    assert pod["imagePullSecrets"] == [{"name": "mine"}]
    assert pod["nodeSelector"] == {"a": "b"}
    assert pod["containers"][0]["resources"]["limits"]["memory"] == "1Gi"
    agent = find(documents, "DaemonSet", "kubexen-agent", "xen-agents")
    args = set(arguments(agent))
    assert {"--driver=test:///default", "--namespace=xen-agents", "--health=127.0.0.1:5000", "--kubelet-root=/data/kubelet"} <= args
    assert agent["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 3}
    on_delete = find(chart.render(values={"agent": {"updateStrategy": "OnDelete"}}), "DaemonSet", "kubexen-agent")
    assert on_delete["spec"]["updateStrategy"] == {"type": "OnDelete"}
    paths = [v["hostPath"]["path"] for v in agent["spec"]["template"]["spec"]["volumes"] if v["name"].startswith("pool-")]
    assert paths == ["/srv/a", "/mnt/b"]
    labels = find(documents, "Namespace", "shop")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    policy = find(documents, "ValidatingAdmissionPolicy", "kubexen-agent-host")
    (condition,) = policy["spec"]["matchConditions"]
    assert "'system:serviceaccount:xen-agents:kubexen-agent'" in condition["expression"]
    for binding in documents:
        for subject in binding.get("subjects", ()):
            assert subject["namespace"] == {"kubexen-agent": "xen-agents"}.get(subject["name"], "xen")


def test_without_the_scheduler_nothing_of_it_is_left() -> None:
    documents = chart.render(values={"scheduler": {"enabled": False}})
    assert not [d for d in documents if "scheduler" in d["metadata"]["name"]]
