"""A start on a real Xen host beside a bare `virsh create` of the same XML, turn by turn in one run.

Called by __main__.py (`make bench-xen`). Everything shares this machine and the host's CPU is emulated, so only the
difference of the two says anything.
"""

from __future__ import annotations

import os
import statistics
import time
import xml.etree.ElementTree as ET
from typing import Any

from hack.bench import flags, load
from hack.bench.load import is_ready
from hack.stack.stack import ROOT, Stack
from hack.xenlab.host import GUEST_LOGS, GUEST_UP, XenHost

NAMESPACE = "default"
NAME = "bench"
XL_NAME = f"{NAMESPACE}.{NAME}"
ALLOWED_S = 0.5
ALLOWED_SHARE = 0.1
"""What Kubexen may add to a bare start: the larger of the two."""

BARE = "bare"
XML = "/run/kubexen-bench.xml"
CREATE = f"start=$(date +%s%N) && virsh -q -c xen:///system create {XML} >/dev/null && echo $(($(date +%s%N) - start))"


def measure(stack: Stack, rounds: int) -> dict[str, Any]:
    """Start one domain so many times in both ways. The first round is not counted: it makes the disk and fills caches."""
    assert stack.lab is not None
    (host,) = stack.lab.hosts
    stack.kubectl("apply", "-f", str(ROOT / "examples/tiny/network.yaml"))
    stack.cluster.api.create(_collection("xendisks"), load.disk(NAME, NAMESPACE, pool="shared"))
    ours, bare, crashes = [], [], []
    for number in range(rounds + 1):
        host.ssh(f"rm -f {GUEST_LOGS}/guest-{XL_NAME}.log")
        applied = _apply(stack)
        xml = description(host, XL_NAME)
        host.guest_wait(XL_NAME, GUEST_UP)
        crashes.append(flags.on_xen(stack, host, f"{_collection('xendomains')}/{NAME}", XL_NAME))
        stack.kubectl("delete", "xd", NAME, "--timeout=120s")
        created = virsh_create(host, xml)
        print(f"round {number}: applied to Ready {applied:.2f} s, virsh create {created:.2f} s, a crash shown "
              f"after {crashes[-1]:.2f} s", flush=True)
        ours.append(applied)
        bare.append(created)
    kubexen, virsh = (statistics.median(times[1:]) for times in (ours, bare))
    return {
        "rounds": rounds,
        "start_s": [round(t, 3) for t in ours[1:]],
        "virsh_create_s": [round(t, 3) for t in bare[1:]],
        "start_median_s": round(kubexen, 3),
        "virsh_create_median_s": round(virsh, 3),
        "added_s": round(kubexen - virsh, 3),
        "added_beyond_allowed_s": round(kubexen - virsh - max(ALLOWED_S, ALLOWED_SHARE * virsh), 3),
        "flags_s": [round(t, 3) for t in crashes],
        "flags_median_s": round(statistics.median(crashes), 3),
        "load_average": os.getloadavg()[0],
        "cpus": os.cpu_count(),
    }


def _apply(stack: Stack) -> float:
    """Seconds from the call that creates the object to the watch's word that it is Ready."""
    api = stack.cluster.api
    start = time.monotonic()
    api.create(_collection("xendomains"), load.domain(NAME, NAMESPACE, pool="images", network="lan"))
    api.wait(f"{_collection('xendomains')}/{NAME}", is_ready, 240)
    return time.monotonic() - start


def description(host: XenHost, domain: str) -> str:
    """A running domain's XML, under another name, and without what says that it is Kubexen's."""
    tree = ET.fromstring(host.ssh(f"virsh -c xen:///system dumpxml --inactive {domain}").stdout)
    for kind in ("metadata", "uuid"):
        tree.remove(tree.find(kind))
    tree.find("name").text = BARE
    return ET.tostring(tree, encoding="unicode")


def virsh_create(host: XenHost, xml: str) -> float:
    """Seconds that `virsh create` takes in dom0, by dom0's clock. The domain is destroyed after it."""
    host.write(XML, xml)
    try:
        return int(host.ssh(CREATE).stdout) / 1e9
    finally:
        host.ssh(f"virsh -q -c xen:///system destroy {BARE}", check=False)


def _collection(plural: str) -> str:
    return f"{load.GROUP}/namespaces/{NAMESPACE}/{plural}"
