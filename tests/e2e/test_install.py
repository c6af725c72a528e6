"""Kubexen as a user has it: `helm install` on real kubelets in the dom0s of two real Xen hosts, and nothing beside it.

The tests go on from one another, in this order: hosts whose CPU is emulated take minutes for what takes seconds elsewhere.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import time
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hack.bench import install, xen
from hack.cluster.nodeconfig import IMAGE
from hack.stack.demo import demo
from hack.stack.dom0 import DEBIAN_GUEST
from hack.stack.guest import manifest
from hack.stack.stack import AGENTS, LOCAL, NAMESPACE, RELEASE, WAIT, XEN, Stack
from hack.xenlab.host import GUEST_UP, XenHost
from hack.xenlab.lab import Lab
from kubexen import VERSION
from tests.e2e import debian
from tests.e2e.conftest import NEXT, Figure
from tests.e2e.domains import CONTROLLER, PODS, SLOW, anchors, boot, pods, rolled_out, where
from tests.e2e.pods import kib
from tests.e2e.volumes import BUSY
from tests.stacks import HEALTHY, LIBVIRTD, READY, wait_host_event

WEB, KEEPER, MOVED = "web", debian.NAME, "tiny-pvh"
AGENT = "pgrep -f '^/usr/bin/python3 /usr/bin/kubexen-agent'"
DESTROY = """
from pathlib import Path
from kubexen.hypervisor.drivers.libvirt.lowlevel import Commands
Commands(Path("/proc/1/root")).run("xl", "destroy", "torn")
"""
TORN = """
printf 'name = "torn"\nkernel = "/srv/images/vmlinux"\nmemory = 96\nvif = ["bridge=xenbr0"]\n' >/root/torn.cfg
xl create -p /root/torn.cfg
"""
STATUS = "print(open('/proc/1/status').read())"
BY_LIBRARY = "domains are read by Xen's own library"
BY_XL = (
    "domains are read by 'xl' only, a hundred times slower and with less in it: Xen's own Python bindings cannot be used"
)
BINDINGS = "/usr/lib/xen-4*/lib/python"
DEBUG = "--log-level=debug"
HOSTS = "/apis/kubexen.dev/v1alpha1/xenhosts"
XEN_DEVICES = Path("/dev/xen")
VERSION_IS = "jsonpath={.status.agentVersion}="
SPARE = {"apiVersion": "kubexen.dev/v1alpha1", "kind": "XenNetwork", "metadata": {"name": "spare"}, "spec": {"bridge": "xenbr9"}}

Lives = list[tuple[XenHost, int, str]]
"""See lives()."""


@pytest.fixture(scope="module")
def installed(stack: Stack) -> Iterator[datetime]:
    """When `helm install` began; at the end there is no domain."""
    begin = datetime.now(UTC)
    install.install(stack)
    yield begin
    delete_all(stack)


@pytest.fixture(scope="module")
def web(stack: Stack, installed: datetime, figure: Figure) -> str:
    """A domain that runs; its name in Xen."""
    stack.apply(manifest(WEB))
    stack.wait_reason(WEB, "Running", SLOW)
    figure("helm install to the first domain Ready, s", (datetime.now(UTC) - installed).total_seconds())
    for name, seconds in install.steps(stack, installed, WEB).items():
        figure(f"- {name}", seconds)
    return f"default.{WEB}"


@pytest.fixture(scope="module")
def drained(stack: Stack, lab: Lab, web: str) -> XenHost:
    """The host that the demo drained, where no domain was left, free again."""
    host = lab.host(demo(stack))
    assert "default." not in host.ssh("xl list").stdout
    there = stack.cluster.api.get("/api/v1/pods", fieldSelector=f"spec.nodeName={host.name}")["items"]
    stay = "|".join(pod["metadata"]["uid"].replace("-", "[-_]") for pod in there)
    host.until(f"! grep -hoE 'pod[0-9a-f]{{8}}[-_][-_0-9a-f]{{27}}' /proc/[0-9]*/cgroup | grep -qvE '{stay}'", WAIT)
    stack.kubectl("uncordon", host.name)
    return host


@pytest.fixture(scope="module")
def applied(stack: Stack, drained: XenHost) -> Iterator[XenHost]:
    """A Debian guest, whose root is a claim, begins to start; the host that has its claim."""
    stack.apply(*debian.manifests(drained.name))
    yield drained
    delete_all(stack)
    stack.kubectl("delete", *debian.KEPT, f"--timeout={WAIT:.0f}s")


@pytest.fixture(scope="module")
def keeper(stack: Stack, applied: XenHost) -> str:
    """The same, when its cloud-init has done its work; its name in Xen."""
    stack.wait_reason(KEEPER, "Running", SLOW)
    applied.guest_wait(f"default.{KEEPER}", GUEST_UP)
    return f"default.{KEEPER}"


@pytest.fixture(scope="module")
def upgraded(stack: Stack, lab: Lab, web: str, keeper: str, figure: Figure) -> Lives:
    """The controller is upgraded, and the agents after it; they are killed meanwhile, and one of the new ones finds a Xen with no
    bindings for its Python, and looks by its host's xl. What lived before that."""
    before = lives(stack, lab)
    old = {pod["metadata"]["uid"] for pod in pods(stack, AGENTS)}
    stale, _ = where(stack, lab, KEEPER)
    upgrade(stack, agent={"updateStrategy": "OnDelete"})
    rolled_out(stack, CONTROLLER)
    agents_are_at_work(stack, "136Mi")
    agents_are_at_work(stack, "400Mi", KEEPER)
    assert versions(stack) == {VERSION}
    assert old == {pod["metadata"]["uid"] for pod in pods(stack, AGENTS)}
    stale.ssh(f"mount --bind /mnt {BINDINGS}")
    for host in lab.hosts:
        host.ssh(f"kill -KILL $({AGENT})")
    begin = time.monotonic()
    upgrade(stack, logLevel="debug")
    rolled_out(stack)
    figure("helm upgrade of two agents that were killed, s", time.monotonic() - begin)
    assert not old & {pod["metadata"]["uid"] for pod in pods(stack, AGENTS)}
    wait_read(stack, stale, BY_XL)
    stale.ssh(f"umount {BINDINGS}")
    return before


