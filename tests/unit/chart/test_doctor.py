"""What the doctor knows of the chart: every policy that guards, and every right that the chart gives, no more and no fewer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hack.stack.chart import Document
from kubexen.api.names import AGENT_NAMESPACE, SYSTEM_NAMESPACE
from kubexen.cli.doctor.cluster import FINALIZER_POLICIES, GUARDS
from kubexen.cli.doctor.rights import AGENT, CONTROLLER, Right, needed


def test_the_doctor_looks_for_every_policy_of_the_chart(documents: list[Document]) -> None:
    def names(kind: str) -> list[str]:
        return sorted(d["metadata"]["name"] for d in documents if d["kind"] == kind)

    assert names("ValidatingAdmissionPolicy") == sorted(GUARDS)
    assert names("MutatingAdmissionPolicy") == sorted(FINALIZER_POLICIES)


@pytest.mark.parametrize("account, namespace", [(CONTROLLER, SYSTEM_NAMESPACE), (AGENT, AGENT_NAMESPACE)])
def test_the_doctor_asks_for_every_right_that_the_chart_gives(documents: list[Document], account: str, namespace: str) -> None:
    who = f"{namespace}:{account}"
    assert set(needed(SYSTEM_NAMESPACE, AGENT_NAMESPACE, [who])) == set(given(documents, who))


def given(documents: list[Document], who: str) -> Iterator[Right]:
    """What the roles allow that are bound to an account."""
    namespace, _, name = who.partition(":")
    roles = {(d["kind"], d["metadata"].get("namespace", ""), d["metadata"]["name"]): d for d in documents}
    for binding in documents:
        subjects = [(s["kind"], s.get("namespace"), s["name"]) for s in binding.get("subjects", ())]
        if ("ServiceAccount", namespace, name) not in subjects:
            continue
        place = binding["metadata"].get("namespace", "")
        role = roles[(binding["roleRef"]["kind"], place, binding["roleRef"]["name"])]
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        for one in rule.get("resourceNames", [""]):
                            yield Right(who, verb, group, *_split(resource), namespace=place, name=one)


def _split(resource: str) -> tuple[str, str]:
    name, _, subresource = resource.partition("/")
    return name, subresource
