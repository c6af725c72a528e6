"""The support bundle: what the doctor has read, Events and logs, in one file that can be given away.

Secrets and ConfigMaps are not read at all; everything else goes through redact.py. What cannot be read is named in the bundle.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from rich.console import Console

from kubexen import VERSION
from kubexen.api.names import GROUP
from kubexen.cli.doctor import redact, render
from kubexen.cli.doctor.finding import Finding
from kubexen.cli.doctor.snapshot import CRDS, OURS, Snapshot
from kubexen.kube.client import Api
from kubexen.kube.errors import ApiError
from kubexen.kube.resources import EVENTS, LEASES, NODES, PODS, Object

FOLDER = "kubexen-support"
PACKED = (*OURS, NODES, LEASES, PODS)
LOG_LINES = 2000
"""The newest, of each container."""

LOGS_AT_ONCE = 4


async def collect(api: Api, snapshot: Snapshot, findings: Sequence[Finding]) -> dict[str, str]:
    """The bundle's files by name, without secrets."""
    findings = [replace(found, what=redact.text(found.what), mend=redact.text(found.mend)) for found in findings]
    notes: list[str] = [f"{name}: not read: {why}" for name, why in snapshot.unread.items()]
    files = {"findings.json": render.as_json(findings), "findings.txt": _report(findings)}
    for res in PACKED:
        files[f"objects/{res}.yaml"] = _yaml([redact.document(obj) for obj in snapshot.of(res)])
    files["objects/definitions.yaml"] = _yaml([_definition(crd) for crd in snapshot.of(CRDS)
                                               if crd["metadata"]["name"].endswith(f".{GROUP}")])
    files["objects/events.yaml"] = _yaml(await _events(api, snapshot, notes))
    files |= await _logs(api, snapshot, notes)
    files["versions.json"] = json.dumps(await _versions(api, notes), indent=2)
    files["not-read.txt"] = redact.text("".join(f"{note}\n" for note in notes))
    return files


def write(file: Path, files: Mapping[str, str]) -> None:
    """Readable by its owner only, and whole or not there. Raises OSError."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with (os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as raw,
              tarfile.open(fileobj=raw, mode="w:gz") as archive):
            for name, text in sorted(files.items()):
                data = text.encode()
                entry = tarfile.TarInfo(f"{FOLDER}/{name}")
                entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
                archive.addfile(entry, io.BytesIO(data))
        unfinished.rename(file)
    finally:
        unfinished.unlink(missing_ok=True)


async def _events(api: Api, snapshot: Snapshot, notes: list[str]) -> list[Object]:
    """Those about our objects, our pods and our Nodes: a namespace's other Events are none of ours."""
    subjects = {obj["metadata"].get("uid") for res in (*OURS, PODS, NODES) for obj in snapshot.of(res)}
    try:
        found, _ = await api.list(EVENTS)
    except ApiError as error:
        notes.append(f"Events: {error}")
        return []
    return [redact.document(event) for event in found if (event.get("regarding") or {}).get("uid") in subjects]


async def _logs(api: Api, snapshot: Snapshot, notes: list[str]) -> dict[str, str]:
    """Of the pods in the controller's and the agents' namespaces, also of the container before the last restart."""
    turns = asyncio.Semaphore(LOGS_AT_ONCE)
    files: dict[str, str] = {}

    async def read(pod: Object, container: str, previous: bool) -> None:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        query = {"container": container, "tailLines": str(LOG_LINES)} | ({"previous": "true"} if previous else {})
        file = f"logs/{namespace}/{name}/{container}{'.previous' if previous else ''}.log"
        try:
            async with turns:
                files[file] = redact.text(await api.text(f"{PODS.path(namespace, name)}/log", **query))
        except ApiError as error:
            notes.append(f"{file}: {error}")

    pods = [pod for pod in snapshot.of(PODS) if pod["metadata"]["namespace"] in (snapshot.system, snapshot.agents)]
    await asyncio.gather(*(
        read(pod, state["name"], previous)
        for pod in pods
        for state in (pod.get("status") or {}).get("containerStatuses") or ()
        for previous in ((False, True) if state.get("restartCount") else (False,))
    ))
    return files


async def _versions(api: Api, notes: list[str]) -> Object:
    try:
        server = json.loads(await api.text("/version"))
    except (ApiError, ValueError) as error:
        notes.append(f"/version: {error}")
        server = None
    return {"kubectl-xen": VERSION, "python": platform.python_version(), "server": server}


def _definition(crd: Object) -> Object:
    """A definition without its schema: findings.txt says what is wrong with that."""
    names = [{key: entry.get(key) for key in ("name", "served", "storage")} for entry in crd["spec"].get("versions") or ()]
    return redact.document({**crd, "spec": {"versions": names}})


def _report(findings: Sequence[Finding]) -> str:
    text = io.StringIO()
    render.show(findings, Console(file=text, highlight=False, markup=False), verbose=True)
    return text.getvalue()


def _yaml(documents: Sequence[Object]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True)
