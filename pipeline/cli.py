"""The command line: each command parses, calls one function, prints with Rich. Heavy imports wait for it."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline import __version__
from pipeline.errors import MissingExtraError, TruckscapeError
from pipeline.redaction import without_secrets

if TYPE_CHECKING:
    from pipeline.job import Job, Request, Result

_log = logging.getLogger("pipeline.cli")  # whatever this module is run as

app = typer.Typer(
    help="Moving trucks and land cover from Sentinel-2 scenes, as map layers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
evaluate_app = typer.Typer(help="Score predictions against labels.", no_args_is_help=True)
models_app = typer.Typer(help="The model bundles: list, show, measure, anatomy.", no_args_is_help=True)
train_app = typer.Typer(help="Train a model; ends in a bundle.", no_args_is_help=True)
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(models_app, name="models")
app.add_typer(train_app, name="train")

Config = Annotated[Path | None, typer.Option("--config", help="Settings as YAML; see configs/default.yaml.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, e.g. tiling.tile_px=256; may be repeated.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder for the results; made where needed.")]
Roads = Annotated[
    Path | None,
    typer.Option(
        "--roads",
        help="Road lines (GeoPackage, GeoJSON, Shapefile, .osm.pbf, .osm), or `overpass` to fetch "
        "OpenStreetMap's; trucks are looked for near them only.",
    ),
]
Bands = Annotated[
    str | None, typer.Option(help="Names of a GeoTIFF's bands where it has no descriptions: B04,B03,...")
]
BandsOfAll = Annotated[
    str | None, typer.Option("--bands", help="Names of the GeoTIFFs' bands where they have no descriptions.")
]
Prefect = Annotated[bool, typer.Option("--prefect/--no-prefect", help="Run as a Prefect flow.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"truckscape {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and the orchestrator's log.")
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            envvar="TRUCKSCAPE_LOG",
            help="File to which what happens is added, a JSON object a line; `-` is standard error.",
        ),
    ] = None,
) -> None:
    if debug:
        os.environ["TRUCKSCAPE_DEBUG"] = "1"
    if log:
        context.with_resource(_logged(log))


@app.command()
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
        bands=_names(bands),
        roads=roads,
        truck_labels=truck_labels,
        landcover_labels=landcover_labels,
    )
    from pipeline.logs import labelled

    if prefect:
        _quiet_prefect()
        from pipeline.job import prepare

        job = prepare(request)
        with labelled(scene=job.scene.id), _progress(job) as say:
            from flows.scene import run_prepared

            result = run_prepared(job, say)
    else:
        from pipeline.job import prepare, run_prepared_directly

        job = prepare(request)
        with labelled(scene=job.scene.id), _progress(job) as say:
            result = run_prepared_directly(job, say)
    _print_result(result)


@app.command()
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
    from pipeline.operations.pages import summary_page
    from pipeline.operations.search import COLLECTION, Search
    from pipeline.operations.sources import Sources, find_scenes

    tree = load_config(config, settings or ())
    search = Search(stac, tuple(collections or [COLLECTION]), area, time, cloud_cover, most) if stac else None
    request = BatchRequest(
        scenes=find_scenes(Sources(tuple(scenes or ()), scene_list, folder, search), tree.batch),
        out=out,
        config=tree,
        bands=_names(bands),
        roads=roads,
        retry_quarantined=retry_quarantined,
    )
    if prefect:
        _quiet_prefect()
        from flows.batch import run_listed

        summary = run_listed(request, _note)
    else:
        summary = run_batch(request, say=_note)
    _say_page(summary_page(summary))
    for name, path in summary.outputs.items():
        _say_path(name, path)
    if not summary.is_whole:
        raise typer.Exit(1)


@app.command()
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
    _quiet_prefect()
    from flows.schedule import deploy, new_scenes, serve, timing

    parameters: dict[str, Any] = {
        "out": str(out.resolve()),
        "scene_list": _absolute(scene_list),
        "folder": _absolute(folder),
        "stac": stac,
        "area": _absolute(Path(area)) if area and Path(area).is_file() else area,
        "since": since,
        "overlap_days": overlap_days,
        "cloud_cover": cloud_cover,
        "config": _absolute(config),
        "settings": settings or [],
        "roads": _absolute(roads) if roads and roads.exists() else (str(roads) if roads else None),
        "collections": collections,
        "bands": [*(_names(bands) or ())] or None,
    }
    if once:
        counts = new_scenes(**parameters)
        _note(", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing is new")
    elif pool:
        deploy(name, parameters, timing(every, cron, timezone), pool)
        _note(f"scheduled as new-scenes/{name}; start a worker: prefect worker start --pool {pool}")
    else:
        serve(name, parameters, timing(every, cron, timezone), _note)


@app.command()
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
    from pipeline.operations.ledger import existing_ledger
    from pipeline.operations.pages import ledger_page

    ledger = existing_ledger(out, load_config(config, settings or ()))
    _say_page(ledger_page(ledger.entries(), ledger.counts(), every))


@app.command()
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

    with _status("looking"):
        findings = examine(load_config(config, settings or ()), out)
    if as_json:
        import json

        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _say_page(doctor_page(findings))
    if not is_well(findings):
        raise typer.Exit(1)


@app.command()
def simulate(
    out: Out,
    size: Annotated[int, typer.Option(min=64, max=10980, help="Side in 10 m pixels.")] = 1024,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another landscape and traffic.")] = 0,
) -> None:
    """Write a simulated Sentinel-2 L2A product (.SAFE) with its truth: trucks, land cover, roads.

    Example: `truckscape simulate --out demo --size 1024 --seed 7`
    """
    from pipeline.simulation.simulate import simulate as write_product

    with _status("simulating"):
        product = write_product(out, size=size, seed=seed)
    _say_path("simulated scene", product.safe)
    _say_path("truth          ", product.trucks.parent)


@app.command()
def sample(
    landcover: Annotated[Path, typer.Argument(help="A run's folder of a scene, or a raster of classes.")],
    out: Annotated[
        Path, typer.Option("--out", help="GeoPackage for the points; GeoJSON and design beside it.")
    ],
    size: Annotated[
        int | None, typer.Option(min=2, help="Points; else as many as --standard-error asks for.")
    ] = None,
    standard_error: Annotated[
        float, typer.Option(min=1e-4, max=0.5, help="Of the overall accuracy, to be reached.")
    ] = 0.01,
    allocation: Annotated[
        Literal["mixed", "proportional", "equal"],
        typer.Option(help="Points to classes: by area, equal, or by area with --at-least each."),
    ] = "mixed",
    at_least: Annotated[int, typer.Option(min=2, help="Points of a rare class, where mixed.")] = 50,
    expected: Annotated[
        list[str] | None,
        typer.Option(help="User's accuracy expected of a class, e.g. built=0.9 (else 0.8); may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other points.")] = 0,
) -> None:
    """Draw points of a land-cover map for people to interpret, at random within each class of the map.

    The points don't tell what was mapped. Fill in their field `reference` (QGIS offers the classes), then
    `truckscape evaluate areas points.gpkg --out areas`.

    Example: `truckscape sample layers/SCENE --out points.gpkg --size 500`
    """
    from pipeline.report.areas import draw_points, strata_table

    drawn, paths = draw_points(
        landcover, out, size, standard_error, allocation, at_least, expected or (), seed
    )
    _say_page(strata_table(drawn))
    for what, path in paths.items():
        _say_path(f"{what:8}", path)


@evaluate_app.command("trucks")
def evaluate_trucks(
    predicted: Annotated[Path, typer.Argument(help="trucks.geojson or trucks.gpkg of a run, or any boxes.")],
    reference: Annotated[Path, typer.Argument(help="Boxes of trucks held to be true.")],
    out: Out,
    roads: Roads = None,
    scene: Annotated[str | None, typer.Option(help="The scene, for pictures in the report.")] = None,
) -> None:
    """Score trucks: precision, recall and F1 by centre distance, average precision, every mistake on a map.

    Example: `truckscape evaluate trucks layers/SCENE/trucks.geojson labels.gpkg --out scores`
    """
    from pipeline.report.evaluation import evaluate_trucks_files
    from pipeline.report.truck_table import truck_tables
    from pipeline.scenes.open import open_scene

    metrics = evaluate_trucks_files(predicted, reference, out, roads, open_scene(scene) if scene else None)
    _say_page(truck_tables(metrics["trucks"]))
    _say_path("report", out / "report.html")


@evaluate_app.command("landcover")
def evaluate_landcover(
    predicted: Annotated[Path, typer.Argument(help="landcover.tif of a run, or any raster of classes.")],
    reference: Annotated[Path, typer.Argument(help="Raster or polygons held to be true.")],
    out: Out,
    scene: Annotated[str | None, typer.Option(help="The scene, for pictures in the report.")] = None,
) -> None:
    """Score land cover: accuracy, IoU and F1 of each class, confusion matrix, every disagreement on a map.

    Example: `truckscape evaluate landcover layers/SCENE/landcover.tif labels.tif --out scores`
    """
    from pipeline.report.evaluation import evaluate_landcover_files
    from pipeline.scenes.open import open_scene

    metrics = evaluate_landcover_files(predicted, reference, out, open_scene(scene) if scene else None)
    _print_scores(metrics.get("landcover", {}), out)


@evaluate_app.command("compare")
def evaluate_compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="A run or evaluation: the one there was.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The one that may replace it.")],
    out: Out,
) -> None:
    """What changes from A to B, case by case: fixed, broken, still wrong; and whether that may be chance.

    Both are folders of runs with labels, of what `truckscape evaluate` left, or of several scenes of either.

    Example: `truckscape evaluate compare layers/now/SCENE layers/new/SCENE --out compared`
    """
    from pipeline.report.differences import PAGE, differences_table, write_differences

    _say_page(differences_table(write_differences(before, after, out)))
    _say_path("report", out / PAGE)


@evaluate_app.command("areas")
def evaluate_areas(
    points: Annotated[
        Path, typer.Argument(help="Points of `truckscape sample`, with their classes filled in.")
    ],
    out: Out,
    design: Annotated[
        Path | None, typer.Option(help="The sample's .design.json; beside the points where not given.")
    ] = None,
) -> None:
    """Area of each class and accuracy of the map, with 95 % intervals, from points that people interpreted.

    Estimates after Olofsson et al. (2014), corrected for the map's errors.

    Example: `truckscape evaluate areas points.gpkg --out areas`
    """
    from pipeline.report.areas import FIGURE, areas_table, evaluate_areas_files

    _say_page(areas_table(evaluate_areas_files(points, out, design)))
    _say_path("figure", out / FIGURE)


@models_app.command("list")
def models_list() -> None:
    """The bundles that come with truckscape."""
    from rich.table import Table

    from pipeline.models.bundle import shipped_bundles

    table = Table("name", "task", "architecture", "bands", "MB", box=None, header_style="bold")
    for bundle in shipped_bundles():
        card = bundle.card
        size = f"{bundle.weights.stat().st_size / 1e6:.1f}"
        table.add_row(bundle.folder.name, card.task, card.architecture, " ".join(card.bands), size)
    _say(table)


@models_app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="A shipped bundle's name, or a bundle's folder.")],
) -> None:
    """A bundle's card: what it needs, what it learned from, how good it was measured to be, its layers."""
    from pipeline.models.bundle import open_bundle
    from pipeline.report.card import card_page

    _say_page(card_page(open_bundle(name)))


