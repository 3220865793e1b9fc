"""The commands `models ...`: list, show, measure, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import (
    note,
    say,
    say_page,
    say_path,
    status,
)
from pipeline.cli.options import Out

commands = typer.Typer(help="The model bundles: list, show, measure, anatomy.", no_args_is_help=True)


@commands.command("list")
def models_list() -> None:
    """The bundles that come with truckscape."""
    from rich.table import Table

    from pipeline.models.bundle import shipped_bundles

    table = Table("name", "task", "architecture", "bands", "MB", box=None, header_style="bold")
    for bundle in shipped_bundles():
        card = bundle.card
        size = f"{bundle.weights.stat().st_size / 1e6:.1f}"
        table.add_row(bundle.folder.name, card.task, card.architecture, " ".join(card.bands), size)
    say(table)


@commands.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="A shipped bundle's name, or a bundle's folder.")],
) -> None:
    """A bundle's card: what it needs, what it learned from, how good it was measured to be, its layers."""
    from pipeline.models.bundle import open_bundle
    from pipeline.report.card import card_page

    say_page(card_page(open_bundle(name)))


@commands.command("measure")
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
    measured = write_quality(measure_detector(bundle, settings, note), bundle, out)
    say_page(card_page(measured))
    say_path("card", measured.folder / "card.yaml")


@commands.command("anatomy")
def models_anatomy(
    name: Annotated[str, typer.Argument(help="A shipped bundle's name, or a bundle's folder.")],
    side: Annotated[int, typer.Option(min=64, help="Side of the example tile, in pixels.")] = 256,
) -> None:
    """A network layer by layer: kernel, stride, output size, receptive field, parameters, work."""
    from pipeline.models.bundle import open_bundle
    from pipeline.models.halo import card_anatomy
    from pipeline.report.card import anatomy_page

    say_page(anatomy_page(card_anatomy(open_bundle(name).card, side)))


@commands.command("compare")
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
    from pipeline.report.model_comparison import comparison_table, write_comparison
    from pipeline.validation.compare_models import compare, places_of

    with status("comparing"):
        lines = compare(names or (), places_of(scene, labels, roads or ()))
    paths = write_comparison(lines, out)
    say(comparison_table(lines))
    say_path("table  ", paths["md"])
    say_path("picture", paths["png"])
