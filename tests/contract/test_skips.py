"""The list of skips is as short as it can be."""

from __future__ import annotations

from pathlib import Path

from kubexen.hypervisor.port import Capability

from .guests import ADMINISTRATOR, GUEST_ACTS
from .lab import Lab
from .skips import SKIPS


def test_every_listed_skip_is_needed(lab: Lab) -> None:
    capabilities = {str(capability) for capability in Capability} | {ADMINISTRATOR, GUEST_ACTS}
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for key, reason in SKIPS[lab.scheme].items():
        assert reason
        if key in capabilities:
            assert key not in lab.provides, f"{lab.scheme} declares {key} by now"
        else:
            assert f"def {key}(" in source, f"there is no test {key}"
