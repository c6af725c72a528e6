"""Builds the pinned tools into the cache: `python -m hack.tools.build [--cache DIR] [family ...]`.

Called by `make` and, through `binary()` and `tools()`, by whoever starts one of the tools; what is there already is
found in milliseconds. The versions are those of the go.mod files beside this module: a change gives a new folder.
It does not run the tools.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hack.tools.golang import BuildError, cache_folder, find_go, go_environment

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Family:
    """Commands that come from one Go module, built together. The folder of the same name holds their go.mod."""

    name: str
    module: str
    commands: Mapping[str, str]  # the binary's name: its Go package
    version_variables: Sequence[str] = ()  # linker variables, with {version}, {major}, {minor} and {patch} filled in
    files: Mapping[str, str] = field(default_factory=dict)  # path in the family's folder: path in the module
    tags: Sequence[str] = ()  # Go build tags

    @cached_property
    def version(self) -> str:
        found = re.search(rf"^\s*(?:require )?{re.escape(self.module)} (v\S+)", self._go_mod, re.MULTILINE)
        if found is None:
            raise BuildError(f"hack/tools/{self.name}/go.mod does not require {self.module}")
        return found[1]

    @property
    def linker_flags(self) -> str:
        major, minor, patch = self.version.removeprefix("v").split(".")[:3]
        values = {"version": self.version, "major": major, "minor": minor, "patch": patch}
        return " ".join(["-s -w", *(f"-X {variable.format(**values)}" for variable in self.version_variables)])

    @property
    def key(self) -> str:
        """Names the family's folder in the cache: it changes with all that goes into the binaries."""
        inputs = [self._go_mod, (HERE / self.name / "go.sum").read_text(), self.linker_flags]
        inputs += [f"{a} {b}" for a, b in sorted([*self.commands.items(), *self.files.items()])]
        inputs += self.tags
        digest = hashlib.sha256("\0".join(inputs).encode()).hexdigest()
        return f"{self.name}-{self.version}-{digest[:8]}"

    @cached_property
    def _go_mod(self) -> str:
        return (HERE / self.name / "go.mod").read_text()


KUBERNETES_COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet")
FAMILIES = {
    family.name: family
    for family in (
        Family("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"}),
        Family(
            "kubernetes",
            "k8s.io/kubernetes",
            {command: f"k8s.io/kubernetes/cmd/{command}" for command in KUBERNETES_COMMANDS},
            # A plain `go build` calls itself v0.0.0-master, and clients and the API server judge each other by version.
            version_variables=[
                f"k8s.io/{package}/version.{variable}"
                for package in ("component-base", "client-go/pkg")
                for variable in ("gitVersion={version}", "gitMajor={major}", "gitMinor={minor}")
            ],
        ),
        Family(
            "kwok",
            "sigs.k8s.io/kwok",
            {"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
            version_variables=["sigs.k8s.io/kwok/pkg/consts.Version={version}"],
            files={
                f"stages/{Path(source).name}": f"kustomize/stage/{source}"
                for source in (
                    "node/fast/node-initialize.yaml",
                    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
                    "pod/fast/pod-ready.yaml",
                    "pod/fast/pod-complete.yaml",
                    "pod/fast/pod-delete.yaml",
                )
            },
        ),
        Family(
            "containerd",
            "github.com/containerd/containerd/v2",
            {
                command: f"github.com/containerd/containerd/v2/cmd/{command}"
                for command in ("containerd", "containerd-shim-runc-v2", "ctr")
            },
            version_variables=["github.com/containerd/containerd/v2/version.Version={version}"],
            tags=("no_btrfs", "no_devmapper", "no_zfs"),  # snapshotters that want libraries in C, and that nobody uses here
        ),
        Family(
            "helm",
            "helm.sh/helm/v4",
            {"helm": "helm.sh/helm/v4/cmd/helm"},
            version_variables=["helm.sh/helm/v4/internal/version.version={version}"],
        ),
    )
}
CONTROL_PLANE = ("etcd", "kubernetes", "kwok")


def build(name: str, cache: Path | None = None) -> Path:
    """The folder of a family's tools, which are built now if they are not there yet. Binaries are in its `bin`."""
    family = FAMILIES[name]
    root = (cache or cache_folder()) / "tools"
    target = root / family.key
    if target.is_dir():
        return target
    root.mkdir(parents=True, exist_ok=True)
    with _only_builder(root / f".{family.name}.lock"):
        if not target.is_dir():  # another process may have built it while this one waited
            partial = Path(tempfile.mkdtemp(prefix=f".{family.key}.", dir=root))
            try:
                _build_into(family, partial, cache or cache_folder())
                partial.chmod(0o755)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return target


def tools(cache: Path | None = None, families: Sequence[str] = tuple(FAMILIES)) -> list[Path]:
    """The folders for PATH, of the families asked for; what is missing is built now."""
    return [build(name, cache) / "bin" for name in families]


def binary(name: str, cache: Path | None = None) -> Path:
    """The path of one tool; its family is built now if it is missing."""
    for family in FAMILIES.values():
        if name in family.commands:
            return build(family.name, cache) / "bin" / name
    raise BuildError(f"no family of hack/tools has a command {name}")


def _build_into(family: Family, folder: Path, cache: Path) -> None:
    """All commands at once: while one is linked, which takes one CPU, another's packages are compiled."""
    go = find_go(cache)
    source = HERE / family.name
    start = time.monotonic()
    print(f"building {family.name} {family.version}: {', '.join(family.commands)} ...", end="", file=sys.stderr, flush=True)
    arguments = ["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", family.linker_flags]
    arguments += ["-gcflags=all=-dwarf=false"]  # -w would leave it out of the binary; to make it takes an eighth of a build's CPU
    arguments += [f"-tags={','.join(family.tags)}"] if family.tags else []
    try:
        (folder / "bin").mkdir()
        _run([str(go), *arguments, "-o", str(folder / "bin"), *family.commands.values()], source)
        for command, package in family.commands.items():
            (folder / "bin" / _called(package)).rename(folder / "bin" / command)
    except BaseException:
        print(" failed", file=sys.stderr)
        raise
    print(f" {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    if family.files:
        module = Path(_run([str(go), "list", "-m", "-f", "{{.Dir}}", family.module], source).strip())
        for path, original in family.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            # Not copy(): files of the module cache are read-only, and a cache is to be removable.
            shutil.copyfile(module / original, folder / path)


def _called(package: str) -> str:
    """What `go build` calls a package's command: by its path's last part that is no version."""
    return re.sub(r"/v[0-9]+$", "", package).rpartition("/")[2]


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=go_environment(), capture_output=True, text=True)
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise BuildError(f"`{' '.join(command[:2])}` in hack/tools/{folder.name} failed:\n{tail}")
    return done.stdout


@contextmanager
def _only_builder(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another build ({lock})", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.tools.build", description="Build the pinned tools.")
    parser.add_argument("--cache", type=Path, help="default: $KUBEXEN_CACHE, else ~/.cache/kubexen")
    parser.add_argument("family", nargs="*", help=f"{', '.join(FAMILIES)}; default: all")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.family) - set(FAMILIES)):
        parser.error(f"no such family: {', '.join(unknown)}")
    try:
        for folder in tools(options.cache, options.family or tuple(FAMILIES)):
            print(folder)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
