"""The command `run`: one scene."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.console import (
    print_result,
    progress,
    quiet_prefect,
)
from pipeline.cli.options import Bands, Config, Out, Prefect, Roads, Settings, band_list

if TYPE_CHECKING:
    from pipeline.run import Request


commands = typer.Typer()


@commands.command()
def run(
    scene: Annotated[
        str,
        typer.Argument(
            help="A .SAFE folder or its zip, a folder of band files, a GeoTIFF with band descriptions, "
            "or a STAC item (file or URL)."
        ),
    ],
    out: Out,
    config: Config = None,
    settings: Settings = None,
    roads: Roads = None,
    truck_labels: Annotated[Path | None, typer.Option(help="Boxes of trucks to score against.")] = None,
    landcover_labels: Annotated[
        Path | None, typer.Option(help="Raster or polygons of land cover to score against.")
    ] = None,
    bands: Bands = None,
    prefect: Prefect = True,
) -> None:
    """Find moving trucks and map the land cover of one scene.

    A run that was interrupted goes on where it was: give the same command again.

    Example: `truckscape run S2A_MSIL2A_20230804T021351.SAFE --roads roads.gpkg --out layers`
    """
    from pipeline.config import load_config

    request = _request(
        scene=scene,
        out=out,
        config=load_config(config, settings or ()),
        bands=band_list(bands),
        roads=roads,
        truck_labels=truck_labels,
        landcover_labels=landcover_labels,
    )
    from pipeline.logs import labelled

    if prefect:
        quiet_prefect()
        from pipeline.run import prepare

        job = prepare(request)
        with labelled(scene=job.scene.id), progress(job) as (say, on_tile):
            from flows.scene import run_prepared

            result = run_prepared(job, say, on_tile)
    else:
        from pipeline.run import prepare, run_prepared_directly

        job = prepare(request)
        with labelled(scene=job.scene.id), progress(job) as (say, on_tile):
            result = run_prepared_directly(job, say, on_tile)
    print_result(result)


def _request(**arguments: Any) -> Request:
    from pipeline.run import Request

    return Request(**arguments)
