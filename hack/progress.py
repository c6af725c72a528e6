"""Progress lines: what is being done, and how long it took. Used by what builds and by what waits long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def step(what: str) -> Iterator[None]:
    """Print the step when it begins, and its time (or that it failed) when it ends."""
    print(f"hack: {what} ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(f"hack: {what}: FAILED after {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
        raise
    print(f"hack: {what}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
