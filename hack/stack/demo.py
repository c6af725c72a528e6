"""`make demo`: two domains from a manifest to a drained host, with what kubectl and what the host say side by side."""

from __future__ import annotations

import sys
import time

from hack.stack.stack import ROOT, WAIT, Stack

DOMAINS = ("tiny-pv", "tiny-pvh")
SLOW = 2 * WAIT  # seconds for two domains on one emulated host, and for a drain and a start after it


def say(text: str) -> None:
    print(f"\n\033[1m==> {text}\033[0m" if sys.stdout.isatty() else f"\n==> {text}", flush=True)


def demo(stack: Stack) -> str:
    """The node that it drained, which stays so. Raises when anything does not come to be as it should."""
    say("kubectl apply -f examples/tiny")
    start = time.monotonic()
    print(stack.kubectl("apply", "-f", str(ROOT / "examples/tiny")))
    for name in DOMAINS:
        stack.wait("xd", name, "condition=Ready", SLOW)
    say(f"both domains are Ready after {time.monotonic() - start:.1f} s")
    print(stack.kubectl("get", "xd,xdisk,xhost", "-o", "wide"))
    _xl(stack)

    say("more memory for tiny-pv, live: 128Mi -> 160Mi")
    _patch(stack, "tiny-pv", '{"spec": {"memory": {"size": "160Mi"}}}')
    stack.wait("xd", "tiny-pv", "jsonpath={.status.memory.current}=160Mi")
    _both(stack, "tiny-pv")

    say("pause tiny-pv")
    _patch(stack, "tiny-pv", '{"spec": {"powerState": "Paused"}}')
    stack.wait("xd", "tiny-pv", "jsonpath={.status.state}=--p---")
    stack.wait("xd", "tiny-pv", "condition=Ready")
    _both(stack, "tiny-pv")

    say("let it run again, then halt it")
    _patch(stack, "tiny-pv", '{"spec": {"powerState": "Running"}}')
    stack.wait_reason("tiny-pv", "Running")
    _patch(stack, "tiny-pv", '{"spec": {"powerState": "Halted"}}')
    stack.wait_reason("tiny-pv", "Halted")
    _both(stack, "tiny-pv")

    say("delete tiny-pv")
    print(stack.kubectl("delete", "xd", "tiny-pv", f"--timeout={WAIT:.0f}s"))
    _xl(stack)

    source = stack.kubectl("get", "xd", "tiny-pvh", "-o", "jsonpath={.status.nodeName}")
    say(f"kubectl drain {source}")
    start = time.monotonic()
    print(stack.kubectl("drain", source, "--ignore-daemonsets", f"--timeout={SLOW:.0f}s", timeout=SLOW + 30))
    say(f"drained after {time.monotonic() - start:.1f} s")
    stack.wait_reason("tiny-pvh", "Running", SLOW)
    target = stack.kubectl("get", "xd", "tiny-pvh", "-o", "jsonpath={.status.nodeName}")
    if target == source:
        raise RuntimeError(f"tiny-pvh is still on {source}")
    print(stack.kubectl("get", "xd", "-o", "wide"))
    _xl(stack)
    say(f"tiny-pvh is on {target} now")
    return source


def _patch(stack: Stack, name: str, patch: str) -> None:
    print(f"kubectl patch xd {name} --type=merge -p '{patch}'")
    stack.kubectl("patch", "xd", name, "--type=merge", "-p", patch)


def _both(stack: Stack, name: str) -> None:
    print(stack.kubectl("get", "xd", name))
    _xl(stack)


def _xl(stack: Stack) -> None:
    for host in stack.hosts:
        print(f"[{host.name}]# xl list\n{host.xl_list()}")
