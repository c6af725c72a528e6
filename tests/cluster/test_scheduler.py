"""The chart's scheduler: kube-scheduler with the chart's configuration and the rights of its account, in place of the control
plane's own, which has the same profile and all rights. It takes the idlest Xen host."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hack.cluster.components import answers
from hack.cluster.ports import free_ports
from hack.cluster.process import Process
from hack.stack import chart
from hack.stack.stack import NAMESPACE, Stack
from hack.tools.build import binary
from kubexen.api.names import DOMAIN_LABEL
from kubexen.plan.anchor import IMAGE
from tests.cluster import manifests
from tests.cluster.tenant import PATIENCE, Tenant, is_ready, until
from tests.cluster.volumes import Kubelets, claiming

NAME = "kubexen-scheduler"
XEN1, XEN2 = ({"kubernetes.io/hostname": name} for name in ("xen1", "xen2"))


@pytest.fixture(scope="module")
def scheduler(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(NAME, tmp_path_factory.mktemp("scheduler"))
    stack.cluster.stop_component("kube-scheduler")
    try:
        start(process, stack, tmp_path_factory.mktemp("mounted"))
        yield process
    finally:
        process.stop()
        stack.cluster.start_component("kube-scheduler")


def start(process: Process, stack: Stack, folder: Path) -> None:
    """As the chart's Deployment has it, with the ConfigMap mounted in this folder. In its pod it finds its account's token; here it
    is told where that is."""
    (deployment,) = (d for d in chart.render(NAMESPACE) if (d["kind"], d["metadata"]["name"]) == ("Deployment", NAME))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    token = folder / "kubeconfig"
    token.write_text(stack.cluster.kubeconfig_for(stack.cluster.service_account_token(NAMESPACE, NAME), "127.0.0.1"))
    for name, text in stack.get("configmap", NAME, NAMESPACE)["data"].items():
        (folder / name).write_text(yaml.safe_dump(yaml.safe_load(text) | {"clientConnection": {"kubeconfig": str(token)}}))
    (mount,) = container["volumeMounts"]
    program, *flags = (word.replace(mount["mountPath"], str(folder)) for word in container["command"])
    access = [f"--{what}-kubeconfig={token}" for what in ("authentication", "authorization")]
    (port,) = free_ports(1)
    process.start([str(binary(program)), *flags, *access, "--bind-address=127.0.0.1", f"--secure-port={port}"])
    paths = {container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # a kubelet believes any certificate
    process.wait_ready(lambda: all(answers(f"https://127.0.0.1:{port}{path}", tls, timeout=5) for path in paths), PATIENCE)


@pytest.fixture
def idle(tenant: Tenant, scheduler: Process) -> Tenant:
    """A tenant of two hosts that both take pods and have nothing to do."""
    for host in tenant.stack.hosts:
        tenant.api.wait(f"/api/v1/nodes/{host.name}", lambda node: not node["spec"].get("taints"), PATIENCE)
    until(lambda: not tenant.api.get("/api/v1/pods", labelSelector=DOMAIN_LABEL)["items"])  # anchors outlive their domains a little
    return tenant


def test_it_places_anchors_with_the_rights_of_its_account(idle: Tenant, scheduler: Process) -> None:
    late = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": idle.namespace},
            "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}
    idle.apply(late)
    with Kubelets(idle) as kubelets:
        kubelets.claim("data", node="xen2", late=idle.namespace)
        idle.run(manifests.domain("web"), claiming("stores", "data"))
        assert idle.where("stores")[0] == "xen2", "where its claim's volume is"
        idle.delete("xd", "stores")
        away, _ = idle.where("web")
        idle.stack.kubectl("drain", away, f"--timeout={PATIENCE:.0f}s", "--ignore-daemonsets")
        idle.wait("web", lambda found: is_ready(found) and found["status"].get("nodeName") == idle.elsewhere(away))
    idle.stack.kubectl("delete", "storageclass", idle.namespace)

    account = f"system:serviceaccount:{NAMESPACE}:{NAME}"
    asked = list(idle.stack.cluster.audit())
    assert {r.user for r in asked if r.subresource == "binding" and r.namespace == idle.namespace} == {account}
    assert {f"{r.verb} {r.uri}: {r.message}" for r in asked if r.user == account and not r.allowed} == set()
    assert "forbidden" not in scheduler.log.read_text().lower()
    assert idle.stack.get("lease", NAME, NAMESPACE)["spec"]["holderIdentity"], "one of several leads"


def test_the_idlest_host_is_taken(idle: Tenant) -> None:
    """By the memory of Xen: of dom0's all anchors ask for the same."""
    idle.run(manifests.domain("large", memory={"size": "2Gi"}, nodeSelector=XEN1))
    idle.run(manifests.domain("web"))
    assert idle.where("web")[0] == "xen2"
    idle.run(manifests.domain("larger", memory={"size": "4Gi"}, nodeSelector=XEN2))
    idle.run(manifests.domain("db"))
    assert idle.where("db")[0] == "xen1"


def test_a_host_that_never_had_an_anchor_is_taken_like_any_other(idle: Tenant) -> None:
    """kube-scheduler's own scoring would prefer where the image is already."""
    status = "/api/v1/nodes/xen1/status"
    idle.api.patch(status, {"status": {"images": [{"names": [IMAGE], "sizeBytes": 10**9}]}})
    try:
        idle.run(manifests.domain("first", nodeSelector=XEN1))
        idle.run(manifests.domain("second"))
        assert idle.where("second")[0] == "xen2"
    finally:
        idle.api.patch(status, {"status": {"images": None}})
