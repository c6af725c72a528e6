"""Names that Kubexen gives to things in the Kubernetes API. Every layer uses them; nothing else is in here."""

GROUP = "kubexen.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

DOMAIN_FINALIZER = f"{GROUP}/domain"
ANCHOR_FINALIZER = f"{GROUP}/anchor"
DISK_FINALIZER = f"{GROUP}/disk"

DOMAIN_LABEL = f"{GROUP}/domain"
"""On an anchor: the name of its XenDomain."""

PLACEMENT_ANNOTATION = f"{GROUP}/placement"
"""On an anchor: a digest of what the spec said of where the domain may be."""

MEMORY_RESOURCE = f"{GROUP}/memory-mib"
VCPUS_RESOURCE = f"{GROUP}/vcpus"
"""Extended resources of a Node, which anchors ask for."""

HOST_LABEL = f"{GROUP}/xen"
"""On a Node: it is a Xen host, and an agent belongs there."""

CONTROLLER_LEASE = "kubexen-controller"

ANCHOR_READINESS_GATE = f"{GROUP}/domain-ready"
SCHEDULER_NAME = "kubexen-scheduler"
"""The kube-scheduler profile that scores the two resources."""

CONTROLLER_MANAGER = "kubexen-controller"
AGENT_MANAGER = "kubexen-agent"
"""Field managers of server-side apply. All agents share one, so that a domain that moves keeps its owner."""

SYSTEM_NAMESPACE = "kubexen-system"
AGENT_NAMESPACE = "kubexen-agents"
"""Where the controller runs and elects its leader; where the agents run and keep a Lease each. Two, for an agent needs a
namespace that admits privileged pods, and nothing else should be in one."""
