"""Disks that are PersistentVolumeClaims, and cloud-init from a Secret. The kubelets are played: see volumes.py."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator

import pycdlib
import pytest

from hack.cluster import KubectlError
from hack.cluster.api import APPLY_PATCH
from kubexen.api.names import API_VERSION, CONTROLLER_MANAGER
from kubexen.api.xendomain import XenDomain
from kubexen.hypervisor.errors import Failed
from kubexen.plan.placement import owned
from tests.cluster import manifests
from tests.cluster.tenant import Tenant, condition, is_ready, until, xl
from tests.cluster.volumes import Kubelets, claiming, uses

SECRET = "#cloud-config\npassword: hunter2-in-the-test\n"


@pytest.fixture
def kubelets(tenant: Tenant) -> Iterator[Kubelets]:
    with Kubelets(tenant) as kubelets:
        yield kubelets


def given(tenant: Tenant, name: str) -> list[dict[str, object]]:
    """The disks that the domain's host was given at its last start."""
    node, state = tenant.where(name)
    with xl(tenant.host(node)) as sim:
        return list([call for call in sim.calls("create") if call.uuid == state.uuid][-1].args["disks"])


def open_files(pid: int | None) -> set[int]:
    """The inodes of all files that a process has open."""
    assert pid is not None
    found = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.stat(f"/proc/{pid}/fd/{number}").st_ino)
        except FileNotFoundError:
            continue
    return found


def drain(tenant: Tenant, node: str, timeout: str = "120s") -> str:
    return tenant.stack.kubectl("drain", node, f"--timeout={timeout}", "--ignore-daemonsets")


def test_a_domain_has_its_claims_and_gives_them_back(tenant: Tenant, kubelets: Kubelets) -> None:
    raw, image = kubelets.claim("raw"), kubelets.claim("files", "ReadWriteMany", kind="nfs")
    tenant.run(claiming("web", "raw", "files"))
    node, _ = tenant.where("web")
    held = {claim["name"]: claim for claim in tenant.get("web")["status"]["claims"]}
    assert {name: claim["volumeMode"] for name, claim in held.items()} == {"raw": "Block", "files": "Filesystem"}
    paths = [f"/run/kubexen/disks/{kubelets.uid(name)}" for name in ("raw", "files")]
    assert [(d["path"], d["target"], d["block_device"]) for d in given(tenant, "web")] == [
        (paths[0], "xvda", True), (paths[1], "xvdb", True),
    ]  # fmt: skip
    anchor = tenant.anchor("web")["metadata"]["uid"]
    links = kubelets.links(node)
    assert f"/pods/{anchor}/volumeDevices/" in links[kubelets.uid("raw")]
    with xl(tenant.host(node)) as sim:
        loop = os.stat(sim.loops()[kubelets.uid("files")])
    assert loop.st_ino == image.stat().st_ino
    assert raw.stat().st_ino in open_files(tenant.host(node).agent.pid)

    tenant.power("web", "Halted")
    tenant.wait_reason("web", "Halted")
    assert kubelets.links(node) == {}
    assert raw.stat().st_ino not in open_files(tenant.host(node).agent.pid)
    with xl(tenant.host(node)) as sim:
        assert sim.loops() == {}


def test_a_claim_that_is_open_elsewhere_is_given_back_when_it_is_closed(tenant: Tenant, kubelets: Kubelets) -> None:
    kubelets.claim("files", "ReadWriteMany", kind="nfs")
    tenant.run(claiming("web", "files"))
    node, _ = tenant.where("web")
    with xl(tenant.host(node)) as sim:
        sim.fail_next("unloop", Failed, "/dev/loop7 is open elsewhere", times=4)
        tenant.power("web", "Halted")
        event = tenant.wait_event("web", "StillHeld")
        assert event["type"] == "Warning"
        assert event["note"].endswith("is let go of yet: /dev/loop7 is open elsewhere")
        tenant.wait_reason("web", "Halted")
        assert sim.loops() == {}
    assert kubelets.links(node) == {}


