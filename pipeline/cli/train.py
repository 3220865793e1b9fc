"""The commands `train ...`."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipeline.cli.console import note, quiet_prefect, say_path
from pipeline.cli.options import Bands, Nodata, Offset, Out, Prefect, Scale, band_list
from pipeline.errors import MissingExtraError
from pipeline.fields import fields_of

TrainingConfig = Annotated[
    Path | None, typer.Option("--config", help="Settings of the training as YAML; see configs/train-*.yaml.")
]
TrainingSettings = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, e.g. steps=800; may be repeated.")
]

commands = typer.Typer(help="Train a model; the result is a bundle.", no_args_is_help=True)


@dataclass(frozen=True)
class _Training:
    """Options of both trainings."""

    out: Out
    imagery: Annotated[
        list[str] | None,
        typer.Option("--imagery", help="Scene of your own to learn from, as for `run`; may be repeated."),
    ] = None
    labels: Annotated[
        list[Path] | None,
        typer.Option("--labels", help="Labels, one file (FILE or FILE:LAYER) for each --imagery."),
    ] = None
    bands: Bands = None
    scale: Scale = None
    offset: Offset = None
    nodata: Nodata = None
    config: TrainingConfig = None
    settings: TrainingSettings = None
    publish: Annotated[
        Path | None, typer.Option(help="Folder to copy the finished bundle to, under its id.")
    ] = None
    prefect: Prefect = True


@dataclass(frozen=True)
class _Detector(_Training):
    complete: Annotated[
        Path | None,
        typer.Option(help="Polygons in which every truck is labelled. Default: all blocks with a box."),
    ] = None
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train on simulated chips only, for hours; no imagery.")
    ] = False


@dataclass(frozen=True)
class _Segmenter(_Training):
    class_field: Annotated[
        str | None, typer.Option(help="Column with the classes of polygons or points.")
    ] = None


@commands.command("detector")
@fields_of(_Detector)
def train_detector(options: _Detector) -> None:
    """Train the truck detector: fine-tune the shipped one on your boxes, or start from the beginning.

    The same command resumes an interrupted training.

    Your boxes: `truckscape train detector --imagery scene.tif --labels boxes.gpkg --out runs/mine`

    A recipe: `truckscape train detector --config configs/train-detector.yaml --out runs/detector`

    Without imagery: `truckscape train detector --from-scratch --out runs/simulated`
    """
    _train("detector", options, complete=options.complete, from_scratch=options.from_scratch)


@commands.command("segmenter")
@fields_of(_Segmenter)
def train_segmenter(options: _Segmenter) -> None:
    """Train the land-cover network: fine-tune the shipped one on your classes, or start from the beginning.

    The same command resumes an interrupted training.

    Your labels: `truckscape train segmenter --imagery scene.tif --labels areas.gpkg --out runs/mine`

    From the start: `truckscape train segmenter --config configs/train-segmenter.yaml --out runs/segmenter`
    """
    _train("segmenter", options, class_field=options.class_field)


@commands.command("screener")
def train_screener(out: Out, config: TrainingConfig = None, settings: TrainingSettings = None) -> None:
    """Train the tile screener, which rejects parts of a scene before the search for trucks.

    Example: `truckscape train screener --config configs/train-screener.yaml --out runs/screener`
    """
    from pipeline.settings import load_settings

    with _training_extra():
        from pipeline.training.screener import ScreenerTraining, train_screener
    bundle = train_screener(load_settings(ScreenerTraining, config, settings or ()), out)
    say_path("bundle", bundle.folder)


def _train(kind: Literal["detector", "segmenter"], options: _Training, **further: Any) -> None:
    with _training_extra():
        from pipeline.training.request import (
            TrainingRequest,
            publish_bundle,
            run_training,
            training_settings,
        )

        request = TrainingRequest(
            kind=kind,
            out=options.out,
            config=options.config,
            settings=tuple(options.settings or ()),
            imagery=tuple(options.imagery or ()),
            labels=tuple(options.labels or ()),
            bands=band_list(options.bands),
            scale=options.scale,
            offset=options.offset,
            nodata=options.nodata,
            publish=options.publish,
            **further,
        )
        training_settings(request)  # report wrong settings before anything starts
    with _training_log():
        if options.prefect:
            quiet_prefect()
            from flows.training import train_requested

            bundle = train_requested(request, note)
        else:
            bundle = run_training(request)
            if request.publish:
                bundle = publish_bundle(bundle, request.publish)
    say_path("bundle        ", bundle.folder)
    say_path("learning curve", options.out / "learning_curve.png")
    for page in sorted(options.out.glob("held_out/*/report.html")):
        say_path("held-out blocks", page)


@contextmanager
def _training_log() -> Iterator[None]:
    """Print the log of a training, without the messages of the libraries."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    from pipeline.logs import PlainLines, collected

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainLines())
    with collected("pipeline.training", handler):
        yield


@contextmanager
def _training_extra() -> Iterator[None]:
    """Name the extra that training needs if it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"Training needs {error.name}, which comes with an extra: pip install 'truckscape[train]'."
        ) from error
