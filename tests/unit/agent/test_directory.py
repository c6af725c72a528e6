"""Disks in a pool that is a directory: made once, whoever makes them at the same time."""

from __future__ import annotations

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
    storage, path, copy = Directory(tmp_path), tmp_path / DISK.lstrip("/"), directory._copy

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
