"""What `helm test` runs, with the rights of its account: it finds a whole installation good, and names what a broken one lacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hack.stack.hosts import ROOT
from hack.stack.stack import AGENTS, NAMESPACE
from tests.cluster.tenant import Tenant, until


@pytest.fixture
def kubeconfig(tenant: Tenant, tmp_path: Path) -> Path:
    """For a stack that is found good: where a test before has cost the controller its lead, nobody leads for half a minute."""
    cluster = tenant.stack.cluster
    path = tmp_path / "kubeconfig"
    path.write_text(cluster.kubeconfig_for(cluster.service_account_token(NAMESPACE, "kubexen-test"), "127.0.0.1"))
    until(lambda: check(path)[0] == 0)
    return path


def check(kubeconfig: Path) -> tuple[int, list[str]]:
    """The exit code, and the lines that are bad."""
    command = [sys.executable, "-m", "kubexen.cli.installed", "--kubeconfig", str(kubeconfig),
               "--namespace", NAMESPACE, "--agent-namespace", AGENTS]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "operator")})
    assert done.stdout.count("\n") > 10, done.stderr
    return done.returncode, [line for line in done.stdout.splitlines() if line.startswith("BAD")]


def test_a_whole_installation_is_good(tenant: Tenant, kubeconfig: Path) -> None:
    assert check(kubeconfig) == (0, [])


def test_a_node_without_an_agent_is_named(tenant: Tenant, kubeconfig: Path) -> None:
    tenant.stack.cluster.add_node("bare", labels={"kubexen.dev/xen": "true"})
    try:
        code, bad = check(kubeconfig)
        assert code == 1
        assert [line for line in bad if "bare" not in line] == []
        assert "no XenHost bare" in "\n".join(bad)
    finally:
        tenant.stack.cluster.delete_node("bare")


def test_a_controller_that_is_away_is_named(tenant: Tenant, kubeconfig: Path) -> None:
    tenant.stack.controller.stop()
    try:
        code, bad = until(lambda: (found := check(kubeconfig))[0] and found)
        assert code == 1
        assert "the controller" in "\n".join(bad)
    finally:
        tenant.stack.start_controller()
