"""`kubectl xen`: the commands. Installed as `kubectl-xen` on the PATH, kubectl finds it by that name."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kubexen.api.names import AGENT_NAMESPACE, SYSTEM_NAMESPACE
from kubexen.cli.doctor import bundle, render
from kubexen.cli.doctor.check import check
from kubexen.cli.doctor.finding import Finding, failed
from kubexen.cli.doctor.snapshot import take
from kubexen.kube.client import Api
from kubexen.kube.errors import ApiError

app = typer.Typer(name="kubectl-xen", no_args_is_help=True, add_completion=False, rich_markup_mode=None)


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


@app.callback()
def xen() -> None:
    """Xen domains in Kubernetes: what kubectl itself does not do."""


@app.command()
def doctor(
    output: Annotated[Output, typer.Option("--output", "-o", help="How to show the findings.")] = Output.TEXT,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what is fine, too.")] = False,
    bundle_file: Annotated[
        Path | None, typer.Option("--bundle", metavar="FILE.tar.gz", help="Write what was read, without secrets, into this file.")
    ] = None,
    kubeconfig: Annotated[str | None, typer.Option(help="Default: $KUBECONFIG, or ~/.kube/config.")] = None,
    context: Annotated[str | None, typer.Option(help="The kubeconfig's context to use.")] = None,
    namespace: Annotated[str, typer.Option(help="Where the controller is installed.")] = SYSTEM_NAMESPACE,
    agent_namespace: Annotated[str, typer.Option(help="Where the agents are installed.")] = AGENT_NAMESPACE,
) -> None:
    """Check hosts and cluster: what is wrong, and how to mend it. Ends with 1 when something does not work."""
    try:
        findings = asyncio.run(_doctor(kubeconfig, context, namespace, agent_namespace, bundle_file))
    except ApiError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        typer.echo(f"error: {error.filename or bundle_file}: {error.strerror}", err=True)
        raise typer.Exit(1) from None
    if output is Output.JSON:
        typer.echo(render.as_json(findings))
    else:
        render.show(findings, Console(highlight=False, markup=False), verbose=verbose)
        if bundle_file is not None:
            typer.echo(f"Wrote {bundle_file}; look into it before you give it away.")
    raise typer.Exit(1 if failed(findings) else 0)


async def _doctor(
    kubeconfig: str | None, context: str | None, namespace: str, agent_namespace: str, file: Path | None
) -> list[Finding]:
    api = await Api.connect(kubeconfig, context=context, user_agent="kubectl-xen")
    try:
        snapshot = await take(api, namespace, agent_namespace)
        findings = check(snapshot)
        if file is not None:
            bundle.write(file, await bundle.collect(api, snapshot, findings))
        return findings
    finally:
        await api.close()


def main() -> None:
    app()
