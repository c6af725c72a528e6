"""Claims under real kubelets: whatever cuts an anchor short, its guest writes on and loses nothing that it was told is done.

One guest has a device over iSCSI, a device of its node, and `disk.img` on NFS, and writes to them all the while. The tests go on
from one another, in this order: each waits until the domain has a sound anchor again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from hack.cluster import KubectlError
from hack.stack import dom0
from hack.stack.guest import manifest
from hack.stack.stack import ROOT, WAIT, XEN, Stack
from hack.xenlab.host import GUEST_UP, XenHost
from hack.xenlab.lab import Lab
from tests.e2e.domains import PODS, SLOW, anchors, pods, rolled_out, where
from tests.e2e.volumes import (
    BYTES,
    DEVICE,
    FOLDER,
    IMAGE,
    IQN,
    LUN,
    SERVE,
    SERVE_NO_MORE,
    SHARED,
    Writer,
    local,
    lost,
    sampled,
    sectors,
    volume,
    wait_silent,
)

NAME, TEAM = "writer", "team"
XL_NAME = f"default.{NAME}"
DOMAIN = f"/apis/kubexen.dev/v1alpha1/namespaces/default/xendomains/{NAME}"
CLAIMS = ("lun", "device", "image")
# What is in the path of the kubelet's mount of each that can move.
MOUNTS = ("lun-lun-0", "~nfs/pv-image")
# What Kubexen makes on a host for a domain's disks.
MADE = """
losetup -l -n -O NAME,BACK-FILE | grep -E '/(disk.img|seed[^/]*)$'
find /run/kubexen -mindepth 2
systemctl list-units --plain --no-legend 'kubexen-hold-*'
"""
# All that a host has of the claims.
HAS = f"""
grep -oE '/var/lib/kubelet/[^ ]*(pv-|/volumeDevices/)[^ ]*' /proc/mounts
ls /sys/class/iscsi_session 2>/dev/null
losetup -l -n -O NAME,BACK-FILE | grep -v '{DEVICE}$'
{MADE}
"""
JOURNAL = "journalctl -u {unit} --no-pager -n all -f"
PROCESS = "grep -lF {container} /proc/[0-9]*/cgroup | cut -d/ -f3"


@pytest.fixture(scope="module")
def source(lab: Lab) -> XenHost:
    """Where the guest is at first: what serves NFS and iSCSI is another host."""
    return lab.host(2)


@pytest.fixture(scope="module")
def target(lab: Lab) -> XenHost:
    """Where it could go; it serves NFS and iSCSI."""
    return lab.host(1)


@pytest.fixture(scope="module")
def applied(stack: Stack, source: XenHost, target: XenHost) -> Iterator[None]:
    """A domain with all its claims, of which one has a link in the place of its image; at the end nothing of it is left."""
    stack.install()
    stack.kubectl("apply", "-f", str(ROOT / "examples/tiny/network.yaml"))
    target.ssh(f"sh -s {target.address}", input=SERVE)
    target.ssh(f"mkdir -p {SHARED} && truncate -s {BYTES} {SHARED}/other.img && ln -s other.img {IMAGE}")
    make = f"mkdir -p {FOLDER} && truncate -s {BYTES} {DEVICE} && losetup -f --show {DEVICE}"
    device = source.ssh(make).stdout.strip()
    stack.apply(
        *volume("lun", "Block", {"iscsi": {"targetPortal": f"{target.address}:3260", "iqn": IQN, "lun": 0}}),
        *volume("device", "Block", local(device, source.name)),
        *volume("image", "Filesystem", {"nfs": {"server": target.address, "path": SHARED}}),
        manifest(NAME, type="pvh", memory={"size": "128Mi"}, disks=disks()),
    )  # fmt: skip
    yield
    stack.kubectl("uncordon", source.name, target.name)
    stack.kubectl("delete", "xd", NAME, "--ignore-not-found", f"--timeout={SLOW:.0f}s", timeout=SLOW + 30)
    claims = [f"{kind}{name}" for name in CLAIMS for kind in ("pvc/", "pv/pv-")]
    stack.kubectl("delete", *claims, f"--timeout={WAIT:.0f}s")
    source.ssh(f"losetup -d {device}; rm -r {FOLDER}")
    target.ssh("sh", input=SERVE_NO_MORE)
    target.ssh(f"rm -r {FOLDER} {SHARED}")


def disks() -> list[dict[str, str]]:
    return [{"name": name, "claimName": name, "target": f"xvd{letter}"} for name, letter in zip(CLAIMS, "abc", strict=True)]


def patch(stack: Stack, **spec: Any) -> None:
    stack.kubectl("patch", "xd", NAME, "--type=merge", "-p", json.dumps({"spec": spec}))


@pytest.fixture(scope="module")
def guest(stack: Stack, source: XenHost, target: XenHost, applied: None) -> Writer:
    """The guest, which writes to all its disks."""
    source.ssh(f"rm {IMAGE} && truncate -s {BYTES} {IMAGE}")  # here, for a client of NFS sees another's changes late
    patch(stack, shutdownGracePeriodSeconds=61)  # a spec that changes is tried at once
    stack.wait_reason(NAME, "Running", SLOW)
    source.guest_wait(XL_NAME, GUEST_UP)
    guest = Writer(source, XL_NAME)
    guest.write("xvda", "xvdb", "xvdc")
    return guest


Unharmed = Callable[[], None]


@pytest.fixture
def unharmed(stack: Stack, lab: Lab, source: XenHost, target: XenHost, guest: Writer) -> Iterator[Unharmed]:
    """Asks whether the guest lives and writes as before, all it was told is on its disks, and the other host has nothing of them.
    A test that ends has asked it."""
    before = guest.seen().life

    def ask() -> None:
        now = guest.writes_on()
        assert now.life == before
        assert where(stack, lab, NAME) == (source, before.domid)
        assert lost(source, now.told, DEVICE) == ""
        assert target.ssh(f"{sectors(now.told, LUN, IMAGE)} || echo nobody knows what is on them\n{HAS}", check=False).stdout == ""

    yield ask
    ask()


def anchor(stack: Stack) -> dict[str, Any]:
    """The domain's one anchor."""
    (found,) = anchors(stack, NAME)
    return found