@models_app.command("measure")
def models_measure(
    name: Annotated[str, typer.Argument(help="A shipped detector's name, or a bundle's folder.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="What to measure on; simulated scenes only where not given."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for a copy of the bundle; itself where not given.")
    ] = None,
) -> None:
    """Measure a detector, calibrate it, choose its thresholds, and write all of it into its card.

    Example: `truckscape models measure runs/detector/bundle --config configs/measure-detector.yaml`
    """
    from pipeline.config import load_settings
    from pipeline.models.bundle import open_bundle
    from pipeline.report.card import card_page
    from pipeline.validation.detector_card import DetectorMeasurement, measure_detector, write_quality

    settings = load_settings(DetectorMeasurement, config)
    bundle = open_bundle(name)
    measured = write_quality(measure_detector(bundle, settings, _note), bundle, out)
    _say_page(card_page(measured))
    _say_path("card", measured.folder / "card.yaml")


@models_app.command("anatomy")
def models_anatomy(
    name: Annotated[str, typer.Argument(help="A shipped bundle's name, or a bundle's folder.")],
    side: Annotated[int, typer.Option(min=64, help="Side of the example tile, in pixels.")] = 256,
) -> None:
    """A network layer by layer: kernel, stride, output size, receptive field, parameters, work."""
    from pipeline.models.bundle import open_bundle
    from pipeline.models.halo import card_anatomy
    from pipeline.report.card import anatomy_page

    _say_page(anatomy_page(card_anatomy(open_bundle(name).card, side)))


@models_app.command("compare")
def models_compare(
    out: Out,
    scene: Annotated[list[str], typer.Option("--scene", help="A scene, as for `run`; may be repeated.")],
    labels: Annotated[list[Path], typer.Option("--labels", help="Its labels, one file for each --scene.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BUNDLE]...",
            help="Shipped names or folders; the shipped ones that fit the labels where none is given.",
        ),
    ] = None,
    roads: Annotated[
        list[Path] | None, typer.Option("--roads", help="Its roads, one file for each --scene or none.")
    ] = None,
) -> None:
    """Models side by side on the same scenes: how good, how fast, how large, how far they see.

    Example: `truckscape models compare trucks runs/fcos/bundle --scene a.tif --labels a.gpkg --out compared`
    """
    from pipeline.report.comparison import comparison_table, write_comparison
    from pipeline.validation.compare_models import compare, places_of

    with _status("comparing"):
        lines = compare(names or (), places_of(scene, labels, roads or ()))
    paths = write_comparison(lines, out)
    _say(comparison_table(lines))
    _say_path("table  ", paths["md"])
    _say_path("picture", paths["png"])


Imagery = Annotated[
    list[str] | None,
    typer.Option("--imagery", help="A scene of your own to learn from, as for `run`; may be repeated."),
]
Labels = Annotated[
    list[Path] | None, typer.Option("--labels", help="Its labels, one file for each --imagery.")
]
TrainingConfig = Annotated[
    Path | None, typer.Option("--config", help="Settings of the training as YAML; see configs/train-*.yaml.")
]
TrainingSettings = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, e.g. steps=800; may be repeated.")
]
Publish = Annotated[Path | None, typer.Option(help="Folder to copy the finished bundle to, under its id.")]


