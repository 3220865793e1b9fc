"""Comparison of models on the same scenes: quality, speed, size and receptive field."""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rasterio.windows import Window
from torch import Tensor

from pipeline.config import Config, Engine, Landcover, Trucks
from pipeline.errors import BundleError, ConfigError
from pipeline.evaluation.landcover.accuracy import LandcoverEvaluation, evaluate_landcover
from pipeline.evaluation.landcover.labels import read_landcover_labels
from pipeline.inference.machine import half_precision
from pipeline.inference.teacher import Teacher
from pipeline.models.bundle import SHIPPED, Bundle, open_bundle, shipped_bundles
from pipeline.models.halo import card_anatomy, count_parameters
from pipeline.models.normalise import normalise
from pipeline.open_data.resolve import check_fetched, located
from pipeline.report.model_comparison import Compared, Proposals
from pipeline.run import Request, merged, prepare, run_shards
from pipeline.scenes.open import open_scene
from pipeline.scenes.plausibility import plausible
from pipeline.scenes.raster.read import read_pixels
from pipeline.validation.landcover_card import LandcoverMeasurement
from pipeline.validation.landcover_metrics import Pair, confusion
from pipeline.validation.landcover_places import OpenPlace
from pipeline.validation.observe import Observed, Place, observe_place, pool
from pipeline.validation.proposals import measure_proposals
from pipeline.validation.timing import CORE_PX, network_seconds, segmenter_seconds

log = logging.getLogger(__name__)

TIMED_PX = 256
SEGMENTED_PX = CORE_PX
_REPEATS = 3


def compare(
    names: Sequence[str], places: Sequence[Place], engine: Engine | None = None
) -> tuple[Compared, ...]:
    """Score and measure bundles (names or folders) of one task on the same places, pooled.

    Without names these are the shipped bundles of the labels' task: a raster is land cover, else trucks.
    Detectors are scored by their calibrated scores at their own thresholds, near roads if every place has
    roads; the average precision is over all scores. Of detectors in two stages the proposals are measured.

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
    if tasks == {"segmentation"}:
        return _segmenters(bundles, [_score_segmenter(bundle, places, engine) for bundle in bundles], engine)
    return tuple(
        as_line(
            bundle,
            name,
            milliseconds_per_megapixel(bundle, places[0], engine),
            *_score_detector(bundle, places, engine),
        )
        for bundle, name in zip(bundles, _titles(bundles), strict=True)
    )


def compare_with_teacher(
    names: Sequence[str], settings: LandcoverMeasurement, say: Callable[[str], None] = log.info
) -> tuple[Compared, ...]:
    """Score segmenters (names or folders) by a teacher on the places of `calibration`.

    Choices are made on these; `places` are for the figures of the one that was chosen. The scores are means
    of the places.

    Raises
    ------
    ConfigError
        If there is no teacher, or no such place has its bands.
    BundleError
        If a bundle is no segmenter, or the teacher can't be opened.
    TruckscapeError
        As scenes may raise.
    """
    bundles, engine = [open_bundle(name) for name in names], Engine(threads=settings.threads)
    others = [bundle.card.id for bundle in bundles if bundle.card.task != "segmentation"]
    if others or not bundles:
        raise BundleError(
            f"Segmenters are compared with a teacher. Received: {', '.join(others) or 'no bundle'}"
        )
    if settings.teacher is None:
        raise ConfigError(
            "A comparison at places needs a teacher. Add it, as in configs/measure-landcover.yaml"
        )
    check_fetched(settings)
    teacher, count = Teacher(located(settings.teacher), settings.threads), len(settings.calibration)
    pairs: list[dict[str, Pair]] = [{} for _ in bundles]
    for number, place in enumerate(settings.calibration, 1):
        say(f"place {number} of {count}: {place.name}")
        there = OpenPlace.of(place)
        for bundle, compared in zip(bundles, pairs, strict=True):
            classes = there.teacher_classes(teacher, bundle.card)
            if classes is not None:
                compared[place.name] = classes, there.found(bundle, engine)
    if not all(pairs):
        raise ConfigError(
            f"A comparison needs calibration places with the teacher's bands {', '.join(teacher.bands)}. "
            f"Received: {', '.join(place.name for place in settings.calibration) or 'no calibration places'}"
        )
    say("speed")
    scores = []
    for bundle, compared in zip(bundles, pairs, strict=True):
        single = [confusion([pair], bundle.card) for pair in compared.values()]
        scores.append(
            {
                "agreement": float(np.mean([result.accuracy for result in single])),
                "mIoU": float(np.mean([result.mean_iou for result in single])),
            }
        )
    return _segmenters(bundles, scores, engine)


def _segmenters(
    bundles: Sequence[Bundle], scores: Sequence[dict[str, float]], engine: Engine
) -> tuple[Compared, ...]:
    """Return scored segmenters with their time in the engine's runtime, measured in turns."""
    seconds = segmenter_seconds(bundles, engine, SEGMENTED_PX)
    return tuple(
        as_line(bundle, name, cpu * 1e3, score)
        for bundle, name, (cpu, _), score in zip(bundles, _titles(bundles), seconds, scores, strict=True)
    )


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


def _titles(bundles: Sequence[Bundle]) -> list[str]:
    """Return id and version of each bundle, with the folder if others have the same; not of a shipped one."""
    names = [f"{bundle.card.id}-{bundle.card.version}" for bundle in bundles]
    return [
        name
        if names.count(name) == 1 or bundle.folder.is_relative_to(SHIPPED)
        else f"{name}, {bundle.folder}"
        for name, bundle in zip(names, bundles, strict=True)
    ]


def as_line(
    bundle: Bundle,
    name: str,
    ms_per_mpx: float,
    scores: dict[str, float],
    proposals: Proposals | None = None,
) -> Compared:
    """Return the line of a bundle that was scored, with the size and cost of its network."""
    card = bundle.card
    dense = card_anatomy(card, TIMED_PX)
    return Compared(
        model=name,
        family=card.architecture,
        task=card.task,
        parameters=count_parameters(card),
        receptive_field=max(dense.receptive_field) if dense.receptive_field else None,
        halo=card.halo,
        kilomacs_px=dense.macs / TIMED_PX**2 / 1e3,
        ms_per_mpx=ms_per_mpx,
        scores=scores,
        proposals=proposals,
    )


def _score_detector(
    bundle: Bundle, places: Sequence[Place], engine: Engine
) -> tuple[dict[str, float], Proposals | None]:
    with tempfile.TemporaryDirectory() as folder:
        observed = [observe_place(bundle, place, Path(folder), engine) for place in places]
    scores = detector_scores(observed, bundle)
    return scores, measure_proposals(bundle, places, observed, engine)


def detector_scores(observed: Sequence[Observed], bundle: Bundle) -> dict[str, float]:
    """Return average precision over all scores, and precision, recall and F1 at the card's threshold."""
    near_roads = all(place.roads is not None for place in observed)
    calibration = bundle.card.calibration_for(near_roads)
    calibrated = pool("all", [place.calibrated(calibration) for place in observed])
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
    """Return the processor time of a detector on a window of a scene, with one thread.

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
