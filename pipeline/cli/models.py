"""The commands `models ...`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import note, say_page, say_path, status
from pipeline.cli.options import Out, finite

if TYPE_CHECKING:  # the import takes seconds
    from pipeline.models.bundle import Bundle

commands = typer.Typer(help="List, show, measure and compare model bundles.", no_args_is_help=True)


@commands.command("list")
def models_list() -> None:
    """List the shipped bundles.

    Example: `truckscape models list`
    """
    from rich.table import Table

    from pipeline.models.bundle import shipped_bundles

    table = Table("name", "task", "architecture", "bands", "MB", box=None, header_style="bold")
    for bundle in shipped_bundles():
        card = bundle.card
        size = f"{bundle.weights.stat().st_size / 1e6:.1f}"
        table.add_row(bundle.folder.name, card.task, card.architecture, " ".join(card.bands), size)
    say_page(table)


@commands.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="Name of a shipped bundle, or folder of a bundle.")],
) -> None:
    """Show the card of a bundle: inputs, training data, measured quality, layers.

    Example: `truckscape models show trucks`
    """
    from pipeline.models.bundle import open_bundle
    from pipeline.report.card import card_page

    say_page(card_page(open_bundle(name)))


@commands.command("measure")
def models_measure(
    name: Annotated[str, typer.Argument(help="Name of a shipped bundle, or folder of a bundle.")],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="Scenes to measure on, as YAML. Default: simulated scenes, for a detector."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for a measured copy. Default: change the bundle."),
    ] = None,
) -> None:
    """Measure and calibrate a model, and write its quality into its card; of a detector thresholds, too.

    Example: `truckscape models measure landcover --config configs/measure-landcover.yaml`
    """
    from pipeline.models.bundle import open_bundle
    from pipeline.report.card import card_page

    bundle = open_bundle(name)
    measure = _measure_landcover if bundle.card.task == "segmentation" else _measure_detector
    measured = measure(bundle, config, out)
    say_page(card_page(measured))
    say_path("card", measured.folder / "card.yaml")


def _measure_detector(bundle: Bundle, config: Path | None, out: Path | None) -> Bundle:
    from pipeline.settings import load_settings
    from pipeline.validation.detector_card import DetectorMeasurement, measure_detector, write_quality

    settings = load_settings(DetectorMeasurement, config)
    return write_quality(measure_detector(bundle, settings, note), bundle, out)


def _measure_landcover(bundle: Bundle, config: Path | None, out: Path | None) -> Bundle:
    from pipeline.settings import load_settings
    from pipeline.validation.landcover_card import (
        LandcoverMeasurement,
        measure_landcover,
        write_landcover_quality,
    )

    settings = load_settings(LandcoverMeasurement, config)
    return write_landcover_quality(measure_landcover(bundle, settings, note), bundle, out)


@commands.command("anatomy")
def models_anatomy(
    name: Annotated[str, typer.Argument(help="Name of a shipped bundle, or folder of a bundle.")],
    side: Annotated[int, typer.Option(min=64, max=4096, help="Side of the example tile, in pixels.")] = 256,
) -> None:
    """Show a network layer by layer: kernel, stride, output size, receptive field, parameters, operations.

    Example: `truckscape models anatomy landcover`
    """
    from pipeline.models.bundle import open_bundle
    from pipeline.report.card import anatomy_page

    say_page(anatomy_page(open_bundle(name).card, side))


@commands.command("inspect")
def models_inspect(
    name: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="Name of a shipped bundle, or folder of a bundle.")
    ],
    scene: Annotated[str, typer.Argument(help="Scene, as for `run`.")],
    out: Annotated[Path, typer.Option("--out", help="The page to write, e.g. inside.html.")],
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="X,Y",
            help="Column and row of the place, in 10 m pixels of the scene. Default: the strongest detection "
            "in the middle of the scene, or the middle.",
        ),
    ] = None,
) -> None:
    """Show what a network computes at a place: kernels, feature maps, proposals, receptive fields, layers.

    Example: `truckscape models inspect trucks scene.tif --at 310,220 --out inside.html`
    """
    place = _place(at)
    from pipeline.inference.inspection import inspect_network
    from pipeline.models.bundle import open_bundle
    from pipeline.report.inspection import write_inspection
    from pipeline.scenes.open import open_scene

    with status("inspecting"):
        write_inspection(out, inspect_network(open_bundle(name), open_scene(scene), place))
    say_path("page", out)


def _place(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"\s*(-?[0-9]{1,9})\s*,\s*(-?[0-9]{1,9})\s*", text)
    if not found:
        raise typer.BadParameter(f"--at takes a column and a row, like 310,220. Received: {text[:100]}")
    return int(found[1]), int(found[2])


@commands.command("export")
def models_export(
    name: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="Name of a shipped bundle, or folder of a bundle.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files: new, or empty.")],
    format_: Annotated[str, typer.Option("--format", help="Format of the network: onnx.")] = "onnx",
    scale: Annotated[
        float,
        typer.Option(
            callback=finite,
            help="For QGIS: reflectance = number of the raster * scale + offset, e.g. 0.0001 for DNs.",
        ),
    ] = 1.0,
    offset: Annotated[
        float, typer.Option(callback=finite, help="For QGIS: see --scale; -0.1 since baseline 04.00.")
    ] = 0.0,
    tile_px: Annotated[
        int, typer.Option(min=100, max=4096, help="Least side of the tiles, in pixels of 10 m.")
    ] = 400,
) -> None:
    """Write a model as an ONNX file for other software, checked against the engine, with a STAC item.

    Example: `truckscape models export landcover --out exported --scale 0.0001 --offset -0.1`
    """
    from pipeline.inference.onnx_export import export_bundle
    from pipeline.models.bundle import open_bundle

    with status("exporting"):
        paths = export_bundle(open_bundle(name), out, format_, scale, offset, tile_px)
    for key, path in paths.items():
        say_path(f"{key:7}", path)


@commands.command("compare")
def models_compare(
    out: Out,
    scene: Annotated[
        list[str] | None, typer.Option("--scene", help="Scene, as for `run`; may be repeated.")
    ] = None,
    labels: Annotated[
        list[Path] | None, typer.Option("--labels", help="Labels, one file for each --scene.")
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BUNDLE]...",
            help="Names or folders of bundles. Default: the shipped ones for the kind of labels.",
        ),
    ] = None,
    roads: Annotated[
        list[Path] | None, typer.Option("--roads", help="Roads, one file for each --scene, or none.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Instead of scenes: compare land cover with the teacher on the calibration places of this "
            "file, as for `measure`.",
        ),
    ] = None,
) -> None:
    """Compare models on the same scenes: quality, speed, size, receptive field.

    Example: `truckscape models compare trucks runs/fcos/bundle --scene a.tif --labels a.gpkg --out compared`
    """
    from pipeline.report.model_comparison import comparison_table, write_comparison
    from pipeline.settings import load_settings
    from pipeline.validation.compare_models import compare, compare_with_teacher, places_of
    from pipeline.validation.landcover_card import LandcoverMeasurement

    if config:
        if scene or labels or roads:
            raise typer.BadParameter("--config names the places; leave --scene, --labels and --roads out.")
        lines = compare_with_teacher(names or (), load_settings(LandcoverMeasurement, config), note)
    else:
        with status("comparing"):
            lines = compare(names or (), places_of(scene or (), labels or (), roads or ()))
    paths = write_comparison(lines, out)
    say_page(comparison_table(lines))
    say_path("table  ", paths["md"])
    say_path("picture", paths["png"])
