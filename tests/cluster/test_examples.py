"""Each manifest of examples/ is one that the API server takes, with all of its fields, from whom its first line names."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hack.cluster.api import Object
from hack.stack.hosts import ROOT
from tests.cluster.rights import user
from tests.cluster.tenant import Tenant

FILES = sorted((ROOT / "examples").rglob("*.yaml"))
USERS, ADMINISTRATORS = "# A user's", "# An administrator's"


def named(document: Object) -> str:
    """As kubectl names it."""
    group = document["apiVersion"].rpartition("/")[0]
    return f"{'.'.join(filter(None, (document['kind'].lower(), group)))}/{document['metadata']['name']}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_an_example_can_be_applied(tenant: Tenant, file: Path) -> None:
    text = file.read_text()
    assert text.startswith((USERS, ADMINISTRATORS))
    user(tenant, "edit", "editor")
    who = [f"--as=system:serviceaccount:{tenant.namespace}:editor"] if text.startswith(USERS) else []
    taken = tenant.kubectl("apply", "--dry-run=server", "--output=name", *who, "-f", str(file)).split()
    assert taken == [named(document) for document in yaml.safe_load_all(text)]
