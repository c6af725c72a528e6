"""How Kopf reaches the API server from a pod."""

from __future__ import annotations

import logging

import kopf
import pytest

from kubexen.controller import handlers

ADDRESSES = {
    "an address": ("10.96.0.1", "https://10.96.0.1:443"),
    "one of IPv6": ("fd00::1", "https://[fd00::1]:443"),
}


@pytest.mark.parametrize("host, server", ADDRESSES.values(), ids=ADDRESSES)
def test_a_pod_needs_no_dns(monkeypatch: pytest.MonkeyPatch, host: str, server: str) -> None:
    by_name = kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="mine")
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: by_name)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    found = handlers._service_account(logger=logging.getLogger(), settings=handlers.settings())
    assert found is not None
    assert (found.server, found.token) == (server, "mine")


def test_what_is_no_pod_has_no_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: None)
    assert handlers._service_account(logger=logging.getLogger(), settings=handlers.settings()) is None
