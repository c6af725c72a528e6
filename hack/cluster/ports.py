"""Free TCP ports on the loopback, for servers that take their port as a setting. Called by cluster.py."""

from __future__ import annotations

import random
import socket

# Below the range from which the kernel gives ports to outgoing connections, so that a component that is stopped for a
# while finds its port free when it comes back. (30000 and above: NodePorts.)
RANGE = range(20000, 30000)


def free_ports(count: int) -> list[int]:
    """So many different ports that nobody listens on now; another process may still be faster."""
    found: list[int] = []
    for port in random.sample(RANGE, len(RANGE)):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"no {count} free ports between {RANGE.start} and {RANGE.stop}")
