"""Why libxl could not do something: its own log, where libvirt only says 'failed to create new domain'.

platform.py reads what was added during a call. The log is one for all domains, so with several starts at once another
one's line may be among them: it is for a person to read, and nothing is decided by it but 'not enough memory'.
"""

from __future__ import annotations

import re
from pathlib import Path

PATH = Path("/var/log/libvirt/libxl/libxl-driver.log")
MOST_BYTES = 16384
MOST_LINES = 3

# 2031-05-01 10:00:00.123+0000: libxl: libxl_dom.c:571:libxl__build_dom: xc_dom_parse_image failed
_LINE = re.compile(r"^\S+ \S+: (?:libxl|xc): (?:panic: )?(?:\S+\.c:\d+: ?)?(?P<function>\w+): (?P<text>.+)$")


class LibxlLog:
    def __init__(self, path: Path = PATH) -> None:
        self._path = path

    def end(self) -> int:
        """Where the log ends now."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def since(self, begin: int) -> str:
        """The first messages after `begin`, joined; empty where there is no log to read. The first tell the cause, the
        later ones only who else failed for it."""
        try:
            with self._path.open("rb") as log:
                log.seek(begin)
                text = log.read(MOST_BYTES).decode(errors="replace")
        except OSError:
            return ""
        return "; ".join(messages(text)[:MOST_LINES])


def messages(text: str) -> list[str]:
    """The messages in lines of the log, without time, file and function."""
    found = (_LINE.match(line) for line in text.splitlines())
    return [line["text"] for line in found if line]
