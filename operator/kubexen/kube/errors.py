"""The one tree of errors that talking to the API server raises; `client.py` maps every answer and every lost one to
these.

    ApiError                           HTTP              tried again
    ├── NotFound                       404               no: the object (or its namespace) is not there
    ├── NotServed                      404, no Status    later: the kind is not known (yet); says nothing about objects
    ├── AlreadyExists                  409               no: look at what is there
    ├── Conflict                       409               after reading again: a version, uid or field's owner differs
    ├── Invalid                        400 413 422       when the body changes; `causes` names the fields
    ├── Forbidden                      401 403           later: rights, quota, or a namespace that is terminating
    ├── Gone                           410               by listing again
    ├── TooManyRequests                429               after `retry_after`
    ├── Unavailable                    5xx 408, no answer    soon: nobody knows whether a write was done
    └── NotConfigured                  (none)            no: there is no usable kubeconfig or in-cluster configuration

`reason` is the server's own (`NotFound`, `Conflict`, ...), so it can become a condition's reason; the message is for
a person.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cause:
    """One entry of a Status' `details.causes`."""

    reason: str
    field: str
    message: str


class ApiError(Exception):
    """The API server did not do what it was asked to, or did not answer.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        reason: CamelCase reason, the server's own where it gave one.
        message: the server's text.
        retry_after: seconds after which the server wants to be asked again, where it said so.
        details: `details` of the server's Status.
    """

    default_reason = "ApiError"

    def __init__(
        self,
        status: int = 0,
        reason: str = "",
        message: str = "",
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.status = status
        self.reason = reason or self.default_reason
        self.message = message or self.reason
        self.retry_after = retry_after
        self.details: Mapping[str, Any] = details or {}
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} ({self.status} {self.reason})" if self.status else self.message

    @property
    def causes(self) -> tuple[Cause, ...]:
        """What exactly was wrong, where the server says it: the fields of an Invalid, NamespaceTerminating of a
        Forbidden.
        """
        return tuple(
            Cause(cause.get("reason", ""), cause.get("field", ""), cause.get("message", ""))
            for cause in self.details.get("causes") or ()
        )

    def has_cause(self, reason: str) -> bool:
        return any(cause.reason == reason for cause in self.causes)


class NotFound(ApiError):
    default_reason = "NotFound"


class NotServed(ApiError):
    """The path is unknown, as before a CustomResourceDefinition is there. Not a NotFound, so that nobody reads it as
    'deleted'.
    """

    default_reason = "NotServed"


class AlreadyExists(ApiError):
    default_reason = "AlreadyExists"


class Conflict(ApiError):
    default_reason = "Conflict"


class Invalid(ApiError):
    default_reason = "Invalid"


class Forbidden(ApiError):
    default_reason = "Forbidden"


class Gone(ApiError):
    default_reason = "Gone"


class TooManyRequests(ApiError):
    default_reason = "TooManyRequests"


class Unavailable(ApiError):
    default_reason = "Unavailable"


class NotConfigured(ApiError):
    default_reason = "NotConfigured"


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    410: Gone,
    413: Invalid,
    422: Invalid,
    429: TooManyRequests,
}


def from_status(body: Mapping[str, Any], code: int = 0, retry_after: float | None = None) -> ApiError:
    """The error for a Kubernetes Status, of an HTTP answer or of an ERROR event in a watch."""
    code = int(body.get("code") or code)
    reason = body.get("reason") or ""
    details = body.get("details") or {}
    if retry_after is None and (told := details.get("retryAfterSeconds")):
        retry_after = float(told)
    kind = _BY_STATUS.get(code, Unavailable if code >= 500 else ApiError)
    if kind is Conflict and reason == "AlreadyExists":
        kind = AlreadyExists
    return kind(code, reason, body.get("message") or "", retry_after, details)


def from_response(code: int, text: bytes, retry_after: str | None = None) -> ApiError:
    """The error for an HTTP answer; what stands before the API server (a proxy, a load balancer) may answer without a
    Status.
    """
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("kind") == "Status":
        return from_status(body, code, seconds)
    message = text[:500].decode(errors="replace").strip()
    if code == 404:
        return NotServed(code, "", message, seconds)
    return from_status({"message": message}, code, seconds)
