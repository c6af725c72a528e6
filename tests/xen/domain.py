"""The one domain of this folder's tests: brought up where it runs no more, its shell, and what is told of it."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from hack.stack.guest import NAME, XL_NAME, manifest
from hack.stack.stack import Stack
from hack.xenlab.host import HostError, XenHost


def up(stack: Stack, **spec: Any) -> tuple[XenHost, int]:
    """The domain with this spec, running, with a shell that answers; its host and its domid.

    One that another test left is good enough: to start another takes half a minute.
    """
    stack.apply(manifest(**spec))
    stack.wait_reason(NAME, "Running")
    stack.wait("xd", NAME, "jsonpath={.status.memory.current}=128Mi")
    host, domid = where(stack)
    answers(host)
    return host, domid


def answers(host: XenHost) -> None:
    """Wait until the guest's shell does what is typed."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with contextlib.suppress(HostError):  # nobody listens yet
            if host.guest_output(XL_NAME, "echo here", 10).endswith("here"):
                return
    raise AssertionError(f"{XL_NAME} does not answer: {host.guest_console_tail(XL_NAME)}")


def where(stack: Stack) -> tuple[XenHost, int]:
    status = stack.get("xd", NAME)["status"]
    assert stack.lab is not None
    return stack.lab.host(status["nodeName"]), int(status["domid"])


def status(stack: Stack, path: str) -> str:
    return stack.kubectl("get", "xd", NAME, "-o", f"jsonpath={{.status.{path}}}")


def wait_for_domid_other_than(stack: Stack, domid: int, reason: str = "Running") -> int:
    """Wait until it runs as another domain; each `kubectl wait` returns at a change, so this asks at changes only."""
    host, _ = where(stack)
    host.until(f'[ "$(xl domid {XL_NAME} 2>/dev/null || echo {domid})" != {domid} ]', 120)
    new = int(host.ssh(f"xl domid {XL_NAME}").stdout)
    stack.wait("xd", NAME, f"jsonpath={{.status.domid}}={new}")
    stack.wait_reason(NAME, reason)
    return new


def events(stack: Stack) -> set[str]:
    found = json.loads(stack.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
    return {e["reason"] for e in found if e["regarding"].get("name") == NAME}
