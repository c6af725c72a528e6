"""The chart, as helm renders it: for a stack whose hosts have no kubelet, and for tests of the chart.

It installs all but the workloads: those run as processes of this machine, with the rights of the chart's ServiceAccounts.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from hack.tools.build import binary

CHART = Path(__file__).resolve().parents[2] / "charts" / "kubexen"
WORKLOADS = {"Deployment", "DaemonSet", "PodDisruptionBudget", "Pod"}

Document = dict[str, Any]


class ChartError(RuntimeError):
    """Helm refused the chart or its values; the message is what it said."""


def render(
    namespace: str = "kubexen-system", values: Document | None = None, *, chart: Path = CHART, kubernetes: str | None = None
) -> list[Document]:
    """Every object of the chart, in the order in which helm makes them; `kubernetes`: for a cluster of this version."""
    version = ["--kube-version", kubernetes] if kubernetes else []
    text = helm(
        "template", "kubexen", str(chart), "--namespace", namespace, *version, "--values", "-", input=json.dumps(values or {})
    )
    return [document for document in yaml.safe_load_all(text) if document]


def package(folder: Path) -> Path:
    """The chart as one file, made in this folder."""
    helm("package", str(CHART), "--destination", str(folder))
    (packed,) = folder.glob("kubexen-*.tgz")
    return packed


def helm(*arguments: str, input: str | None = None, kubeconfig: Path | None = None) -> str:
    """Helm's output; ChartError with its words where it fails."""
    given = ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
    done = subprocess.run([str(binary("helm")), *arguments, *given], input=input, capture_output=True, text=True)
    if done.returncode != 0:
        raise ChartError(done.stderr.strip())
    return done.stdout


def without_workloads(documents: list[Document]) -> Iterator[Document]:
    """What can be applied where no kubelet runs pods."""
    return (document for document in documents if document["kind"] not in WORKLOADS)
