"""The commands `batch`, `schedule` and `status`: many scenes."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.console import note, quiet_prefect, say_page, say_path
from pipeline.cli.options import (
    BandsOfAll,
    Config,
    Nodata,
    Offset,
    Out,
    Prefect,
    Roads,
    Scale,
    Settings,
    band_list,
    finite,
    scene_settings,
)
from pipeline.fields import CLOUD_COVER, MOST, OVERLAP_DAYS, fields_of

commands = typer.Typer()


@dataclass(frozen=True)
class _ManyScenes:
    """Options of batches and schedules."""

    out: Out
    scene_list: Annotated[Path | None, typer.Option("--list", help="Text file with one scene per line.")] = (
        None
    )
    folder: Annotated[Path | None, typer.Option("--folder", help="Folder of scenes.")] = None
    stac: Annotated[str | None, typer.Option("--stac", help="URL of a STAC API to search for scenes.")] = None
    collections: Annotated[
        list[str] | None,
        typer.Option("--collection", help="STAC collection; may be repeated. Default: sentinel-2-l2a."),
    ] = None
    area: Annotated[
        str | None,
        typer.Option(
            help="Area to search: west,south,east,north in degrees, or polygons (FILE or FILE:LAYER)."
        ),
    ] = None
    cloud_cover: Annotated[
        float | None,
        typer.Option(
            min=CLOUD_COVER[0],
            max=CLOUD_COVER[1],
            callback=finite,
            help="Greatest cloud cover of a scene, in per cent.",
        ),
    ] = None
    config: Config = None
    settings: Settings = None
    roads: Roads = None
    bands: BandsOfAll = None
    scale: Scale = None
    offset: Offset = None
    nodata: Nodata = None

    def parameters(self, *without: str) -> dict[str, Any]:
        """Return the options as parameters, but for some; those of scenes are settings."""
        given = {**asdict(self), "bands": band_list(self.bands)}
        of_scenes = {name: given.pop(name) for name in ("scale", "offset", "nodata")}
        given["settings"] = scene_settings(self.settings, **of_scenes)
        return {name: value for name, value in given.items() if name not in without}


@dataclass(frozen=True)
class _Batch(_ManyScenes):
    scenes: Annotated[
        list[str] | None, typer.Argument(metavar="[SCENE]...", help="Scenes, as for `run`.")
    ] = None
    time: Annotated[
        str | None,
        typer.Option(help="Time of acquisition: 2023-06, 2023-06-01/2023-06-30, or 2023-06-01/.."),
    ] = None
    most: Annotated[
        int | None, typer.Option(min=MOST[0], max=MOST[1], help="Process only the N most recent scenes.")
    ] = None
    retry_quarantined: Annotated[
        bool, typer.Option("--retry-quarantined", help="Retry scenes that failed for good.")
    ] = False
    prefect: Prefect = True


@dataclass(frozen=True)
class _Schedule(_ManyScenes):
    every: Annotated[
        float | None, typer.Option(min=0.001, max=3650, callback=finite, help="Search interval, in days.")
    ] = None
    cron: Annotated[
        str | None, typer.Option(help="Times of searches instead of --every, as for cron: '30 6 * * *'.")
    ] = None
    timezone: Annotated[str, typer.Option(help="Time zone of --cron, e.g. Europe/Berlin.")] = "UTC"
    since: Annotated[
        str | None, typer.Option(help="Ignore scenes acquired before this date, e.g. 2023-06-01.")
    ] = None
    overlap_days: Annotated[
        float,
        typer.Option(
            min=OVERLAP_DAYS[0],
            max=OVERLAP_DAYS[1],
            callback=finite,
            help="Look-back before the latest scene, in days, for late scenes.",
        ),
    ] = 30.0
    once: Annotated[
        bool, typer.Option("--once", help="Search once, now, and exit: for other schedulers.")
    ] = False
    pool: Annotated[
        str | None,
        typer.Option(help="Prefect work pool whose workers run the scenes. Default: this process."),
    ] = None
    name: Annotated[str, typer.Option(help="Name of the schedule, unique on its Prefect server.")] = (
        "truckscape"
    )


@commands.command()
@fields_of(_Batch)
def batch(options: _Batch) -> None:
    """Detect trucks and map land cover in many scenes, each once; a failure does not stop the others.

    The ledger keeps the state of each scene: `truckscape status DIR`. The same command resumes an interrupted
    batch.

    A folder: `truckscape batch --folder incoming --roads roads.gpkg --out layers`

    A search: `truckscape batch --stac https://earth-search.aws.element84.com/v1 --area 10.2,52.2,10.8,52.4
    --time 2023-06 --cloud-cover 30 --roads overpass --out layers`
    """
    from pipeline.operations.parameters import BatchParameters
    from pipeline.operations.tables import summary_page

    parameters = options.parameters("prefect")
    request = BatchParameters(**{**parameters, "scenes": options.scenes or ()}).request()
    if options.prefect:
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
@fields_of(_Schedule)
def schedule(options: _Schedule) -> None:
    """Search for new scenes at intervals; detect trucks and map land cover in each of them once.

    Late and reprocessed scenes are found, too. The ledger keeps the state of each scene: `truckscape status
    DIR`. Stop with Ctrl-C; the same command resumes from there.

    Example: `truckscape schedule --every 5 --stac https://earth-search.aws.element84.com/v1
    --area 10.2,52.2,10.8,52.4 --since 2023-06-01 --cloud-cover 30 --roads overpass --out layers`
    """
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING" if options.once else "INFO")
    quiet_prefect()
    from flows.schedule import deploy, new_scenes, serve, timing
    from pipeline.operations.parameters import ScheduleParameters

    given = options.parameters("every", "cron", "timezone", "once", "pool", "name")
    parameters = ScheduleParameters(**given).absolute().model_dump(mode="json")
    if options.once:
        counts = new_scenes(**parameters)
        note(", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no new scenes")
        return
    times = timing(options.every, options.cron, options.timezone)
    if options.pool:
        deploy(options.name, parameters, times, options.pool)
        start = f"prefect worker start --pool {options.pool}"
        note(f"scheduled as new-scenes/{options.name}; start a worker: {start}")
    else:
        serve(options.name, parameters, times, note)


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
    for message in ledger.damaged.values():
        note(message)
