"""A detector measured for its card: calibration, thresholds, metrics, a picture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.config import Engine
from pipeline.errors import BundleError
from pipeline.evaluation.trucks.blocks import TRUCK_BLOCK_M
from pipeline.evaluation.trucks.calibration import Reliability, fit_calibration, reliability
from pipeline.evaluation.trucks.precision_recall import PrecisionRecall
from pipeline.models.bundle import Bundle, Calibration, Card
from pipeline.open_data.resolve import check_fetched
from pipeline.report.charts import quality_figure
from pipeline.scenes.sun import long_shadow
from pipeline.settings import MOST_THREADS, Settings
from pipeline.validation.card_metrics import (
    SAME_F1,
    best_threshold,
    confusions,
    curve_table,
    detector_metrics,
    false_alarms,
    motion_metrics,
    negative_threshold,
    precise_threshold,
    reliability_table,
    rounded,
    speed,
)
from pipeline.validation.observe import Observed, Place, Seed, observe_place, observe_seed, pool
from pipeline.validation.recall import recall_table
from pipeline.validation.write_card import write_card

log = logging.getLogger(__name__)

PRIMARY_CURVE = "centre_20m"


class DetectorMeasurement(Settings):
    """Scenes on which a detector is measured."""

    renamed: ClassVar = {"quiet": "negative", "quiet_per_10_km2": "negative_per_10_km2"}

    places: tuple[Place, ...] = Field((), description="scenes with labels, none of which it was trained on")
    negative: tuple[Place, ...] = Field((), description="scenes almost without trucks")
    calibration: tuple[Seed, ...] = Field(
        tuple(Seed(seed=seed) for seed in (2001, 2002, 2003, 2004)),
        description="simulated scenes to fit calibration and thresholds on",
    )
    held_out: tuple[Seed, ...] = Field(
        (*(Seed(seed=seed) for seed in (42, 123, 900, 901)), Seed(seed=7, size=1024)),
        description="simulated scenes that neither training nor calibration has seen",
    )
    low_sun: tuple[Seed, ...] = Field(
        (
            Seed(seed=2001, day=date(2023, 12, 12)),
            Seed(seed=2002, day=date(2023, 11, 9)),
            Seed(seed=2003, day=date(2023, 1, 24)),
            Seed(seed=2004, day=date(2023, 2, 16)),
            Seed(seed=2005, day=date(2023, 12, 19)),
            Seed(seed=2006, day=date(2023, 11, 23)),
            Seed(seed=2007, day=date(2023, 1, 10)),
            Seed(seed=2008, day=date(2023, 2, 7)),
        ),
        description="simulated scenes of winter, for calibration, thresholds and recall under long shadows",
    )
    negative_per_10_km2: float = Field(
        0.5,
        ge=1e-6,
        le=1e6,
        description="false alarms that are allowed on all negative scenes together, without roads",
    )
    precision: float = Field(
        0.85,
        gt=0,
        le=1,
        description="share of heavy vehicles among detections that sets the threshold of a detector that "
        "tells them from light ones",
    )
    threads: int = Field(1, ge=1, le=MOST_THREADS)

    @model_validator(mode="after")
    def _each_only_once(self) -> DetectorMeasurement:
        names = [place.name for place in (*self.places, *self.negative)]
        scenes = (*self.calibration, *self.low_sun, *self.held_out)
        seeds = [f"{each.seed} on {each.day}" if each.day else str(each.seed) for each in scenes]
        twice = sorted({name for group in (names, seeds) for name in group if group.count(name) > 1})
        if twice:
            raise ValueError(f"each place and each seed is measured once; {', '.join(twice)} is given twice")
        return self


@dataclass(frozen=True)
class Measured:
    """A card with its quality, and the content of its picture."""

    card: Card
    curves: Mapping[str, PrecisionRecall]
    reliability: Mapping[str, Reliability]
    """On the held-out seeds near roads: `as the network gives it` and `calibrated`."""


@dataclass(frozen=True)
class Observations:
    """All places of a measurement, by their use."""

    fitting: tuple[Observed, ...]
    held_out: tuple[Observed, ...]
    places: tuple[Observed, ...]
    negative: tuple[Observed, ...]
    low_sun: tuple[Observed, ...]

    def calibrated(self, calibration: Calibration) -> Observations:
        """Return the same with scores that are probabilities."""
        return self._each(lambda place: place.calibrated(calibration))

    def of_vehicles(self) -> Observations:
        """Return the same for vehicles of any kind."""
        return self._each(Observed.of_vehicles)

    def _each(self, change: Callable[[Observed], Observed]) -> Observations:
        groups = (self.fitting, self.held_out, self.places, self.negative, self.low_sun)
        return Observations(*(tuple(map(change, group)) for group in groups))


@dataclass(frozen=True)
class Mode:
    """One of two ways to search, near roads only or everywhere, with its calibration and threshold."""

    near_roads: bool
    raw: Observations
    observations: Observations
    calibration: Calibration
    chosen_on: tuple[Observed, ...]
    """The threshold is chosen on these, unless negative scenes raise it."""
    threshold: float
    rule: str
    """How the threshold was chosen, in words."""

    @staticmethod
    def fit(
        raw: Observations, near_roads: bool, negative_per_10_km2: float, precision: float | None = None
    ) -> Mode:
        """Fit the calibration and choose the threshold: that of the highest mean F1.

        With a `precision` it is the lowest that has it on the simulated scenes, since only their labels tell
        heavy vehicles from light ones.

        Motion counts near roads only: elsewhere much that moves is no truck, and a weight that suits some
        scenes makes others worse.
        """
        scores, correct, evidence, shadow = _detections((*raw.fitting, *raw.low_sun), near_roads)
        calibration = fit_calibration(scores, correct, evidence if near_roads else 0.0, shadow)
        found = raw.calibrated(calibration)
        usable = [place for place in found.places if place.roads is not None or not near_roads]
        simulated = pool("calibration", (*found.fitting, *found.low_sun))
        chosen_on = (simulated, *(usable if precision is None else ()))
        curves = [one.evaluate(near_roads).curves[PRIMARY_CURVE] for one in chosen_on]
        if precision is None:
            threshold = best_threshold(*curves)
            rule = f"highest mean of the F1 (the last of those within {SAME_F1:g} of it)"
        else:
            threshold = precise_threshold(curves[0], precision)
            rule = f"the lowest with a precision of {precision:g} for heavy vehicles"
        if not near_roads and found.negative:
            negative = pool("negative", found.negative)
            threshold = max(threshold, negative_threshold(negative, negative_per_10_km2))
        return Mode(near_roads, raw, found, calibration, chosen_on, threshold, rule)

    def metrics(self, place: Observed) -> dict[str, Any]:
        """Return counts, precision, recall and F1 at the threshold."""
        return detector_metrics(place.evaluate(self.near_roads, self.threshold))

    def curve(self, place: Observed) -> PrecisionRecall:
        """Return precision over recall, of all scores."""
        return place.evaluate(self.near_roads).curves[PRIMARY_CURVE]

    @property
    def reliability(self) -> tuple[Reliability, Reliability]:
        """Reliability on the held-out seeds, before and after the calibration."""
        before, after = (
            reliability(*_detections(part.held_out, self.near_roads)[:2])
            for part in (self.raw, self.observations)
        )
        return before, after


def measure_detector(
    bundle: Bundle, settings: DetectorMeasurement, say: Callable[[str], None] = log.info
) -> Measured:
    """Run a detector over all scenes of `settings`; calibrate it, choose its thresholds, count its mistakes.

    `quality` of the card: for each place, and the held-out seeds pooled, true and false positives and false
    negatives of centres within 20 m, precision, recall and F1 with 95 % intervals (bootstrap of blocks of
    500 m), near its roads and everywhere; precision over recall; calibration error before and after; false
    alarms of negative scenes; headings and speeds; causes of mistakes; seconds. `moving_vehicles` has the
    figures of vehicles of any kind, by `vehicle_score` where the detector gives it. Takes two to four minutes
    of one core with the defaults, and 2 GB of memory; temporary files are deleted at the end.

    Raises
    ------
    BundleError
        If the bundle is no detector.
    TruckscapeError
        As a run and its labels may raise.
    """
    if bundle.card.task != "detection":
        raise BundleError(f"Detectors are measured here; {bundle.card.id} is for {bundle.card.task}.")
    raw = _observe(bundle, settings, say)
    precision = settings.precision if bundle.card.scores_vehicles else None
    near, everywhere = (
        Mode.fit(raw, roads, settings.negative_per_10_km2, precision) for roads in (True, False)
    )
    quality, curves = _quality(near, everywhere, settings)
    moving = [Mode.fit(raw.of_vehicles(), roads, settings.negative_per_10_km2) for roads in (True, False)]
    quality["moving_vehicles"] = _moving_vehicles(*moving)
    vehicles = [mode if bundle.card.scores_vehicles else None for mode in moving]
    card = bundle.card.model_copy(
        update={
            "calibration": everywhere.calibration,
            "calibration_near_roads": near.calibration,
            "vehicle_calibration": vehicles[1] and vehicles[1].calibration,
            "vehicle_calibration_near_roads": vehicles[0] and vehicles[0].calibration,
            "vehicle_threshold": vehicles[1] and vehicles[1].threshold,
            "vehicle_threshold_near_roads": vehicles[0] and vehicles[0].threshold,
            "score_threshold": everywhere.threshold,
            "score_threshold_near_roads": near.threshold,
            "quality": quality | {"speed": speed(bundle)},
        }
    )
    before, after = near.reliability
    return Measured(card, curves, {"as the network gives it": before, "calibrated": after})


def _quality(
    near: Mode, everywhere: Mode, settings: DetectorMeasurement
) -> tuple[dict[str, Any], dict[str, PrecisionRecall]]:
    """Return the quality of the card, and the curves of its picture."""
    quality: dict[str, Any] = {
        "thresholds": _thresholds(near, everywhere, settings),
        "intervals": f"95 %, bootstrap of blocks of {TRUCK_BLOCK_M:g} m",
    }
    pairs = list(zip(near.observations.places, everywhere.observations.places, strict=True))
    quality |= {place.name: _both(near, everywhere, calibrated, place) for calibrated, place in pairs}
    modes = (near, everywhere)
    held_out, held_out_everywhere = (pool("held out", mode.observations.held_out) for mode in modes)
    curves = {"simulated": near.curve(held_out)}
    if pairs:
        labelled, labelled_everywhere = (pool("labelled", mode.observations.places) for mode in modes)
        mode, place = (near, labelled) if labelled.roads is not None else (everywhere, labelled_everywhere)
        curves["labelled"] = mode.curve(place)
        if len(pairs) > 1:
            quality["labelled_places_together"] = _both(near, everywhere, labelled, labelled_everywhere)
    at_threshold = held_out.evaluate(near.near_roads, near.threshold)
    quality["simulated_held_out"] = {
        "seeds": [item.seed for item in settings.held_out],
        **_both(near, everywhere, held_out, held_out_everywhere),
        "f1_near_roads_by_seed": {
            place.name: rounded(place.evaluate(near.near_roads, near.threshold).primary.f1)
            for place in near.observations.held_out
        },
        **motion_metrics(at_threshold),
    }
    quality["average_precision"] = {
        **{name: rounded(curve.average_precision) for name, curve in curves.items()},
        "simulated_without_roads": rounded(everywhere.curve(held_out_everywhere).average_precision),
    }
    quality["precision_recall"] = {name: curve_table(curve) for name, curve in curves.items()}
    quality["calibration"] = {
        "fitted_on_seeds": [item.seed for item in settings.calibration],
        "fitted_on_winter_seeds": [item.seed for item in settings.low_sun],
        "near_roads": _calibration(near),
        "everywhere": _calibration(everywhere),
    }
    quality["recall"] = {
        name: recall_table(seen.fitting, seen.low_sun, seen.held_out, mode.near_roads)
        for name, mode in (("near_roads", near), ("everywhere", everywhere))
        for seen in (mode.observations,)
    }
    quality["false_alarms_without_roads"] = {
        place.name: false_alarms(place, everywhere.threshold) for place in everywhere.observations.negative
    }
    quality["confusions"] = confusions(held_out, at_threshold, near.threshold)
    return quality, curves


def _moving_vehicles(near: Mode, everywhere: Mode) -> dict[str, Any]:
    """Return the metrics of moving vehicles of any kind, at the thresholds that suit them best."""
    pairs = list(zip(near.observations.places, everywhere.observations.places, strict=True))
    held_out = tuple(pool("held out", mode.observations.held_out) for mode in (near, everywhere))
    return {
        "thresholds": {"near_roads": near.threshold, "everywhere": everywhere.threshold},
        **{place.name: _both(near, everywhere, calibrated, place) for calibrated, place in pairs},
        "simulated_held_out": _both(near, everywhere, *held_out),
        "average_precision": {"simulated": rounded(near.curve(held_out[0]).average_precision)},
        "calibration": {"near_roads": _calibration(near), "everywhere": _calibration(everywhere)},
    }


def _thresholds(near: Mode, everywhere: Mode, settings: DetectorMeasurement) -> dict[str, str]:
    """Return how the thresholds were chosen, in words."""
    negative = " and ".join(place.name for place in everywhere.observations.negative) or "no scene"
    return {
        "near_roads": f"{near.threshold:g}: {near.rule}, near the roads of "
        f"{', '.join(one.name for one in near.chosen_on)}",
        "everywhere": f"{everywhere.threshold:g}: {everywhere.rule}, of "
        f"{', '.join(one.name for one in everywhere.chosen_on)} without roads, and at most "
        f"{settings.negative_per_10_km2:g} detections per 10 km2 on {negative} together",
    }


def _both(near: Mode, everywhere: Mode, near_place: Observed, place: Observed) -> dict[str, Any]:
    """Return the metrics of a place, calibrated for either mode: near roads if it has any, and everywhere."""
    found = {} if place.roads is None else {"near_roads": near.metrics(near_place)}
    return {**found, "everywhere": everywhere.metrics(place)}


def _calibration(mode: Mode) -> dict[str, Any]:
    before, after = mode.reliability
    return {
        "expected_error_before": rounded(before.expected_error),
        "expected_error_after": rounded(after.expected_error),
        "reliability": reliability_table(after),
    }


def _detections(
    places: Sequence[Observed], near_roads: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Return score, correctness, evidence of motion and `long_shadow` of every detection, near roads or
    everywhere."""
    parts = []
    for place in places:
        evaluation = place.evaluate(near_roads)
        curve = evaluation.curves[PRIMARY_CURVE]
        evidence = evaluation.predicted["evidence"].to_numpy(dtype=np.float64)[curve.detection]
        shadow = np.full(len(curve.score), long_shadow(place.shadow))
        parts.append((curve.score, curve.correct, evidence, shadow))
    score, correct, evidence, shadow = (np.concatenate(values) for values in zip(*parts, strict=True))
    return score, correct, evidence, shadow


