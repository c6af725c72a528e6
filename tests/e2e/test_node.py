"""A real node on this machine: it is Ready, runs the image as a pod, holds an anchor, and leaves nothing behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hack.cluster import Cluster
from hack.cluster.cluster import REPOSITORY
from hack.cluster.kubelet import PARTS, Kubelet
from hack.cluster.process import Process
from kubexen.api.names import ANCHOR_FINALIZER, DOMAIN_LABEL, MEMORY_RESOURCE, VCPUS_RESOURCE
from kubexen.plan.anchor import GRACE_SECONDS
from tests.e2e import pods
from tests.e2e.conftest import Figure

ANCHORS = 20
WAITS = "import signal; print('hello', flush=True); signal.pause()"


def test_a_pod_of_the_image_is_not_root_and_reaches_the_api_server_as_its_account(
    cluster: Cluster, node: Kubelet, namespace: str
) -> None:
    assert pods.reported(cluster, namespace, node.name) == {"uid": 65532, "node": node.name}
    asked = [r for r in cluster.audit() if r.user == f"system:serviceaccount:{namespace}:default"]
    assert [(r.verb, r.name, r.code) for r in asked] == [("get", "reports", 200)]


def test_an_anchor_stays_when_its_pod_is_deleted_until_its_process_is_killed(
    cluster: Cluster, node: Kubelet, namespace: str
) -> None:
    cluster.patch_capacity(node.name, {MEMORY_RESOURCE: "1024", VCPUS_RESOURCE: "8"})
    path = pods.create(cluster, pods.anchor_of("held", namespace, node.name))
    container = pods.container_id(pods.wait_phase(cluster, path, "Running"))
    [process] = pods.processes(container)

    cluster.kubectl("delete", "pod", "held", "-n", namespace, "--wait=false")
    node.wait_log("containerd", rf'{container}\" with timeout {GRACE_SECONDS} (s)')
    node.wait_log("containerd", rf'{container}\" with signal terminated')
    os.kill(process, signal.SIGTERM)
    os.kill(process, signal.SIGINT)
    held = cluster.api.get(path)
    assert held["metadata"]["deletionTimestamp"]
    assert "running" in held["status"]["containerStatuses"][0]["state"]
    assert pods.processes(container) == [process]

    os.kill(process, signal.SIGKILL)
    cluster.api.wait_gone(path)


def test_an_anchor_that_nobody_looks_after_is_ended_by_hand(cluster: Cluster, node: Kubelet, namespace: str) -> None:
    """As docs/troubleshooting.md has it where Kubexen is gone: the short grace ends its process, the finalizer keeps its object."""
    cluster.patch_capacity(node.name, {MEMORY_RESOURCE: "1024", VCPUS_RESOURCE: "8"})
    anchor = pods.anchor_of("held", namespace, node.name)
    anchor["metadata"]["finalizers"] = [ANCHOR_FINALIZER]
    path = pods.create(cluster, anchor)
    container = pods.container_id(pods.wait_phase(cluster, path, "Running"))

    cluster.kubectl("delete", "pod", "-l", DOMAIN_LABEL, "-n", namespace, "--grace-period=1", "--wait=false")
    cluster.api.wait(path, lambda pod: "terminated" in pod["status"]["containerStatuses"][0]["state"])
    assert pods.processes(container) == []
    cluster.kubectl("patch", "pod", "held", "-n", namespace, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    cluster.api.wait_gone(path)


def test_what_anchors_take_of_their_node(cluster: Cluster, node: Kubelet, namespace: str, figure: Figure) -> None:
    """Their processes, and a shim and a sandbox each, by the share of memory that each of them has of its own."""
    names = [f"held-{n}" for n in range(ANCHORS)]
    cluster.patch_capacity(node.name, {MEMORY_RESOURCE: "8192", VCPUS_RESOURCE: "64"})
    paths = [pods.create(cluster, pods.anchor_of(name, namespace, node.name)) for name in names]
    found = [pods.wait_phase(cluster, path, "Running") for path in paths]
    its = [process for pod in found for process in pods.processes(f"pod{pod['metadata']['uid']}")]
    assert len(its) == 2 * ANCHORS  # the sandbox's, and kubexen-anchor
    shims = {parent(process) for process in its}
    assert len(shims) == ANCHORS
    taken = sum(share(process) for process in (*its, *shims)) / ANCHORS / 1024
    figure("an anchor takes of its node's memory, MiB", taken)
    assert taken < 24
    for process in its:
        os.kill(process, signal.SIGKILL)


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def share(process: int) -> int:
    """KiB of memory of a process, what it shares divided by those who share it."""
    return pods.kib(Path(f"/proc/{process}/smaps_rollup").read_text(), "Pss")


def test_kubectl_logs_and_exec_reach_a_pod(cluster: Cluster, node: Kubelet, namespace: str) -> None:
    path = pods.create(cluster, pods.pod("it", namespace, node.name, "python3", "-c", WAITS))
    pods.wait_phase(cluster, path, "Running")
    assert cluster.kubectl("exec", "it", "-n", namespace, "--", "python3", "-c", "import os; print(os.getuid())") == "65532\n"
    assert cluster.kubectl("logs", "it", "-n", namespace, "--follow", "--limit-bytes=6") == "hello\n"


def test_pods_run_on_while_kubelet_and_containerd_are_away(cluster: Cluster, node: Kubelet, namespace: str) -> None:
    path = pods.create(cluster, pods.pod("it", namespace, node.name, "kubexen-anchor", "infinity"))
    container = pods.container_id(pods.wait_phase(cluster, path, "Running"))
    before = pods.processes(container)
    for part in ("kubelet", "containerd"):
        node.stop_part(part, kill=True)
    assert pods.processes(container) == before
    for part in ("containerd", "kubelet"):
        node.start_part(part)
    cluster.kubectl("delete", "pod", "it", "-n", namespace, "--grace-period=1")
    cluster.api.wait_gone(path)
    assert pods.processes(container) == []


@pytest.mark.usefixtures("allowed")
def test_a_node_leaves_nothing_of_itself_when_its_owner_is_killed(archive: Path, tmp_path: Path) -> None:
    before = traces(tmp_path)
    script = f"""
