"""The CRDs on a real API server: accepted whole, and what they refuse is refused with the field and the rule.

No controller has a part in it: each case is one write, and what the user gets back for it.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubexen.api.kinds import KINDS
from kubexen.api.names import AGENT_MANAGER, CONTROLLER_MANAGER
from kubexen.kube.client import Api
from kubexen.kube.errors import Invalid
from kubexen.kube.resources import NAMESPACES, Object, Resource
from tests.unit.api.builders import BUILDERS, action, disk, domain, host, migration, network, pool, put

FOLDER = Path(__file__).parents[2] / "crds"
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
RESOURCES = {
    kind.info.kind: Resource("kubexen.dev", "v1alpha1", kind.info.plural, kind.info.kind, kind.info.namespaced)
    for kind in KINDS
}
DOMAINS = RESOURCES["XenDomain"]
ESTABLISHED_WITHIN = 30.0

ROOT = {"name": "root", "disk": "web-root", "target": "xvda"}
DATA = {"name": "data", "disk": "web-data", "target": "xvdb"}
ETH0 = {"name": "eth0", "network": "lan"}
ETH1 = {"name": "eth1", "network": "lan"}
FILE = {"pool": "images", "file": "vmlinuz"}
UUID = "5f0c1a52-7a0e-4d6e-9d42-2a4d7d3f0b11"
OTHER_UUID = "5f0c1a52-7a0e-4d6e-9d42-2a4d7d3f0b12"


def kernel(file: str) -> Object:
    return put(domain(), "spec.boot.direct.kernel.file", file)


def act(name: str, argument: Any = ...) -> Object:
    return put(put(action(), "spec.action", name), "spec.argument", argument)


def addresses(subnet: str, first: str, last: str) -> Object:
    return put(network(), "spec.addresses", [{"subnet": subnet, "first": first, "last": last}])


async def install(kubeconfig: str) -> None:
    api = await Api.connect(kubeconfig, user_agent="kubexen-test")
    try:
        for file in sorted(FOLDER.glob("*.yaml")):
            crd = yaml.safe_load(file.read_text())
            await api.apply(CRDS, crd["metadata"]["name"], crd, manager="kubexen-test")
        async with asyncio.timeout(ESTABLISHED_WITHIN):
            for kind in KINDS:
                while "Established" not in await conditions(api, kind.info.crd_name):
                    await asyncio.sleep(0.1)
    finally:
        await api.close()


async def conditions(api: Api, name: str) -> dict[str, str]:
    """The CRD's conditions that are True, and what they say."""
    crd = await api.get(CRDS, name)
    return {c["type"]: c["message"] for c in crd.get("status", {}).get("conditions", []) if c["status"] == "True"}


@pytest.fixture(scope="module")
def crds(cluster: Any) -> Any:
    asyncio.run(install(str(cluster.kubeconfig)))
    return cluster


@pytest.fixture
async def api(crds: Any) -> AsyncIterator[Api]:
    api = await Api.connect(str(crds.kubeconfig), user_agent="kubexen-test")
    yield api
    await api.close()


