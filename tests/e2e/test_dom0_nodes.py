"""The dom0s of two real Xen hosts as real nodes: Ready, with pods of the image, which finds the Xen of its host."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from hack.stack.stack import Stack
from hack.xenlab.lab import Lab
from tests.e2e import pods
from tests.e2e.conftest import Figure, new_namespace
from tests.stacks import started

NODES = ["xen1", "xen2"]
SLOW = 240.0  # seconds that anything may take on an emulated CPU
# As the chart mounts them into an agent.
HOST_PATHS = {
    "/run/libvirt": "/run/libvirt",
    "/run/xenstored": "/run/xenstored",
    "/dev/xen": "/dev/xen",
    "/usr": "/host/usr",
}
LOOK = """
import json, os
from pathlib import Path
from kubexen.hypervisor.drivers import connect
from kubexen.hypervisor.drivers.libvirt.hostfiles import HostFiles

root = Path(os.environ["KUBEXEN_XEN_ROOT"])
driver = connect("xen:///system", root)
host = driver.host()
word = {"source": host.flags_source, "version": host.hypervisor_version, "domains": [d.name for d in driver.domains()],
        "memory": host.total_memory_kib, "root": sorted(os.listdir(root))}
Path("/dev/termination-log").write_text(json.dumps(word))
driver.close()
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, figure: Figure) -> Iterator[Stack]:
    begin = time.monotonic()
    with started(Stack(tmp_path_factory.mktemp("dom0") / "stack", "xen", nodes=2, kubelets=True)) as the_stack:
        figure("two Xen hosts are up, with kubelets and agents, after, s", time.monotonic() - begin)
        yield the_stack


@pytest.fixture(scope="module")
def lab(stack: Stack) -> Lab:
    assert stack.lab is not None
    return stack.lab


def test_the_dom0s_are_nodes_and_run_pods_that_reach_the_api_server(stack: Stack) -> None:
    for name in NODES:
        node = stack.cluster.wait_node_ready(name)
        assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
        assert node["metadata"]["labels"]["kubexen.dev/xen"] == "true"
    with new_namespace(stack.cluster, "restricted") as namespace:
        said = pods.reported(stack.cluster, namespace, *NODES, timeout=SLOW)
    assert said == [{"uid": 65532, "node": name} for name in NODES]


def test_the_image_looks_at_the_xen_of_its_host_by_its_bindings_or_by_its_xl(stack: Stack, lab: Lab) -> None:
    """On xen2 the bindings are hidden from it, as those of another Python would be."""
    folder = lab.host(2).ssh("ls -d /usr/lib/xen-4*/lib/python").stdout.strip()
    documents = [agent_like_pod(name) for name in NODES]
    _mount(documents[1], f"/host{folder}", {"emptyDir": {}})
    with new_namespace(stack.cluster, "privileged") as namespace:
        for document in documents:
            document["metadata"]["namespace"] = namespace
        paths = [pods.create(stack.cluster, document) for document in documents]
        seen = [pods.last_word(pods.wait_phase(stack.cluster, path, "Succeeded", SLOW)) for path in paths]
    assert [word["source"] for word in seen] == ["xc", "xl"]
    for name, word in zip(NODES, seen, strict=True):
        assert word["version"] == stack.get("xhost", name)["status"]["xen"]["version"]
        assert word["root"] == ["usr"]


def test_what_dom0_has_left(lab: Lab, figure: Figure) -> None:
    for host in lab.hosts:
        free = host.ssh("awk '/^MemAvailable/ {print $2}' /proc/meminfo").stdout
        figure(f"{host.name}: memory of dom0 that is available, MiB", int(free) / 1024)
        assert int(free) > 256 * 1024


def agent_like_pod(node: str) -> dict[str, Any]:
    document = pods.pod(f"look-{node}", "", node, "python3", "-c", LOOK)
    document["spec"] |= {"hostNetwork": True, "securityContext": {"runAsUser": 0}}
    document["spec"]["containers"][0]["securityContext"] = {"privileged": True, "readOnlyRootFilesystem": True}
    for host_path, path in HOST_PATHS.items():
        _mount(document, path, {"hostPath": {"path": host_path, "type": "Directory"}}, read_only=path == "/host/usr")
    return document


def _mount(document: dict[str, Any], path: str, volume: dict[str, Any], *, read_only: bool = False) -> None:
    volumes = document["spec"].setdefault("volumes", [])
    name = f"v{len(volumes)}"
    volumes.append({"name": name, **volume})
    mounts = document["spec"]["containers"][0].setdefault("volumeMounts", [])
    mounts.append({"name": name, "mountPath": path, "readOnly": read_only})
