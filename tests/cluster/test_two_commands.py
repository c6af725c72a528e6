"""The commands of the README on simulated hosts: `make demo` to its end, what it says where real hosts cannot be, and two stacks
that are up at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hack import needs
from hack.stack import __main__ as command
from hack.stack.stack import ROOT


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "-s", *arguments], cwd=ROOT, env=inherited | environment, capture_output=True, text=True, timeout=300
    )


def running(folder: Path) -> list[str]:
    """Commands of this machine's processes that have to do with a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def test_the_demo_shows_each_state_as_kubectl_and_the_host_tell_it_and_leaves_nothing(tmp_path: Path) -> None:
    done = make("demo", "DRIVER=sim", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    steps = dict(section.partition("\n")[::2] for section in done.stdout.split("\n==> "))

    def rows(step: str, *names: str) -> list[list[str]]:
        """What kubectl tells of these domains in the step of this title, and then the host, which puts the namespace before."""
        (text,) = (text for title, text in steps.items() if title.startswith(step))
        lines = (line.split() for line in text.splitlines() if line.strip())
        return [row for row in lines if row[0].removeprefix("default.").removeprefix("xendomain.kubexen.dev/") in names]

    assert [row[5] for row in rows("both domains are Ready", "tiny-pv", "tiny-pvh")[:2]] == ["Running", "Running"]
    assert len(rows("both domains are Ready", "tiny-pv", "tiny-pvh")) == 4
    assert [row[2] for row in rows("more memory for tiny-pv", "tiny-pv")] == ["160Mi", "160"]
    assert [row[4] for row in rows("pause tiny-pv", "tiny-pv")] == ["--p---", "--p---"]
    assert [row[1] for row in rows("let it run again, then halt it", "tiny-pv")] == ["Halted"]
    assert [row[0] for row in rows("delete tiny-pv", "tiny-pv", "tiny-pvh")] == ["default.tiny-pvh"]
    assert [row[0] for row in rows("drained after", "tiny-pvh")] == ["tiny-pvh", "default.tiny-pvh"]
    assert "done" in steps
    assert list(tmp_path.iterdir()) == []
    assert running(tmp_path) == []


def test_where_real_hosts_cannot_be_it_says_what_is_missing_and_what_to_do_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without root, and without QEMU."""
    monkeypatch.setattr(needs, "missing", lambda tools: ["qemu-system-x86"])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["hack.stack", "demo"])
    assert command.main() == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "make demo DRIVER=sim" in said and "these Debian packages" in said and "qemu-system-x86" in said
    assert "need root" in said


class FailingStack:
    """Its start fails, and its guest has said why."""

    nodes, driver, kubelets = 2, "xen", True

    def __init__(self, *_: object, **__: object) -> None:
        self.stopped = False

    def start(self, **_: object) -> None:
        raise RuntimeError("web is not Ready")

    def last_words(self) -> list[tuple[str, str]]:
        assert not self.stopped
        return [("console of default.web on xen1", "Kernel panic - not syncing")]

    def stop(self) -> None:
        self.stopped = True


def test_a_demo_that_fails_shows_what_hosts_and_guests_said_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "Stack", FailingStack)
    monkeypatch.setattr("sys.argv", ["hack.stack", "demo", "--driver", "sim"])
    assert command.main() == 1
    said = capsys.readouterr()
    assert "console of default.web on xen1\nKernel panic - not syncing\n" in said.out
    assert said.err == "error: web is not Ready\n"


@pytest.fixture
def states(tmp_path: Path) -> Iterator[list[Path]]:
    """Folders for two stacks, which are ended whatever happens."""
    found = [tmp_path / "one", tmp_path / "two"]
    yield found
    for state in found:
        if state.exists():
            make("down", f"STATE={state}")
    assert running(tmp_path) == []


def test_two_stacks_are_up_at_once_and_each_ends_alone(states: list[Path]) -> None:
    with ThreadPoolExecutor() as pool:
        ups = list(pool.map(lambda state: make("up", "DRIVER=sim", "NODES=1", f"STATE={state}"), states))
    for state, up in zip(states, ups, strict=True):
        assert up.returncode == 0, up.stderr
        assert f'eval "$(make -s env STATE={state})"' in up.stdout
        assert shell(state, f"kubectl create namespace of-{state.name} && kubectl xen doctor --help").returncode == 0
    one, two = states
    assert shell(one, "kubectl get ns of-one && ! kubectl get ns of-two").returncode == 0
    assert shell(two, "kubectl get ns of-two && ! kubectl get ns of-one").returncode == 0

    assert make("down", f"STATE={one}").returncode == 0
    assert not one.exists() and running(one) == []
    assert make("env", f"STATE={one}").stderr.startswith(f"error: nothing was started in {one}: make up STATE={one}")
    assert shell(two, "kubectl wait xhost/xen1 --for=condition=Ready --timeout=60s").returncode == 0
    assert make("down", f"STATE={two}").returncode == 0
    assert not two.exists()


def shell(state: Path, line: str) -> subprocess.CompletedProcess[str]:
    """What a user types after `make up`."""
    script = f'eval "$(make -s env STATE={state})" && {line}'
    return subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_stack_ends_with_the_process_that_started_it_however_that_ends(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from hack.stack.stack import Stack
Stack(Path({str(tmp_path / "state")!r}), "sim", nodes=1).start()
print("up", flush=True)
input()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == "up\n"
        assert any("kubexen.agent" in command for command in running(tmp_path))
        owner.kill()
    end = time.monotonic() + 60
    while left := running(tmp_path):
        assert time.monotonic() < end, left
        time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []
