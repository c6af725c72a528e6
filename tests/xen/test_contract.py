"""The drivers' one suite over the real driver, in dom0: the same tests that run over the simulator.

On two hosts whose agents are stopped, each with a share of the test files.
"""

from __future__ import annotations

import importlib.util
import io
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hack.stack.stack import ROOT
from hack.xenlab.host import XenHost
from hack.xenlab.lab import Lab

PYTEST = ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments")
FOLDER = "/opt/kubexen/contract"
SUITE = ROOT / "tests/contract"
FIRST_SHARE = {"test_end.py", "test_events.py", "test_memory.py", "test_pause.py"}  # takes about as long as the others
OPTIONS = (
    "--driver xen:///system --timeout-each 120 --kernel /srv/images/vmlinux --initrd /srv/images/initrd.gz "
    "--bridge xenbr0 --cmdline 'console=hvc0 quiet hb=1' --disk-dir /srv/pool"
)


@pytest.fixture
def hosts(lab: Lab) -> Iterator[list[XenHost]]:
    """Left alone: an agent would tell of every domain that is not its own."""
    for host in lab.hosts:
        host.stop_agent()
    yield lab.hosts
    for host in lab.hosts:
        host.start_agent()


@pytest.mark.long
def test_the_contract_on_real_xen(hosts: list[XenHost], tmp_path: Path) -> None:
    archive = tmp_path / "contract.tar.gz"
    archive.write_bytes(bundle())
    files = {path.name for path in SUITE.glob("test_*.py")}
    assert files > FIRST_SHARE
    with ThreadPoolExecutor(len(hosts)) as pool:
        outputs = list(pool.map(lambda host, share: run(host, archive, share), hosts, (FIRST_SHARE, files - FIRST_SHARE)))
    for host, (code, output) in zip(hosts, outputs, strict=True):
        print(f"--- {host.name}\n{output[-6000:]}")
        assert code == 0, f"the suite failed on {host.name}"
        assert re.search(r"\b[1-9][0-9]* passed", output)


def run(host: XenHost, archive: Path, files: set[str]) -> tuple[int, str]:
    """Run these files of the suite in dom0; pytest's exit code and output."""
    host.install_source(ROOT / "operator")
    host.ssh(f"rm -rf {FOLDER}; mkdir -p {FOLDER}")
    host.put(archive, "/root/contract.tar.gz")
    host.ssh(f"tar -C {FOLDER} -xzf /root/contract.tar.gz")
    paths = " ".join(f"tests/contract/{name}" for name in sorted(files))
    done = host.ssh(
        f"cd {FOLDER} && PYTHONPATH={FOLDER}:{FOLDER}/lib:/opt/kubexen/src python3 -m pytest -q -p no:cacheprovider "
        f"{paths} {OPTIONS} 2>&1",
        check=False, timeout=1500,
    )
    return done.returncode, done.stdout


def bundle() -> bytes:
    """The suite, and pytest for dom0's own Python."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        tar.add(ROOT / "tests/__init__.py", "tests/__init__.py")
        for file in sorted(SUITE.glob("*.py")):
            tar.add(file, f"tests/contract/{file.name}")
        for name in PYTEST:
            spec = importlib.util.find_spec(name)
            assert spec is not None and spec.origin is not None
            origin = Path(spec.origin)
            if origin.name != "__init__.py":
                tar.add(origin, f"lib/{origin.name}")
                continue
            tar.add(origin.parent, f"lib/{name}",
                    filter=lambda info: None if "__pycache__" in info.name else info)
    return buffer.getvalue()
