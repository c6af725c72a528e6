"""What a machine must have to build and run the lab; installed with apt-get where that is possible.

Called by the build before its first step and by the lab before it starts a host. It does not look at versions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from hack.xenlab.progress import step

RUN = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "ssh": "openssh-client",
}
BUILD = RUN | {
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    "ssh-keygen": "openssh-client",
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
        raise MissingTools(f"the Xen lab needs these Debian packages: {' '.join(packages)}")
    with step("install " + " ".join(packages)):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *packages]):
            done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True)
            if done.returncode != 0 and command[0] == "install":
                raise MissingTools(f"apt-get could not install {' '.join(packages)}: {done.stderr.strip()[-400:]}")
    if still := missing(tools):
        raise MissingTools(f"still missing after apt-get: {' '.join(still)}")
