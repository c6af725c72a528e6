"""The API server's audit log as requests to count: who asked for what, and how it was answered.

Called by tests and the bench, through `Cluster.audit()`. It does not write or rotate the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Metadata: who, what and when, without bodies. RequestReceived would only tell each request a second time.
POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
"""
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class Request:
    """One request to the API server."""

    user: str  # such as `admin` or `system:serviceaccount:NAMESPACE:NAME`
    verb: str  # get, list, watch, create, update, patch, delete, deletecollection
    resource: str  # plural, '' for a path that is no resource
    subresource: str  # such as `status`, else ''
    group: str
    namespace: str
    name: str
    code: int
    allowed: bool  # by the authorizer; what admission refuses was allowed first
    message: str  # the words of a refusal
    user_agent: str
    received: str  # RFC 3339, microseconds
    uri: str
    node: str  # the node that the user's token is bound to, else ''

    @property
    def is_write(self) -> bool:
        return self.verb in WRITES


def read(log: Path, since: int = 0) -> Iterator[Request]:
    """The requests in the log behind this position, each once, in the order of their answers."""
    watches = set()
    with log.open("rb") as file:
        file.seek(since)
        for line in file:
            if not line.endswith(b"\n"):
                return  # being written
            event = json.loads(line)
            if event["stage"] == "ResponseStarted":
                watches.add(event["auditID"])  # its end, later, is no second request
            elif event["auditID"] in watches:
                continue
            yield _request(event)


def _request(event: dict) -> Request:  # type: ignore[type-arg]
    target = event.get("objectRef", {})
    nodes = event["user"].get("extra", {}).get("authentication.kubernetes.io/node-name", [""])
    return Request(
        user=event["user"].get("username", ""),
        verb=event["verb"],
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        group=target.get("apiGroup", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        allowed=event.get("annotations", {}).get("authorization.k8s.io/decision") != "forbid",
        message=event.get("responseStatus", {}).get("message", ""),
        user_agent=event.get("userAgent", ""),
        received=event["requestReceivedTimestamp"],
        uri=event["requestURI"],
        node=nodes[0],
    )
