"""Progress lines: what is being done, and how long it took. Used by the build and by the lab."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def step(what: str) -> Iterator[None]:
    """Print the step when it begins, and its time (or that it failed) when it ends."""
    print(f"xenlab: {what} ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(f"xenlab: {what}: FAILED after {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
        raise
    print(f"xenlab: {what}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
