"""The dom0s of two real Xen hosts as real nodes: Ready, with pods of the image, which finds the Xen of its host."""

from __future__ import annotations

from typing import Any

from hack.stack.stack import Stack
from hack.xenlab.lab import Lab
from tests.e2e import pods
from tests.e2e.conftest import new_namespace

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


def test_the_dom0s_are_nodes(stack: Stack) -> None:
    for name in NODES:
        node = stack.cluster.wait_node_ready(name)
        assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
        assert node["metadata"]["labels"]["kubexen.dev/xen"] == "true"


def test_they_run_pods_that_reach_the_api_server_and_the_xen_of_their_host(stack: Stack, lab: Lab) -> None:
    """On xen2 the bindings of Xen are hidden from the image, as those of another Python would be: then it looks by the host's xl.
    That it looks by them is shown where all is installed. One pod a host: each takes a good part of a minute there."""
    folder = lab.host(2).ssh("ls -d /usr/lib/xen-4*/lib/python").stdout.strip()
    document = agent_like_pod("xen2")
    _mount(document, f"/host{folder}", {"emptyDir": {}})
    with new_namespace(stack.cluster, "privileged") as privileged, new_namespace(stack.cluster, "restricted") as restricted:
        document["metadata"]["namespace"] = privileged
        looks = pods.create(stack.cluster, document)
        assert pods.reported(stack.cluster, restricted, "xen1", timeout=SLOW) == [{"uid": 65532, "node": "xen1"}]
        seen = pods.last_word(pods.wait_phase(stack.cluster, looks, "Succeeded", SLOW))
    assert (seen["source"], seen["root"]) == ("xl", ["usr"])
    assert seen["version"] == lab.host(2).ssh("xl info xen_version").stdout.strip()
    for host in lab.hosts:  # the end of these pods takes seconds that would count as the installation's
        host.until("! pgrep -x containerd-shim", SLOW)


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
