"""Who asks, in the tests of rights: the API as an agent, a namespace's user or the controller has it, and how a refusal is told.

Requests are dry runs: the API server authorizes, admits and validates them as any, and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from hack.cluster.api import Api, ApiError, Object
from hack.stack.stack import AGENT, AGENTS, CONTROLLER, NAMESPACE, Stack
from tests.cluster.tenant import KUBEXEN, Tenant

DRY = {"dryRun": "All"}


def agent(tenant: Tenant, node: str | None) -> Api:
    """The API with the token of this node's agent, as one that is no pod has it; None: a token that names no node."""
    cluster = tenant.stack.cluster
    return cluster.api_for(cluster.service_account_token(AGENTS, AGENT, node=node))


def controller(stack: Stack) -> Api:
    """The API with the token of the chart's account for the controller."""
    return stack.cluster.api_for(stack.cluster.service_account_token(NAMESPACE, CONTROLLER))


def user(tenant: Tenant, role: str, name: str | None = None) -> Api:
    """The API as a user of the tenant's namespace to whom this ClusterRole is given there."""
    name = name or f"some-{role}"
    tenant.kubectl("create", "serviceaccount", name)
    tenant.kubectl("create", "rolebinding", name, f"--clusterrole={role}", f"--serviceaccount={tenant.namespace}:{name}")
    return tenant.stack.cluster.api_for(tenant.stack.cluster.service_account_token(tenant.namespace, name))


def refused(act: Callable[[], object], words: str = "", code: int = 403) -> None:
    """The API server refuses it, in these words."""
    with pytest.raises(ApiError) as refusal:
        act()
    assert (refusal.value.code, words in str(refusal.value)) == (code, True), refusal.value


def succeeds(act: Callable[[], object]) -> bool:
    """Whether the API server lets it: for what takes a moment to hold, as a policy that was made or removed."""
    try:
        act()
    except ApiError:
        return False
    return True


@dataclass(frozen=True)
class Target:
    """What belongs to one node: the node, and a running domain with a disk of its own there."""

    node: str
    namespace: str
    domain: str
    disk: str

    @property
    def host(self) -> str:
        return f"{KUBEXEN}/xenhosts/{self.node}"

    @property
    def domain_path(self) -> str:
        return f"{KUBEXEN}/namespaces/{self.namespace}/xendomains/{self.domain}"

    @property
    def disk_path(self) -> str:
        return f"{KUBEXEN}/namespaces/{self.namespace}/xendisks/{self.disk}"

    @property
    def lease(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{AGENTS}/leases/{self.node}"


def create(api: Api, path: str, body: Object) -> Object:
    return api.create(path, body, **DRY)


def patch(api: Api, path: str, body: Object, **query: str) -> Object:
    return api.patch(path, body, **DRY, **query)
