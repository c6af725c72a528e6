"""What the agent says of its arguments."""

from __future__ import annotations

import pytest

from kubexen.agent.main import main


def test_a_driver_that_there_is_not_ends_it_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kubexen-agent", "--driver=kvm:///system"])
    with pytest.raises(SystemExit):
        main()
    assert "--driver: no driver for 'kvm:///system': use xen:///system" in capsys.readouterr().err