def container_id(pod: dict[str, Any]) -> str:
    """Of an anchor's one container, as containerd has it."""
    (container,) = pod["status"]["containerStatuses"]
    return str(container["containerID"]).removeprefix("containerd://")


def anew(stack: Stack, old: dict[str, Any]) -> None:
    """Wait until another anchor holds the domain on its node, and nothing is left of earlier ones."""

    def runs(domain: dict[str, Any]) -> bool:
        held = [pod for pod in anchors(stack, NAME) if pod["metadata"]["uid"] == domain["status"].get("anchorUID")]
        return any(pod["status"]["phase"] == "Running" and pod["metadata"]["uid"] != old["metadata"]["uid"] for pod in held)

    held = stack.cluster.api.wait(DOMAIN, runs, SLOW)["status"]["anchorUID"]
    for pod in anchors(stack, NAME):
        if pod["metadata"]["uid"] != held:
            stack.cluster.api.wait_gone(f"{PODS}/{pod['metadata']['name']}", WAIT)
    assert anchor(stack)["spec"]["nodeName"] == old["spec"]["nodeName"]


def gave_up(host: XenHost, pod: dict[str, Any], *kinds: str) -> None:
    """Wait until the kubelet has tried to take an anchor's volumes away, and was told that they are in use (by umount, which says
    so of a target, or by NFS's, of a device). An image on NFS is in use in the mount where the guest's disk was opened, not in
    that of a later anchor."""
    uid = pod["metadata"]["uid"]
    for kind in kinds:
        said = f'index($0, "{uid}") && index($0, "/{kind}/") && / is busy/'
        host.follow(JOURNAL.format(unit="kubelet"), said, SLOW)


def ended(host: XenHost, pod: dict[str, Any]) -> bool:
    """Wait until the kubelet has asked an anchor to end; whether it ends it at once. One that heard of no deletion before the pod
    was gone goes by the pod's spec: it gives an anchor a year, and takes nothing away from it."""
    said = f'/StopContainer for / && / with timeout / && index($0, "{container_id(pod)}")'
    line = host.follow(JOURNAL.format(unit="containerd"), said, SLOW)
    return f"timeout {pod['spec']['terminationGracePeriodSeconds']} " not in line


