"""What containerd, CNI and a kubelet are told, on this machine and in a lab host's dom0 alike. Files only, no process.

Used by kubelet.py and by hack/stack. Pods get a bridge and addresses of one node; they reach the node and, through it,
the API server, and nothing else.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import yaml

from hack.needs import CNI

SERVICE = "10.96.0.1"  # of the Service `kubernetes`: the first address of the API server's range
BRIDGE = "cni0"
IMAGE = "localhost/kubexen:dev"
"""Kubexen's own, as hack/image names it. Without a registry it is a pod's sandbox too: it ends on SIGKILL only, as such."""
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


def containerd(
    root: str, cni: str, *, systemd_cgroups: bool, restrict_oom_score: bool = False, runtime: str = "runc"
) -> str:
    """config.toml. `root`: where images and containers are kept; `cni`: the folder with the network's configuration; `runtime`: the
    program that starts containers, runc or one that takes its commands."""
    return f"""\
version = 3
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = {str(restrict_oom_score).lower()}
# By default every second, of each container: a tenth of an emulated CPU a pod.
stats_collect_period = "1m"

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{CNI}"]
conf_dir = "{cni}"
use_internal_loopback = true  # else by a plugin, a program for each pod's start and end

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = {str(systemd_cgroups).lower()}
BinaryName = "{runtime}"
"""


def cni(subnet: str, state: str) -> str:
    """The network of a node's pods: a bridge, and addresses of a subnet, with the taken ones kept in `state`."""
    ipam = {"type": "host-local", "dataDir": state, "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": False, "ipam": ipam}
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}, indent=1)


def kubelet(
    folder: PurePosixPath,
    *,
    cgroup_root: str,
    systemd_cgroups: bool,
    pod_logs: str,
    lease_seconds: int,
    max_pods: int = 110,
) -> str:
    """config.yaml. `folder` has ca.crt, and kubelet.crt and kubelet.key, by which the kubelet proves who it is."""
    document = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": f"{folder}/ca.crt"}},
        "tlsCertFile": f"{folder}/kubelet.crt",
        "tlsPrivateKeyFile": f"{folder}/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "systemd" if systemd_cgroups else "cgroupfs",
        "cgroupRoot": cgroup_root,
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "resolvConf": "",
        "makeIPTablesUtilChains": False,
        "podLogsDir": pod_logs,
        "nodeLeaseDurationSeconds": lease_seconds,
        "maxPods": max_pods,
        # Images come without a registry: one that was removed to make room could not be had again.
        "imageGCHighThresholdPercent": 100,
        # What is short is looked for all the time, which takes a fifth of an emulated CPU: nothing is, then.
        "evictionHard": {"memory.available": "0%"},  # the others that it knows are off where one is set
        "localStorageCapacityIsolation": False,
        "volumeStatsAggPeriod": "-1s",
        "containerLogMonitorInterval": "5m",
    }
    return yaml.safe_dump(document, sort_keys=False)
