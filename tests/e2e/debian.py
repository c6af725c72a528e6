"""A Debian guest: its root is a claim, its own cloud-init reads the seed that a Secret has the user data of."""

from __future__ import annotations

from typing import Any

from hack.stack.dom0 import DEBIAN_GUEST
from hack.stack.guest import manifest
from tests.e2e.volumes import local, volume

NAME, CLAIM, NETWORK, SECRET = "debian", "root", "addressed", "login"
KEPT = (f"pvc/{CLAIM}", f"pv/pv-{CLAIM}", f"secret/{SECRET}", f"xnet/{NETWORK}")  # what is left of it when its domain is deleted
ADDRESS = "192.0.2.10"
PASSWORD = "$6$salt$of-the-test"
# No user is made and grub is not looked for, which takes seconds of an emulated CPU.
USER_DATA = f"""\
#cloud-config
users: []
grub_dpkg: {{enabled: false}}
chpasswd:
  expire: false
  users: [{{name: root, password: '{PASSWORD}'}}]
write_files:
- {{path: /etc/greeting, content: from-the-secret}}
runcmd:
- hostname >/etc/ran
"""
WHAT_IT_IS = (
    "cat /etc/greeting; echo; cat /etc/ran; getent shadow root | cut -d: -f2; hostname; "
    "ip -4 -o addr show dev eth0 | grep -o 'inet [^ ]*'"
)
AS_IT_SHOULD_BE = ["from-the-secret", NAME, PASSWORD, NAME, "inet", f"{ADDRESS}/24"]


def manifests(node: str) -> list[dict[str, Any]]:
    """All that it needs, and itself last. `node`: where its claim is."""
    meta = {"name": SECRET, "namespace": "default"}
    network = {
        "apiVersion": "kubexen.dev/v1alpha1", "kind": "XenNetwork", "metadata": {"name": NETWORK},
        "spec": {"bridge": "xenbr0", "namespaceSelector": {},
                 "addresses": [{"subnet": "192.0.2.0/24", "first": "192.0.2.2", "last": "192.0.2.254"}]},
    }  # fmt: skip
    boot = manifest()["spec"]["boot"]["direct"] | {"cmdline": "console=hvc0 quiet root=xvda"}
    return [
        network,
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"text": USER_DATA}},
        *volume(CLAIM, "Filesystem", local(DEBIAN_GUEST, node)),
        manifest(
            NAME, memory={"size": "384Mi", "max": "448Mi"}, boot={"direct": boot},
            disks=[{"name": "root", "claimName": CLAIM, "target": "xvda"}],
            interfaces=[{"name": "eth0", "network": NETWORK, "address": ADDRESS}],
            cloudInit={"userData": {"secretName": SECRET, "key": "text"}},
        ),
    ]  # fmt: skip
