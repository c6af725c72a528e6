"""`kubectl xen doctor` on the stack: nothing to say of a healthy one; one thing is broken at a time, is found, and is found no
more when it is mended. And a support bundle that gives no secret away."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hack.cluster.api import Object
from hack.stack.hosts import SimulatedHost
from hack.stack.stack import NAMESPACE, Stack
from tests.cluster import broken, manifests
from tests.cluster.tenant import KUBEXEN, Tenant, until, xl

pytestmark = pytest.mark.early

MARK = "hunter2-xyzzy"
ADMISSION = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Doctor:
    """The plugin as a user has it: `kubectl-xen` on the PATH, run by kubectl."""

    def __init__(self, stack: Stack) -> None:
        self.environment = os.environ | stack.environment()

    def run(self, *arguments: str, code: int | None = None) -> str:
        done = subprocess.run(["kubectl", "xen", "doctor", *arguments], env=self.environment, capture_output=True, text=True,
                              timeout=120)  # fmt: skip
        assert done.returncode in (0, 1) and code in (None, done.returncode), done.stdout + done.stderr
        return done.stdout

    def findings(self) -> list[Object]:
        return list(json.loads(self.run("-o", "json"))["findings"])

    def find(self, *wanted: str, says: str = "") -> Object | None:
        """The finding of this severity, subject and check, if there is one."""
        return next((f for f in self.findings() if matches(f, wanted, says)), None)

    def wait_well(self, *but: str, says: str = "") -> None:
        """Until nothing is an error, nor is there a finding like this."""
        try:
            until(lambda: not any(f["severity"] == "error" or matches(f, but, says) for f in self.findings()))
        except TimeoutError:
            raise AssertionError(self.run()) from None


def matches(finding: Object, wanted: tuple[str, ...], says: str) -> bool:
    return (finding["severity"], finding["subject"], finding["check"]) == wanted and says in finding["what"]


@pytest.fixture(scope="module")
def doctor(stack: Stack) -> Doctor:
    """Of a stack that is well, as each test leaves it."""
    found = Doctor(stack)
    found.wait_well()
    return found


@pytest.fixture
def host(stack: Stack) -> SimulatedHost:
    found = stack.hosts[0]
    assert isinstance(found, SimulatedHost)
    return found


def test_a_healthy_stack_has_no_errors(tenant: Tenant, doctor: Doctor) -> None:
    tenant.run(manifests.domain("web"))
    said = doctor.run(code=0)
    assert "✗" not in said and "✓" not in said and "checks passed" in said
    said = doctor.run("--verbose", code=0)
    assert "its agent is alive" in said and "a controller leads" in said and f"XenDomain {tenant.namespace}/web" in said


@contextmanager
def without(stack: Stack, collection: str, name: str) -> Iterator[None]:
    """An object is deleted, and made again at the end."""
    api = stack.cluster.api
    old = api.get(f"{collection}/{name}")
    kept = {key: value for key, value in old["metadata"].items() if key in ("name", "labels", "annotations")}
    api.delete(f"{collection}/{name}")
    try:
        yield
    finally:
        api.create(collection, {**{key: old[key] for key in ("apiVersion", "kind", "spec")}, "metadata": kept})


@contextmanager
def older(stack: Stack, kind: str, field: str) -> Iterator[None]:
    """A definition is of a version that did not have this field of the status yet."""
    path = f"{CRDS}/{kind}"
    versions: Any = stack.cluster.api.get(path)["spec"]["versions"]
    past = json.loads(json.dumps(versions))
    del past[0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"][field]
    stack.cluster.api.patch(path, {"spec": {"versions": past}})
    try:
        yield
    finally:
        stack.cluster.api.patch(path, {"spec": {"versions": versions}})


@contextmanager
def unlabelled(stack: Stack, node: str) -> Iterator[None]:
    path = f"/api/v1/nodes/{node}"
    stack.cluster.api.patch(path, {"metadata": {"labels": {"kubexen.dev/xen": None}}})
    try:
        yield
    finally:
        stack.cluster.api.patch(path, {"metadata": {"labels": {"kubexen.dev/xen": "true"}}})


@contextmanager
def few_pods(stack: Stack, node: str) -> Iterator[None]:
    """Its kubelet is set to a small maxPods."""
    before = stack.cluster.api.get(f"/api/v1/nodes/{node}")["status"]["capacity"]["pods"]
    stack.cluster.patch_capacity(node, {"pods": "11"})
    try:
        yield
    finally:
        stack.cluster.patch_capacity(node, {"pods": before})


@contextmanager
def stranger(host: SimulatedHost) -> Iterator[None]:
    with xl(host) as sim:
        sim.xl_create_unmanaged("old-mail")
        try:
            yield
        finally:
            sim.xl_destroy("old-mail")


@contextmanager
def node_without_agent(stack: Stack) -> Iterator[None]:
    stack.cluster.add_node("xen9", labels={"kubexen.dev/xen": "true"})
    try:
        yield
    finally:
        stack.cluster.delete_node("xen9")


@dataclass(frozen=True)
class Case:
    breaks: Callable[[Stack, SimulatedHost], AbstractContextManager[None]]
    want: tuple[str, str, str]
    says: str
    mend: str


def on_host(breaks: Callable[..., AbstractContextManager[None]], *arguments: Any, **options: Any) -> Any:
    return lambda _, host: breaks(host, *arguments, **options)


def on_stack(breaks: Callable[..., AbstractContextManager[None]], *arguments: Any) -> Any:
    return lambda stack, _: breaks(stack, *arguments)


def at_host(severity: str, check: str) -> tuple[str, str, str]:
    return severity, "Host xen1", check


def at_cluster(severity: str, check: str) -> tuple[str, str, str]:
    return severity, "Cluster", check


CASES = {
    "a bridge is removed": Case(
        on_host(broken.bridge), at_host("error", "network"), "no bridge 'xenbr0'", "ip link add xenbr0"),
    "a pool is not mounted": Case(on_host(broken.pool, "/srv/pool"), at_host("error", "pool"), "/srv/pool", "mount"),
    "the toolstack is stopped": Case(
        on_host(broken.toolstack), at_host("error", "hypervisor"), "HypervisorUnreachable", "describe xhost xen1"),
    "xendomains is enabled": Case(
        on_host(broken.xendomains), at_host("error", "Xendomains"), "save or shut down", "systemctl mask"),
    "dom0 has all memory": Case(
        on_host(broken.setting, command_line="loglvl=all"), at_host("error", "Dom0Memory"), "not fixed", "dom0_mem="),
    "another Xen": Case(on_host(broken.setting, version="4.14.6"), at_host("warning", "XenVersion"), "4.14.6", "try it"),
    "the agent is stopped": Case(on_host(broken.agent), at_host("error", "agent"), "silent for", "its log"),
    "the controller is stopped": Case(
        on_stack(broken.controller), at_cluster("error", "controller"), "no controller leads", "kubexen-controller"),
    "a policy is deleted": Case(
        on_stack(without, ADMISSION, "kubexen-disk-finalizer"), at_cluster("warning", "policy"), "kubexen-disk-finalizer", "helm"),
    "a definition is old": Case(
        on_stack(older, "xenhosts.kubexen.dev", "checks"), at_cluster("error", "crd"), "status.checks", "crds/"),
    "a Node loses its label": Case(
        on_stack(unlabelled, "xen1"), at_host("warning", "label"), "kubexen.dev/xen", "kubectl label"),
    "a kubelet takes few pods": Case(
        on_stack(few_pods, "xen1"), at_host("warning", "maxPods"), "its kubelet takes 11 pods", "set maxPods: "),
    "a labelled Node has no agent": Case(
        on_stack(node_without_agent), ("error", "Host xen9", "xenhost"), "no agent", "kubectl get pod"),
    "somebody else's domain": Case(on_host(stranger), at_host("note", "unmanaged"), "old-mail", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_is_broken_is_found_until_it_is_mended(stack: Stack, doctor: Doctor, host: SimulatedHost, case: Case) -> None:
    with case.breaks(stack, host):
        found = until(lambda: doctor.find(*case.want, says=case.says))
        assert case.mend in found["mend"]
        assert case.says in doctor.run(code=1 if case.want[0] == "error" else 0)
    doctor.wait_well(*case.want, says=case.says)


def test_a_domain_that_waits_for_a_person_is_found(tenant: Tenant, doctor: Doctor) -> None:
    subject = f"XenDomain {tenant.namespace}/web"
    tenant.apply(manifests.domain("web", priorityClassName="nowhere"))
    found = until(lambda: doctor.find("error", subject, "stalled"))
    assert "nowhere" in found["what"] and f"-n {tenant.namespace} web" in found["mend"]
    tenant.delete("xd", "web")
    assert doctor.find("error", subject, "stalled") is None


def test_anchors_that_no_scheduler_looks_at_are_found(tenant: Tenant, doctor: Doctor) -> None:
    tenant.stack.cluster.stop_component("kube-scheduler")
    try:
        tenant.apply(manifests.domain("web"))
        assert tenant.namespace in until(lambda: doctor.find("error", "Cluster", "scheduler"))["what"]
    finally:
        tenant.stack.cluster.start_component("kube-scheduler")
    tenant.wait_reason("web", "Running")
    assert doctor.find("error", "Cluster", "scheduler") is None


def test_rights_that_are_missing_are_said(stack: Stack, doctor: Doctor, tmp_path: Path) -> None:
    """A user without rights learns which ones the doctor needs; it does not call missing what it could not see."""
    stack.cluster.api.create(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", {"metadata": {"name": "nobody"}})
    try:
        config = tmp_path / "kubeconfig"
        config.write_text(stack.cluster.kubeconfig_for(stack.cluster.service_account_token(NAMESPACE, "nobody"), "127.0.0.1"))
        found = json.loads(doctor.run("-o", "json", "--kubeconfig", str(config), code=0))["findings"]
        assert any(f["check"] == "rights" and "list nodes" in f["what"] for f in found)
        assert {f["check"] for f in found if f["severity"] != "ok"} == {"rights", "unread"}
    finally:
        stack.cluster.api.delete(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/nobody")


def test_an_api_server_that_does_not_answer_is_said_in_one_line(doctor: Doctor, tmp_path: Path, stack: Stack) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(stack.cluster.kubeconfig.read_text().replace(stack.cluster.server, "https://127.0.0.1:1"))
    done = subprocess.run(["kubectl", "xen", "doctor", "--kubeconfig", str(config)], env=doctor.environment, capture_output=True,
                          text=True, timeout=120)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def leak(tenant: Tenant) -> None:
    """A tenant and an administrator put the secret wherever it could leak from."""
    annotation = {"kubectl.kubernetes.io/last-applied-configuration": f'{{"password": "{MARK}"}}', "example.com/note": MARK}
    direct = {"kernel": {"pool": manifests.IMAGES, "file": "vmlinuz"}, "cmdline": f"console=hvc0 password={MARK}"}
    domain = manifests.domain("web", boot={"direct": direct})
    domain["metadata"] |= {"annotations": annotation, "labels": {"example.com/key": MARK}}
    tenant.apply(
        domain,
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"}, "stringData": {"userdata": MARK}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"userdata": MARK}},
    )
    pod: Object = {
        "metadata": {"name": "leaky", "labels": {"app.kubernetes.io/name": "kubexen"}, "annotations": annotation},
        "spec": {"nodeName": tenant.stack.hosts[0].name, "containers": [{
            "name": "a", "image": "none", "args": [f"--token={MARK}", MARK], "command": ["sh", "-c", f"login {MARK}"],
            "env": [{"name": "ANYTHING", "value": MARK}],
            "livenessProbe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "Authorization", "value": MARK}]}}}]},
    }  # fmt: skip
    api = tenant.api
    api.create(f"/api/v1/namespaces/{NAMESPACE}/pods", pod)
    for kind in ("secrets", "configmaps"):
        body = {"metadata": {"name": "leaky"}, "stringData" if kind == "secrets" else "data": {"password": MARK}}
        api.create(f"/api/v1/namespaces/{NAMESPACE}/{kind}", body)
    uid = tenant.get("web")["metadata"]["uid"]
    event = {
        "metadata": {"name": f"leaky.{tenant.namespace}", "namespace": tenant.namespace},
        "eventTime": "2026-11-01T00:00:00.000000Z",
        "reason": "Leak", "action": "Leak", "type": "Normal", "note": f"cannot log in with password={MARK}",
        "regarding": {"kind": "XenDomain", "name": "web", "namespace": tenant.namespace, "uid": uid},
        "reportingController": "test", "reportingInstance": "test",
    }  # fmt: skip
    api.create(f"/apis/events.k8s.io/v1/namespaces/{tenant.namespace}/events", event)


def test_a_bundle_has_what_helps_and_no_secret(tenant: Tenant, doctor: Doctor, tmp_path: Path) -> None:
    file = tmp_path / "bundle.tar.gz"
    leak(tenant)
    tenant.wait_reason("web", "Running")
    try:
        doctor.run("--bundle", str(file))
    finally:
        for kind in ("pods", "secrets", "configmaps"):
            tenant.api.delete(f"/api/v1/namespaces/{NAMESPACE}/{kind}/leaky")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as archive:
        texts = {member.name.removeprefix("kubexen-support/"): archive.extractfile(member).read().decode()  # type: ignore[union-attr]
                 for member in archive.getmembers()}
    assert [name for name, text in texts.items() if MARK in name + text] == []
    objects = texts["objects/xendomains.kubexen.dev.yaml"]
    assert f"namespace: {tenant.namespace}" in objects and "console=hvc0 password=REDACTED" in objects
    assert "name: leaky" in texts["objects/pods.yaml"] and "anchor" in texts["objects/pods.yaml"]
    assert "name: ANYTHING" in texts["objects/pods.yaml"]
    assert "reason: Leak" in texts["objects/events.yaml"]
    assert "holderIdentity" in texts["objects/leases.coordination.k8s.io.yaml"]
    assert json.loads(texts["versions.json"])["server"]["gitVersion"]
    assert "checks passed" in texts["findings.txt"] and json.loads(texts["findings.json"])["findings"]
    assert not any("secret" in name or "configmap" in name for name in texts)


def test_a_bundle_that_cannot_be_written_is_said(doctor: Doctor, tmp_path: Path) -> None:
    target = str(tmp_path / "nowhere/bundle.tar.gz")
    done = subprocess.run(["kubectl", "xen", "doctor", "--bundle", target], env=doctor.environment, capture_output=True, text=True,
                          timeout=120)  # fmt: skip
    assert done.returncode == 1 and "No such file or directory" in done.stderr
    assert KUBEXEN not in done.stderr
