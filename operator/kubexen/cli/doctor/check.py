"""All checks of one snapshot: a pure function, so that each of them can be tested as a table."""

from __future__ import annotations

from kubexen.cli.doctor import cluster, crds, hosts, objects, rights
from kubexen.cli.doctor.finding import Finding
from kubexen.cli.doctor.snapshot import Snapshot


def check(snapshot: Snapshot) -> list[Finding]:
    """Everything that was looked at, also what is fine; the cluster first, then hosts, then objects."""
    return [
        *crds.check(snapshot),
        *cluster.check(snapshot),
        *rights.check(snapshot.rights),
        *hosts.check(snapshot),
        *objects.check(snapshot),
    ]