from hack.cluster import Cluster
from tests.e2e import pods
cluster = Cluster({str(tmp_path / "state")!r})
cluster.start()
node = cluster.add_kubelet("local")
node.load_image({str(archive)!r})
path = pods.create(cluster, pods.pod("it", "default", "local", "kubexen-anchor", "infinity"))
pods.wait_phase(cluster, path, "Running")
print("up", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == "up\n"
        during = traces(tmp_path)
        assert during["processes"] > before["processes"]
        assert during["cgroups"] > before["cgroups"]
        os.kill(owner.pid, signal.SIGKILL)
    folder = tmp_path / "state/nodes/local"
    for part in PARTS:
        assert Process(part, folder).wait_ended(20), part
    wait_ended(cleaner(tmp_path))
    assert traces(tmp_path) == before
    assert not folder.exists()


def test_a_process_that_lacks_the_rights_for_a_node_is_told_which() -> None:
    """The controller's pods run in the dom0s then; `make demo` and the end of this run say so."""
    asks = "from hack.cluster.kubelet import lacking; print(lacking())"
    command = ["setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin", sys.executable, "-c", asks]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert told.startswith("no namespaces can be made here: ")
    assert "not permitted" in told


def traces(state: Path) -> dict[str, set[str]]:
    """What a node could leave on this machine: mounts, links, network namespaces, cgroups, and processes that name it."""
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    return {
        "mounts": {line for line in Path("/proc/self/mounts").read_text().splitlines() if str(state) in line or "netns" in line},
        "links": {line.split(":")[1] for line in links.splitlines()},
        "namespaces": {path.name for path in Path("/run/netns").glob("*")},
        "cgroups": {str(path) for depth in ("", "*/") for path in Path("/sys/fs/cgroup").glob(f"{depth}kubexen-*")},
        "folders": {str(path) for folder in ("/var/lib", "/var/log", "/run") for path in Path(folder).glob("*")},
        "processes": {path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if str(state) in text(path)},
    }


def text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""  # it ended


def cleaner(state: Path) -> int | None:
    """The process that ends a cluster after its owner."""
    found = [p.parent.name for p in Path("/proc").glob("[0-9]*/cmdline") if str(state) in text(p) and "--after-stdin" in text(p)]
    return int(found[0]) if found else None


def wait_ended(pid: int | None) -> None:
    if pid is None:
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], 60)[0]
    os.close(descriptor)
