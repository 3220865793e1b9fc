"""The commands `train ...`: trainings that end in a bundle."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.console import (
    quiet_prefect,
    say_path,
)
from pipeline.cli.options import Bands, Out, Prefect, band_list
from pipeline.errors import MissingExtraError

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


commands = typer.Typer(help="Train a model; ends in a bundle.", no_args_is_help=True)


@commands.command("detector")
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


@commands.command("segmenter")
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


@commands.command("screener")
def train_screener(out: Out, config: TrainingConfig = None, settings: TrainingSettings = None) -> None:
    """Train the tile screener, which says what parts of a scene need no search for trucks.

    Example: `truckscape train screener --config configs/train-screener.yaml --out runs/screener`
    """
    from pipeline.config import load_settings

    with _training_extra():
        from pipeline.training.screener import ScreenerTraining, train_screener
    bundle = train_screener(load_settings(ScreenerTraining, config, settings or ()), out)
    say_path("bundle", bundle.folder)


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
            settings=tuple(settings or ()),
            imagery=tuple(imagery or ()),
            labels=tuple(labels or ()),
            bands=band_list(bands),
            complete=complete,
            class_field=class_field,
            publish=publish,
        )
        training_settings(request)  # what is wrong with them is told before anything starts
    with _training_log():
        if prefect:
            quiet_prefect()
            from flows.training import train_requested

            bundle = train_requested(request, lambda text: typer.echo(text, err=True))
        else:
            bundle = run_training(request)
            if publish:
                bundle = publish_bundle(bundle, publish)
    say_path("bundle        ", bundle.folder)
    say_path("learning curve", out / "learning_curve.png")
    for page in sorted(out.glob("held_out/*/report.html")):
        say_path("held-out blocks", page)


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
