"""What a machine must have for each part of hack/; installed with apt-get where that is possible.

Called by the part before its first step. It does not look at versions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from hack.progress import step

# A tool is a command, or a file's path: the package that brings it.
LAB = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "ssh": "openssh-client",
}
LAB_BUILD = LAB | {
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    "ssh-keygen": "openssh-client",
}
IMAGE = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}
CNI = "/usr/lib/cni"
NODE = {
    "runc": "runc",
    f"{CNI}/bridge": "containernetworking-plugins",
    f"{CNI}/host-local": "containernetworking-plugins",
    "ip": "iproute2",
    "nsenter": "util-linux",
}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class MissingTools(RuntimeError):
    """Something is missing that this process cannot install."""


def missing(tools: Mapping[str, str]) -> list[str]:
    """The Debian packages of the tools that are not on this machine."""
    path = os.environ.get("PATH", "") + ":" + SYSTEM_PATH  # a user's PATH often lacks the sbin folders
    return sorted({package for tool, package in tools.items() if not shutil.which(tool, path=path)})


def ensure(tools: Mapping[str, str]) -> None:
    """Install the missing tools, or raise MissingTools with one line that names them."""
    packages = missing(tools)
    if not packages:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise MissingTools(f"these Debian packages are missing: {' '.join(packages)}")
    with step("install " + " ".join(packages)):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *packages]):
            done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True)
            if done.returncode != 0 and command[0] == "install":
                raise MissingTools(f"apt-get could not install {' '.join(packages)}: {done.stderr.strip()[-400:]}")
    if still := missing(tools):
        raise MissingTools(f"still missing after apt-get: {' '.join(still)}")
