"""The port's own words: flags and errors."""

from __future__ import annotations

import pytest

from kubexen.hypervisor import errors
from kubexen.hypervisor.drivers import opener
from kubexen.hypervisor.errors import HypervisorError
from kubexen.hypervisor.port import Flags


@pytest.mark.parametrize(
    ("flags", "text", "names"),
    [
        (Flags(), "------", []),
        (Flags(blocked=True), "-b----", ["blocked"]),
        (Flags(running=True), "r-----", ["running"]),
        (Flags(paused=True), "--p---", ["paused"]),
        (Flags(shutdown=True, crashed=True), "---sc-", ["shutdown", "crashed"]),
        (Flags(paused=True, dying=True), "--p--d", ["paused", "dying"]),
    ],
)
def test_flags_read_as_in_xl_list(flags: Flags, text: str, names: list[str]) -> None:
    assert str(flags) == text
    assert flags.names() == names


def test_every_error_has_a_reason_of_its_own() -> None:
    kinds = HypervisorError.__subclasses__()
    assert len(kinds) == 10
    reasons = [kind.reason for kind in kinds]
    assert len(set(reasons)) == len(reasons)
    for kind in kinds:
        assert kind.reason.isalnum() and kind.reason[0].isupper()
        assert f" {kind.__name__} " in (errors.__doc__ or ""), "it is drawn in the tree"
        assert kind.reason in (errors.__doc__ or "")


def test_an_unknown_scheme_is_told() -> None:
    with pytest.raises(errors.Unsupported, match="kvm:///system"):
        opener("kvm:///system")