def test_a_claim_that_comes_later(tenant: Tenant, kubelets: Kubelets) -> None:
    tenant.apply(claiming("web", "data"))
    told = condition(tenant.wait_reason("web", "DiskNotFound"), "Ready")["message"]
    assert "PersistentVolumeClaim 'data' is not in this namespace; make it" in told
    kubelets.claim("data")
    tenant.wait_reason("web", "Running")


def test_a_claim_that_is_added_comes_with_the_next_start(tenant: Tenant, kubelets: Kubelets) -> None:
    kubelets.claim("data")
    domid = tenant.run(manifests.domain("web"))["web"]["status"]["domid"]
    old = tenant.get("web")["status"]["anchorUID"]
    tenant.patch("web", disks=uses("data"))
    told = tenant.wait("web", lambda found: condition(found, "RestartRequired")["status"] == "True")
    assert "spec.disks" in condition(told, "RestartRequired")["message"]
    node = tenant.where("web")[0]
    assert tenant.where("web")[1].domid == domid
    with xl(tenant.host(node)) as sim:
        sim.guest_crash(tenant.xl_name("web"))
    tenant.wait("web", lambda found: is_ready(found) and found["status"]["anchorUID"] != old)
    assert [d["path"] for d in given(tenant, "web")] == [f"/run/kubexen/disks/{kubelets.uid('data')}"]


def test_a_drain_frees_the_claim_before_the_next_anchor_asks_for_it(tenant: Tenant, kubelets: Kubelets) -> None:
    data = kubelets.claim("data")
    tenant.run(claiming("web", "data"))
    node, before = tenant.where("web")
    assert condition(tenant.get("web"), "Migratable")["reason"] == "ClaimOnOneNode"

    assert "drained" in drain(tenant, node)
    other = tenant.elsewhere(node)
    tenant.wait("web", lambda found: is_ready(found) and found["status"].get("nodeName") == other)

    mounting: set[str] = set()
    most = 0
    for kind, pod in kubelets.seen:
        name = pod["metadata"]["name"]
        if kind == "DELETED":
            mounting.discard(name)
        elif pod["spec"].get("volumes"):
            mounting.add(name)
        most = max(most, len(mounting))
    assert most == 1, "two anchors asked for the claim at once"
    assert tenant.where("web")[1].uuid == before.uuid
    assert kubelets.links(node) == {}
    assert list(kubelets.links(other)) == [kubelets.uid("data")], "the path is the same on every host"
    assert data.stat().st_ino in open_files(tenant.host(other).agent.pid)


def test_a_claim_of_this_node_only_stays_and_says_why(tenant: Tenant, kubelets: Kubelets) -> None:
    node = tenant.stack.hosts[0].name
    kubelets.claim("data", kind="local", node=node)
    domid = tenant.run(claiming("web", "data"))["web"]["status"]["domid"]
    with pytest.raises(KubectlError, match="timeout"):
        drain(tenant, node, "5s")
    stuck = tenant.wait("web", lambda found: condition(found, "Migratable")["reason"] == "NowhereToGo")
    assert is_ready(stuck), "it runs as its spec asks"
    assert (stuck["status"]["nodeName"], stuck["status"]["domid"]) == (node, domid)
    assert "the drain waits" in condition(stuck, "Migratable")["message"]
    tenant.cordon(node, False)
    tenant.wait_event("web", "EvictionTakenBack")
    assert tenant.where("web")[1].domid == domid


def test_a_claim_has_one_domain(tenant: Tenant, kubelets: Kubelets) -> None:
    kubelets.claim("data", "ReadWriteMany", kind="nfs")
    tenant.run(claiming("first", "data"))
    tenant.apply(claiming("second", "data"))
    told = condition(tenant.wait_reason("second", "DiskInUse"), "Ready")["message"]
    assert "PersistentVolumeClaim 'data' is held by XenDomain 'first', which is on node" in told
    assert tenant.anchors("second") == []

    tenant.power("first", "Halted")
    tenant.wait_reason("first", "Halted")
    assert "which came first" in condition(
        tenant.wait("second", lambda found: "came first" in condition(found, "Ready")["message"]), "Ready"
    )["message"]
    tenant.delete("xd", "first")
    tenant.wait_reason("second", "Running")


