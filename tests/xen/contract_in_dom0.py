"""The drivers' one suite over the real driver, in a dom0: the same tests that run over the simulator."""

from __future__ import annotations

import importlib.util
import io
import re
import tarfile
from pathlib import Path

from hack.stack.stack import ROOT
from hack.xenlab.lab import Lab

PYTEST = ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments")
FOLDER = "/opt/kubexen/contract"


def bundle() -> bytes:
    """The suite, and pytest for dom0's own Python."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        tar.add(ROOT / "tests/__init__.py", "tests/__init__.py")
        for file in sorted((ROOT / "tests/contract").glob("*.py")):
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


def test_the_contract_on_real_xen(lab: Lab, tmp_path: Path) -> None:
    host = lab.host(2)
    archive = tmp_path / "contract.tar.gz"
    archive.write_bytes(bundle())
    host.ssh(f"rm -rf {FOLDER}; mkdir -p {FOLDER}")
    host.put(archive, "/root/contract.tar.gz")
    host.ssh(f"tar -C {FOLDER} -xzf /root/contract.tar.gz")
    host.stop_agent()
    try:
        done = host.ssh(
            f"cd {FOLDER} && PYTHONPATH={FOLDER}:{FOLDER}/lib:/opt/kubexen/src python3 -m pytest -q -p no:cacheprovider "
            "tests/contract --driver xen:///system --timeout-each 120 --kernel /srv/images/vmlinux "
            "--initrd /srv/images/initrd.gz --bridge xenbr0 --cmdline 'console=hvc0 quiet hb=1' --disk-dir /srv/pool 2>&1",
            check=False, timeout=1500,
        )
    finally:
        host.start_agent()
    print(done.stdout[-6000:])
    assert done.returncode == 0
    assert re.search(r"\b[1-9][0-9]* passed", done.stdout)
