"""The command `run`: one scene."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import note, print_result, progress, quiet_prefect
from pipeline.cli.options import (
    Acquired,
    Bands,
    Config,
    Nodata,
    Offset,
    Out,
    Prefect,
    Roads,
    Scale,
    Settings,
    band_list,
    scene_settings,
)
from pipeline.cli.server_ahead import ServerAhead
from pipeline.logs import labelled
from pipeline.redaction import without_secrets
from pipeline.scenes.existing import check_there

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
    truck_labels: Annotated[
        Path | None, typer.Option(help="Reference truck boxes, for scores: FILE or FILE:LAYER.")
    ] = None,
    landcover_labels: Annotated[
        Path | None,
        typer.Option(
            help="Reference land cover for scores: a raster, polygons or points (FILE or FILE:LAYER)."
        ),
    ] = None,
    bands: Bands = None,
    scale: Scale = None,
    offset: Offset = None,
    nodata: Nodata = None,
    acquired: Acquired = None,
    prefect: Prefect = True,
) -> None:
    """Detect moving trucks and map land cover in one scene.

    The same command resumes an interrupted run. Exit status 1 if labels are given and nothing was measured
    with them; the layers are complete then, too.

    Example: `truckscape run S2A_MSIL2A_20230804T021351.SAFE --roads roads.gpkg --out layers`
    """
    check_there(scene)
    from pipeline.config import load_config

    own = scene_settings(settings, scale=scale, offset=offset, nodata=nodata, acquired=acquired)
    checked_settings = load_config(config, own)
    note(f"opening {without_secrets(scene)}")  # imports that take seconds are below
    from pipeline.evaluation.evaluate import check_measured
    from pipeline.run import OVERPASS, Request, prepare, run_prepared_directly

    request = Request(
        scene=scene,
        out=out,
        config=checked_settings,
        bands=band_list(bands),
        roads=roads,
        truck_labels=truck_labels,
        landcover_labels=landcover_labels,
    )
    if prefect:
        quiet_prefect()
    if str(roads) == OVERPASS:
        source = without_secrets(request.config.traffic.overpass_url)
        note(f"roads: from {source}, unless they are in {out / '.roads'}")
    server = ServerAhead()
    job = prepare(request, checked=server.start if prefect else lambda: None)
    with labelled(scene=job.scene.id):
        if roads is None and job.models.detector:
            note("roads: none; near roads more trucks and fewer look-alikes are found (--roads overpass)")
        with progress(job) as (say, on_tile):
            if prefect:
                from flows.own_server import use_server
                from flows.scene import run_prepared

                if server.process:
                    use_server(server.process, server.port)
                result = run_prepared(job, say, on_tile)
            else:
                result = run_prepared_directly(job, say, on_tile)
    print_result(result)
    check_measured(result.metrics)
