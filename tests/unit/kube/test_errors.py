"""Every answer of an API server has its place in the tree."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubexen.kube import errors


def status(code: int, reason: str, **more: Any) -> bytes:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no"}
    return json.dumps(body | more).encode()


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", errors.Invalid),
        (401, "Unauthorized", errors.Forbidden),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (405, "MethodNotAllowed", errors.ApiError),
        (408, "Timeout", errors.Unavailable),
        (409, "AlreadyExists", errors.AlreadyExists),
        (409, "Conflict", errors.Conflict),
        (410, "Expired", errors.Gone),
        (410, "Gone", errors.Gone),
        (413, "RequestEntityTooLarge", errors.Invalid),
        (415, "UnsupportedMediaType", errors.ApiError),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.Unavailable),
        (503, "ServiceUnavailable", errors.Unavailable),
        (504, "Timeout", errors.Unavailable),
    ],
)
def test_a_status_is_mapped(code: int, reason: str, kind: type[errors.ApiError]) -> None:
    error = errors.from_response(code, status(code, reason))
    assert type(error) is kind
    assert (error.status, error.reason, error.message) == (code, reason, "no")
    assert str(error) == f"no ({code} {reason})"


@pytest.mark.parametrize(
    ("code", "kind"),
    [(404, errors.NotServed), (429, errors.TooManyRequests), (502, errors.Unavailable), (301, errors.ApiError)],
)
def test_an_answer_without_a_status(code: int, kind: type[errors.ApiError]) -> None:
    error = errors.from_response(code, b"<html>a proxy</html>")
    assert type(error) is kind
    assert error.message == "<html>a proxy</html>"


def test_an_unknown_path_is_not_a_missing_object() -> None:
    assert not isinstance(errors.from_response(404, b"404 page not found\n"), errors.NotFound)


@pytest.mark.parametrize(
    ("header", "details", "seconds"),
    [
        ("7", {}, 7.0),
        (None, {"retryAfterSeconds": 3}, 3.0),
        ("7", {"retryAfterSeconds": 3}, 7.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", {}, None),
        (None, {}, None),
    ],
)
def test_retry_after(header: str | None, details: dict[str, Any], seconds: float | None) -> None:
    assert errors.from_response(429, status(429, "TooManyRequests", details=details), header).retry_after == seconds


def test_causes_name_the_fields() -> None:
    causes = [
        {"reason": "FieldValueInvalid", "field": "spec.count", "message": "must be at least 1"},
        {"reason": "Odd"},
    ]
    error = errors.from_response(422, status(422, "Invalid", details={"causes": causes}))
    assert error.causes == (
        errors.Cause("FieldValueInvalid", "spec.count", "must be at least 1"),
        errors.Cause("Odd", "", ""),
    )
    assert error.has_cause("Odd")
    assert not error.has_cause("NamespaceTerminating")


def test_an_error_of_nothing_but_its_kind_can_be_read() -> None:
    error = errors.Unavailable()
    assert (error.status, error.reason, str(error), error.causes) == (0, "Unavailable", "Unavailable", ())
