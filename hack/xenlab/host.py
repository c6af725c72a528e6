"""One Xen host under QEMU: power, ssh, consoles, and the agent in its dom0.

Made by a Lab, which knows of the wire and the other hosts. Every method may be called again. Nothing here knows of
Kubernetes.
"""

from __future__ import annotations

import io
import json
import os
import py_compile
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hack.xenlab.build import DOM0_PYTHON, Image
from hack.xenlab.monitor import Monitor

MACHINE = "10.0.2.2"  # how a dom0 reaches 127.0.0.1 of the machine that the lab runs on
GUEST_LOGS = "/var/log/xen/console"
GUEST_UP = "guest up"  # what every guest of the lab says on its console when it has booted
SOURCE = "/opt/kubexen/src"  # where the agent's own code is in dom0
FORWARDED = {"ssh": 22, "kubelet": 10250}  # ports of dom0 that this machine reaches
AGENT = "kubexen-agent.service"
ACCEL = os.environ.get("XENLAB_ACCEL", "tcg")
# smap=off: TCG of QEMU < 9.1 faults on a ring-3 IRET under SMAP, which kills a PV dom0.
# rdtscp=off: guests then need no tsc_mode setting.
# erms=off, fsrm=off: TCG copies by the byte where Linux is told that `rep movsb` is fast.
# xsave=off, and with it AVX: what TCG does of it in helpers is slower than SSE, and so is to save it.
EMULATED_CPU = "max,smap=off,rdtscp=off,erms=off,fsrm=off,xsave=off,avx=off,avx2=off,fma=off,f16c=off,vaes=off,vpclmulqdq=off"
# TCG looks its blocks up in a table of its heap at each switch of address spaces: large pages make that cheaper.
QEMU_ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
DOM0_MEMORY = "1536M"  # with a kubelet and its pods in it; 500 MiB less would do for an agent alone
# A kubelet looks through the directories of each controller every 2 s, which is a quarter of an idle one's CPU time.
UNUSED_CONTROLLERS = "hugetlb,io,misc,rdma"
EXTRA_DISK = "8G"  # of which a file that it begins as may be less
READY = "until systemctl start libvirtd.service {share}; do sleep 1; done && virsh -q -c xen:///system version >/dev/null"


class HostError(RuntimeError):
    """A host did not come up, or a command in it failed; the message ends with what it printed."""


