"""The commands `batch`, `schedule` and `status`: many scenes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import note, quiet_prefect, say_page, say_path
from pipeline.cli.options import BandsOfAll, Config, Out, Prefect, Roads, Settings, band_list

commands = typer.Typer()

SceneList = Annotated[Path | None, typer.Option("--list", help="Text file with one scene per line.")]
Folder = Annotated[Path | None, typer.Option("--folder", help="Folder of scenes.")]
Stac = Annotated[str | None, typer.Option("--stac", help="URL of a STAC API to search for scenes.")]
Collections = Annotated[
    list[str] | None,
    typer.Option("--collection", help="STAC collection; may be repeated. Default: sentinel-2-l2a."),
]
Area = Annotated[
    str | None, typer.Option(help="Area to search: west,south,east,north in degrees, or a file of polygons.")
]
CloudCover = Annotated[
    float | None, typer.Option(min=0, max=100, help="Greatest cloud cover of a scene, in per cent.")
]


@commands.command()
def batch(
    out: Out,
    scenes: Annotated[
        list[str] | None, typer.Argument(metavar="[SCENE]...", help="Scenes, as for `run`.")
    ] = None,
    scene_list: SceneList = None,
    folder: Folder = None,
    stac: Stac = None,
    collections: Collections = None,
    area: Area = None,
    time: Annotated[
        str | None,
        typer.Option(help="Time of acquisition: 2023-06, 2023-06-01/2023-06-30, or 2023-06-01/.."),
    ] = None,
    cloud_cover: CloudCover = None,
    most: Annotated[int | None, typer.Option(min=1, help="Process only the N most recent scenes.")] = None,
    config: Config = None,
    settings: Settings = None,
    roads: Roads = None,
    bands: BandsOfAll = None,
    retry_quarantined: Annotated[
        bool, typer.Option("--retry-quarantined", help="Retry scenes that failed for good.")
    ] = False,
    prefect: Prefect = True,
) -> None:
    """Detect trucks and map land cover in many scenes, each once; a failure does not stop the others.

    The ledger keeps the state of each scene: `truckscape status DIR`. The same command resumes an interrupted
    batch.

    A folder: `truckscape batch --folder incoming --roads roads.gpkg --out layers`

    A search: `truckscape batch --stac https://earth-search.aws.element84.com/v1 --area 10.2,52.2,10.8,52.4
    --time 2023-06 --cloud-cover 30 --roads overpass --out layers`
    """
    from pipeline.operations.parameters import BatchParameters
    from pipeline.operations.tables import summary_page

    request = BatchParameters(
        out=out,
        scenes=tuple(scenes or ()),
        scene_list=scene_list,
        folder=folder,
        stac=stac,
        collections=collections and tuple(collections),
        area=area,
        time=time,
        cloud_cover=cloud_cover,
        most=most,
        config=config,
        settings=settings and tuple(settings),
        roads=roads,
        bands=band_list(bands),
        retry_quarantined=retry_quarantined,
    ).request()
    if prefect:
        quiet_prefect()
        from flows.batch import run_listed

        summary = run_listed(request, note)
    else:
        from pipeline.operations.batch import run_batch

        summary = run_batch(request, say=note)
    say_page(summary_page(summary))
    for name, path in summary.outputs.items():
        say_path(name, path)
    if not summary.is_complete:
        raise typer.Exit(1)


@commands.command()
def schedule(
    out: Out,
    every: Annotated[float | None, typer.Option(help="Search interval, in days.")] = None,
    cron: Annotated[
        str | None, typer.Option(help="Times of searches instead of --every, as for cron: '30 6 * * *'.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="Time zone of --cron, e.g. Europe/Berlin.")] = "UTC",
    once: Annotated[
        bool, typer.Option("--once", help="Search once, now, and exit: for other schedulers.")
    ] = False,
    pool: Annotated[
        str | None,
        typer.Option(help="Prefect work pool whose workers run the scenes. Default: this process."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of the schedule, unique on its Prefect server.")
    ] = "truckscape",
    scene_list: SceneList = None,
    folder: Folder = None,
    stac: Stac = None,
    collections: Collections = None,
    area: Area = None,
    cloud_cover: CloudCover = None,
    since: Annotated[
        str | None, typer.Option(help="Ignore scenes acquired before this date, e.g. 2023-06-01.")
    ] = None,
    overlap_days: Annotated[
        float, typer.Option(min=0, help="Look-back before the latest scene, in days, for late scenes.")
    ] = 30.0,
    config: Config = None,
    settings: Settings = None,
    roads: Roads = None,
    bands: BandsOfAll = None,
) -> None:
    """Search for new scenes at intervals; detect trucks and map land cover in each of them once.

    Late and reprocessed scenes are found, too. The ledger keeps the state of each scene: `truckscape status
    DIR`. Stop it with Ctrl-C; it resumes from there when it is started again.

    Example: `truckscape schedule --every 5 --stac https://earth-search.aws.element84.com/v1
    --area 10.2,52.2,10.8,52.4 --since 2023-06-01 --cloud-cover 30 --roads overpass --out layers`
    """
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING" if once else "INFO")
    quiet_prefect()
    from flows.schedule import deploy, new_scenes, serve, timing
    from pipeline.operations.parameters import ScheduleParameters

    given = ScheduleParameters(
        out=out,
        scene_list=scene_list,
        folder=folder,
        stac=stac,
        collections=collections and tuple(collections),
        area=area,
        cloud_cover=cloud_cover,
        since=since,
        overlap_days=overlap_days,
        config=config,
        settings=settings and tuple(settings),
        roads=roads,
        bands=band_list(bands),
    )
    parameters = given.absolute().model_dump(mode="json")
    if once:
        counts = new_scenes(**parameters)
        note(", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no new scenes")
    elif pool:
        deploy(name, parameters, timing(every, cron, timezone), pool)
        note(f"scheduled as new-scenes/{name}; start a worker: prefect worker start --pool {pool}")
    else:
        serve(name, parameters, timing(every, cron, timezone), note)


@commands.command()
def status(
    out: Annotated[Path, typer.Argument(help="Folder of a batch.")],
    every: Annotated[
        bool, typer.Option("--all", help="List every scene, not only those that are not done.")
    ] = False,
    config: Config = None,
    settings: Settings = None,
) -> None:
    """Show the ledger of a batch: states, attempts, and reasons of failures.

    Example: `truckscape status layers --all`
    """
    from pipeline.config import load_config
    from pipeline.operations.ledger.scenes import existing_ledger
    from pipeline.operations.tables import ledger_page

    ledger = existing_ledger(out, load_config(config, settings or ()))
    say_page(ledger_page(ledger.entries(), ledger.counts(), every))
