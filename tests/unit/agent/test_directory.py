"""Disks in a pool that is a directory: made once, whoever makes them at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kubexen.agent.storage import directory
from kubexen.agent.storage.directory import Directory

DISK = "/srv/shared/.kubexen/disks/of.raw"


def test_a_disk_that_was_made_meanwhile_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two domains that name a new disk may be bound at once, to two hosts: the slower one's copy must not take the place of a disk
    that a guest has."""
    (tmp_path / "srv/shared").mkdir(parents=True)
    source = tmp_path / "source"
    source.write_bytes(b"source" + bytes(506))
    storage, path, copy = Directory(tmp_path, "xen1"), tmp_path / DISK.lstrip("/"), directory._copy

    def slow(of: Path, target: int) -> None:
        monkeypatch.setattr(directory, "_copy", copy)
        assert storage.make(DISK, 1024, of) == 1024
        with path.open("r+b") as guest:
            guest.write(b"by the guest")
        copy(of, target)

    monkeypatch.setattr(directory, "_copy", slow)
    assert storage.make(DISK, None, source) == 1024
    assert path.read_bytes().startswith(b"by the guest")
    assert [file.name for file in path.parent.iterdir()] == [path.name]


AGENT = """
import os, sys
import subprocess
import sys
from pathlib import Path
from kubexen.agent.storage import directory

directory._copy = lambda source, target: os._exit(9)
root, node, disk = sys.argv[1:]
directory.Directory(Path(root), node).make(disk, None, Path(root, "source"))
"""


def test_what_an_agent_that_died_could_not_finish_is_removed_by_the_next_one_of_its_node(tmp_path: Path) -> None:
    (tmp_path / "srv/shared").mkdir(parents=True)
    (tmp_path / "source").write_bytes(bytes(512))
    for node in ("xen1", "xen2"):
        assert subprocess.run([sys.executable, "-c", AGENT, str(tmp_path), node, DISK]).returncode == 9
    folder = (tmp_path / DISK.lstrip("/")).parent
    assert len(list(folder.iterdir())) == 2
    Directory(tmp_path, "xen1").make(DISK, 512, None)
    left = sorted(file.name for file in folder.iterdir())
    assert left[0].startswith(".xen2~"), "another node's agent may be at work on it"
    assert left[1:] == [Path(DISK).name]
