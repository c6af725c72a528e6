"""The life of a control plane: its components stop and come back, several run at once, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hack.cluster import Cluster, ComponentFailed
from hack.cluster.cluster import COMPONENTS, REPOSITORY
from hack.cluster.process import Process


def wait_ended(cluster: Cluster) -> None:
    for name in COMPONENTS:
        assert Process(name, cluster.state).wait_ended(20), name


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hack.cluster", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("kill", [False, True], ids=["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_comes_back_with_its_port_and_its_data(
    cluster: Cluster, namespace: str, component: str, kill: bool
) -> None:
    server, pid = cluster.server, cluster.pid(component)

    cluster.stop_component(component, kill=kill)
    assert not cluster.healthy(component)
    assert list(cluster.ended()) == [component]
    cluster.start_component(component)

    assert cluster.pid(component) not in (None, pid)
    assert cluster.server == server
    assert cluster.api.get(f"/api/v1/namespaces/{namespace}")["status"]["phase"] == "Active"


def test_a_component_that_hangs_answers_again_when_it_goes_on(cluster: Cluster) -> None:
    cluster.pause_component("kube-apiserver")
    assert not cluster.healthy("kube-apiserver")
    cluster.resume_component("kube-apiserver")
    assert cluster.healthy("kube-apiserver")


def test_the_command_brings_up_a_second_cluster_and_ends_it(cluster: Cluster, tmp_path: Path) -> None:
    state = str(tmp_path / "second")
    try:
        up = run("up", "--state", state)
        assert up.returncode == 0, up.stderr
        assert "control plane ready in" in up.stdout
        second = Cluster(state)
        assert second.server != cluster.server
        assert run("status", "--state", state).returncode == 0

        second.stop_component("kwok", kill=True)
        status = run("status", "--state", state)
        assert status.returncode == 1
        assert [line.split()[:2] for line in status.stdout.splitlines()][-1] == ["kwok", "stopped"]
        assert run("up", "--state", state).returncode == 0
        assert run("status", "--state", state).returncode == 0

        script = f'eval "$({sys.executable} -m hack.cluster env --state {state})" && kubectl get --raw /readyz'
        shell = subprocess.run(["sh", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
        assert shell.stdout == "ok", shell.stderr

        second.stop_component("kube-apiserver", kill=True)
    finally:
        down = run("down", "--delete", "--state", state)
    assert down.returncode == 0, down.stderr
    assert not Path(state).exists()
    assert cluster.healthy("kube-apiserver")


def test_a_cluster_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = f"from hack.cluster import Cluster; Cluster({str(tmp_path)!r}).start(); print('up', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == "up\n"
        left = Cluster(tmp_path)
        assert left.ended() == {}
        os.kill(owner.pid, signal.SIGKILL)
    wait_ended(left)


def test_a_component_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text("profiles: [{schedulerName: broken, plugins: {score: {enabled: [{name: NoSuchPlugin}]}}}]")
    broken = Cluster(tmp_path / "state", profiles=profiles)
    with pytest.raises(ComponentFailed, match=r"(?s)kube-scheduler ended at its start.*NoSuchPlugin"):
        broken.start()
    assert set(broken.ended()) == set(COMPONENTS)