class Objects:
    """Makes and changes objects of one test, cluster-scoped ones under names of its own."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    def _where(self, document: Object) -> tuple[Resource, str | None]:
        resource = RESOURCES[document["kind"]]
        return resource, self.namespace if resource.namespaced else None

    async def create(self, document: Object) -> Object:
        resource, namespace = self._where(document)
        if namespace is None:
            document = put(document, "metadata.name", f"{document['metadata']['name']}-{self.namespace}")
        return await self.api.create(resource, document, namespace)

    async def change(self, made: Object, path: str, value: Any) -> Object:
        resource, namespace = self._where(made)
        patch = put({}, path, None if value is ... else value)
        return await self.api.merge(resource, made["metadata"]["name"], patch, namespace)

    async def status(self, made: Object, manager: str = CONTROLLER_MANAGER, **fields: Any) -> Object:
        return await self.api.apply(
            DOMAINS,
            made["metadata"]["name"],
            {"status": fields},
            self.namespace,
            manager=manager,
            subresource="status",
        )


@pytest.fixture
async def objects(api: Api) -> AsyncIterator[Objects]:
    namespace = f"crds-{uuid.uuid4().hex[:8]}"
    await api.create(NAMESPACES, {"metadata": {"name": namespace}})
    yield Objects(api, namespace)
    for resource in RESOURCES.values():
        found, _ = await api.list(resource, namespace if resource.namespaced else None)
        for item in found:
            if resource.namespaced or item["metadata"]["name"].endswith(namespace):
                await api.delete(resource, item["metadata"]["name"], namespace if resource.namespaced else None)
    await api.delete(NAMESPACES, namespace)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.info.kind)
async def test_the_crd_is_established_and_structural(api: Api, kind: Any) -> None:
    assert (await conditions(api, kind.info.crd_name)).keys() == {"NamesAccepted", "Established"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.info.kind)
async def test_the_smallest_object_is_accepted_pending_and_readable(objects: Objects, kind: Any) -> None:
    made = await objects.create(BUILDERS[kind.info.kind]())
    (condition,) = made["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "Unknown", "Pending")
    assert kind.parse(made).metadata.uid == made["metadata"]["uid"]


async def test_the_models_have_the_defaults_of_the_crd(objects: Objects) -> None:
    for kind in KINDS:
        document = BUILDERS[kind.info.kind]()
        made = await objects.create(document)
        assert kind.parse(made).model_dump()["spec"] == kind.parse(document).model_dump()["spec"]


ACCEPTED = {
    "all of a domain": put(
        put(
            domain(),
            "spec",
            {
                "powerState": "Paused",
                "type": "pv",
                "replicas": 1,
                "uuid": UUID,
                "boot": {"direct": {"kernel": FILE, "initrd": FILE, "root": "/dev/xvda1", "cmdline": "console=hvc0"}},
                "cpu": {"count": 2, "max": 4, "affinity": "0-3,5,^1", "weight": 256, "cap": 0},
                "memory": {"size": "512Mi", "max": "1Gi"},
                "disks": [ROOT | {"readOnly": True}, {"name": "tools", "target": "xvdc", "device": "cdrom"}],
                "interfaces": [
                    ETH0 | {"mac": "00:16:3e:00:00:01", "address": "192.0.2.10", "rate": "1MB/s@20ms"},
                    ETH1 | {"address": "2001:db8::1", "model": "e1000"},
                ],
                "graphics": {"vnc": {}},
                "pci": [{"device": "kubexen.dev/nic-x710"}],
                "cloudInit": {"userData": {"secretName": "web", "key": "userdata"}},
                "shutdownGracePeriodSeconds": 0,
                "onPoweroff": "rename-restart",
                "onReboot": "coredump-restart",
                "onCrash": "coredump-destroy",
                "evictionStrategy": ["Restart"],
                "nodeSelector": {"disk": "fast"},
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}},
                "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute"}],
                "topologySpreadConstraints": [
                    {
                        "maxSkew": 1,
                        "topologyKey": "zone",
                        "whenUnsatisfiable": "DoNotSchedule",
                        "labelSelector": {"matchLabels": {"app": "web"}},
                    }
                ],
                "priorityClassName": "high",
                "schedulerName": "kubexen",
            },
        ),
        "metadata.labels",
        {"app": "web"},
    ),
    "memory as a number of bytes": put(domain(), "spec.memory.size", 536870912),
    "memory and its maximum in different units": put(domain(), "spec.memory", {"size": "1024Mi", "max": "1Gi"}),
    "count equal to max": put(domain(), "spec.cpu", {"count": 4, "max": 4}),
    "a kernel in a folder, with dots": kernel("debian/vmlinuz-6.1.0..x"),
    "64 disks": put(
        domain(),
        "spec.disks",
        [{"name": f"d{i}", "disk": f"d{i}", "target": f"xvd{chr(97 + i // 26)}{chr(97 + i % 26)}"} for i in range(64)],
    ),
    "32 interfaces with addresses": put(
        domain(),
        "spec.interfaces",
        [{"name": f"eth{i}", "network": "lan", "mac": f"00:16:3e:00:00:{i:02x}"} for i in range(32)],
    ),
    "a disk that is copied": put(put(disk(), "spec.source", {"file": FILE}), "spec.size", ...),
    "a pool of devices": put(pool(), "spec", {"devices": [{"node": "xen1", "path": "/dev/sdb"}]}),
    "a pool for all namespaces": put(pool(), "spec.namespaceSelector", {}),
    "a network with addresses": addresses("192.0.2.0/24", "192.0.2.10", "192.0.2.99"),
    "a fenced host": put(host(), "spec.fencedBootID", UUID),
    "a letter for SysRq": act("SysRq", "h"),
    "a trigger": act("Trigger", "nmi"),
}


@pytest.mark.parametrize("document", ACCEPTED.values(), ids=ACCEPTED)
async def test_accepted_and_kept_whole(objects: Objects, document: Object) -> None:
    made = await objects.create(document)
    for field, value in document["spec"].items():
        _assert_contains(made["spec"][field], value)


def _assert_contains(found: Any, wanted: Any) -> None:
    """The server takes nothing away, and adds defaults to objects only: lists are compared whole by GitOps tools."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            _assert_contains(found[key], value)
    else:
        assert found == wanted


REFUSED = {
    "no boot": (put(domain(), "spec.boot", ...), "spec.boot", "Required value"),
    "an empty boot": (put(domain(), "spec.boot", {}), "spec.boot", "exactly one of direct, bootloader and firmware"),
    "two boot methods": (put(domain(), "spec.boot.firmware", {}), "spec.boot", "exactly one of direct"),
    "no memory": (put(domain(), "spec.memory", ...), "spec.memory", "Required value"),
    "memory as xl writes it": (put(domain(), "spec.memory.size", 512), "spec.memory", "write 512Mi, not 512"),
    "memory that is no quantity": (put(domain(), "spec.memory.size", "512MB"), "spec.memory.size", "should match"),
    "negative memory": (put(domain(), "spec.memory.size", "-1Gi"), "spec.memory.size", "should match"),
    "negative memory as a number": (put(domain(), "spec.memory.size", -1), "spec.memory", "at least 1Mi"),
    "more memory than its maximum": (
        put(domain(), "spec.memory", {"size": "2Gi", "max": "1025Mi"}),
        "spec.memory",
        "size must not be greater than max",
    ),
    "more vcpus than their maximum": (
        put(domain(), "spec.cpu", {"count": 4, "max": 2}),
        "spec.cpu",
        "count must not be greater than max",
    ),
    "a maximum under the default count": (put(domain(), "spec.cpu", {"max": 0}), "spec.cpu.max", "greater than or eq"),
    "an affinity that xl cannot read": (put(domain(), "spec.cpu.affinity", "0-3;5"), "spec.cpu.affinity", "match"),
    "a range of CPUs that goes down": (
        put(domain(), "spec.cpu.affinity", "0,^10-9"),
        "spec.cpu.affinity",
        "a range of CPUs goes up",
    ),
    "a range of CPUs without an end": (put(domain(), "spec.cpu.affinity", "3-"), "spec.cpu.affinity", "match"),
    "an affinity of nothing": (put(domain(), "spec.cpu.affinity", "^"), "spec.cpu.affinity", "match"),
    "an unknown power state": (put(domain(), "spec.powerState", "On"), "spec.powerState", '"Running"'),
    "an unknown type": (put(domain(), "spec.type", "xen"), "spec.type", '"pvh"'),
    "an unknown ending": (put(domain(), "spec.onCrash", "explode"), "spec.onCrash", '"preserve"'),
    "two machines": (put(domain(), "spec.replicas", 2), "spec.replicas", "replicas is always 1"),
    "a uuid in capitals": (put(domain(), "spec.uuid", UUID.upper()), "spec.uuid", "should match"),
    "a kernel outside the pool": (kernel("a/../../b"), "spec.boot.direct.kernel.file", "must not contain '..'"),
    "a kernel in the folder above": (kernel(".."), "spec.boot.direct.kernel.file", "must not contain '..'"),
    "an absolute kernel": (kernel("/boot/vmlinuz"), "spec.boot.direct.kernel.file", "without a leading '/'"),
    "a kernel with a space": (kernel("vm linuz"), "spec.boot.direct.kernel.file", "should match"),
    "two disks of one target": (
        put(domain(), "spec.disks", [ROOT, DATA | {"target": "xvda"}]),
        "spec",
        "each disk needs a target of its own",
    ),
    "two disks of one name": (put(domain(), "spec.disks", [ROOT, DATA | {"name": "root"}]), "spec.disks[1]", "Duplic"),
    "a disk and a claim": (
        put(domain(), "spec.disks", [ROOT | {"claimName": "data"}]),
        "spec.disks[0]",
        "exactly one of disk and claimName",
    ),
    "a disk of nothing": (
        put(domain(), "spec.disks", [{"name": "root", "target": "xvda"}]),
        "spec.disks[0]",
        "exactly one of disk and claimName",
    ),
    "a path for a target": (put(domain(), "spec.disks", [ROOT | {"target": "/dev/xvda"}]), "disks[0].target", "match"),
    "two interfaces of one name": (
        put(domain(), "spec.interfaces", [ETH0, ETH0]),
        "spec.interfaces[1]",
        "Duplicate value",
    ),
    "two interfaces of one mac": (
        put(
            domain(),
            "spec.interfaces",
            [ETH0 | {"mac": "00:16:3e:00:00:aa"}, ETH1 | {"mac": "00:16:3E:00:00:AA"}],
        ),
        "spec",
        "each interface needs a mac of its own",
    ),
    "a multicast mac": (
        put(domain(), "spec.interfaces", [ETH0 | {"mac": "01:16:3e:00:00:01"}]),
        "spec.interfaces[0].mac",
        "should match",
    ),
    "an address that is none": (
        put(domain(), "spec.interfaces", [ETH0 | {"address": "192.0.2.256"}]),
        "spec.interfaces[0].address",
        "must be an IPv4 or IPv6 address",
    ),
    "a rate without its time": (
        put(domain(), "spec.interfaces", [ETH0 | {"rate": "10Mb"}]),
        "spec.interfaces[0].rate",
        "should match",
    ),
    "a host's PCI address": (put(domain(), "spec.pci", [{"device": "0000:03:00.0"}]), "spec.pci[0].device", "match"),
    "a strategy given twice": (
        put(domain(), "spec.evictionStrategy", ["Restart", "Restart"]),
        "spec.evictionStrategy",
        "each strategy may be given once",
    ),
    "a grace period below zero": (
        put(domain(), "spec.shutdownGracePeriodSeconds", -1),
        "spec.shutdownGracePeriodSeconds",
        "greater than or equal to 0",
    ),
    "a name that no label can hold": (domain("x" * 64), "at most 63 characters", "becomes a label"),
    "a blank disk without a size": (put(disk(), "spec.size", ...), "spec", "give size for a blank disk"),
    "a disk's size as a count of GiB": (put(disk(), "spec.size", 10), "spec", "write 10Gi, not 10"),
    "a source of nothing": (put(disk(), "spec.source", {}), "spec.source", "give file"),
    "a source outside its pool": (
        put(disk(), "spec.source", {"file": {"pool": "images", "file": "../x"}}),
        "spec.source.file.file",
        "must not contain '..'",
    ),
    "a pool of nothing": (put(pool(), "spec", {}), "spec", "exactly one of directory, lvm and devices"),
    "a pool of two": (put(pool(), "spec.lvm", {"volumeGroup": "vg0"}), "spec", "exactly one of directory"),
    "a relative directory": (
        put(pool(), "spec.directory.path", "srv/disks"),
        "spec.directory.path",
        "must be an absolute path",
    ),
    "a directory with ..": (
        put(pool(), "spec.directory.path", "/srv/../etc"),
        "spec.directory.path",
        "must not contain '..'",
    ),
    "a bridge's name that Linux refuses": (put(network(), "spec.bridge", "a" * 16), "spec.bridge", "Too long"),
    "a VLAN that is none": (put(network(), "spec.vlan", 4095), "spec.vlan", "less than or equal to 4094"),
    "a subnet with host bits": (
        addresses("192.0.2.1/24", "192.0.2.10", "192.0.2.99"),
        "spec.addresses[0].subnet",
        "no host bits",
    ),
    "addresses outside their subnet": (
        addresses("192.0.2.0/24", "198.51.100.1", "192.0.2.9"),
        "spec.addresses[0]",
        "first must be in subnet",
    ),
    "a SysRq of nothing": (act("SysRq"), "spec", "SysRq needs one letter or digit"),
    "a SysRq of a word": (act("SysRq", "boot"), "spec", "SysRq needs one letter or digit"),
    "an unknown trigger": (act("Trigger", "explode"), "spec", "Trigger one of nmi"),
    "a start with an argument": (act("Start", "now"), "spec", "the others none"),
}


