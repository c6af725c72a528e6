"""What the image holds, and what not."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

MOST_BYTES = 200_000_000
Contents = tuple[dict[str, Any], set[str]]


@pytest.fixture(scope="module")
def contents(archive: Path) -> Contents:
    """The image's configuration, and the paths of its files."""
    with tarfile.open(archive) as image:
        [manifest] = json.load(image.extractfile("manifest.json"))  # type: ignore[arg-type]
        configuration = json.load(image.extractfile(manifest["Config"]))  # type: ignore[arg-type]
        paths: set[str] = set()
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=image.extractfile(layer)) as files:
                paths |= {f"/{name}" for name in files.getnames()}
    return configuration["config"], paths


def test_it_is_small(archive: Path, contents: Contents) -> None:
    """The archive is not compressed."""
    assert archive.stat().st_size < MOST_BYTES


def test_its_user_is_not_root_and_it_is_an_anchor_by_itself(contents: Contents) -> None:
    configuration, _ = contents
    assert configuration["User"] == "65532:65532"
    assert configuration["Cmd"] == ["kubexen-anchor", "infinity"]
    assert "Entrypoint" not in configuration


def test_it_has_its_programs_and_no_shell_compiler_package_manager_or_xen(contents: Contents) -> None:
    _, paths = contents
    assert {f"/usr/bin/kubexen-{name}" for name in ("controller", "agent", "anchor")} <= paths
    names = {Path(path).name for path in paths}
    assert not names & {"sh", "bash", "gcc", "cc", "ld", "apt", "apt-get", "dpkg", "pip", "perl", "xl"}
    assert not [name for name in names if name.startswith("libxen")]
    assert not [path for path in paths if "/tests/" in path]


def test_all_its_python_is_compiled(contents: Contents) -> None:
    _, paths = contents
    sources = {Path(path) for path in paths if path.endswith(".py")}
    assert len(sources) > 500
    missing = {path for path in sources if str(path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc") not in paths}
    assert not missing
