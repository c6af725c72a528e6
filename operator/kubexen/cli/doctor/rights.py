"""Which rights the doctor, the controller and the agents need, and who lacks one.

The table of the controller and the agents is what the chart's roles give them (tests/unit/chart/test_doctor.py compares them);
snapshot.py asks the API server about each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kubexen.api.names import CONTROLLER_LEASE, GROUP
from kubexen.cli.doctor.finding import Finding, error, ok, warning

CONTROLLER, AGENT = "kubexen-controller", "kubexen-agent"
"""Their ServiceAccounts."""

MYSELF = ""
SUBJECT = "Cluster"


@dataclass(frozen=True)
class Right:
    """One act of one user. `who`: a ServiceAccount as `namespace:name`, or MYSELF."""

    who: str
    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""  # of the one object that it is about; empty: any

    def __str__(self) -> str:
        name = f"{self.resource}.{self.group}" if self.group else self.resource
        subresource = f"/{self.subresource}" if self.subresource else ""
        place = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {name}{subresource}{f' {self.name}' if self.name else ''}{place}"


LEASE, EVENT = "coordination.k8s.io", "events.k8s.io"

_CONTROLLER = """
get list watch patch: xendomains
list watch patch: xendisks
list watch delete: xenactions
list watch: xenhosts xenmigrations xennetworks xenstoragepools
patch: xendomains/status xendisks/status xenactions/status xenmigrations/status xennetworks/status xenstoragepools/status
get list watch create patch delete: core:pods
patch: core:pods/status core:nodes/status
list watch: core:nodes core:namespaces
get: core:persistentvolumeclaims core:persistentvolumes
list create patch: events:events
"""
_AGENT = """
get list watch: xendomains xendisks
list watch: xennetworks xenstoragepools
patch: xendomains/status xendisks/status xenhosts/status
create patch: xenhosts
get: core:namespaces
create patch: events:events
"""
_GROUPS = {"core": "", "events": EVENT}


def needed(system: str, agents: str, accounts: Iterable[str]) -> list[Right]:
    """What the controller and the agents need, of those whose ServiceAccounts (`namespace:name`) are there."""
    found = []
    for account in accounts:
        namespace, _, name = account.partition(":")
        if name == CONTROLLER:
            found += list(_parse(account, _CONTROLLER))
            found.append(Right(account, "create", LEASE, "leases", namespace=system))
            found += [Right(account, verb, LEASE, "leases", namespace=system, name=CONTROLLER_LEASE) for verb in ("get", "patch")]
            found.append(Right(account, "get", LEASE, "leases", namespace=agents))
        elif name == AGENT:
            found += list(_parse(account, _AGENT))
            found += [Right(account, verb, LEASE, "leases", namespace=namespace) for verb in ("create", "patch")]
    return found


def _parse(who: str, table: str) -> Iterator[Right]:
    for line in table.strip().splitlines():
        verbs, _, resources = line.partition(": ")
        for entry in resources.split():
            group, _, name = entry.rpartition(":")
            resource, _, subresource = name.partition("/")
            for verb in verbs.split():
                yield Right(who, verb, _GROUPS[group] if group else GROUP, resource, subresource)


def check(answers: Iterable[tuple[Right, bool]]) -> Iterator[Finding]:
    """One finding for each user that lacks rights; for whom nothing is lacking, one that says so."""
    lacking: dict[str, list[str]] = {}
    for right, allowed in answers:
        lacking.setdefault(right.who, []).extend([] if allowed else [str(right)])
    for who, rights in lacking.items():
        name = f"ServiceAccount {who.replace(':', '/')}" if who else "your account"
        if not rights:
            yield ok(SUBJECT, "rights", f"{name} has the rights it needs")
        elif who == MYSELF:
            yield warning(SUBJECT, "rights", f"you may not {', '.join(rights)}: what depends on it was not checked",
                          "ask for these rights, or let an administrator run this")
        else:
            yield error(SUBJECT, "rights", f"{name} may not {', '.join(rights)}",
                        "helm upgrade installs the roles of this version; an account of your own needs a binding to them")