@pytest.mark.parametrize("document, field, message", REFUSED.values(), ids=REFUSED)
async def test_refused_with_the_field_and_the_rule(
    objects: Objects, document: Object, field: str, message: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await objects.create(document)
    assert field in caught.value.message
    assert message in caught.value.message


GIVEN_UUID = put(domain(), "spec.uuid", UUID)
GIVEN_SOURCE = put(disk(), "spec.source", {"file": FILE})

CHANGES = {
    "power state": (domain(), "spec.powerState", "Halted", None),
    "type, for the next start": (domain(), "spec.type", "pv", None),
    "memory": (domain(), "spec.memory", {"size": "256Mi", "max": "2Gi"}, None),
    "a uuid changed": (GIVEN_UUID, "spec.uuid", OTHER_UUID, "uuid cannot be changed"),
    "a uuid added": (domain(), "spec.uuid", UUID, "uuid cannot be changed"),
    "a uuid removed": (GIVEN_UUID, "spec.uuid", ..., "uuid cannot be changed"),
    "a disk that grows": (disk(), "spec.size", "2Gi", None),
    "a disk's size in another unit": (disk(), "spec.size", "1024Mi", None),
    "a disk that shrinks": (disk(), "spec.size", "1023Mi", "size cannot shrink"),
    "a disk that loses its size": (GIVEN_SOURCE, "spec.size", ..., "size cannot shrink"),
    "a disk in another pool": (disk(), "spec.pool", "other", "pool cannot be changed"),
    "a disk of another format": (disk(), "spec.format", "qcow2", "format cannot be changed"),
    "a disk that gets a source": (disk(), "spec.source", {"file": FILE}, "source cannot be changed"),
    "a disk of another source": (GIVEN_SOURCE, "spec.source.file.file", "other", "source cannot be changed"),
    "a disk that is to be kept": (disk(), "spec.reclaimPolicy", "Retain", None),
    "a pool elsewhere": (pool(), "spec.directory.path", "/srv/other", "directory cannot be changed"),
    "a pool that becomes shared": (pool(), "spec.shared", True, "shared cannot be changed"),
    "a pool for other namespaces": (pool(), "spec.namespaceSelector", {"matchLabels": {"a": "b"}}, None),
    "another bridge": (network(), "spec.bridge", "br0", None),
    "another act": (action(), "spec.action", "Reboot", "cannot be changed"),
    "an act kept for longer": (action(), "spec.ttlSecondsAfterFinished", 60, None),
    "a move elsewhere": (migration(), "spec.targetNode", "xen2", "cannot be changed"),
}


@pytest.mark.parametrize("document, path, value, message", CHANGES.values(), ids=CHANGES)
async def test_a_change(objects: Objects, document: Object, path: str, value: Any, message: str | None) -> None:
    made = await objects.create(document)
    if message is None:
        changed = await objects.change(made, path, value)
        assert changed["metadata"]["generation"] == made["metadata"]["generation"] + 1
    else:
        with pytest.raises(Invalid, match=message):
            await objects.change(made, path, value)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.info.kind)
