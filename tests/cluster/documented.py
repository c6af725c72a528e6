"""What the docs tell an administrator to type: taken from the pages, so that a test does what is written there."""

from __future__ import annotations

import os
import re
import subprocess

from hack.stack.hosts import ROOT
from hack.stack.stack import Stack
from hack.tools.build import binary


def commands(page: str, heading: str) -> list[str]:
    """The blocks of shell commands in the section of this heading, in their order."""
    _, rest = re.split(rf"(?m)^#+ {re.escape(heading)}\n", (ROOT / "docs" / page).read_text())
    section = re.split(r"(?m)^#+ ", rest)[0]
    return re.findall(r"(?ms)^```sh\n(.*?)^```$", section)


def follow(stack: Stack, block: str, **words: str) -> None:
    """Type a block as the cluster's administrator; `words` stand for what the page has in capitals."""
    for word, value in words.items():
        block, found = re.subn(rf"\b{word}\b", value, block)
        assert found
    environment = os.environ | stack.environment()
    environment["PATH"] += f":{binary('helm').parent}"
    done = subprocess.run(["sh", "-ec", block], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
