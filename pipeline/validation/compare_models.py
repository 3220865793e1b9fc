"""Comparison of models on the same scenes: quality, speed, size and receptive field."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rasterio.windows import Window
from torch import Tensor

from pipeline.config import Config, Engine, Landcover, Trucks
from pipeline.errors import BundleError, ConfigError
from pipeline.evaluation.landcover.accuracy import LandcoverEvaluation, evaluate_landcover
from pipeline.evaluation.landcover.labels import read_landcover_labels
from pipeline.inference.runtime import half_precision
from pipeline.models.bundle import Bundle, open_bundle, shipped_bundles
from pipeline.models.halo import card_anatomy, count_parameters
from pipeline.models.normalise import normalise
from pipeline.report.model_comparison import Compared
from pipeline.run import Request, merged, prepare, run_shards
from pipeline.scenes.open import open_scene
from pipeline.scenes.plausibility import plausible
from pipeline.scenes.raster.read import read_pixels
from pipeline.validation.observe import Observed, Place, observe_place, pool
from pipeline.validation.timing import network_seconds

TIMED_PX = 256
_REPEATS = 3


def compare(
    names: Sequence[str], places: Sequence[Place], engine: Engine | None = None
) -> tuple[Compared, ...]:
    """Score and measure bundles (names or folders) of one task on the same places, pooled.

    Without names these are the shipped bundles of the labels' task: a raster is land cover, else trucks.
    Detectors are scored by their calibrated scores at their own thresholds, near roads if every place has
    roads; the average precision is over all scores.

    Raises
    ------
    ConfigError
        If there is no place, or one without labels.
    BundleError
        If the bundles are of different tasks, or of one that is not compared.
    TruckscapeError
        As a run and its labels may raise.
    """
    if not places or any(place.labels is None for place in places):
        raise ConfigError("A comparison needs scenes, each with its labels.")
    engine = engine or Engine(threads=1)
    bundles = _bundles(names, places)
    tasks = {bundle.card.task for bundle in bundles}
    if len(tasks) != 1 or not tasks <= {"detection", "segmentation"}:
        reported = ", ".join(f"{bundle.card.id} ({bundle.card.task})" for bundle in bundles)
        raise BundleError(
            f"Compare detectors, or segmenters, but not both at once. Received: {reported or 'none'}"
        )
    score = _score_detector if tasks == {"detection"} else _score_segmenter
    return tuple(_compared(bundle, places, engine, score(bundle, places, engine)) for bundle in bundles)


def places_of(scenes: Sequence[str], labels: Sequence[Path], roads: Sequence[Path] = ()) -> tuple[Place, ...]:
    """Return the places of a comparison from parallel lists; ConfigError if their lengths differ."""
    if len(labels) != len(scenes) or len(roads) not in {0, len(scenes)}:
        raise ConfigError(
            "Each --scene needs its --labels, and each or none its --roads, in the same order. "
            f"Received: {len(scenes)} scenes, {len(labels)} labels, {len(roads)} roads."
        )
    along: Sequence[Path | None] = roads or [None] * len(scenes)
    return tuple(
        Place(name=f"place-{index}", scene=scene, labels=boxes, roads=lines)
        for index, (scene, boxes, lines) in enumerate(zip(scenes, labels, along, strict=True))
    )


def _bundles(names: Sequence[str], places: Sequence[Place]) -> list[Bundle]:
    if names:
        return [open_bundle(name) for name in names]
    raster = all(place.labels and place.labels.suffix.lower() in {".tif", ".tiff"} for place in places)
    task = "segmentation" if raster else "detection"
    return [bundle for bundle in shipped_bundles() if bundle.card.task == task]


def _compared(bundle: Bundle, places: Sequence[Place], engine: Engine, scores: dict[str, float]) -> Compared:
    card = bundle.card
    dense = card_anatomy(card, TIMED_PX)
    return Compared(
        model=f"{card.id}-{card.version}",
        family=card.architecture,
        task=card.task,
        parameters=count_parameters(card),
        receptive_field=max(dense.receptive_field) if dense.receptive_field else None,
        halo=card.halo,
        kilomacs_px=dense.macs / TIMED_PX**2 / 1e3,
        ms_per_mpx=milliseconds_per_megapixel(bundle, places[0], engine),
        scores=scores,
    )


def _score_detector(bundle: Bundle, places: Sequence[Place], engine: Engine) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        observed = pool("all", [observe_place(bundle, place, Path(folder), engine) for place in places])
    return detector_scores(observed, bundle)


def detector_scores(observed: Observed, bundle: Bundle) -> dict[str, float]:
    """Return average precision over all scores, and precision, recall and F1 at the card's threshold."""
    near_roads = observed.roads is not None
    calibrated = observed.calibrated(bundle.card.calibration_for(near_roads))
    curve = calibrated.evaluate(near_roads).curves["centre_20m"]
    score = calibrated.evaluate(near_roads, bundle.card.default_threshold(near_roads)).primary
    return {
        "AP": curve.average_precision,
        "precision": score.precision,
        "recall": score.recall,
        "F1": score.f1,
    }


def _score_segmenter(bundle: Bundle, places: Sequence[Place], engine: Engine) -> dict[str, float]:
    parts: list[LandcoverEvaluation] = []
    with tempfile.TemporaryDirectory() as folder:
        for index, place in enumerate(places):
            config = Config(
                scene=place.values,
                engine=engine,
                trucks=Trucks(enabled=False),
                landcover=Landcover(bundle=str(bundle.folder)),
            )
            job = prepare(Request(place.scene, Path(folder) / str(index), config, place.bands))
            run_shards(job, range(len(job.shards)))
            predictions = merged(job)
            labels = read_landcover_labels(str(place.labels), job.scene.grid)
            parts.append(evaluate_landcover(str(predictions.landcover_raster), labels, bundle.card.classes))
    pooled = LandcoverEvaluation(
        parts[0].legend, np.sum([part.matrix for part in parts], axis=0), parts[0].pixel_area_m2
    )
    return {"OA": pooled.accuracy, "mIoU": pooled.mean_iou}


def milliseconds_per_megapixel(bundle: Bundle, place: Place, engine: Engine) -> float:
    """Return the processor time of a network on a window of a scene, with one thread.

    The median of three runs after one to warm up. A scene smaller than `TIMED_PX` is mirrored.
    """
    seconds = network_seconds(bundle, _window(bundle, place), half_precision(engine), _REPEATS + 1)
    return statistics.median(seconds[1:]) * 1e3 / (TIMED_PX**2 / 1e6)


def _window(bundle: Bundle, place: Place) -> Tensor:
    """Return (1, C, 256, 256), normalised: the upper left of a scene."""
    scene = plausible(open_scene(place.scene, place.bands, place.values), place.values.given)
    rows, cols = (min(TIMED_PX, extent) for extent in scene.shape)
    used = bundle.card.bands_used(scene.bands)
    pixels = read_pixels(scene, Window(0, 0, cols, rows), used)
    missing = ((0, TIMED_PX - rows), (0, TIMED_PX - cols))
    reflectance = np.pad(pixels.reflectance, ((0, 0), *missing), mode="symmetric")
    return normalise(reflectance, np.pad(pixels.valid, missing, mode="symmetric"), bundle.card, used)[None]
