"""A real Kubernetes control plane without Docker, for tests, the demo and the bench.

`Cluster` is its library, `python -m hack.cluster up|down|env|status` its command. A node is
simulated by kwok, or real: on this machine (kubelet.py), or elsewhere with files from here.
"""

from hack.cluster.api import Api, ApiError
from hack.cluster.audit import Request
from hack.cluster.cluster import Cluster, KubectlError
from hack.cluster.process import ComponentFailed

__all__ = ["Api", "ApiError", "Cluster", "ComponentFailed", "KubectlError", "Request"]
