"""What the chart installs: everything that the code needs from it, and nothing that would harm a domain when it goes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic.alias_generators import to_camel

from hack.stack import chart
from hack.stack.chart import Document
from hack.tools.build import FAMILIES
from kubexen import VERSION
from kubexen.agent.main import main as agent_main
from kubexen.api.crdgen import render as crds
from kubexen.api.domainstatus import CONTROLLER_FIELDS, XenDomainStatus
from kubexen.api.names import AGENT_NAMESPACE, SCHEDULER_NAME, SYSTEM_NAMESPACE
from kubexen.controller import disks
from kubexen.controller.main import main as controller_main
from kubexen.plan import placement
from kubexen.plan.anchor import IMAGE
from kubexen.plan.capacity import VCPUS_PER_CPU
from tests.unit.chart.conftest import Find

KEEP = {"helm.sh/resource-policy": "keep"}
MOUNTED = {"/run/libvirt", "/var/log/libvirt/libxl", "/dev/xen", "/run/xenstored", "/usr", "/srv"}


def test_the_kinds_are_the_generated_ones_and_stay_at_an_uninstall(documents: list[Document]) -> None:
    found = {d["metadata"]["name"]: d for d in documents if d["kind"] == "CustomResourceDefinition"}
    wanted = [yaml.safe_load(text) for text in crds().values()]
    assert list(found.values()) == sorted(wanted, key=lambda crd: list(found).index(crd["metadata"]["name"]))
    assert len(found) == len(wanted)
    for crd in found.values():
        assert KEEP.items() <= crd["metadata"]["annotations"].items()
    assert not (chart.CHART / "crds").exists(), "helm would install these once, and never upgrade them"


def test_the_chart_has_no_copy_of_the_kinds() -> None:
    assert (chart.CHART / "files" / "crds").resolve() == Path(__file__).parents[3] / "crds"


def test_the_chart_is_of_the_version_of_the_code() -> None:
    assert yaml.safe_load((chart.CHART / "Chart.yaml").read_text())["appVersion"] == VERSION


def test_what_holds_domains_stays_at_an_uninstall() -> None:
    for document in chart.render(values={"namespaces": {"tenants": ["shop"]}}):
        kept = KEEP.items() <= document["metadata"].get("annotations", {}).items()
        holds = document["kind"] == "CustomResourceDefinition" or document["metadata"]["name"] == "shop"
        assert kept == holds, document["metadata"]


def test_a_packed_chart_has_all_of_it(tmp_path: Path, documents: list[Document]) -> None:
    packed = chart.package(tmp_path)
    assert chart.render(chart=packed) == documents


def test_the_scheduler_has_the_profile_that_anchors_ask_for_and_not_the_clusters_own(documents: list[Document], find: Find) -> None:
    config = yaml.safe_load(find(documents, "ConfigMap", "kubexen-scheduler")["data"]["scheduler.yaml"])
    shipped = yaml.safe_load((chart.CHART / "files" / "scheduler-profiles.yaml").read_text())["profiles"]
    assert config["profiles"] == [p for p in shipped if p["schedulerName"] == SCHEDULER_NAME]
    assert len(config["profiles"]) == 1


def test_the_scheduler_is_of_the_version_that_is_tested(documents: list[Document], find: Find) -> None:
    (container,) = find(documents, "Deployment", "kubexen-scheduler")["spec"]["template"]["spec"]["containers"]
    assert container["image"].rpartition(":")[2] == FAMILIES["kubernetes"].version


def test_two_controllers_of_which_one_may_be_away(documents: list[Document], find: Find) -> None:
    deployment = find(documents, "Deployment", "kubexen-controller")
    budget = find(documents, "PodDisruptionBudget", "kubexen-controller")
    assert deployment["spec"]["replicas"] == 2
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert [variable["name"] for variable in container["env"]] == ["POD_ID"], "without it Kopf looks for its user in /etc/passwd"


def test_defaults_of_the_programs_and_of_the_chart_are_the_same(documents: list[Document], find: Find) -> None:
    assert AGENT_NAMESPACE in [d["metadata"]["name"] for d in documents if d["kind"] == "Namespace"]
    controller = find(documents, "Deployment", "kubexen-controller", SYSTEM_NAMESPACE)
    args = controller["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f"--vcpus-per-cpu={VCPUS_PER_CPU}" in args
    image = controller["spec"]["template"]["spec"]["containers"][0]["image"]
    assert f"--anchor-image={image}" in args, "the image is an anchor by itself"
    assert image == IMAGE


@pytest.mark.parametrize("kind, name, program", [
    ("Deployment", "kubexen-controller", controller_main), ("DaemonSet", "kubexen-agent", agent_main),
])  # fmt: skip
def test_the_programs_know_every_argument(
    documents: list[Document], find: Find, kind: str, name: str, program: object, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    args = find(documents, kind, name)["spec"]["template"]["spec"]["containers"][0]["args"]
    monkeypatch.setattr("sys.argv", [name, *args, "--help"])
    with pytest.raises(SystemExit) as end:
        program()  # type: ignore[operator]
    assert end.value.code == 0
    known = capsys.readouterr().out
    assert not [a for a in args if a.partition("=")[0] not in known]


def test_agents_run_on_xen_hosts_only_whatever_their_taints_and_see_them_as_the_host_does(
    documents: list[Document], find: Find
) -> None:
    pod = find(documents, "DaemonSet", "kubexen-agent")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"kubexen.dev/xen": "true"}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert {v["hostPath"]["path"] for v in pod["volumes"] if "hostPath" in v} == MOUNTED
    assert pod["hostPID"] and not pod.get("hostIPC")
    assert {"--root=/proc/1/root", "--pool-root=/"} <= set(pod["containers"][0]["args"])
    mounts = {m["name"]: m for m in pod["containers"][0]["volumeMounts"]}
    assert mounts["xen"]["readOnly"] and mounts["libxl-log"]["readOnly"]


def test_only_the_agent_asks_for_privileges(documents: list[Document]) -> None:
    specs = {d["metadata"]["name"]: d["spec"]["template"]["spec"] for d in documents if d["kind"] in ("Deployment", "DaemonSet")}
    privileged = {n for n, s in specs.items() if s["containers"][0]["securityContext"].get("privileged")}
    assert privileged == {"kubexen-agent"}
    for name in specs.keys() - privileged:
        assert not specs[name].get("hostNetwork")
        assert not any("hostPath" in v for v in specs[name].get("volumes", ())), name


def test_a_plain_kubectl_drain_takes_all_but_the_agents_from_a_node(documents: list[Document]) -> None:
    """A pod with an emptyDir it refuses, without --delete-emptydir-data."""
    for deployment in (d for d in documents if d["kind"] == "Deployment"):
        assert not any("emptyDir" in v for v in deployment["spec"]["template"]["spec"].get("volumes", ()))


def test_every_policy_is_bound_and_fails_closed(documents: list[Document], find: Find) -> None:
    policies = [d for d in documents if d["kind"] == "ValidatingAdmissionPolicy"]
    assert len(policies) >= 8
    for policy in policies:
        assert policy["spec"]["failurePolicy"] == "Fail"
        binding = find(documents, "ValidatingAdmissionPolicyBinding", policy["metadata"]["name"])
        assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}


@pytest.mark.parametrize("version, count", [("1.32.0", 0), ("1.36.3", 2)])
def test_finalizers_are_set_at_creation_where_kubernetes_can(version: str, count: int) -> None:
    documents = chart.render(kubernetes=version)
    assert sum(d["kind"] == "MutatingAdmissionPolicy" for d in documents) == count
    assert sum(d["kind"] == "MutatingAdmissionPolicyBinding" for d in documents) == count


def test_an_older_kubernetes_is_refused() -> None:
    with pytest.raises(chart.ChartError, match=r"requires kubeVersion: >=1\.32"):
        chart.render(kubernetes="1.31.9")


def test_no_account_of_kubexens_has_a_right_to_secrets_or_to_everything(documents: list[Document]) -> None:
    for role in (d for d in documents if d["kind"] in ("Role", "ClusterRole")):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            assert not {"secrets", "serviceaccounts/token", "pods/exec", "roles", "clusterroles"} & set(rule["resources"])


def test_the_policies_know_every_field_and_condition_that_is_not_an_agents(documents: list[Document], find: Find) -> None:
    def expressions(name: str) -> str:
        policy = find(documents, "ValidatingAdmissionPolicy", name)
        return " ".join(validation["expression"] for validation in policy["spec"]["validations"])

    fields, conditions = re.findall(r"\[([^\]]+)\]\s*\.all\(", expressions("kubexen-agent-domain"))
    aliases = {XenDomainStatus.model_fields[name].alias or to_camel(name) for name in CONTROLLER_FIELDS}
    assert set(re.findall(r"'(\w+)'", fields)) == aliases
    assert set(re.findall(r"'(\w+)'", conditions)) == {str(type_) for type_ in placement.CONDITIONS}
    (conditions,) = re.findall(r"\[([^\]]+)\]\s*\.all\(", expressions("kubexen-agent-disk"))
    assert set(re.findall(r"'(\w+)'", conditions)) == {str(type_) for type_ in disks.CONDITIONS}
