"""A training as a user asks for it, from the command line or on a schedule: train, evaluate, publish."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from pipeline.config import SceneSettings
from pipeline.errors import ConfigError, OutputError
from pipeline.models.bundle import Bundle
from pipeline.open_data.resolve import check_fetched
from pipeline.scenes.scene import safe_id
from pipeline.settings import load_settings


@dataclass(frozen=True, config=ConfigDict(use_attribute_docstrings=True))
class TrainingRequest:
    """A training as the user asks for it; the texts below its fields are shown on Prefect's pages."""

    kind: Literal["detector", "segmenter"]
    """Network to train: detector of trucks, or segmenter of land cover."""
    out: Path
    """Folder of the training; an interrupted one is resumed there."""
    config: Path | None = None
    """YAML file of settings, a recipe."""
    settings: tuple[str, ...] = ()
    """Settings as a.b=c, after those of the file."""
    imagery: tuple[str, ...] = ()
    """One's own scenes: then a shipped bundle is fine-tuned, on the labels."""
    labels: tuple[Path, ...] = ()
    """Labels, one file for each scene of the imagery, in the same order."""
    bands: tuple[str, ...] | None = None
    """Names of a GeoTIFF's bands where it has no descriptions."""
    scale: float | None = None
    """Scale of the values of the imagery, as in `truckscape run`."""
    offset: float | None = None
    """Offset of the values of the imagery."""
    nodata: str | None = None
    """Value of pixels of the imagery without data."""
    complete: Path | None = None
    """Polygons in which every truck is labelled."""
    class_field: str | None = None
    """Column of the classes of land-cover polygons or points."""
    from_scratch: bool = False
    """Train a detector without imagery, on simulated chips only."""
    publish: Path | None = None
    """Folder where bundles are picked up from; the new one appears there complete, under its id."""


def training_settings(request: TrainingRequest) -> Any:
    """Return the settings of a request, checked before anything heavy starts.

    Raises
    ------
    ConfigError
        If a setting is unknown or out of range, imagery and labels don't go together, or a detector has no
        imagery and the settings name none.
    OpenDataError
        If the settings name open data that is not in the cache.
    """
    if len(request.imagery) != len(request.labels):
        raise ConfigError(
            "Each --imagery needs its --labels, in the same order. "
            f"Received: {len(request.imagery)} of imagery, {len(request.labels)} of labels."
        )
    kinds: tuple[Any, Any]
    source: Any
    further: dict[str, Any]
    if request.kind == "detector":
        from pipeline.training.detector import settings as detector

        kinds = (detector.DetectorTraining, detector.FineTuning)
        source, further = detector.TruckSource, {"complete": request.complete}
    else:
        from pipeline.training.segmenter import settings as segmenter

        kinds = (segmenter.SegmenterTraining, segmenter.FineTuning)
        source, further = segmenter.LandcoverSource, {"class_field": request.class_field}
    chosen: Any = load_settings(kinds[bool(request.imagery)], request.config, request.settings)
    if request.kind == "detector" and not request.from_scratch and not request.imagery:
        _check_data(chosen)
    check_fetched(chosen)
    given = {"scale": request.scale, "offset": request.offset, "nodata": request.nodata}
    values = load_settings(
        SceneSettings, None, [f"{name}={value}" for name, value in given.items() if value is not None]
    )
    own = tuple(
        source(imagery=scene, labels=labels, bands=request.bands, values=values, **further)
        for scene, labels in zip(request.imagery, request.labels, strict=True)
    )
    return chosen.model_copy(update={"labelled": chosen.labelled + own})


def _check_data(chosen: Any) -> None:
    """Raise ConfigError if the settings name no data: a training on simulated chips only takes hours."""
    if not (chosen.labelled or chosen.scenes or chosen.simulated):
        raise ConfigError(
            "There is no imagery to learn from. Give --imagery SCENE --labels BOXES to fine-tune the shipped "
            "detector, --config with a recipe that names scenes, or --from-scratch to train for hours on "
            "simulated chips only."
        )


def run_training(request: TrainingRequest) -> Bundle:
    """Train and evaluate; return the bundle in `request.out/bundle`.

    Raises
    ------
    TruckscapeError
        As `training_settings` and the trainings.
    """
    settings = training_settings(request)
    if request.kind == "detector":
        from pipeline.training.detector.train import train_detector

        return train_detector(settings, request.out)
    from pipeline.training.segmenter.train import train

    return train(settings, request.out)


def publish_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """Copy a bundle to `folder/<its id>`; a reader finds the old one or the new one, never a part of one.

    Raises
    ------
    OutputError
        If the folder can't be written; what was published before stays.
    """
    target, part = folder / bundle.card.id, folder / f".{bundle.card.id}.{os.getpid()}.part"
    old = part.with_suffix(".old")
    if safe_id(bundle.card.id) != bundle.card.id:
        raise OutputError(f"The id of the bundle can't be the name of a folder: {bundle.card.id!r}")
    if target.is_symlink() or (target.exists() and not (target / "card.yaml").is_file()):
        raise OutputError(
            f"{target} is no bundle, and would be replaced by one. Move it away, or --publish elsewhere."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(bundle.folder, part)
        if target.exists():
            target.rename(old)  # a folder can't be replaced by another at once: this is as near as it gets
        part.rename(target)
    except (OSError, shutil.Error) as error:
        if old.exists() and not target.exists():
            old.rename(target)
        raise OutputError(f"The bundle can't be published in {folder}: {error}") from error
    finally:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
    return Bundle(folder=target, card=bundle.card)