def lives(stack: Stack, lab: Lab) -> Lives:
    """Of both domains: host, domid (in the status and in Xen alike), and boot of the guest."""
    found = []
    for name in (WEB, KEEPER):
        host, domid = where(stack, lab, name)
        assert int(host.ssh(f"xl domid default.{name}").stdout) == domid
        found.append((host, domid, boot(host, f"default.{name}")))
    return found


def upgrade(stack: Stack, **values: Any) -> None:
    """`helm upgrade` to the version after this one."""
    stack.install(images={"kubexen": {"repository": IMAGE.rpartition(":")[0], "tag": NEXT}}, **values)


def versions(stack: Stack) -> set[str]:
    """Those that the agents say that they are of."""
    return {host["status"]["agentVersion"] for host in stack.cluster.api.get(HOSTS)["items"]}


def written(host: XenHost) -> str:
    """What the Debian guest wrote to its claim, as its host reads it."""
    return host.ssh(f"head -c 12 {DEBIAN_GUEST}/disk.img").stdout


def delete_all(stack: Stack) -> None:
    """Delete every domain and disk, and wait until no anchor is left."""
    stack.kubectl("delete", "xd,xdisk", "--all", f"--timeout={SLOW:.0f}s", timeout=SLOW + 30)
    for pod in stack.cluster.api.get(PODS)["items"]:
        stack.cluster.api.wait_gone(f"{PODS}/{pod['metadata']['name']}", WAIT)


def wait_read(stack: Stack, host: XenHost, how: str) -> None:
    """Until the host's agent says that it reads domains in this way."""

    def says_so(document: dict[str, Any]) -> bool:
        return {check["name"]: check["message"] for check in document["status"]["checks"]}["StateFlags"] == how

    stack.cluster.api.wait(f"{HOSTS}/{host.name}", says_so, WAIT)


