"""The commands `models ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import note, say_page, say_path, status
from pipeline.cli.options import Out

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
    name: Annotated[str, typer.Argument(help="Name of a shipped detector, or folder of a bundle.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Scenes to measure on, as YAML. Default: simulated scenes."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for a measured copy. Default: change the bundle."),
    ] = None,
) -> None:
    """Measure and calibrate a detector, choose its thresholds, and write them into its card.

    Example: `truckscape models measure runs/detector/bundle --config configs/measure-detector.yaml`
    """
    from pipeline.models.bundle import open_bundle
    from pipeline.report.card import card_page
    from pipeline.settings import load_settings
    from pipeline.validation.detector_card import DetectorMeasurement, measure_detector, write_quality

    settings = load_settings(DetectorMeasurement, config)
    bundle = open_bundle(name)
    measured = write_quality(measure_detector(bundle, settings, note), bundle, out)
    say_page(card_page(measured))
    say_path("card", measured.folder / "card.yaml")


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


@commands.command("compare")
def models_compare(
    out: Out,
    scene: Annotated[list[str], typer.Option("--scene", help="Scene, as for `run`; may be repeated.")],
    labels: Annotated[list[Path], typer.Option("--labels", help="Labels, one file for each --scene.")],
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
) -> None:
    """Compare models on the same scenes: quality, speed, size, receptive field.

    Example: `truckscape models compare trucks runs/fcos/bundle --scene a.tif --labels a.gpkg --out compared`
    """
    from pipeline.report.model_comparison import comparison_table, write_comparison
    from pipeline.validation.compare_models import compare, places_of

    with status("comparing"):
        lines = compare(names or (), places_of(scene, labels, roads or ()))
    paths = write_comparison(lines, out)
    say_page(comparison_table(lines))
    say_path("table  ", paths["md"])
    say_path("picture", paths["png"])