def test_kubectl_explains_every_field_of_a_spec(crds: Any, kind: Any) -> None:
    fields = kind.model_fields["spec"].annotation.model_fields.values()
    said = crds.kubectl("explain", f"{kind.info.plural}.spec")
    explained = dict(re.findall(r"^  (\w+)\t<.*>.*\n(?:  enum: .*\n)?    (\S.*)$", said, re.MULTILINE))
    assert explained.keys() == {field.alias for field in fields}, said
    for field in fields:
        assert field.description.startswith(explained[field.alias]), field.alias


REFUSED_MOVE = "nodeName changes only after"


async def test_a_domain_changes_nodes_only_after_it_was_released(objects: Objects) -> None:
    made = await objects.create(domain())
    await objects.status(made, nodeName="xen1", anchorUID="a1")
    with pytest.raises(Invalid, match=REFUSED_MOVE):
        await objects.status(made, nodeName="xen2", anchorUID="a2")
    with pytest.raises(Invalid, match=REFUSED_MOVE):
        await objects.status(made, replicas=0)
    await objects.status(made, manager=AGENT_MANAGER, released="a0")
    with pytest.raises(Invalid, match=REFUSED_MOVE):
        await objects.status(made, nodeName="xen2", anchorUID="a2")
    await objects.status(made, manager=AGENT_MANAGER, released="a1")
    moved = await objects.status(made, nodeName="xen2", anchorUID="a2")
    assert moved["status"]["nodeName"] == "xen2"
    with pytest.raises(Invalid, match=REFUSED_MOVE):
        await objects.status(made, nodeName="xen1", anchorUID="a3")