def agent_on(stack: Stack, node: str) -> dict[str, Any]:
    """The pod of a node's agent."""
    (found,) = (pod for pod in pods(stack, AGENTS) if pod["spec"]["nodeName"] == node)
    return found


def agents_are_at_work(stack: Stack, size: str, name: str = WEB) -> None:
    """A change that only the living agent of a domain's host can make is made, live."""
    stack.kubectl("patch", "xd", name, "--type=merge", "-p", f'{{"spec": {{"memory": {{"size": "{size}"}}}}}}')
    stack.wait("xd", name, f"jsonpath={{.status.memory.current}}={size}", SLOW)


@pytest.mark.parametrize("name", ["xen1", "xen2"])
def test_a_dom0_is_a_node(stack: Stack, name: str) -> None:
    node = stack.cluster.wait_node_ready(name)
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
    assert node["metadata"]["labels"]["kubexen.dev/xen"] == "true"


def test_what_helm_installs_runs_the_first_domain(stack: Stack, lab: Lab, web: str, figure: Figure) -> None:
    host, _ = where(stack, lab, WEB)
    assert f"{web} " in host.ssh("xl list").stdout
    agents = {pod["spec"]["nodeName"]: pod["metadata"]["ownerReferences"][0]["kind"] for pod in pods(stack, AGENTS)}
    assert agents == {"xen1": "DaemonSet", "xen2": "DaemonSet"}
    controllers = {pod["spec"]["nodeName"] for pod in pods(stack, NAMESPACE)}
    assert controllers == {LOCAL} or not stack.cluster.kubelets()
    assert stack.controller.pid is None
    for dom0 in lab.hosts:
        assert dom0.ssh("systemctl is-active kubexen-agent.service", check=False).stdout.strip() == "inactive"
        free = dom0.ssh("awk '/^MemAvailable/ {print $2}' /proc/meminfo").stdout
        figure(f"{dom0.name}: memory of dom0 that is available, MiB", int(free) / 1024)
        assert int(free) > 256 * 1024
        wait_read(stack, dom0, BY_LIBRARY)
        agent = kib(dom0.ssh(f"cat /proc/$({AGENT})/status").stdout, "VmRSS")
        figure(f"{dom0.name}: the agent, resident, MiB", agent / 1024)
        assert agent < 80 * 1024
    for pod in pods(stack, NAMESPACE):
        controller = kib(stack.kubectl("exec", "-n", NAMESPACE, pod["metadata"]["name"], "--", "python3", "-c", STATUS), "VmRSS")
        figure("a controller, resident, MiB", controller / 1024)
        assert controller < 100 * 1024


@pytest.mark.long
def test_an_agent_destroys_by_its_hosts_xl(stack: Stack, lab: Lab, web: str) -> None:
    """In its container, what is left of a build that was cut off."""
    host, _ = where(stack, lab, WEB)
    agent = agent_on(stack, host.name)
    host.ssh(TORN)
    stack.kubectl("exec", "-n", AGENTS, agent["metadata"]["name"], "--", "python3", "-c", DESTROY)
    assert "torn" not in host.ssh("xl list").stdout
    assert "(null)" not in host.ssh("xl list").stdout


def test_a_host_in_trouble_says_so_and_heals_and_its_agent_stays_up(stack: Stack, lab: Lab, web: str) -> None:
    host, domid = where(stack, lab, WEB)
    before = agent_on(stack, host.name)
    stack.apply(SPARE)
    stack.wait("xhost", host.name, f"{HEALTHY}=BridgeMissing")
    host.ssh(f"systemctl stop {LIBVIRTD}")
    try:
        stack.wait("xhost", host.name, f"{READY}=HypervisorUnreachable")
        wait_host_event(stack, host.name, "BridgeMissing", "ip link add xenbr9")
        wait_host_event(stack, host.name, "HypervisorUnreachable", "systemctl restart libvirtd")
    finally:
        host.ssh("systemctl restart libvirtd && ip link add xenbr9 type bridge")
    for condition in ("Ready", "Healthy"):
        stack.wait("xhost", host.name, f"condition={condition}")
    agents_are_at_work(stack, "152Mi")
    stack.kubectl("delete", "xnet", "spare")
    host.ssh("ip link delete xenbr9")
    after = agent_on(stack, host.name)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == before["status"]["containerStatuses"][0]["restartCount"]
    assert where(stack, lab, WEB) == (host, domid)


