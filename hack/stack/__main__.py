"""`python -m hack.stack demo|up|down|env`: see the Makefile."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from hack import guard, needs
from hack.cluster import kubelet
from hack.image import image
from hack.stack.demo import demo, say
from hack.stack.stack import Stack
from hack.tools.build import CONTROL_PLANE, tools
from hack.xenlab.build import build


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.stack", description=__doc__)
    parser.add_argument("verb", choices=("demo", "up", "down", "env"))
    parser.add_argument("--driver", choices=("xen", "sim"), default="xen")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--state", type=Path)
    guard.add_option(parser)
    arguments = parser.parse_args()
    try:
        return run(arguments)
    except (RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run(arguments: argparse.Namespace) -> int:
    state: Path = arguments.state or Path("build/stack")
    guard.wait(arguments)
    if arguments.verb in ("down", "env"):
        if not (state / "stack.json").exists():
            raise RuntimeError(f"nothing was started in {state}: make up STATE={state}")
        stack = Stack(state)
        if arguments.verb == "env":
            environment = stack.environment()
            for name in ("KUBECONFIG", "PATH"):
                print(f"export {name}='{environment[name]}'")
        else:
            stack.stop()
        return 0
    real = arguments.driver == "xen"
    if real:
        _needs_of_xen()
    tools(families=(*CONTROL_PLANE, "helm", *(["containerd"] if real else [])))
    if real:
        build()
        image.archive()
    if arguments.verb == "up":
        stack = Stack(state, arguments.driver, arguments.nodes, kubelets=real)
        _start(stack, survive=True)
        print(f'now: eval "$(make -s env STATE={state})"; kubectl get xhost')
        return 0
    folder = Path(arguments.state or tempfile.mkdtemp(prefix="kubexen-demo-"))
    stack = Stack(folder / "stack", arguments.driver, arguments.nodes, kubelets=real)
    try:
        _start(stack)
        demo(stack)
    except Exception:
        for title, text in stack.last_words():
            say(title)
            print(text)
        raise
    finally:
        say("ending everything")
        stack.stop()
        if arguments.state is None:
            shutil.rmtree(folder, ignore_errors=True)
    say("done")
    return 0


def _start(stack: Stack, *, survive: bool = False) -> None:
    start = time.monotonic()
    chart = ", and installing the chart on them" if stack.kubelets else ""
    say(f"starting a Kubernetes control plane and {stack.nodes} {stack.driver} hosts{chart}")
    if stack.kubelets and (reason := kubelet.lacking()):
        say(f"this machine allows no node of its own, so the controller's pods run on the hosts: {reason}")
    stack.start(survive=survive)
    say(f"up after {time.monotonic() - start:.1f} s")


def _needs_of_xen() -> None:
    """Before minutes are spent on anything: can this machine have the Xen lab at all?"""
    wanted = needs.LAB_BUILD | needs.IMAGE | needs.NODE
    try:
        if os.geteuid() != 0:
            lacking = needs.missing(wanted)
            packages = f" and these Debian packages: {' '.join(lacking)}" if lacking else ""
            raise needs.MissingTools(f"real Xen hosts need root, which makes their disks{packages}")
        needs.ensure(wanted)
    except needs.MissingTools as error:
        raise RuntimeError(f"{error}. Without that: make demo DRIVER=sim does the same on simulated hosts") from None


if __name__ == "__main__":
    sys.exit(main())
