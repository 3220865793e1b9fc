"""The command `doctor`: checks of the installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import (
    say_page,
    status,
)
from pipeline.cli.options import Config, Settings

commands = typer.Typer()


@commands.command()
def doctor(
    out: Annotated[Path, typer.Option("--out", help="Folder in which results are to go.")] = Path(),
    config: Config = None,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: a list of findings.")] = False,
) -> None:
    """Whether all is there that a run with these settings needs, and how to mend what is not.

    Looks at packages, models, GDAL, disk, memory, processor, and at the servers that settings and
    environment name. Exit status 1 if something fails.

    Example: `truckscape doctor --out layers --set runner.kind=dask`
    """
    from dataclasses import asdict

    from pipeline.config import load_config
    from pipeline.operations.doctor import doctor_page, examine, is_well

    with status("looking"):
        findings = examine(load_config(config, settings or ()), out)
    if as_json:
        import json

        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        say_page(doctor_page(findings))
    if not is_well(findings):
        raise typer.Exit(1)