@dataclass(frozen=True)
class XenHost:
    """A host's handle; what there is to remember is in its folder."""

    number: int
    hosts: int
    folder: Path
    run: Path  # a folder with a short path, for sockets
    image: Image
    shared_disk: Path
    wire_port: int
    memory: str
    extra_disk: str  # a file, or ''
    cpus: int

    @property
    def name(self) -> str:
        """dom0's host name."""
        return f"xen{self.number}"

    @property
    def address(self) -> str:
        """dom0's address on the wire."""
        return f"10.77.0.{self.number}"

    @property
    def control(self) -> Path:
        """ssh's control socket."""
        return self.run / f"ssh{self.number}"

    @property
    def monitor(self) -> Monitor:
        """Of its QEMU."""
        return Monitor(self.run / f"qmp{self.number}")

    @property
    def disk(self) -> Path:
        """dom0's own changes to the image's disk."""
        return self.folder / "root.qcow2"

    @property
    def own_extra_disk(self) -> Path:
        """dom0's own changes to the extra disk."""
        return self.folder / "extra.qcow2"

    def port(self, name: str) -> int:
        """The port of this machine's loopback that leads to one of dom0's: see FORWARDED."""
        return int((self.folder / f"{name}-port").read_text())

    # --- power

    @property
    def alive(self) -> bool:
        """Whether its QEMU runs."""
        try:
            pid = int((self.folder / "pid").read_text())
            return str(self.folder) in Path(f"/proc/{pid}/cmdline").read_text()
        except (OSError, ValueError):
            return False

    def start(self, memory: Path | None = None) -> None:
        """Power on, with the disk as it was left. Returns before the host has booted.

        With the `memory` of a host that was saved (monitor.py) it stands, in a while, where that one stood.
        """
        if self.alive:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        _overlay(self.disk, str(self.image.disk))
        _overlay(self.own_extra_disk, self.extra_disk, EXTRA_DISK)
        for _ in range(5):  # another process can take the free port before QEMU does
            ports = [self.folder / f"{name}-port" for name in FORWARDED]
            for port in ports:
                if not port.exists():
                    port.write_text(str(_free_port()))
            environment = os.environ | QEMU_ENVIRONMENT
            done = subprocess.run(self._qemu(memory), env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if done.returncode == 0:
                return
            for port in ports:
                port.unlink()
        raise HostError(f"{self.name}: QEMU did not start: {done.stderr.strip()}")

    def stop(self) -> None:
        """Power off as if the plug was pulled."""
        if self.alive:
            os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)
            while self.alive:
                time.sleep(0.02)
        (self.folder / "pid").unlink(missing_ok=True)
        self.control.unlink(missing_ok=True)

    def reboot(self, timeout: float = 600) -> None:
        """Lose power and boot again from the same disk; returns when the host is ready."""
        self.stop()
        self.start()
        self.wait(timeout)

    def wait(self, timeout: float = 600, share: bool = True) -> None:
        """Wait for ssh, libvirt and (it needs host 1) the share."""
        deadline = time.monotonic() + timeout
        # One connection stays open and carries all commands: on an emulated CPU the handshake takes seconds.
        command = ["ssh", *self._ssh_options(), "-o", "ControlMaster=yes", "-fN", "root@127.0.0.1"]
        with open(self.folder / "ssh.log", "wb") as log:
            while subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode != 0:
                if not self.alive or time.monotonic() > deadline:
                    state = "did not boot in time" if self.alive else "went down"
                    raise HostError(f"{self.name} {state}; the end of its console:\n{self.console_tail()}")
                time.sleep(0.5)
        left = max(10.0, deadline - time.monotonic())
        self.ssh(READY.format(share="xenlab-share.service" if share else ""), timeout=left)
        self.ssh(f"date -s @{time.time()}")  # a host that was saved stood still

    def boot_id(self) -> str:
        """Linux's id of dom0's current boot."""
        return self.ssh("cat /proc/sys/kernel/random/boot_id").stdout.strip()

    @property
    def emulated(self) -> bool:
        """Whether QEMU translates what its CPUs run."""
        return ACCEL.startswith("tcg")

    @property
    def platform(self) -> tuple[str, ...]:
        """What QEMU is told of accelerator and CPU."""
        accel = "tcg,thread=multi,tb-size=512" if ACCEL == "tcg" else ACCEL
        cpu = os.environ.get("XENLAB_CPU", EMULATED_CPU if self.emulated else "host")
        return ("-accel", accel, "-cpu", cpu)

    def _qemu(self, memory: Path | None) -> list[str]:
        # Hosts boot one image: without an id each, libvirt would take a move for one to itself, and systemd would
        # give all bridges one MAC address.
        uuid = f"00000000-0000-4000-8000-{self.number:012x}"
        dom0 = (
            f"console=hvc0 root=/dev/vda rw net.ifnames=0 xenlab.host={self.number} xenlab.hosts={self.hosts} "
            f"systemd.hostname={self.name} systemd.machine_id={uuid.replace('-', '')} "
            f"mitigations=off loglevel=5 systemd.show_status=0 cgroup_disable={UNUSED_CONTROLLERS}"
        )
        xen = (
            f"com1=115200 console=com1 bootscrub=0 dom0_mem={DOM0_MEMORY},max:{DOM0_MEMORY} dom0_max_vcpus={self.cpus} "
            "spec-ctrl=no,eager-fpu"
        )
        initrd = f"{_comma(self.image.vmlinux)} {_comma(dom0)},{_comma(self.image.dom0_initrd)}"
        mac = f"{self.number:02x}"
        forwards = ",".join(f"hostfwd=tcp:127.0.0.1:{self.port(name)}-:{port}" for name, port in FORWARDED.items())
        return [
            *("qemu-system-x86_64", "-name", self.name, "-uuid", uuid, "-nodefaults", "-no-reboot"),
            *self.platform,
            *("-smp", str(self.cpus), "-m", self.memory),
            *("-display", "none", "-daemonize", "-pidfile", str(self.folder / "pid")),
            *("-qmp", f"unix:{_comma(self.monitor.socket)},server=on,wait=off"),
            *(("-incoming", f"exec:cat {shlex.quote(str(memory))}") if memory else ()),
            *("-chardev", f"file,id=console,append=on,path={_comma(self.folder / 'console')}"),
            *("-serial", "chardev:console"),
            *("-kernel", str(self.image.xen), "-append", xen, "-initrd", initrd),
            # cache=unsafe: what the guest flushes reaches this machine's page cache, which outlives QEMU, but no disk.
            *("-drive", f"if=none,id=root,file={_comma(self.disk)},cache=unsafe"),
            *("-device", "virtio-blk-pci,drive=root"),
            # A raw disk that all hosts share.
            *("-drive", f"if=none,id=shared,file={_comma(self.shared_disk)},format=raw,file.locking=off"),
            *("-device", "virtio-blk-pci,drive=shared,share-rw=on"),
            *("-drive", f"if=none,id=extra,file={_comma(self.own_extra_disk)},cache=unsafe"),
            *("-device", "virtio-blk-pci,drive=extra"),
            *("-netdev", f"user,id=n0,{forwards}"),
            *("-device", f"virtio-net-pci,netdev=n0,mac=52:54:00:77:00:{mac},romfile="),
            *("-netdev", f"socket,id=n1,connect=127.0.0.1:{self.wire_port}"),
            *("-device", f"virtio-net-pci,netdev=n1,mac=52:54:00:77:01:{mac},romfile="),
        ]

    # --- commands and files

    def _ssh_options(self) -> list[str]:
        options = {
            "IdentityFile": self.image.key,
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ConnectTimeout": 15,
            "ServerAliveInterval": 20,
            "ServerAliveCountMax": 6,
            "ControlPath": self.control,
            "Port": self.port("ssh"),
        }
        return ["-F", "none", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]

    def ssh_command(self, *command: str) -> list[str]:
        """The command line that runs a shell command in dom0, for those who want the process themselves."""
        return ["ssh", *self._ssh_options(), "root@127.0.0.1", *command]

    def ssh(
        self, command: str, *, input: str | bytes | None = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command in dom0 as root."""
        data = (input or "").encode() if not isinstance(input, bytes) else input
        raw = subprocess.run(self.ssh_command(command), input=data, capture_output=True, timeout=timeout)
        printed = [stream.decode(errors="replace") for stream in (raw.stdout, raw.stderr)]
        done = subprocess.CompletedProcess(raw.args, raw.returncode, *printed)
        if check and done.returncode != 0:
            output = (done.stdout + done.stderr).strip()[-2000:]
            raise HostError(f"{self.name}: `{command[:300]}` ended with {done.returncode}: {output}")
        return done

    def until(self, command: str, timeout: float = 60) -> None:
        """Wait until a shell command in dom0 succeeds; it is tried ever less often, for it takes the CPU of what is waited for."""
        loop = f"n=1; until {command}; do sleep $n; [ $n -ge 3 ] || n=$((n + 1)); done >/dev/null 2>&1"
        done = self.ssh(f"timeout {timeout} sh -c {shlex.quote(loop)}", check=False, timeout=timeout + 60)
        if done.returncode != 0:
            raise HostError(f"{self.name}: in {timeout} s this did not come true: {command}")

    def follow(self, command: str, pattern: str, timeout: float = 60) -> str:
        """The first line for which awk's pattern is true, of what a command that does not end prints in dom0.

        To look through it again and again takes an emulated CPU from what is waited for. awk is to take each line as it comes,
        and not to wait until it has read enough.
        """
        program = f"{pattern} {{ print; found = 1; exit }} END {{ exit !found }}"
        lines = f"<(exec {command} </dev/null 2>/dev/null)"
        script = f"mawk -W interactive {shlex.quote(program)} < {lines}; found=$?; kill $!; exit $found"
        done = self.ssh(f"timeout {timeout} bash -c {shlex.quote(script)}", check=False, timeout=timeout + 60)
        if done.returncode != 0:
            raise HostError(f"{self.name}: in {timeout} s `{command}` did not print what awk finds by {pattern}")
        return done.stdout

    def put(self, source: Path | str, target: str) -> None:
        """Copy a file or a folder to this path in dom0."""
        source = Path(source)
        with tempfile.TemporaryFile() as packed:
            with tarfile.open(fileobj=packed, mode="w") as tar:
                tar.add(source, arcname="item")
            packed.seek(0)
            quoted = shlex.quote(target)
            unpack = (
                f"set -e; t=$(mktemp -d -p $(dirname {quoted})); tar x -C $t --no-same-owner; "
                f"rm -rf {quoted}; mv $t/item {quoted}; rmdir $t"
            )
            done = subprocess.run(self.ssh_command(unpack), stdin=packed, capture_output=True, text=True)
        if done.returncode != 0:
            raise HostError(f"{self.name}: put {source} {target}: {done.stderr.strip()}")

    def write(self, target: str, text: str, mode: int = 0o644) -> None:
        """Write a small text file in dom0."""
        self.write_all({target: text}, mode)

    def write_all(self, files: Mapping[str, str], mode: int = 0o644) -> None:
        """Write small text files in dom0, by their paths. Each connection costs a second of an emulated CPU, so it is one."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for target, text in files.items():
                item = tarfile.TarInfo(target.lstrip("/"))
                item.size, item.mode = len(text.encode()), mode
                tar.addfile(item, io.BytesIO(text.encode()))
        self.ssh("tar x -C / --no-same-owner", input=packed.getvalue())

    def get(self, source: str, target: Path | str) -> None:
        """Copy a file or a folder from dom0 to this path."""
        target = Path(target)
        quoted = shlex.quote(source)
        command = f"tar c -C $(dirname {quoted}) $(basename {quoted})"
        with tempfile.TemporaryFile() as packed, tempfile.TemporaryDirectory(dir=target.parent) as folder:
            done = subprocess.run(self.ssh_command(command), stdout=packed, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                raise HostError(f"{self.name}: get {source}: {done.stderr.strip()}")
            packed.seek(0)
            with tarfile.open(fileobj=packed) as tar:
                tar.extractall(folder, filter="data")
            os.replace(next(Path(folder).iterdir()), target)

    # --- consoles

    def console_tail(self, lines: int = 40) -> str:
        """The last lines of the host's own console: Xen, dom0's kernel."""
        try:
            text = (self.folder / "console").read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def guest_console_tail(self, domain: str, lines: int = 80) -> str:
        """The last lines that a guest (by its domain's name) wrote to its console; '' if it wrote none.

        A kernel's panic takes about 40 lines, and its reason is in the first of them.
        """
        log = shlex.quote(f"{GUEST_LOGS}/guest-{domain}.log")
        return self.ssh(f"[ ! -e {log} ] || tail -n {lines} {log}").stdout.replace("\r", "")

    def guest_consoles(self) -> list[str]:
        """The names of the domains that have a console log."""
        names = self.ssh(f"ls {GUEST_LOGS}").stdout.split()
        return [name.removeprefix("guest-").removesuffix(".log") for name in names if name.startswith("guest-")]

    def guest_wait(self, domain: str, text: str, count: int = 1, timeout: float = 300) -> str:
        """Wait until this text is on so many lines of a guest's console log, which domains of one name share: the last of them."""
        log = shlex.quote(f"{GUEST_LOGS}/guest-{domain}.log")
        try:
            return self.follow(f"tail -n +1 -F {log}", f"index($0, {json.dumps(text)}) && ++count == {count}", timeout)
        except HostError:
            tail = self.guest_console_tail(domain)
            raise HostError(f"{self.name}: no {text!r} from {domain}; the end of its console:\n{tail}") from None

    def guest_run(self, domain: int | str, command: str) -> None:
        """Type a command (poweroff, reboot, crash, ...) into the console of a guest of the lab, by domid or name."""
        domid = str(domain) if isinstance(domain, int) else f"$(xl domid {shlex.quote(domain)})"
        self.ssh(f"echo {shlex.quote(command)} >$(xenstore-read /local/domain/{domid}/console/tty)")

    def guest_output(self, domain: str, command: str, timeout: float = 30) -> str:
        """Run a command in a guest of the lab through its console, and return what it printed (newlines as spaces)."""
        mark = secrets.token_hex(4)
        self.guest_run(domain, f"echo {mark} $({command}) end")
        line = self.guest_wait(domain, mark, timeout=timeout)
        return line.partition(f"{mark} ")[2].rpartition(" end")[0].strip()

    # --- the agent

    def install_source(self, source_dir: Path | str) -> None:
        """Put the folder `kubexen` of source_dir into dom0."""
        new = f"{SOURCE}.new"
        unpack = f"rm -rf {new} && mkdir -p {new} && tar xz -C {new}"
        self.ssh(f"{unpack} && rm -rf {SOURCE} && mv {new} {SOURCE}", input=_packed(Path(source_dir) / "kubexen"))

    def install_agent(self, source_dir: Path | str, kubeconfig_text: str, args: str = "") -> None:
        """Put the agent into dom0, with its settings, and (re)start it.

        The API server's address in the kubeconfig must be one that dom0 reaches: see MACHINE.
        """
        self.install_source(source_dir)
        self.write("/etc/kubexen/agent.env", f'KUBEXEN_AGENT_ARGS="{args}"\n')
        self.write("/etc/kubexen/kubeconfig", kubeconfig_text, mode=0o600)
        self.restart_agent()

    def start_agent(self) -> None:
        self.ssh(f"systemctl reset-failed {AGENT}; systemctl start {AGENT}")

    def stop_agent(self) -> None:
        """Stop the agent; domains run on."""
        self.ssh(f"systemctl stop {AGENT}")

    def restart_agent(self) -> None:
        self.ssh(f"systemctl reset-failed {AGENT}; systemctl restart {AGENT}")

    def kill_agent(self) -> None:
        """SIGKILL; systemd starts it again after a second."""
        self.ssh(f"systemctl kill --kill-whom=main -s KILL {AGENT}")

    def agent_log(self, lines: int = 100) -> str:
        """The last lines of the agent's journal, of earlier boots too."""
        return self.ssh(f"journalctl -u {AGENT} -n {lines} --no-pager -o short-iso").stdout


def _overlay(disk: Path, base: str, *size: str) -> None:
    """Make a host's own disk, which begins as the file `base`, or empty."""
    if not disk.exists():
        begin = ("-F", "raw", "-b", base) if base else ()
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *begin, str(disk), *size], check=True)


def _comma(text: Path | str) -> str:
    """A path, or a text, inside a QEMU option, where a comma separates."""
    return str(text).replace(",", ",,")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _packed(package: Path) -> bytes:
    """A Python package as a tar file, compiled where this Python's byte code is dom0's (compiling is slow there)."""
    compiled = sys.version_info[:2] == tuple(map(int, DOM0_PYTHON.split(".")))
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w:gz", compresslevel=1) as tar, tempfile.TemporaryDirectory() as folder:
        for path in sorted(package.rglob("*")):
            if "__pycache__" in path.parts or not path.is_file():
                continue
            name = str(path.relative_to(package.parent))
            tar.add(path, arcname=name)
            if compiled and path.suffix == ".py":
                code = py_compile.compile(str(path), cfile=f"{folder}/code", dfile=f"{SOURCE}/{name}", doraise=True)
                cached = Path(name).parent / "__pycache__" / f"{path.stem}.cpython-{DOM0_PYTHON.replace('.', '')}.pyc"
                tar.add(str(code), arcname=str(cached))
    return output.getvalue()
