"""The command `doctor`: checks of the installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import say_page, status
from pipeline.cli.options import Config, Settings

commands = typer.Typer()


@commands.command()
def doctor(
    out: Annotated[Path, typer.Option("--out", help="Folder for results, whose disk is checked.")] = Path(),
    config: Config = None,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check the installation and suggest fixes.

    Checks packages, models, GDAL, disk, memory, processor, and the servers that settings and environment
    name. The exit status is 1 if a check fails: a run with these settings would fail, too.

    Example: `truckscape doctor --out layers --set runner.kind=dask`
    """
    from dataclasses import asdict

    from pipeline.config import load_config
    from pipeline.operations.doctor import doctor_page, examine, is_well

    with status("checking"):
        findings = examine(load_config(config, settings or ()), out)
    if as_json:
        import json

        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        say_page(doctor_page(findings))
    if not is_well(findings):
        raise typer.Exit(1)
