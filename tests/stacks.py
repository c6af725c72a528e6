"""A whole Kubexen as tests of several folders start it, or fail with what is missing, and end it; and what they wait for in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hack.cluster.api import Object
from hack.needs import MissingTools
from hack.stack.stack import WAIT, Stack
from hack.xenlab.build import BuildError
from hack.xenlab.host import HostError

READY, HEALTHY = (f'jsonpath={{.status.conditions[?(@.type=="{kind}")].reason}}' for kind in ("Ready", "Healthy"))
"""What `kubectl wait` waits for, the reason of a condition: f"{READY}=REASON"."""
LIBVIRTD = "libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service"
"""What is to be stopped with it, so that nothing starts it again."""
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"


def wait_host_event(stack: Stack, host: str, reason: str, words: str) -> Object:
    """Until an Event about this XenHost is there, for this reason and with these words; the Event."""
    for _, event in stack.cluster.api.watch(EVENTS, WAIT, fieldSelector=f"regarding.name={host},reason={reason}"):
        if event["regarding"]["kind"] == "XenHost" and words in event["note"]:
            return event
    raise TimeoutError(f"no Event {reason} with {words!r} for XenHost {host}")


@contextmanager
def started(stack: Stack, start: Callable[[], None] | None = None) -> Iterator[Stack]:
    """`start`: another way to start it than wholly."""
    try:
        try:
            (start or stack.start)()
        except (MissingTools, BuildError, HostError) as error:
            pytest.fail(str(error), pytrace=False)
        except Exception:
            for title, text in stack.last_words():  # before they are ended; shown with the test that wanted them
                print(f"--- {title}\n{text}")
            raise
        yield stack
    finally:
        stack.stop()