def take_away(host: XenHost, pod: dict[str, Any]) -> None:
    """Take the mounts of block claims away that a kubelet that began anew has left of an anchor, as docs/limits.md has it."""
    left = f"$(cut -d' ' -f2 /proc/mounts | grep '/plugins/.*/{pod['metadata']['uid']}$')"
    host.until(f'[ -z "{left}" ] || {{ umount {left}; false; }}', WAIT)


def restart(stack: Stack, host: XenHost, *services: str) -> None:
    """Until the kubelet that began anew has told so of its Node."""

    def told(node: dict[str, Any]) -> str:
        return max(c.get("lastHeartbeatTime") or "" for c in node["status"]["conditions"])

    before = told(stack.get("node", host.name))
    host.ssh(f"systemctl restart {' '.join(services)}")
    stack.cluster.api.wait(f"/api/v1/nodes/{host.name}", lambda node: told(node) > before, WAIT)


@contextmanager
def short_of_memory(stack: Stack, host: XenHost) -> Iterator[None]:
    """A kubelet that wants more memory to be free than dom0 has, and has left what its pods ask for; at the end as before."""

    settings = f"{dom0.SETTINGS}/kubelet.yaml"

    def restart_with(text: str) -> None:
        host.write(settings, text, mode=0o600)
        restart(stack, host, "kubelet")

    before = host.ssh(f"cat {settings}").stdout
    short = {
        "evictionHard": {"memory.available": "1220Mi"},
        "localStorageCapacityIsolation": True,  # else it does not know of its filesystems, and evicts nothing
    }
    restart_with(yaml.safe_dump(yaml.safe_load(before) | short))
    try:
        yield
    finally:
        restart_with(before)


def holders(stack: Stack, since: dict[str, Any]) -> list[set[str]]:
    """The nodes of pods with claims, each time that they changed since this list of pods, until the domain's anchor of now runs."""
    last = stack.get("xd", NAME)["status"]["anchorUID"]
    pods = {pod["metadata"]["uid"]: pod for pod in since["items"]}

    def nodes() -> set[str]:
        holding = (p["spec"] for p in pods.values() if any("persistentVolumeClaim" in v for v in p["spec"].get("volumes", ())))
        return {spec["nodeName"] for spec in holding if "nodeName" in spec}

    found = [nodes()]
    for kind, pod in stack.cluster.api.watch(PODS, WAIT, resourceVersion=since["metadata"]["resourceVersion"]):
        uid = pod["metadata"]["uid"]
        pods[uid] = pod
        if kind == "DELETED":
            del pods[uid]
        if nodes() != found[-1]:
            found.append(nodes())
        if uid == last and pod["status"]["phase"] == "Running":
            return found
    raise TimeoutError(f"the anchor {last} was not seen to run")


def drain(stack: Stack, host: XenHost, seconds: float) -> None:
    stack.kubectl("drain", host.name, "--ignore-daemonsets", f"--timeout={seconds:.0f}s", timeout=seconds + 30)


def blocked(stack: Stack) -> None:
    """The domain cannot leave its node, and says why."""
    stack.wait("xd", NAME, 'jsonpath={.status.conditions[?(@.type=="Migratable")].reason}=NowhereToGo', WAIT)
    told = {c["type"]: c["message"] for c in stack.get("xd", NAME)["status"]["conditions"]}["Migratable"]
    assert "no other node takes it" in told
    assert "EvictionBlocked" in stack.kubectl("get", "events", f"--field-selector=involvedObject.name={NAME}")


def test_a_link_in_the_place_of_the_image_is_refused_and_nothing_starts(stack: Stack, applied: None, source: XenHost) -> None:
    stack.wait_reason(NAME, "InvalidSpec", SLOW)
    told = {c["type"]: c["message"] for c in stack.get("xd", NAME)["status"]["conditions"]}
    assert "'image': disk.img is no regular file" in told["Ready"]
    assert XL_NAME not in source.ssh("xl list").stdout
    assert source.ssh(MADE, check=False).stdout == ""


