"""The commands `batch`, `schedule` and `status`: many scenes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.console import (
    note,
    quiet_prefect,
    say_page,
    say_path,
)
from pipeline.cli.options import BandsOfAll, Config, Out, Prefect, Roads, Settings, absolute, band_list

commands = typer.Typer()


@commands.command()
def batch(
    out: Out,
    scenes: Annotated[
        list[str] | None, typer.Argument(metavar="[SCENE]...", help="Scenes, each as for `run`.")
    ] = None,
    scene_list: Annotated[
        Path | None, typer.Option("--list", help="A text file that names a scene a line.")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="A folder in which scenes lie.")] = None,
    stac: Annotated[
        str | None, typer.Option("--stac", help="URL of a STAC API to search; the next five say for what.")
    ] = None,
    collections: Annotated[
        list[str] | None, typer.Option("--collection", help="May be repeated; sentinel-2-l2a without.")
    ] = None,
    area: Annotated[
        str | None, typer.Option(help="west,south,east,north in degrees, or a file of polygons.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="When acquired: 2023-06, 2023-06-01/2023-06-30, or 2023-06-01/..")
    ] = None,
    cloud_cover: Annotated[
        float | None, typer.Option(min=0, max=100, help="At most so many per cent of cloud.")
    ] = None,
    most: Annotated[int | None, typer.Option(min=1, help="At most so many scenes, the latest.")] = None,
    config: Config = None,
    settings: Settings = None,
    roads: Roads = None,
    bands: BandsOfAll = None,
    retry_quarantined: Annotated[
        bool, typer.Option("--retry-quarantined", help="Try scenes again that failed for good.")
    ] = False,
    prefect: Prefect = True,
) -> None:
    """Find trucks and map land cover of many scenes, each once; one that fails doesn't stop the others.

    What became of each scene is in the ledger: `truckscape status DIR`. A batch that was interrupted goes on
    where it was: give the same command again.

    A folder: `truckscape batch --folder incoming --roads roads.gpkg --out layers`

    A search: `truckscape batch --stac https://earth-search.aws.element84.com/v1 --area 10.2,52.2,10.8,52.4
    --time 2023-06 --cloud-cover 30 --roads overpass --out layers`
    """
    from pipeline.config import load_config
    from pipeline.operations.batch import BatchRequest, run_batch
    from pipeline.operations.search import COLLECTION, Search
    from pipeline.operations.sources import Sources, find_scenes
    from pipeline.operations.tables import summary_page

    tree = load_config(config, settings or ())
    search = Search(stac, tuple(collections or [COLLECTION]), area, time, cloud_cover, most) if stac else None
    request = BatchRequest(
        scenes=find_scenes(Sources(tuple(scenes or ()), scene_list, folder, search), tree.batch),
        out=out,
        config=tree,
        bands=band_list(bands),
        roads=roads,
        retry_quarantined=retry_quarantined,
    )
    if prefect:
        quiet_prefect()
        from flows.batch import run_listed

        summary = run_listed(request, note)
    else:
        summary = run_batch(request, say=note)
    say_page(summary_page(summary))
    for name, path in summary.outputs.items():
        say_path(name, path)
    if not summary.is_complete:
        raise typer.Exit(1)


@commands.command()
def schedule(
    out: Out,
    every: Annotated[float | None, typer.Option(help="Days from one look to the next.")] = None,
    cron: Annotated[str | None, typer.Option(help="Or when to look, as cron has it: '30 6 * * *'.")] = None,
    timezone: Annotated[str, typer.Option(help="Of --cron, e.g. Europe/Berlin.")] = "UTC",
    once: Annotated[
        bool, typer.Option("--once", help="Look once, now, and end: for other schedulers.")
    ] = False,
    pool: Annotated[
        str | None, typer.Option(help="Prefect work pool whose workers do it; else this process does.")
    ] = None,
    name: Annotated[str, typer.Option(help="Tells schedules of one Prefect server apart.")] = "truckscape",
    scene_list: Annotated[Path | None, typer.Option("--list", help="As for `batch`.")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="As for `batch`.")] = None,
    stac: Annotated[str | None, typer.Option("--stac", help="As for `batch`, and the next three.")] = None,
    collections: Annotated[list[str] | None, typer.Option("--collection")] = None,
    area: Annotated[str | None, typer.Option()] = None,
    cloud_cover: Annotated[float | None, typer.Option(min=0, max=100)] = None,
    since: Annotated[
        str | None, typer.Option(help="Scenes acquired before this day, e.g. 2023-06-01, are none.")
    ] = None,
    overlap_days: Annotated[
        float, typer.Option(min=0, help="How far behind the latest scene late ones are looked for.")
    ] = 30.0,
    config: Config = None,
    settings: Settings = None,
    roads: Roads = None,
    bands: BandsOfAll = None,
) -> None:
    """Look for new scenes again and again, and find trucks and map land cover of each once.

    Late scenes and those that were processed again are found, too. What became of each is in the ledger:
    `truckscape status DIR`. Ends with Ctrl-C, and goes on where it was when it is started again.

    Example: `truckscape schedule --every 5 --stac https://earth-search.aws.element84.com/v1
    --area 10.2,52.2,10.8,52.4 --since 2023-06-01 --cloud-cover 30 --roads overpass --out layers`
    """
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING" if once else "INFO")
    quiet_prefect()
    from flows.schedule import deploy, new_scenes, serve, timing

    parameters: dict[str, Any] = {
        "out": str(out.resolve()),
        "scene_list": absolute(scene_list),
        "folder": absolute(folder),
        "stac": stac,
        "area": absolute(Path(area)) if area and Path(area).is_file() else area,
        "since": since,
        "overlap_days": overlap_days,
        "cloud_cover": cloud_cover,
        "config": absolute(config),
        "settings": settings or [],
        "roads": absolute(roads) if roads and roads.exists() else (str(roads) if roads else None),
        "collections": collections,
        "bands": [*(band_list(bands) or ())] or None,
    }
    if once:
        counts = new_scenes(**parameters)
        note(", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing is new")
    elif pool:
        deploy(name, parameters, timing(every, cron, timezone), pool)
        note(f"scheduled as new-scenes/{name}; start a worker: prefect worker start --pool {pool}")
    else:
        serve(name, parameters, timing(every, cron, timezone), note)


@commands.command()
def status(
    out: Annotated[Path, typer.Argument(help="The folder of a batch.")],
    every: Annotated[
        bool, typer.Option("--all", help="Every scene, not only those that are not done.")
    ] = False,
    config: Config = None,
    settings: Settings = None,
) -> None:
    """What became of the scenes of a batch: states, attempts, and why some failed.

    Example: `truckscape status layers --all`
    """
    from pipeline.config import load_config
    from pipeline.operations.ledger.scenes import existing_ledger
    from pipeline.operations.tables import ledger_page

    ledger = existing_ledger(out, load_config(config, settings or ()))
    say_page(ledger_page(ledger.entries(), ledger.counts(), every))
