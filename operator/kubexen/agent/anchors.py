"""The processes of anchors on this host: an anchor's container ignores SIGTERM and has a grace of a year, so that only the
agent ends it, when the domain has left or has gone over to another anchor (docs/concepts.md). domains.py calls it.

A kubelet that was told a shorter grace meanwhile does not end it (seen with 1.36 and containerd 2.4). Without a kubelet
there is no process, and nothing to do. Which anchor a domain had is kept in /run/kubexen/anchors, a link a domain, so that the next
agent knows it too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

from kubexen.agent.storage.links import lead

logger = logging.getLogger(__name__)

KNOWN = "run/kubexen/anchors"


class Anchors:
    def __init__(self, root: Path) -> None:
        self._processes, self._links = root / "proc", root / KNOWN

    def follow(self, domain: str, uid: str) -> None:
        """A domain (its UUID) that is here has this anchor now. One that it had before ends: an eviction that was taken back leaves
        one that nobody else does. Errors: OSError."""
        before = self._known(domain)
        if before != uid:
            self.end(before)
            lead(self._links / domain, uid)

    def leave(self, domain: str, uid: str) -> None:
        """A domain has left this anchor and the host: it ends, and one that it had before. Again: nothing. Errors: OSError."""
        for one in {uid, self._known(domain)}:
            self.end(one)
        with contextlib.suppress(FileNotFoundError):
            (self._links / domain).unlink()

    def _known(self, domain: str) -> str:
        """The anchor that a domain had, as far as an agent has seen; '': none."""
        try:
            return os.readlink(self._links / domain)
        except FileNotFoundError:
            return ""

    def end(self, uid: str) -> None:
        """SIGKILL every process of the pod of this uid. Again: nothing is left to end."""
        for pid in self._of(uid):
            with contextlib.suppress(ProcessLookupError):
                process = os.pidfd_open(pid)
                try:
                    if self._is_of(pid, uid):  # still: the number may have gone to another process
                        signal.pidfd_send_signal(process, signal.SIGKILL)
                        logger.info("ended process %d of anchor %s", pid, uid)
                finally:
                    os.close(process)

    def _of(self, uid: str) -> Iterator[int]:
        if not uid or not self._processes.is_dir():
            return
        for entry in os.listdir(self._processes):
            if entry.isdecimal() and self._is_of(int(entry), uid):
                yield int(entry)

    def _is_of(self, pid: int, uid: str) -> bool:
        """By its control group, as kubelets name them: `pod1234-...`, or `...-pod1234_....slice` under systemd."""
        try:
            text = (self._processes / str(pid) / "cgroup").read_text()
        except OSError:
            return False
        return re.search(rf"[/-]pod({re.escape(uid)}|{re.escape(uid.replace('-', '_'))})[./]", text) is not None
