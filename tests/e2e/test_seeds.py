"""A seed under real kubelets, read by the real cloud-init of a Debian guest whose root is a claim."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from hack.stack.dom0 import DEBIAN_GUEST
from hack.stack.guest import manifest
from hack.stack.stack import ROOT, WAIT, Stack
from hack.xenlab.host import GUEST_UP, XenHost
from hack.xenlab.lab import Lab
from tests.e2e.volumes import local, volume

pytestmark = pytest.mark.long

NAME = "debian"
XL_NAME = f"default.{NAME}"
PASSWORD = "$6$salt$of-the-test"
USER_DATA = f"""\
#cloud-config
chpasswd:
  expire: false
  users: [{{name: root, password: '{PASSWORD}'}}]
write_files:
- {{path: /etc/greeting, content: from-the-secret}}
runcmd:
- hostname >/etc/ran
"""
ADDRESS = "192.0.2.10"
SLOW = 3 * WAIT


@pytest.fixture(scope="module")
def host(lab: Lab) -> XenHost:
    """Where the root's claim is."""
    return lab.host(2)


@pytest.fixture(scope="module")
def guest(stack: Stack, host: XenHost) -> Iterator[XenHost]:
    """The guest, when cloud-init has done its work; its host."""
    stack.install()
    stack.kubectl("apply", "-f", str(ROOT / "examples/tiny/network.yaml"))
    boot = manifest()["spec"]["boot"]["direct"] | {"cmdline": "console=hvc0 quiet root=xvda"}
    network = {
        "apiVersion": "kubexen.dev/v1alpha1", "kind": "XenNetwork", "metadata": {"name": "addressed"},
        "spec": {"bridge": "xenbr0", "namespaceSelector": {},
                 "addresses": [{"subnet": "192.0.2.0/24", "first": "192.0.2.2", "last": "192.0.2.254"}]},
    }  # fmt: skip
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": "default"}}
    stack.apply(
        network,
        secret | {"stringData": {"text": USER_DATA}},
        *volume("root", "Filesystem", local(DEBIAN_GUEST, host.name)),
        manifest(
            NAME, memory={"size": "384Mi"}, boot={"direct": boot},
            disks=[{"name": "root", "claimName": "root", "target": "xvda"}],
            interfaces=[{"name": "eth0", "network": "addressed", "address": ADDRESS}],
            cloudInit={"userData": {"secretName": "login", "key": "text"}},
        ),
    )  # fmt: skip
    stack.wait_reason(NAME, "Running", SLOW)
    host.guest_wait(XL_NAME, GUEST_UP, timeout=SLOW)
    yield host
    stack.kubectl("delete", "xd", NAME, f"--timeout={SLOW:.0f}s", timeout=SLOW + 30)
    stack.kubectl("delete", "secret/login", "pvc/root", "pv/pv-root", "xnet/addressed", f"--timeout={WAIT:.0f}s")


def output(guest: XenHost, command: str) -> str:
    return guest.guest_output(XL_NAME, command, timeout=WAIT)


def test_cloud_init_takes_the_seed_for_its_source(stack: Stack, guest: XenHost) -> None:
    result = json.loads(output(guest, "cat /run/cloud-init/result.json"))["v1"]
    assert result["errors"] == []
    assert result["datasource"].startswith("DataSourceNoCloud [seed=/dev/xvdz]")
    assert output(guest, "cat /var/lib/cloud/data/instance-id") == stack.get("xd", NAME)["metadata"]["uid"]


def test_it_does_what_the_secret_says(guest: XenHost) -> None:
    assert output(guest, "cat /etc/greeting") == "from-the-secret"
    assert output(guest, "cat /etc/ran") == NAME
    assert output(guest, "getent shadow root | cut -d: -f2") == PASSWORD


def test_the_guest_has_its_name_and_its_address(guest: XenHost) -> None:
    assert output(guest, "hostname") == NAME
    assert f"{ADDRESS}/24 " in output(guest, "ip -4 -o addr show dev eth0")