def test_of_two_that_both_hold_a_claim_the_agents_start_one(tenant: Tenant, kubelets: Kubelets) -> None:
    """As if an earlier leader's binding had come late: the controller's order was passed by."""
    kubelets.claim("data", "ReadWriteMany", kind="nfs")
    tenant.run(claiming("first", "data"), manifests.domain("second"))
    tenant.stack.controller.stop()
    try:
        first, second = (XenDomain.parse(tenant.get(name)).status for name in ("first", "second"))
        second.claims, second.reserved = first.claims, first.reserved
        host = tenant.host_of("second")
        with xl(host) as sim:
            host.stop_agent()
            sim.xl_destroy(tenant.xl_name("second"))
        body = {"apiVersion": API_VERSION, "kind": "XenDomain", "status": owned(second)}
        tenant.api.patch(f"{tenant.path('xd', 'second')}/status", body, APPLY_PATCH, fieldManager=CONTROLLER_MANAGER, force="true")
        tenant.patch("second", disks=uses("data"))
        kubelets.mount("data", tenant.anchor("second"))
        host.restart_agent()
        told = tenant.wait("second", lambda found: condition(found, "DomainReady")["reason"] == "DiskInUse")
        assert "is held by XenDomain 'first', which is on node" in condition(told, "DomainReady")["message"]
        assert tenant.on_hosts("second") == []
    finally:
        tenant.stack.start_controller()


def test_an_agent_that_comes_back_holds_the_device_again(tenant: Tenant, kubelets: Kubelets) -> None:
    data = kubelets.claim("data")
    tenant.run(claiming("web", "data"))
    host = tenant.host_of("web")
    domid = tenant.where("web")[1].domid
    host.kill_agent()
    tenant.stack.cluster.pause_component("kube-apiserver")
    try:
        host.restart_agent()
        until(lambda: data.stat().st_ino in open_files(host.agent.pid))
    finally:
        tenant.stack.cluster.resume_component("kube-apiserver")
    assert tenant.where("web")[1].domid == domid


