"""The one tree of errors that a hypervisor driver raises; every driver maps its own errors to these.

    HypervisorError                    reason                 tried again
    ├── Unreachable                    HypervisorUnreachable  soon: the daemon is away; domains run on
    ├── NotFound                       DomainNotFound         no: look again first
    ├── AlreadyExists                  DomainExists           no: look again first
    ├── WrongState                     WrongState             soon: the domain is in a state that forbids the act
    ├── Busy                           Busy                   soon: another act holds the domain
    ├── NoMemory                       NotEnoughMemory        later: Xen has not enough free memory
    ├── InvalidConfig                  InvalidConfig          when the spec changes
    ├── Unsupported                    Unsupported            when the spec or the host changes
    ├── TimedOut                       TimedOut               soon: nobody knows how the call ended
    └── Failed                         HypervisorFailed       later: anything else, with the driver's text

`reason` becomes the condition's reason, the text its message. Nothing in here knows Kubernetes.
"""

from __future__ import annotations


class HypervisorError(Exception):
    """A driver's call did not do what it says.

    Attributes:
        reason: CamelCase reason for a condition.
        retry_after: seconds after which trying again makes sense; None: only after something changed.
    """

    reason = "HypervisorFailed"
    retry_after: float | None = 10.0


class Unreachable(HypervisorError):
    """The toolstack's daemon does not answer. Says nothing about the domains."""

    reason = "HypervisorUnreachable"
    retry_after = 1.0


class NotFound(HypervisorError):
    """There is no such domain on this host (any more)."""

    reason = "DomainNotFound"
    retry_after = None


class AlreadyExists(HypervisorError):
    """The uuid or the name is taken on this host."""

    reason = "DomainExists"
    retry_after = None


class WrongState(HypervisorError):
    """The domain's state forbids the act (a shut-down domain cannot be paused, ...)."""

    reason = "WrongState"
    retry_after = 1.0


class Busy(HypervisorError):
    """Another act holds the domain; nothing was done."""

    reason = "Busy"
    retry_after = 2.0


class NoMemory(HypervisorError):
    """Xen has not enough free memory for the domain."""

    reason = "NotEnoughMemory"
    retry_after = 10.0


class InvalidConfig(HypervisorError):
    """The host refuses this configuration; trying it again will not help."""

    reason = "InvalidConfig"
    retry_after = None


class Unsupported(HypervisorError):
    """This host or driver cannot do that."""

    reason = "Unsupported"
    retry_after = None


class TimedOut(HypervisorError):
    """No answer in time: nobody knows how the call ended, so look before the next one."""

    reason = "TimedOut"
    retry_after = 2.0


class Failed(HypervisorError):
    """Any other failure; the text is the driver's."""