@train_app.command("detector")
def train_detector(
    out: Out,
    imagery: Imagery = None,
    labels: Labels = None,
    complete: Annotated[
        Path | None,
        typer.Option(help="Polygons in which every truck is labelled; else blocks with a box count as such."),
    ] = None,
    bands: Bands = None,
    config: TrainingConfig = None,
    settings: TrainingSettings = None,
    publish: Publish = None,
    prefect: Prefect = True,
) -> None:
    """Train the truck detector: the shipped one on your own boxes, or from nothing on simulated traffic.

    A training that was interrupted goes on where it was: give the same command again.

    Your own boxes: `truckscape train detector --imagery scene.tif --labels boxes.gpkg --out runs/mine`

    From nothing: `truckscape train detector --config configs/train-detector.yaml --out runs/detector`
    """
    _train("detector", out, imagery, labels, bands, config, settings, publish, prefect, complete)


@train_app.command("segmenter")
def train_segmenter(
    out: Out,
    imagery: Imagery = None,
    labels: Labels = None,
    class_field: Annotated[str | None, typer.Option(help="Column of the polygons' classes.")] = None,
    bands: Bands = None,
    config: TrainingConfig = None,
    settings: TrainingSettings = None,
    publish: Publish = None,
    prefect: Prefect = True,
) -> None:
    """Train the land-cover network: the shipped one on your own classes, or from nothing.

    A training that was interrupted goes on where it was: give the same command again.

    Your own labels: `truckscape train segmenter --imagery scene.tif --labels areas.gpkg --out runs/mine`

    From nothing: `truckscape train segmenter --config configs/train-segmenter.yaml --out runs/segmenter`
    """
    _train("segmenter", out, imagery, labels, bands, config, settings, publish, prefect, None, class_field)


