"""Bridges of the host, as sysfs shows them. Kubexen makes none yet: an administrator does."""

from __future__ import annotations

from pathlib import Path

from kubexen.plan.problem import Problem


class Bridges:
    def __init__(self, root: Path) -> None:
        self._net = root / "sys/class/net"

    def exists(self, bridge: str) -> bool:
        return (self._net / bridge / "bridge").is_dir() or (self._net / bridge / "brport").is_dir()

    def check(self, bridge: str, network: str) -> None:
        """Raises Problem (BridgeMissing) where the host has no such bridge."""
        if not self.exists(bridge):
            raise Problem(
                "BridgeMissing", f"XenNetwork {network!r}: this host has no bridge {bridge!r}; make it", retry_after=10
            )
