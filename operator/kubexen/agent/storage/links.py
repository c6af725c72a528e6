"""Symbolic links of Kubexen's own on the host: a disk's stable path, to the device that it is now."""

from __future__ import annotations

import uuid
from pathlib import Path


def lead(link: Path, target: str) -> None:
    """Let the link lead there, in one step: whoever follows it meanwhile gets the old or the new. Errors: OSError."""
    link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = link.with_name(f".{link.name}.{uuid.uuid4().hex}")
    unfinished.symlink_to(target)
    unfinished.rename(link)
