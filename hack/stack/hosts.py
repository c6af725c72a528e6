"""The hosts of a stack: simulated ones, each a folder and an agent process, or real ones of the Xen lab.

Both offer the same few things, so that the demo and the tests need not know which they have.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Protocol

from hack.cluster.process import Process
from hack.xenlab.lab import Lab

ROOT = Path(__file__).resolve().parents[2]
BRIDGE = "xenbr0"
KERNEL_FILES = ("vmlinuz", "vmlinux", "initrd.gz")


class Host(Protocol):
    name: str

    def start_agent(self, kubeconfig: str) -> None:
        """Start the agent with this kubeconfig (its text)."""

    def stop_agent(self) -> None: ...

    def kill_agent(self) -> None: ...

    def agent_log(self, lines: int = 60) -> str: ...

    def xl_list(self) -> str:
        """What `xl list` prints on the host."""

    def reboot(self) -> None:
        """Pull the plug and boot again. The agent comes back by itself."""

    def files(self, path: str) -> list[str]:
        """The files below a path of the host."""


class SimulatedHost:
    """A host of the simulator: a folder that stands for its file system, and an agent on this machine."""

    api_server = "127.0.0.1"

    def __init__(self, folder: Path, name: str, shared: Path, options: str = "", full_look: float = 5.0) -> None:
        self.name, self.root, self._full_look = name, folder, full_look
        self.uri = f"sim://{folder / 'xen'}{'?' + options if options else ''}"
        self.agent = Process("agent", folder)
        if (folder / "xen").exists():
            return
        setup = ("sys/hypervisor", "etc/systemd/system", "etc/xen")
        for path in ("srv/images", "srv/pool", f"sys/class/net/{BRIDGE}/bridge", "xen", *setup):
            (folder / path).mkdir(parents=True)
        (folder / "sys/hypervisor/type").write_text("xen\n")
        (folder / "etc/xen/xl.conf").write_text('autoballoon="off"\n')
        shared.mkdir(parents=True, exist_ok=True)
        (folder / "srv/shared").symlink_to(shared)
        for file in KERNEL_FILES:
            (folder / "srv/images" / file).write_text("nothing boots here\n")

    def start_agent(self, kubeconfig: str) -> None:
        config = self.root / "kubeconfig"
        config.write_text(kubeconfig)
        config.chmod(0o600)
        self._run()

    def _run(self) -> None:
        self.agent.start(
            [sys.executable, "-m", "kubexen.agent", "--node", self.name, "--driver", self.uri, "--root", str(self.root),
             "--kubeconfig", str(self.root / "kubeconfig"), "--full-look", str(self._full_look)],
            {"PYTHONPATH": f"{ROOT / 'operator'}", "TMPDIR": str(self.root)},
        )

    def stop_agent(self) -> None:
        self.agent.stop()

    def kill_agent(self) -> None:
        self.agent.stop(kill=True)

    def restart_agent(self) -> None:
        self.agent.stop()
        self._run()

    def agent_log(self, lines: int = 60) -> str:
        return self.agent.log_tail(lines)

    def xl_list(self) -> str:
        return self.sim("list")

    def sim(self, *arguments: str) -> str:
        """Play the guest or the administrator: `list`, `poweroff NAME`, `crash NAME`, `destroy NAME`, ..."""
        done = subprocess.run(
            [sys.executable, "-m", "kubexen.hypervisor.drivers.sim", str(self.root / "xen"), *arguments],
            capture_output=True, text=True, check=True, env={"PYTHONPATH": f"{ROOT / 'operator'}"},
        )
        return done.stdout

    def reboot(self) -> None:
        self.agent.stop(kill=True)
        self.sim("reboot-host")
        self._run()

    def stop(self) -> None:
        self.agent.stop()

    def files(self, path: str) -> list[str]:
        base = (self.root / path.lstrip("/")).resolve()
        return sorted(str(p.relative_to(base)) for p in base.rglob("*") if p.is_file())


class XenLabHost:
    """A real Xen host of the lab; its agent runs in dom0."""

    api_server = "10.0.2.2"  # this machine, seen from a host under QEMU

    def __init__(self, lab: Lab, number: int) -> None:
        self.host = lab.host(number)
        self.name = self.host.name

    def start_agent(self, kubeconfig: str) -> None:
        self.host.install_agent(ROOT / "operator", kubeconfig, "--full-look 10")

    def stop_agent(self) -> None:
        self.host.stop_agent()

    def kill_agent(self) -> None:
        self.host.kill_agent()

    def restart_agent(self) -> None:
        self.host.restart_agent()

    def agent_log(self, lines: int = 60) -> str:
        return self.host.agent_log(lines)

    def xl_list(self) -> str:
        return self.host.ssh("xl list").stdout

    def reboot(self) -> None:
        self.host.reboot()

    def files(self, path: str) -> list[str]:
        return sorted(self.host.ssh(f"cd {path} && find . -type f -printf '%P\\n'").stdout.split())