@pytest.mark.usefixtures("allowed", "installed")
def test_a_labelled_node_that_runs_no_xen_says_so_and_its_agent_is_alive(stack: Stack) -> None:
    there = XEN_DEVICES.exists()
    stack.cluster.label_node(LOCAL, XEN)
    stack.wait("xhost", LOCAL, f"{READY}=NoXen")
    wait_host_event(stack, LOCAL, "NoXen", "Boot its Xen entry")
    path = f"/api/v1/namespaces/{AGENTS}/pods/{agent_on(stack, LOCAL)['metadata']['name']}"

    def is_alive(pod: dict[str, Any]) -> bool:
        """As its startup probe has it."""
        (container,) = pod["status"]["containerStatuses"]
        return bool(container["started"]) and container["restartCount"] == 0

    stack.cluster.api.wait(path, is_alive, WAIT)
    stack.cluster.label_node(LOCAL, dict.fromkeys(XEN))
    stack.cluster.api.wait_gone(path, WAIT)
    stack.kubectl("delete", "xhost", LOCAL)
    if not there:
        XEN_DEVICES.rmdir()  # a kubelet makes the folder of a pod's volume; this one's /dev is the machine's


@pytest.mark.usefixtures("web")
def test_helm_test_finds_all_at_work(stack: Stack) -> None:
    told = stack.helm("test", RELEASE, "--logs", f"--timeout={SLOW:.0f}s")
    assert "Succeeded" in told
    for name in ("xen1", "xen2"):
        assert f"ok   XenHost {name}: Ready" in told


@pytest.mark.usefixtures("applied")  # it starts on the one host while the other starts what was moved there
def test_the_demo_runs_and_its_drain_moves_domains_to_the_other_host(stack: Stack, lab: Lab, drained: XenHost) -> None:
    for name in (WEB, MOVED):
        stack.wait_reason(name, "Running", SLOW)
        target, _ = where(stack, lab, name)
        assert target != drained
        assert f"default.{name} " in target.ssh("xl list").stdout
        assert [anchor["spec"]["nodeName"] for anchor in anchors(stack, name)] == [target.name]


def test_what_a_guest_is_told_to_be_written_is_in_its_claim(applied: XenHost, keeper: str) -> None:
    # an ext4 leaves the first kilobyte of its disk alone
    applied.guest_output(keeper, "echo to-the-claim | dd of=/dev/xvda conv=fsync,notrunc 2>/dev/null")
    assert written(applied) == "to-the-claim"


def test_cloud_init_takes_the_seed_for_its_source(stack: Stack, applied: XenHost, keeper: str) -> None:
    result = json.loads(applied.guest_output(keeper, "cat /run/cloud-init/result.json"))["v1"]
    assert result["errors"] == []
    assert result["datasource"].startswith("DataSourceNoCloud [seed=/dev/xvdz]")
    instance = applied.guest_output(keeper, "cat /var/lib/cloud/data/instance-id; echo x | dd of=/dev/xvdz 2>&1 | head -n 1")
    uid, refused = instance.split(None, 1)
    assert uid == stack.get("xd", KEEPER)["metadata"]["uid"]
    assert "not permitted" in refused or "Read-only" in refused


def test_a_guest_is_as_its_secret_and_its_network_say(applied: XenHost, keeper: str) -> None:
    assert applied.guest_output(keeper, debian.WHAT_IT_IS).split() == debian.AS_IT_SHOULD_BE