@train_app.command("screener")
def train_screener(out: Out, config: TrainingConfig = None, settings: TrainingSettings = None) -> None:
    """Train the tile screener, which says what parts of a scene need no search for trucks.

    Example: `truckscape train screener --config configs/train-screener.yaml --out runs/screener`
    """
    from pipeline.config import load_settings

    with _training_extra():
        from pipeline.training.screener import ScreenerTraining, train_screener
    bundle = train_screener(load_settings(ScreenerTraining, config, settings or ()), out)
    _say_path("bundle", bundle.folder)


def _train(
    kind: Literal["detector", "segmenter"],
    out: Path,
    imagery: list[str] | None,
    labels: list[Path] | None,
    bands: str | None,
    config: Path | None,
    settings: list[str] | None,
    publish: Path | None,
    prefect: bool,
    complete: Path | None = None,
    class_field: str | None = None,
) -> None:
    with _training_extra():
        from pipeline.training.request import (
            TrainingRequest,
            publish_bundle,
            run_training,
            training_settings,
        )

        request = TrainingRequest(
            kind=kind,
            out=out,
            config=config,
            overrides=tuple(settings or ()),
            imagery=tuple(imagery or ()),
            labels=tuple(labels or ()),
            bands=_names(bands),
            complete=complete,
            class_field=class_field,
            publish=publish,
        )
        training_settings(request)  # what is wrong with them is told before anything starts
    with _training_log():
        if prefect:
            _quiet_prefect()
            from flows.training import train_requested

            bundle = train_requested(request, lambda text: typer.echo(text, err=True))
        else:
            bundle = run_training(request)
            if publish:
                bundle = publish_bundle(bundle, publish)
    _say_path("bundle        ", bundle.folder)
    _say_path("learning curve", out / "learning_curve.png")
    for page in sorted(out.glob("held_out/*/report.html")):
        _say_path("held-out blocks", page)


def _absolute(path: Path | None) -> str | None:
    """For another process, whose folder may be another."""
    return str(path.expanduser().resolve()) if path else None


def _names(bands: str | None) -> tuple[str, ...] | None:
    return tuple(part.strip() for part in bands.split(",")) if bands else None


@contextmanager
def _training_log() -> Iterator[None]:
    """What a training tells, a line each, without the chatter of the libraries."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    from pipeline.logs import collected

    with collected("pipeline.training", logging.StreamHandler(sys.stderr)):
        yield


@contextmanager
def _training_extra() -> Iterator[None]:
    """Name the extra that training needs, where it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"Training needs {error.name}, which comes with an extra: pip install 'truckscape[train]'."
        ) from error


# --- what people see ------------------------------------------------------------------------------------


def _request(**arguments: Any) -> Request:
    from pipeline.job import Request

    return Request(**arguments)