def _observe(bundle: Bundle, settings: DetectorMeasurement, say: Callable[[str], None]) -> Observations:
    check_fetched(settings)
    engine = Engine(threads=settings.threads)
    with TemporaryDirectory(prefix="truckscape-measure-") as scratch:

        def on_disk(place: Place) -> Observed:
            say(place.name)
            return observe_place(bundle, place, Path(scratch), engine)

        def simulated(seed: Seed) -> Observed:
            say(f"simulated scene {seed.seed}" + (f" on {seed.day}" if seed.day else ""))
            return observe_seed(bundle, seed, Path(scratch), engine)

        return Observations(
            tuple(simulated(seed) for seed in settings.calibration),
            tuple(simulated(seed) for seed in settings.held_out),
            tuple(on_disk(place) for place in settings.places),
            tuple(on_disk(place) for place in settings.negative),
            tuple(simulated(seed) for seed in settings.low_sun),
        )


def write_quality(measured: Measured, bundle: Bundle, out: Path | None = None) -> Bundle:
    """Write the card and its picture into the bundle's folder, or a copy of the bundle with them into `out`.

    Raises
    ------
    OutputError
        If the folder can't be written.
    """
    card = measured.card
    figure = quality_figure(
        measured.curves,
        measured.reliability,
        {"near roads": card.default_threshold(True), "everywhere": card.default_threshold(False)},
    )
    return write_card(card, figure, bundle, out)
