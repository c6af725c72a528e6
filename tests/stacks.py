"""A whole Kubexen on lab hosts for the fixtures of xen/ and e2e/: started, or the test fails with what is missing; ended always."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hack.needs import MissingTools
from hack.stack.stack import Stack
from hack.xenlab.build import BuildError
from hack.xenlab.host import HostError


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