@pytest.mark.usefixtures("unharmed")
def test_a_guest_has_its_claims(stack: Stack) -> None:
    told = {c["type"]: c["reason"] for c in stack.get("xd", NAME)["status"]["conditions"]}
    assert told["Migratable"] == "ClaimOnOneNode"


def test_an_anchors_container_is_killed(stack: Stack, source: XenHost, unharmed: Unharmed) -> None:
    before = anchor(stack)
    (container,) = before["status"]["containerStatuses"]
    source.ssh(f"kill -KILL $({PROCESS.format(container=container_id(before))})")

    def again(pod: dict[str, Any]) -> bool:
        (found,) = pod["status"]["containerStatuses"]
        return found["restartCount"] > container["restartCount"] and "running" in found["state"]

    stack.cluster.api.wait(f"{PODS}/{before['metadata']['name']}", again, WAIT)
    assert stack.get("xd", NAME)["status"]["anchorUID"] == before["metadata"]["uid"]


def test_the_anchor_is_deleted_by_force(stack: Stack, source: XenHost, unharmed: Unharmed) -> None:
    before = anchor(stack)
    stack.kubectl("delete", f"pod/{before['metadata']['name']}", "--grace-period=0", "--force", "--wait=false")
    gave_up(source, before, "volumeDevices", "volumes")
    unharmed()
    anew(stack, before)


def test_the_anchor_is_deleted(stack: Stack, source: XenHost, unharmed: Unharmed) -> None:
    """Which is to ask the domain to leave its node. There is no other that has the device."""
    before = anchor(stack)
    stack.kubectl("cordon", source.name)
    stack.kubectl("delete", f"pod/{before['metadata']['name']}", "--wait=false")
    blocked(stack)
    unharmed()
    stack.kubectl("uncordon", source.name)
    anew(stack, before)


def test_a_drain_with_nowhere_to_go_waits(stack: Stack, source: XenHost, target: XenHost, unharmed: Unharmed) -> None:
    before = anchor(stack)
    stack.kubectl("cordon", target.name)
    with pytest.raises(KubectlError, match="timeout"):
        drain(stack, source, 10)
    blocked(stack)
    unharmed()
    stack.kubectl("uncordon", source.name, target.name)
    anew(stack, before)


@pytest.mark.long
def test_the_guest_reboots(stack: Stack, source: XenHost, guest: Writer) -> None:
    before, told = guest.seen()
    guest.reboot()
    assert lost(source, told, DEVICE) == ""
    after = guest.seen().life
    assert after.domid > before.domid
    stack.wait("xd", NAME, f"jsonpath={{.status.domid}}={after.domid}", SLOW)
    stack.wait_reason(NAME, "Running")
    guest.write("xvda", "xvdb", "xvdc", after=told)


def test_the_kubelet_evicts_the_anchor(stack: Stack, source: XenHost, unharmed: Unharmed) -> None:
    """Its node is short of memory, as that kubelet has it."""
    before = anchor(stack)
    with short_of_memory(stack, source):
        stack.cluster.api.wait(f"{PODS}/{before['metadata']['name']}", lambda pod: pod["status"].get("reason") == "Evicted", SLOW)
        gave_up(source, before, "volumeDevices")
        unharmed()
    anew(stack, before)
    take_away(source, before)


def test_kubelet_and_containerd_are_restarted(stack: Stack, source: XenHost, unharmed: Unharmed) -> None:
    before = anchor(stack)
    restart(stack, source, "containerd", "kubelet")
    after = anchor(stack)
    assert after["status"]["phase"] == "Running"
    assert after["status"]["containerStatuses"][0]["containerID"] == before["status"]["containerStatuses"][0]["containerID"]


def test_the_node_is_deleted(stack: Stack, source: XenHost, unharmed: Unharmed) -> None:
    before = anchor(stack)
    stack.kubectl("delete", f"node/{source.name}")
    if ended(source, before):  # Kubernetes deletes the pods of a Node that is not there
        gave_up(source, before, "volumeDevices")
    unharmed()
    source.ssh("systemctl restart kubelet")
    stack.cluster.wait_node_ready(source.name, WAIT)
    stack.cluster.label_node(source.name, XEN)
    anew(stack, before)
    rolled_out(stack)  # its agent was ended as well, and does not let go of a claim before it is there again
    take_away(source, before)