def _quiet_prefect() -> None:
    """Prefect must not call home, nor print tracebacks: what went wrong is told once, by `main`."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Its own server starts within seconds on a quiet machine; a busy one needs patience.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    if not os.environ.get("TRUCKSCAPE_DEBUG"):
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")  # of events that were not sent


def _say(what: Any, **options: Any) -> None:
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(what, **options)


def _say_page(page: Any) -> None:
    """A page with wide tables: a file or a pipe has room for them."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 150)
    console.print(page)


def _note(text: str) -> None:
    """What is being done now, beside the results."""
    from rich.console import Console

    _log.info(text)
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


def _say_path(what: str, path: Path) -> None:
    from rich.text import Text

    _say(Text.assemble((what, "bold"), f"  {path}"))


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """What a command does as lines of JSON, its failure too."""
    from pipeline.logs import log_to

    with log_to(None if str(path) == "-" else path):
        try:
            yield
        except Exception as error:
            if not isinstance(error, typer.Exit | typer.Abort):
                known = isinstance(error, TruckscapeError)
                _log.error("failed: %s", error, exc_info=None if known else error)
            raise


@contextmanager
def _status(text: str) -> Iterator[None]:
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


class _TileCounter(logging.Handler):
    """Hears of every finished tile and tells the progress bar, or the log at every tenth."""

    def __init__(self, total: int, advance: Any) -> None:
        super().__init__(logging.INFO)
        self.total, self.done, self.advance = total, 0, advance

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "tiles_done"):
            before, self.done = self.done, self.done + record.tiles_done
            self.advance(before, self.done, self.total)


@contextmanager
def _progress(job: Job) -> Iterator[Any]:
    """Progress of a job: a bar on a terminal, a line for every tenth of the tiles elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    missing = job.missing()
    total = sum(len(job.shards[index]) for index in missing)
    logger = logging.getLogger("pipeline.inference.engine")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    console = Console(stderr=True, highlight=False)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tiles"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        line = bar.add_task(job.scene.id, total=total)

        def advance(before: int, done: int, of: int) -> None:
            bar.update(line, completed=done)
            if not console.is_terminal and (before * 10 // max(1, of) != done * 10 // max(1, of)):
                console.print(f"{done} of {of} tiles")

        def say(text: str) -> None:
            _log.info(text)
            bar.update(line, description=text)
            if not console.is_terminal:
                console.print(text, markup=False)

        handler = _TileCounter(total, advance)
        logger.addHandler(handler)
        try:
            yield say
        finally:
            logger.removeHandler(handler)


def _print_result(result: Result) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    if result.run["simulated"]:
        table.add_row("scene", f"{result.run['scene']} (simulated)")
    else:
        table.add_row("scene", result.run["scene"])
    for name, value in result.summary().items():
        table.add_row(name, value)
    _say(table)
    _say("")
    _say_path("layers", result.folder)
    _say_path("report", result.report)


def _print_scores(metrics: dict[str, Any], out: Path) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in metrics.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            low, high = (metrics.get("interval_95") or {}).get(name) or (None, None)
            ends = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
            shown = f"{value:.3f}{ends}" if isinstance(value, float) else str(value)
            table.add_row(name.replace("_", " "), shown)
        elif name == "note":
            table.add_row(name, str(value))
    _say(table)
    _say_path("report", out / "report.html")


def main() -> None:
    """Entry point: exit status 0 done, 1 failed with one clear message, 2 wrong usage."""
    try:
        app()
    except TruckscapeError as error:
        _fail(str(error))
    except Exception as error:  # noqa: BLE001 the last resort: what nobody foresaw is told in one line as well
        _fail(f"unexpected {type(error).__name__}: {error} (truckscape --debug ... shows where)")


def _fail(message: str) -> None:
    if os.environ.get("TRUCKSCAPE_DEBUG"):
        raise  # noqa: PLE0704 called while an exception is handled
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble(("error: ", "bold red"), " ".join(without_secrets(message).split()))
    Console(stderr=True, highlight=False, soft_wrap=True).print(line)
    sys.exit(1)


if __name__ == "__main__":
    main()