def test_an_anchor_that_is_torn_away_leaves_the_disk(tenant: Tenant, kubelets: Kubelets) -> None:
    data = kubelets.claim("data")
    tenant.run(claiming("web", "data"))
    node, before = tenant.where("web")
    old = tenant.anchor("web")["metadata"]
    tenant.kubectl("patch", "pod", old["name"], "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    tenant.kubectl("delete", "pod", old["name"], "--force", "--grace-period=0")
    tenant.wait("web", lambda found: found["status"]["anchorUID"] != old["uid"])
    new = tenant.get("web")["status"]["anchorUID"]
    until(lambda: new in kubelets.links(node).get(kubelets.uid("data"), ""))
    assert data.stat().st_ino in open_files(tenant.host(node).agent.pid)
    assert tenant.where("web") == (node, tenant.where("web")[1])
    assert tenant.where("web")[1].domid == before.domid


ATTACKS = {
    "a-link": "ln -sf /etc/shadow disk.img",
    "a-qcow2-with-a-backing-file": r"printf 'QFI\373\0\0\0\003\0\0\0\0\0\0\0\150' > disk.img; truncate -s 1M disk.img",
    "a-pipe": "rm disk.img; mkfifo disk.img",
}


@pytest.mark.parametrize("plant", ATTACKS.values(), ids=ATTACKS)
def test_what_is_no_image_is_refused(tenant: Tenant, kubelets: Kubelets, plant: str) -> None:
    image = kubelets.claim("data", "ReadWriteMany", kind="nfs")
    subprocess.run(["sh", "-ec", plant], cwd=image.parent, check=True)
    tenant.apply(claiming("web", "data"))
    refused = tenant.wait_reason("web", "InvalidSpec")
    assert "spec.disks[claim0]: PersistentVolumeClaim 'data': disk.img" in condition(refused, "Ready")["message"]
    assert tenant.on_hosts("web") == []


# --- cloud-init


def seeded(name: str = "web", **spec: object) -> manifests.Manifest:
    return manifests.domain(name, cloudInit={"userData": {"secretName": "login", "key": "text"}}, **spec)


def user_data(image: os.PathLike[str]) -> str:
    iso = pycdlib.PyCdlib()
    iso.open(str(image))
    into = io.BytesIO()
    iso.get_file_from_iso_fp(into, rr_path="/user-data")
    iso.close()
    return into.getvalue().decode()


def test_a_secret_reaches_the_guest_and_nothing_else(tenant: Tenant, kubelets: Kubelets) -> None:
    kubelets.secret("login", text=SECRET, other="not asked for")
    domid = tenant.run(seeded())["web"]["status"]["domid"]
    node, state = tenant.where("web")
    (image,) = kubelets.seeds(node)
    assert user_data(image) == SECRET
    assert image.stat().st_mode & 0o777 == 0o600
    assert given(tenant, "web") == [
        {"path": f"/run/kubexen/devices/{state.uuid}/seed", "target": "xvdz", "read_only": True, "block_device": True}
    ]
    volumes = tenant.anchor("web")["spec"]["volumes"]
    assert [v["secret"]["items"] for v in volumes] == [[{"key": "text", "path": "user-data"}]]

    tenant.kubectl("delete", "secret", "login")
    tenant.host(node).restart_agent()
    tenant.patch("web", memory={"size": "96Mi"})
    tenant.wait("web", lambda found: found["status"]["memory"]["current"] == "96Mi")
    assert tenant.where("web")[1].domid == domid
    assert "hunter2" not in tenant.host(node).agent_log(10_000)
    assert "hunter2" not in tenant.stack.controller.log_tail(10_000)

    with xl(tenant.host(node)) as sim:
        sim.guest_crash(tenant.xl_name("web"))
    tenant.wait_restarted("web", domid)
    assert user_data(image) == SECRET, "made again from the same anchor"

    tenant.power("web", "Halted")
    tenant.wait_reason("web", "Halted")
    assert kubelets.seeds(node) == []


def test_what_a_kubelet_says_of_an_anchor_reaches_the_user(tenant: Tenant, kubelets: Kubelets) -> None:
    """A real kubelet does not run a pod whose Secret is not there; it tells an Event."""
    kwok = "kwok"
    tenant.stack.cluster.pause_component(kwok)
    try:
        tenant.apply(seeded())
        (anchor,) = until(lambda: [a for a in tenant.anchors("web") if a["spec"].get("nodeName")])
        tenant.api.create(f"/apis/events.k8s.io/v1/namespaces/{tenant.namespace}/events", {
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"generateName": "kubelet-"},
            "regarding": {"kind": "Pod", "name": anchor["metadata"]["name"], "namespace": tenant.namespace,
                          "uid": anchor["metadata"]["uid"]},
            "type": "Warning", "reason": "FailedMount", "note": 'secret "login" not found', "action": "Mount",
            "eventTime": "2026-03-01T12:00:00.000000Z", "reportingController": "kubelet", "reportingInstance": "x",
        })  # fmt: skip
        told = condition(tenant.wait_reason("web", "WaitingForDisk"), "Ready")["message"]
    finally:
        tenant.stack.cluster.resume_component(kwok)
    assert 'which says: FailedMount: secret "login" not found' in told
    kubelets.secret("login", text=SECRET)


def test_a_secret_that_is_not_there(tenant: Tenant, kubelets: Kubelets) -> None:
    tenant.apply(seeded())
    told = condition(tenant.wait_reason("web", "SecretNotFound"), "Ready")["message"]
    assert "spec.cloudInit.userData: the anchor has no key 'text' of Secret 'login'; make the Secret" in told
    assert tenant.on_hosts("web") == []


def test_a_drain_takes_the_seed_along(tenant: Tenant, kubelets: Kubelets) -> None:
    kubelets.secret("login", text=SECRET)
    tenant.run(seeded())
    node = tenant.where("web")[0]
    drain(tenant, node)
    other = tenant.elsewhere(node)
    tenant.wait("web", lambda found: is_ready(found) and found["status"].get("nodeName") == other)
    assert kubelets.seeds(node) == []
    assert [user_data(image) for image in kubelets.seeds(other)] == [SECRET]
