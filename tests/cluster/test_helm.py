"""helm on a real API server: install, upgrade, rollback, uninstall and coming back, with a domain's object in the cluster. No pod
runs here; what is looked at is what helm makes of the API's objects."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hack.cluster import Cluster
from hack.cluster.api import ApiError, Object
from hack.stack import chart
from hack.stack.chart import ChartError, Document
from tests.cluster import manifests
from tests.cluster.tenant import KUBEXEN, until

NAMESPACE = "kubexen-system"
DOMAIN = f"{KUBEXEN}/namespaces/shop/xendomains/web"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/xendomains.kubexen.dev"
VALUES: Document = {"namespaces": {"tenants": ["shop"]}}


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Cluster]:
    """A control plane without anything of Kubexen's."""
    with Cluster(tmp_path / "cluster") as cluster:
        yield cluster


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The chart of a later version: a kind has one field more."""
    folder = tmp_path / "newer"
    shutil.copytree(chart.CHART, folder)  # follows the link to the kinds
    about = yaml.safe_load((folder / "Chart.yaml").read_text())
    (folder / "Chart.yaml").write_text(yaml.safe_dump({**about, "version": "0.2.0", "appVersion": "0.2.0"}))
    path = folder / "files" / "crds" / "kubexen.dev_xendomains.yaml"
    crd = yaml.safe_load(path.read_text())
    fields(crd)["later"] = {"type": "string", "maxLength": 8}
    path.write_text(yaml.safe_dump(crd))
    return folder


def fields(crd: Object) -> Object:
    found: Object = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return found


def helm(cluster: Cluster, verb: str, *arguments: str, values: Document | None = None) -> str:
    given = ["--values", "-"] if values is not None else []
    return chart.helm(verb, *arguments, "--namespace", NAMESPACE, *given, kubeconfig=cluster.kubeconfig,
                      input=json.dumps(values) if values is not None else None)  # fmt: skip


def install(cluster: Cluster, name: str = "kubexen", *more: str) -> str:
    return helm(cluster, "install", name, str(chart.CHART), "--create-namespace", *more, values=VALUES)


def there(cluster: Cluster, path: str) -> bool:
    try:
        cluster.api.get(path)
    except ApiError as error:
        if error.code != 404:
            raise
        return False
    return True


def make_domain(cluster: Cluster) -> str:
    """Its uid."""

    def made() -> str:
        try:
            return str(cluster.api.create(DOMAIN.rpartition("/")[0], manifests.domain("web"))["metadata"]["uid"])
        except ApiError as error:
            if error.code in (404, 503):  # the kind is not served yet
                return ""
            raise

    return str(until(made))


def uid(cluster: Cluster) -> str:
    return str(cluster.api.get(DOMAIN)["metadata"]["uid"])


def test_a_release_from_its_install_to_its_return(fresh: Cluster, newer: Path) -> None:
    notes = " ".join(install(fresh).split())
    for command in ("kubectl label node NODE kubexen.dev/xen=true", "helm test kubexen --namespace kubexen-system", "get xhost"):
        assert command in notes
    assert "leaves the kinds, all their objects and every running domain; installing again takes them over" in notes
    domain = make_domain(fresh)
    assert fresh.api.get(DOMAIN)["metadata"]["finalizers"] == ["kubexen.dev/domain"]
    agents = "/apis/apps/v1/namespaces/kubexen-agents/daemonsets/kubexen-agent"
    assert there(fresh, agents)

    # an upgrade takes the kinds along, and a rollback takes them back
    helm(fresh, "upgrade", "kubexen", str(newer), values=VALUES)
    assert "later" in fields(fresh.api.get(CRD))
    assert fresh.api.get(agents)["spec"]["template"]["spec"]["containers"][0]["image"] == "kubexen:0.2.0"
    helm(fresh, "rollback", "kubexen")
    assert "later" not in fields(fresh.api.get(CRD))
    assert fresh.api.get(agents)["spec"]["template"]["spec"]["containers"][0]["image"] == "kubexen:0.1.0"
    assert uid(fresh) == domain

    # an uninstall leaves the kinds, the domains and their namespaces
    helm(fresh, "uninstall", "kubexen")
    assert not there(fresh, agents)
    assert there(fresh, CRD)
    assert fresh.api.get("/api/v1/namespaces/shop")["status"]["phase"] == "Active"
    assert uid(fresh) == domain
    fresh.api.wait_gone("/api/v1/namespaces/kubexen-agents", 60)

    # under another name the kinds are another release's, and helm says so
    with pytest.raises(ChartError, match=r"(?s)invalid ownership metadata|exists and cannot be imported"):
        install(fresh, "other")
    install(fresh, "kubexen")
    assert uid(fresh) == domain
    assert there(fresh, agents)


def test_a_release_of_another_name_takes_over_when_it_is_told_to(fresh: Cluster) -> None:
    install(fresh)
    domain = make_domain(fresh)
    helm(fresh, "uninstall", "kubexen")
    fresh.api.wait_gone("/api/v1/namespaces/kubexen-agents", 60)
    install(fresh, "other", "--take-ownership")
    assert uid(fresh) == domain