async def test_a_domain_leaves_a_fenced_node_but_not_one_that_it_is_moving_from(objects: Objects) -> None:
    made = await objects.create(domain())
    bound = {"nodeName": "xen1", "anchorUID": "a1"}
    await objects.status(made, **bound)
    for phase in ("Pending", "Releasing"):
        await objects.status(made, **bound, move={"uid": "m1", "target": "xen2", "phase": phase, "cause": "drain"})
        with pytest.raises(Invalid, match=REFUSED_MOVE):
            await objects.status(made, nodeName="xen2", anchorUID="a2")
    await objects.status(made, **bound, move={"uid": "m1", "phase": "Fenced", "cause": "out-of-service"})
    moved = await objects.status(made, nodeName="xen2", anchorUID="a2")
    assert "move" not in moved["status"]


async def test_dropping_the_whole_status_does_not_get_around_it(objects: Objects) -> None:
    made = await objects.create(domain())
    await objects.status(made, nodeName="xen1", anchorUID="a1")
    name, namespace = made["metadata"]["name"], made["metadata"]["namespace"]
    with pytest.raises(Invalid, match=REFUSED_MOVE):
        await objects.api.merge(DOMAINS, name, {"status": None}, namespace, subresource="status")


async def test_controller_and_agent_share_a_status_without_force(objects: Objects) -> None:
    made = await objects.create(domain())
    ready = {"type": "Ready", "status": "True", "reason": "Running", "message": ""}
    own = {"type": "DomainReady", "status": "True", "reason": "Running", "message": ""}
    when = {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    name, namespace = made["metadata"]["name"], made["metadata"]["namespace"]
    for manager, condition in ((CONTROLLER_MANAGER, ready), (AGENT_MANAGER, own)):
        body = {"status": {"conditions": [condition | when]}}
        shared = await objects.api.apply(
            DOMAINS, name, body, namespace, manager=manager, force=False, subresource="status"
        )
    assert {c["type"]: c["status"] for c in shared["status"]["conditions"]} == {"Ready": "True", "DomainReady": "True"}


async def test_an_agent_lists_its_own_domains(objects: Objects) -> None:
    for name, node in (("web", "xen1"), ("db", "xen2"), ("idle", None)):
        made = await objects.create(domain(name))
        if node:
            await objects.status(made, nodeName=node)
    found, _ = await objects.api.list(DOMAINS, objects.namespace, field_selector="status.nodeName=xen1")
    assert [item["metadata"]["name"] for item in found] == ["web"]


async def test_a_disruption_budget_can_count_a_domain(objects: Objects) -> None:
    made = await objects.create(domain())
    await objects.status(made, replicas=1, selector="kubexen.dev/domain=web")
    scale = await objects.api.merge(DOMAINS, made["metadata"]["name"], {}, objects.namespace, subresource="scale")
    assert scale["kind"] == "Scale"
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (1, 1)
    assert scale["status"]["selector"] == "kubexen.dev/domain=web"
