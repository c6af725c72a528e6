"""Restarts in a row: each waits longer than the one before."""

from __future__ import annotations

from datetime import datetime

from kubexen.api.domainstatus import Restarts

FIRST_BACKOFF = 10.0
LONGEST_BACKOFF = 300.0
FORGET_AFTER = 600.0
"""Seconds from one crash to the next after which earlier ones count no more. The backoff doubles up to the longest."""


def delay(restarts: Restarts) -> float:
    """Seconds between the last restart and the next; the first one is at once."""
    doublings = min(restarts.count - 2, 16)  # a loop that goes on for days must not overflow a float
    return 0.0 if restarts.count < 2 else min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0**doublings)


def wait(restarts: Restarts, now: datetime) -> float:
    """Seconds until the next start; 0 or less: now."""
    return 0.0 if restarts.last is None else delay(restarts) - (now - restarts.last).total_seconds()


def one_more(restarts: Restarts, now: datetime) -> Restarts:
    fresh = restarts.last is None or (now - restarts.last).total_seconds() > FORGET_AFTER
    return Restarts(count=1 if fresh else restarts.count + 1, last=now.replace(microsecond=0))