def test_a_drain_takes_the_claims_along(stack: Stack, lab: Lab, source: XenHost, target: XenHost, guest: Writer) -> None:
    """When none of them is its node's own any more. The guest is shut down before any leaves, and each is on one node at a time."""
    patch(stack, disks=[disk for disk in disks() if disk["name"] != "device"])
    since = stack.cluster.api.get(PODS)
    with sampled(source, guest.seen().life.domid, *MOUNTS) as samples:
        drain(stack, source, SLOW)
        stack.wait_reason(NAME, "Running", SLOW)
    stack.kubectl("uncordon", source.name)
    told = guest.seen().told
    assert where(stack, lab, NAME)[0] == target
    assert samples[0] == {"domain", *MOUNTS}
    assert all(sample >= set(MOUNTS) for sample in samples if "domain" in sample)
    assert samples[-1] == set()
    assert "System halted" in source.guest_console_tail(XL_NAME)  # it was not destroyed when its grace was over
    assert holders(stack, since) == [{source.name}, set(), {target.name}]
    target.guest_wait(XL_NAME, GUEST_UP)
    assert lost(target, told, LUN, IMAGE) == ""
    moved = Writer(target, XL_NAME)
    moved.write("xvda", "xvdc", after=told)
    assert lost(target, moved.seen().told, LUN, IMAGE) == ""


def test_nothing_is_left(stack: Stack, source: XenHost, target: XenHost) -> None:
    stack.kubectl("delete", "xd", NAME, f"--timeout={SLOW:.0f}s", timeout=SLOW + 30)
    for pod in anchors(stack, NAME):
        stack.cluster.api.wait_gone(f"{PODS}/{pod['metadata']['name']}", WAIT)
    for host in (source, target):
        wait_silent(host, HAS, WAIT)  # a kubelet logs out of the target after the pod is gone


@pytest.mark.usefixtures("applied")
def test_a_namespace_is_deleted_to_its_end_with_a_domain_that_runs(stack: Stack, lab: Lab, target: XenHost) -> None:
    """Kubernetes deletes its pods first, and waits for them; the guest is shut down, not destroyed."""
    folder = f"{SHARED}-{TEAM}"
    target.ssh(f"mkdir {folder} && truncate -s {BYTES} {folder}/disk.img")
    stack.cluster.add_namespace(TEAM)
    image = {"name": "image", "claimName": TEAM, "target": "xvda"}
    stack.apply(
        *volume(TEAM, "Filesystem", {"nfs": {"server": target.address, "path": folder}}, TEAM),
        manifest(NAME, disks=[image]) | {"metadata": {"name": NAME, "namespace": TEAM}},
    )
    stack.wait_reason(NAME, "Running", SLOW, TEAM)
    host = lab.host(stack.get("xd", NAME, TEAM)["status"]["nodeName"])
    guest = Writer(host, f"{TEAM}.{NAME}")
    host.guest_wait(guest.name, GUEST_UP)
    guest.write("xvda")
    told = guest.writes_on().told
    stack.kubectl("delete", "namespace", TEAM, "--wait=false")
    for pod in pods(stack, TEAM):
        stack.cluster.api.wait_gone(f"/api/v1/namespaces/{TEAM}/pods/{pod['metadata']['name']}", SLOW)
    # Kubernetes looks again at once then, and not within five minutes: docs/troubleshooting.md
    stack.kubectl("annotate", "namespace", TEAM, "looked-at=now")
    stack.cluster.api.wait_gone(f"/api/v1/namespaces/{TEAM}", SLOW)
    assert guest.name not in host.ssh("xl list").stdout
    assert "System halted" in host.guest_console_tail(guest.name)
    assert lost(target, told, f"{folder}/disk.img") == ""
    wait_silent(host, f"grep -o pv-{TEAM} /proc/mounts\n{MADE}", WAIT)
    stack.kubectl("delete", f"pv/pv-{TEAM}", f"--timeout={WAIT:.0f}s")
    target.ssh(f"rm -r {folder}")
