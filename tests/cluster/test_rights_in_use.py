"""The rights of the chart's accounts, held against the audit log of a run in which they do all that they do: no rule is unused, and
nothing that the controller or an agent asked for was denied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hack.cluster.audit import Request
from hack.stack import chart
from hack.stack.stack import AGENT, AGENTS, CONTROLLER, NAMESPACE
from kubexen.kube.lease import micro_time
from tests.cluster import manifests
from tests.cluster.tenant import PATIENCE, Tenant, is_ready, until, xl
from tests.cluster.volumes import Kubelets, claiming

pytestmark = pytest.mark.early

TESTS = "hack.cluster"
"""The user agent of tests that ask with a borrowed token."""

COUNTED_AFTER = 60.0
"""Seconds after which the same Event again is written as a count, which is a patch."""


@dataclass(frozen=True)
class Rule:
    """One verb on one resource that an account has: in a namespace ('' for all), on one object ('' for any)."""

    namespace: str
    group: str
    resource: str
    verb: str
    name: str

    def __str__(self) -> str:
        what = f"{self.verb} {self.resource}.{self.group}".rstrip(".")
        return what + (f" {self.name}" if self.name else "") + (f" in {self.namespace}" if self.namespace else "")

    def allows(self, request: Request) -> bool:
        """Whether the request is one of these. A server-side apply that makes the object needs create, too."""
        resource = request.resource + (f"/{request.subresource}" if request.subresource else "")
        verbs = {request.verb} | ({"create"} if request.verb == "patch" and request.code == 201 else set())
        return (
            (self.group, self.resource) == (request.group, resource)
            and self.verb in verbs
            and self.namespace in ("", request.namespace)
            and self.name in ("", request.name)
        )


def rules(documents: list[chart.Document], account: str) -> Iterator[Rule]:
    """Every rule that the chart gives to a ServiceAccount."""
    for binding in documents:
        if not any(subject["name"] == account for subject in binding.get("subjects", ())):
            continue
        namespace = binding["metadata"].get("namespace", "")
        role = next(d for d in documents if d["kind"] == binding["roleRef"]["kind"]
                    and d["metadata"]["name"] == binding["roleRef"]["name"] and d["metadata"].get("namespace", "") == namespace)
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        for name in rule.get("resourceNames", [""]):
                            yield Rule(namespace, group, resource, verb, name)


def requests(tenant: Tenant, namespace: str, account: str) -> list[Request]:
    """What the account itself has asked for since the stack was started."""
    user = f"system:serviceaccount:{namespace}:{account}"
    return [r for r in tenant.stack.cluster.audit() if r.user == user and r.user_agent != TESTS]


def live(tenant: Tenant, kubelets: Kubelets) -> None:
    """All that the controller and an agent do, of which some is rare."""
    node = tenant.stack.hosts[0].name
    tenant.run(manifests.disk("data"), manifests.domain("web", disks=["data"], networks=["lan"]), on=node)

    # A controller that starts anew finds an anchor that it did not make, and looks whether the domain is bound to it.
    tenant.apply(manifests.domain("waits", nodeSelector={"kubernetes.io/hostname": "nowhere"}))
    tenant.wait_reason("waits", "WaitingForNode")
    stranger = tenant.anchor("waits")["metadata"]["uid"]
    tenant.stack.controller.stop()
    tenant.stack.start_controller()
    until(lambda: stranger not in [pod["metadata"]["uid"] for pod in tenant.anchors("waits")])

    # A node falls silent: is its agent, too?
    tenant.host(node).kill_agent()
    tenant.stack.cluster.stop_heartbeat(node)
    tenant.wait_reason("web", "NodeLost")
    tenant.stack.cluster.resume_heartbeat(node)
    tenant.host(node).restart_agent()
    tenant.wait_reason("web", "Running")

    for _ in range(2):  # the second time, the same Events are counted
        domid = tenant.get("web")["status"]["domid"]
        with xl(tenant.host(node)) as sim:
            sim.xl_destroy(tenant.xl_name("web"))
        tenant.wait_restarted("web", domid)
        anchor = tenant.anchor("web")["metadata"]
        tenant.api.patch(f"/api/v1/namespaces/{tenant.namespace}/pods/{anchor['name']}", {"metadata": {"finalizers": None}})
        tenant.kubectl("delete", "pod", anchor["name"], "--force", "--grace-period=0")
        tenant.wait("web", lambda found, old=anchor["uid"]: found["status"].get("anchorUID") not in (None, old) and is_ready(found))
        until(lambda: len(tenant.anchors("web")) == 1)

    action = manifests.action("start", "web")
    tenant.apply({**action, "spec": {**action["spec"], "ttlSecondsAfterFinished": 1}})
    tenant.apply({"apiVersion": "kubexen.dev/v1alpha1", "kind": "XenMigration", "metadata": {"name": "away"},
                  "spec": {"domainName": "web"}})
    kubelets.claim("raw")
    tenant.run(claiming("stores", "raw"), on=node)
    tenant.stack.kubectl("drain", node, f"--timeout={2 * PATIENCE:.0f}s", "--ignore-daemonsets", timeout=3 * PATIENCE)
    for name in ("web", "stores"):
        tenant.wait(name, lambda found: is_ready(found) and found["status"].get("nodeName") == tenant.elsewhere(node))
    tenant.cordon(node, False)

    # An anchor is placed and does not run: what does its kubelet say?
    tenant.stack.cluster.pause_component("kwok")
    try:
        tenant.apply(manifests.domain("starts"))
        tenant.wait_reason("starts", "WaitingForNode")
    finally:
        tenant.stack.cluster.resume_component("kwok")
    tenant.wait_reason("starts", "Running")
    tenant.api.wait_gone(tenant.path("xact", "start"))
    tenant.delete("xd", "web", "waits", "starts", "stores")
    tenant.delete("xdisk", "data")
    for event, account in (("AnchorLost", CONTROLLER), ("DestroyedByHand", AGENT)):
        seen = tenant.wait_series("web", event, COUNTED_AFTER + PATIENCE)
        assert seen["reportingController"] == account


@pytest.fixture(scope="module")
def documents() -> list[chart.Document]:
    return chart.render(NAMESPACE)


def test_every_right_is_in_use_and_none_is_missing(tenant: Tenant, documents: list[chart.Document]) -> None:
    begin = micro_time()
    with Kubelets(tenant) as kubelets:
        live(tenant, kubelets)
    for namespace, account in ((NAMESPACE, CONTROLLER), (AGENTS, AGENT)):
        asked = requests(tenant, namespace, account)
        assert len(asked) > 100, "the log does not show this account at work"
        # Of earlier tests in this stack only what was granted counts: an API server that was just started denies for a moment.
        recent = [r for r in asked if r.received >= begin]
        denied = {f"{r.verb} {r.uri}: {r.message}" for r in recent if not r.allowed or "ValidatingAdmissionPolicy" in r.message}
        assert denied == set(), f"{account} lacks rights"
        unused = [str(rule) for rule in rules(documents, account) if not any(rule.allows(request) for request in asked)]
        assert unused == [], f"{account} has rights that it does not use"


def test_a_rule_that_is_not_used_would_be_found(documents: list[chart.Document]) -> None:
    """The comparison itself: it reads the chart's roles, and tells one object, verb and namespace from another."""
    agent = {str(rule) for rule in rules(documents, AGENT)}
    assert {"get xendomains.kubexen.dev", "patch xenhosts/status.kubexen.dev"} <= agent
    assert f"create leases.coordination.k8s.io in {AGENTS}" in agent
    assert not any(word in rule for rule in agent for word in ("secrets", "nodes", "pods", "*", "delete"))
    lease = Rule(NAMESPACE, "coordination.k8s.io", "leases", "get", CONTROLLER)
    asked = Request("u", "get", "leases", "", "coordination.k8s.io", NAMESPACE, CONTROLLER, 200, True, "", "", "", "", "")
    assert lease.allows(asked)
    for change in ({"verb": "list"}, {"namespace": AGENTS}, {"name": "other"}, {"subresource": "status"}, {"group": ""}):
        assert not lease.allows(Request(**{**asked.__dict__, **change}))