def test_domains_run_on_when_agents_are_killed_and_upgraded(stack: Stack, lab: Lab, upgraded: Lives) -> None:
    agents_are_at_work(stack, "160Mi")
    agents_are_at_work(stack, "416Mi", KEEPER)
    for host in lab.hosts:
        stack.wait("xhost", host.name, f"{VERSION_IS}{NEXT}")
    by_xl, _ = where(stack, lab, KEEPER)
    assert stack.get("xhost", by_xl.name)["status"]["xen"]["version"] == by_xl.ssh("xl info xen_version").stdout.strip()
    assert lives(stack, lab) == upgraded


def test_domains_run_on_when_helm_rolls_back(stack: Stack, lab: Lab, upgraded: Lives) -> None:
    assert DEBUG in json.dumps(pods(stack, AGENTS))
    stack.helm("rollback", RELEASE, "1")
    rolled_out(stack)
    assert DEBUG not in json.dumps(pods(stack, AGENTS))
    agents_are_at_work(stack, "144Mi")
    for host in lab.hosts:
        wait_read(stack, host, BY_LIBRARY)
        stack.wait("xhost", host.name, f"{VERSION_IS}{VERSION}")
    assert lives(stack, lab) == upgraded


@pytest.mark.usefixtures("web", "keeper")
def test_the_doctor_finds_nothing_wrong_and_packs_what_the_pods_said_and_no_secret(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "bundle.tar.gz"
    command = ["kubectl", "xen", "doctor", "--bundle", str(file)]
    done = subprocess.run(command, env=stack.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    ours = {f"{namespace}/{pod['metadata']['name']}" for namespace in (NAMESPACE, AGENTS) for pod in pods(stack, namespace)}
    with tarfile.open(file) as bundle:
        told = {member.name: content.read() for member in bundle if (content := bundle.extractfile(member))}
    logs = {name: text for name, text in told.items() if "/logs/" in name}
    assert {name.rpartition("/")[0].partition("/logs/")[2] for name in logs} == ours
    assert all(text.strip() for name, text in logs.items() if AGENTS in name)  # a controller that waits has said nothing yet
    secret = (debian.PASSWORD.encode(), b64encode(debian.USER_DATA.encode()))
    assert [name for name, text in told.items() if any(part in text for part in secret)] == []


def test_helm_uninstall_leaves_domains_and_what_they_hold_and_an_install_adopts_them(
    stack: Stack, lab: Lab, web: str, applied: XenHost, keeper: str, figure: Figure
) -> None:  # fmt: skip
    before = lives(stack, lab)
    (anchor,) = anchors(stack, KEEPER)
    host, uid = before[0][0], anchor["metadata"]["uid"]
    stack.helm("uninstall", RELEASE)
    figure("a bare `virsh create` of the first domain, s", xen.virsh_create(host, xen.description(host, web)))
    stack.cluster.api.wait_gone(f"/api/v1/namespaces/{AGENTS}", WAIT)
    for dom0 in lab.hosts:
        dom0.until(f"! {AGENT}", WAIT)
    assert f"{web} " in host.ssh("xl list").stdout
    mount = f"/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~local-volume/pv-{debian.CLAIM}"
    assert BUSY in applied.ssh(f"umount {mount} 2>&1", check=False).stdout

    begin = time.monotonic()
    stack.install()
    agents_are_at_work(stack, "176Mi")
    figure("helm install to a domain adopted and changed, s", time.monotonic() - begin)
    assert lives(stack, lab) == before
    assert [a["metadata"]["uid"] for a in anchors(stack, KEEPER)] == [uid]


@pytest.mark.usefixtures("keeper")
def test_what_is_deleted_leaves_nothing_on_its_host(stack: Stack, lab: Lab, applied: XenHost) -> None:
    delete_all(stack)
    for host in lab.hosts:
        assert "default." not in host.ssh("xl list").stdout
        assert host.ssh("find /srv/shared -path '*/.kubexen*' -type f").stdout == ""
        left = "losetup -l -n -O NAME,BACK-FILE; find /run/kubexen/disks /run/kubexen/seeds -mindepth 1"
        assert host.ssh(left, check=False).stdout == ""
    assert written(applied) == "to-the-claim"
