"""Bad manifests as a user applies them with kubectl: what the user is told, and that nothing is made halfway.

Everything that the API server takes is applied at once, beside one good domain; then each manifest is looked at on its own.
The tables are in bad_manifests.py.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hack.cluster.cluster import KubectlError
from hack.stack.stack import Stack
from tests.cluster.bad_manifests import ADMINISTRATORS, CHANGES, HOLDER, REFUSED, SEED_BYTES, UNREADY, Unready
from tests.unit.api.builders import Document, put

POOLS = ("/srv/images", "/srv/shared", "/srv/pool")
PATIENCE = 120.0


def as_list(documents: list[Document]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})


@pytest.fixture(scope="module")
def administered(stack: Stack) -> Iterator[str]:
    """A namespace beside pools and networks of which some are bad, and one whose name ends in -quota with a quota."""
    namespace = f"bad-{uuid.uuid4().hex[:6]}"
    for host in stack.hosts:
        images = host.root / "srv/images"
        (images / "bad-folder").mkdir()
        (host.root / "secret").write_text("an administrator's\n")
        (images / "bad-link").symlink_to("../../secret")
        (images / "bad-seed.img").write_bytes(bytes(SEED_BYTES))
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}} for n in (namespace, f"{namespace}-quota")]
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small", "namespace": f"{namespace}-quota"},
        "spec": {"hard": {"requests.kubexen.dev/memory-mib": "8"}},
    }
    stack.apply(*spaces, quota, *ADMINISTRATORS)
    yield namespace
    stack.kubectl("delete", "namespace", namespace, f"{namespace}-quota", "--timeout=120s")
    for document in ADMINISTRATORS:
        stack.kubectl("delete", document["kind"], document["metadata"]["name"])
    for host in stack.hosts:
        images = host.root / "srv/images"
        (images / "bad-folder").rmdir()
        for file in (images / "bad-link", images / "bad-seed.img", host.root / "secret"):
            file.unlink()


@dataclass(frozen=True)
class Applied:
    """All of UNREADY, applied; `settled` are the domains by case once each has said why it does not start."""

    namespace: str
    settled: dict[str, dict[str, Any]]
    uids: dict[str, set[str]]  # of a case's disks
    domains: str  # what `xl list` says on all hosts
    files: frozenset[str]

    def space(self, case: Unready) -> str:
        return f"{self.namespace}-quota" if case.quota else self.namespace


def look(stack: Stack) -> tuple[str, frozenset[str]]:
    """The domains and the files of all hosts."""
    files = frozenset(file for host in stack.hosts for path in POOLS for file in host.files(path))
    return "".join(host.xl_list() for host in stack.hosts), files


def ready(domain: dict[str, Any]) -> dict[str, Any]:
    conditions = {c["type"]: c for c in domain["status"]["conditions"]}
    return dict(conditions["Ready"])


@pytest.fixture(scope="module")
def applied(stack: Stack, administered: str) -> Applied:
    namespace = administered
    before = look(stack)[1]
    stack.kubectl("apply", "-n", namespace, "-f", "-", input=as_list(list(HOLDER)))
    stack.wait_reason("holder", "Running", namespace=namespace)
    documents: list[Document] = []
    uids: dict[str, set[str]] = {}
    for name, case in UNREADY.items():
        space = f"{namespace}-quota" if case.quota else namespace
        documents += [put(document, "metadata.namespace", space) for document in case.documents(name)]
    stack.apply(*documents)
    deadline = time.monotonic() + PATIENCE
    for name, case in UNREADY.items():
        space = f"{namespace}-quota" if case.quota else namespace
        with contextlib.suppress(RuntimeError):  # its own test says how it is instead
            stack.wait_reason(name, case.reason, max(1.0, deadline - time.monotonic()), space)
    found = {
        (item["kind"], item["metadata"]["name"]): item
        for space in (namespace, f"{namespace}-quota")
        for item in json.loads(stack.kubectl("get", "xd,xdisk", "-n", space, "-o", "json"))["items"]
    }
    settled = {name: found["XenDomain", name] for name in UNREADY}
    for name, case in UNREADY.items():
        disks = [d["metadata"]["name"] for d in case.documents(name) if d["kind"] == "XenDisk"]
        uids[name] = {found["XenDisk", disk]["metadata"]["uid"] for disk in disks}
    domains, files = look(stack)
    return Applied(namespace, settled, uids, domains, files - before)


@pytest.mark.parametrize("name", UNREADY)
def test_the_user_is_told_what_to_do(applied: Applied, name: str) -> None:
    case, domain = UNREADY[name], applied.settled[name]
    told = ready(domain)
    assert (told["status"], told["reason"]) == ("False", case.reason), told
    for text in case.says:
        assert text in told["message"]
    assert told["observedGeneration"] == domain["metadata"]["generation"]
    other = {c["type"] for c in domain["status"]["conditions"]} & {"Stalled", "Reconciling"}
    assert other == ({"Stalled"} if case.stalled else {"Reconciling"})


@pytest.mark.parametrize("name", UNREADY)
def test_nothing_is_made_halfway(applied: Applied, name: str) -> None:
    assert f"{applied.space(UNREADY[name])}.{name} " not in applied.domains
    made = {file for file in applied.files if any(uid in file for uid in applied.uids[name])}
    assert made == set()


@pytest.fixture(scope="module")
def deleted(stack: Stack, applied: Applied) -> tuple[set[str], str, frozenset[str]]:
    """What is left in the namespaces, and on the hosts, after all of it was deleted."""
    left: set[str] = set()
    for space in (applied.namespace, f"{applied.namespace}-quota"):
        stack.kubectl("delete", "xd,xdisk", "--all", "-n", space, "--timeout=120s")
        found = stack.kubectl("get", "xd,xdisk,pods", "-n", space, "-o", "name").split()
        left |= {name.rpartition("/")[2] for name in found}
    domains, files = look(stack)
    return left, domains, files


@pytest.mark.parametrize("name", UNREADY)
def test_nothing_is_left_of_it(applied: Applied, deleted: tuple[set[str], str, frozenset[str]], name: str) -> None:
    left, domains, files = deleted
    names = tuple(document["metadata"]["name"] for document in UNREADY[name].documents(name))
    assert [found for found in left if found in names or found.startswith(f"{name[:50]}-anchor-")] == []
    assert f"{applied.space(UNREADY[name])}.{name} " not in domains
    assert [file for file in files if any(uid in file for uid in applied.uids[name])] == []


def test_nothing_is_left_at_all(applied: Applied, deleted: tuple[set[str], str, frozenset[str]]) -> None:
    left, domains, files = deleted
    assert left == set()
    assert applied.namespace not in domains
    assert applied.files & files == frozenset()


@pytest.fixture
def refusing(stack: Stack, administered: str) -> Iterator[str]:
    """An empty namespace, which has to be empty again."""
    yield administered
    assert stack.kubectl("get", "xd,xdisk,pods", "-n", administered, "-o", "name").split() == []


@pytest.mark.usefixtures("deleted")
@pytest.mark.parametrize("document, field, rule", REFUSED.values(), ids=REFUSED)
def test_refused_with_the_field_and_the_rule(
    stack: Stack, refusing: str, document: Document, field: str, rule: str
) -> None:
    with pytest.raises(KubectlError) as refusal:
        stack.kubectl("apply", "-n", refusing, "-f", "-", input=json.dumps(document))
    assert field in str(refusal.value)
    assert rule in str(refusal.value)


@pytest.mark.usefixtures("deleted")
@pytest.mark.parametrize("document, patch, field, rule", CHANGES.values(), ids=CHANGES)
def test_a_change_is_refused_with_the_field_and_the_rule(
    stack: Stack, refusing: str, document: Document, patch: str, field: str, rule: str
) -> None:
    stack.kubectl("apply", "-n", refusing, "-f", "-", input=json.dumps(document))
    try:
        with pytest.raises(KubectlError) as refusal:
            stack.kubectl("patch", document["kind"], "x", "-n", refusing, "--type=merge", "-p", patch)
    finally:
        stack.kubectl("delete", document["kind"], "x", "-n", refusing, "--timeout=60s")
    assert field in str(refusal.value)
    assert rule in str(refusal.value)
