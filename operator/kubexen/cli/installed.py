"""What `helm test` runs: whether what the chart installs is there and works. `python3 -m kubexen.cli.installed`.

It reads the API only, prints a line a finding, and ends with 1 when one of them is bad. It starts no domain.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from kubexen.api.names import AGENT_NAMESPACE, CONTROLLER_LEASE, HOST_LABEL, SYSTEM_NAMESPACE
from kubexen.kube.client import Api
from kubexen.kube.errors import ApiError
from kubexen.kube.kinds import (
    XENACTIONS,
    XENDISKS,
    XENDOMAINS,
    XENHOSTS,
    XENMIGRATIONS,
    XENNETWORKS,
    XENSTORAGEPOOLS,
)
from kubexen.kube.resources import LEASES, NODES, Object

KINDS = (XENDOMAINS, XENDISKS, XENACTIONS, XENMIGRATIONS, XENHOSTS, XENNETWORKS, XENSTORAGEPOOLS)
XEN_NODES = f"{HOST_LABEL}=true"

Finding = tuple[bool, str]
"""Whether it is as it should be, and what it is."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m kubexen.cli.installed", description=__doc__)
    parser.add_argument("--kubeconfig", help="default: $KUBECONFIG, or the pod's own account")
    parser.add_argument("--namespace", default=SYSTEM_NAMESPACE, help="the controller's")
    parser.add_argument("--agent-namespace", default=AGENT_NAMESPACE)
    sys.exit(asyncio.run(_main(parser.parse_args())))


async def _main(arguments: argparse.Namespace) -> int:
    api = await Api.connect(arguments.kubeconfig, user_agent="kubexen-test")
    try:
        findings = [found async for found in look(api, arguments.namespace, arguments.agent_namespace)]
    finally:
        await api.close()
    for good, text in findings:
        print("ok  " if good else "BAD ", text)
    return 0 if all(good for good, _ in findings) else 1


async def look(api: Api, namespace: str, agent_namespace: str) -> AsyncIterator[Finding]:
    """Everything that is looked at, in order."""
    for res in KINDS:
        try:
            objects, _ = await api.list(res)
            yield True, f"{res} is served, and has {len(objects)} objects"
        except ApiError as error:
            yield False, f"{res} is not served: {error}"
    yield await _lease(api, CONTROLLER_LEASE, namespace, "the controller")
    try:
        nodes, _ = await api.list(NODES, label_selector=XEN_NODES)
        hosts = {host["metadata"]["name"]: host for host in (await api.list(XENHOSTS))[0]}
    except ApiError as error:
        yield False, f"the nodes could not be looked at: {error}"
        return
    if not nodes:
        yield True, f"no node is labelled {XEN_NODES} yet"
    for node in nodes:
        name = node["metadata"]["name"]
        yield await _lease(api, name, agent_namespace, f"the agent of node {name}")
        yield _host(name, hosts.get(name))


async def _lease(api: Api, name: str, namespace: str, whose: str) -> Finding:
    try:
        spec: Object = (await api.get(LEASES, name, namespace)).get("spec") or {}
    except ApiError as error:
        return False, f"{whose} has no Lease {namespace}/{name}: {error}"
    if not spec.get("holderIdentity"):
        return False, f"nobody holds the Lease of {whose}"
    age = (datetime.now(UTC) - datetime.fromisoformat(spec["renewTime"])).total_seconds()
    return age <= spec["leaseDurationSeconds"], f"{whose} ({spec['holderIdentity']}) was heard of {max(0.0, age):.0f} s ago"


def _host(name: str, host: Object | None) -> Finding:
    if host is None:
        return False, f"there is no XenHost {name}"
    ready: Object = next((c for c in host.get("status", {}).get("conditions") or () if c["type"] == "Ready"), {})
    return ready.get("status") == "True", f"XenHost {name}: {ready.get('reason')}: {ready.get('message')}"


if __name__ == "__main__":
    main()
