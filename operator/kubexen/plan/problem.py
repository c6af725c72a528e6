"""A reason not to go on, in words that a person can act on. Plans return it; it ends up in a condition."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(unsafe_hash=True)
class Problem(Exception):
    """`reason` becomes the condition's reason, `message` says what to do.

    Not frozen, as other plain data is: contextlib writes the __traceback__ of an exception that passes through.

    Attributes:
        stalled: only a person can mend it; otherwise it is tried again by itself.
        retry_after: seconds after which to look again; None: when something changes.
    """

    reason: str
    message: str
    stalled: bool = False
    retry_after: float | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"
