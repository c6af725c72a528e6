"""How long to wait after failures in a row. Used by the work queue (one a key) and the reflector; it does not sleep
itself.
"""

from __future__ import annotations

import random


class Backoff:
    """`first` seconds, doubling up to `longest`; each shortened at random by up to `jitter` of it, so that clients do
    not return in step.
    """

    def __init__(self, first: float = 0.2, longest: float = 60.0, jitter: float = 0.25) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self.failures = 0

    def next(self) -> float:
        # the exponent is bounded, for a float has no 2**1024
        delay = min(self._first * 2.0 ** min(self.failures, 64), self._longest)
        self.failures += 1
        return delay * (1.0 - random.uniform(0.0, self._jitter))

    def reset(self) -> None:
        self.failures = 0
