"""How good a detector is, measured and written into its card: calibration, thresholds, figures, a picture."""

from __future__ import annotations

import logging
import platform
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.config import Engine, Settings
from pipeline.errors import BundleError
from pipeline.evaluation.bootstrap import block_bootstrap
from pipeline.evaluation.trucks.blocks import TRUCK_BLOCK_M, precision_recall_f1, truck_counts
from pipeline.evaluation.trucks.calibration import Reliability, fit_calibration, reliability
from pipeline.evaluation.trucks.cases import truck_cases
from pipeline.evaluation.trucks.scores import PrecisionRecall, TruckEvaluation
from pipeline.inference.runtime import half_precision
from pipeline.models.bundle import Bundle, Calibration, Card, save_card
from pipeline.models.normalise import normalise
from pipeline.report.card import PICTURE
from pipeline.report.charts import quality_figure
from pipeline.simulation.simulate import simulate_scene
from pipeline.storage.atomic import replacing
from pipeline.validation.observe import Observed, Place, Seed, observe_place, observe_seed, pool
from pipeline.validation.timing import network_seconds

log = logging.getLogger(__name__)

PRIMARY_CURVE = "centre_20m"
_THRESHOLDS = np.arange(1, 100) / 100
_AS_GOOD = 0.002
"""F1 that differs by less is taken to be the same: the threshold is then the middle, not the luckiest."""
_CURVE_SCORES = (*(np.arange(1, 20) / 20).round(2).tolist(), 0.98)
_HIGHEST = 0.999
_SPEED_PX = 512


class DetectorMeasurement(Settings):
    """What a detector is measured on."""

    places: tuple[Place, ...] = Field((), description="scenes with labels, none of which it was trained on")
    quiet: tuple[Place, ...] = Field((), description="scenes with hardly a truck: what is found is false")
    calibration: tuple[Seed, ...] = Field(
        tuple(Seed(seed=seed) for seed in (2001, 2002, 2003, 2004)),
        description="simulated scenes to fit calibration and thresholds on",
    )
    held_out: tuple[Seed, ...] = Field(
        (*(Seed(seed=seed) for seed in (42, 123, 900, 901)), Seed(seed=7, size=1024)),
        description="simulated scenes that neither training nor calibration has seen",
    )
    quiet_per_10_km2: float = Field(0.5, gt=0, description="most false alarms without roads that are allowed")
    threads: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _each_only_once(self) -> DetectorMeasurement:
        names = [place.name for place in (*self.places, *self.quiet)]
        seeds = [str(seed.seed) for seed in (*self.calibration, *self.held_out)]
        twice = sorted({name for group in (names, seeds) for name in group if group.count(name) > 1})
        if twice:
            raise ValueError(f"each place and each seed is measured once; {', '.join(twice)} is given twice")
        return self


@dataclass(frozen=True)
class Measured:
    """A card with everything that was measured, and what its picture shows."""

    card: Card
    curves: Mapping[str, PrecisionRecall]
    reliability: Mapping[str, Reliability]
    """On the held-out seeds near roads: `as the network gives it` and `calibrated`."""


def measure_detector(
    bundle: Bundle, settings: DetectorMeasurement, say: Callable[[str], None] = log.info
) -> Measured:
    """Run a detector over everything of `settings`; calibrate it, choose its thresholds, count its mistakes.

    Near roads and everywhere each have their own calibration and threshold. Motion counts near roads only:
    elsewhere much that moves is no truck, and a weight that suits some scenes makes others worse.

    `quality` of the card: for each place, and the held-out seeds pooled, true and false positives and misses
    of centres within 20 m, precision, recall and F1 with 95 % intervals (bootstrap of blocks of 500 m), near
    its roads and everywhere; precision over recall; calibration error before and after; false alarms of
    quiet places; headings and speeds; causes of mistakes; seconds. Two to four minutes of one core with the
    defaults, and 2 GB of memory; scratch files lie in the system's temporary folder and go at the end.

    Raises
    ------
    BundleError
        If the bundle is no detector.
    TruckscapeError
        Whatever else a run or its labels may raise.
    """
    if bundle.card.task != "detection":
        raise BundleError(f"Detectors are measured here; {bundle.card.id} is for {bundle.card.task}.")
    raw = _observe(bundle, settings, say)
    by_roads = fit_calibration(*_detections(raw.fitting, near_roads=True))
    everywhere = fit_calibration(*_detections(raw.fitting, near_roads=False)[:2])
    on_roads, open_ground = raw.calibrated(by_roads), raw.calibrated(everywhere)
    near_places = [
        pool("calibration", on_roads.fitting),
        *(one for one in on_roads.places if one.roads is not None),
    ]
    near = best_threshold(*(one.evaluate(near_roads=True).curves[PRIMARY_CURVE] for one in near_places))
    all_places = [pool("calibration", open_ground.fitting), *open_ground.places]
    best = best_threshold(*(one.evaluate(near_roads=False).curves[PRIMARY_CURVE] for one in all_places))
    quiet = [quiet_threshold(one, settings.quiet_per_10_km2) for one in open_ground.quiet]
    anywhere = max([best, *quiet])

    def scored(near_place: Observed, place: Observed) -> dict[str, Any]:
        """A place calibrated in both ways: near roads where there are any, and everywhere."""
        found = {"everywhere": figures(place.evaluate(near_roads=False, threshold=anywhere))}
        if place.roads is None:
            return found
        return {"near_roads": figures(near_place.evaluate(near_roads=True, threshold=near)), **found}

    unseen, unseen_everywhere = (pool("held out", part.held_out) for part in (on_roads, open_ground))
    simulated = unseen.evaluate(near_roads=True, threshold=near)
    curves = {"simulated": unseen.evaluate(near_roads=True).curves[PRIMARY_CURVE]}
    without_roads = unseen_everywhere.evaluate(near_roads=False).curves[PRIMARY_CURVE]
    reliable = {
        name: [reliability(*_detections(part.held_out, near_roads)[:2]) for part in (raw, calibrated)]
        for name, calibrated, near_roads in (
            ("near_roads", on_roads, True),
            ("everywhere", open_ground, False),
        )
    }
    quality: dict[str, Any] = {
        "thresholds": {
            "near_roads": f"{near:g}: highest mean of the F1 near the roads of "
            f"{', '.join(one.name for one in near_places)} (the middle of those within {_AS_GOOD:g} of it)",
            "everywhere": f"{anywhere:g}: the same of {', '.join(one.name for one in all_places)} without "
            f"roads, and at most {settings.quiet_per_10_km2:g} detections per 10 km2 on "
            f"{' and '.join(place.name for place in open_ground.quiet) or 'no scene'}",
        },
        "intervals": f"95 %, bootstrap of blocks of {TRUCK_BLOCK_M:g} m",
        **{pair[1].name: scored(*pair) for pair in zip(on_roads.places, open_ground.places, strict=True)},
    }
    if on_roads.places:
        labelled, labelled_everywhere = (pool("labelled", part.places) for part in (on_roads, open_ground))
        judged = labelled_everywhere if labelled.roads is None else labelled
        curves["labelled"] = judged.evaluate(judged.roads is not None).curves[PRIMARY_CURVE]
    if len(on_roads.places) > 1:
        quality["labelled_places_together"] = scored(labelled, labelled_everywhere)
    quality |= {
        "simulated_held_out": {
            "seeds": [item.seed for item in settings.held_out],
            **scored(unseen, unseen_everywhere),
            "f1_near_roads_by_seed": {
                place.name: _round(place.evaluate(near_roads=True, threshold=near).primary.f1)
                for place in on_roads.held_out
            },
            **motion_figures(simulated),
        },
        "average_precision": {
            **{name: _round(curve.average_precision) for name, curve in curves.items()},
            "simulated_without_roads": _round(without_roads.average_precision),
        },
        "precision_recall": {name: curve_table(curve) for name, curve in curves.items()},
        "calibration": {
            "fitted_on_seeds": [item.seed for item in settings.calibration],
            **{
                name: {
                    "expected_error_before": _round(before.expected_error),
                    "expected_error_after": _round(after.expected_error),
                    "reliability": reliability_table(after),
                }
                for name, (before, after) in reliable.items()
            },
        },
        "false_alarms_without_roads": {
            place.name: false_alarms(place, anywhere) for place in open_ground.quiet
        },
        "confusions": confusions(unseen, simulated, near),
        "speed": speed(bundle),
    }
    card = bundle.card.model_copy(
        update={
            "calibration": everywhere,
            "calibration_near_roads": by_roads,
            "score_threshold": anywhere,
            "score_threshold_near_roads": near,
            "quality": quality,
        }
    )
    before, after = reliable["near_roads"]
    return Measured(card, curves, {"as the network gives it": before, "calibrated": after})


def _detections(places: Sequence[Observed], near_roads: bool) -> tuple[NDArray, NDArray, NDArray]:
    """Score, whether it is right, and evidence of motion of every detection, near roads or everywhere."""
    evaluation = pool("together", places).evaluate(near_roads)
    curve = evaluation.curves[PRIMARY_CURVE]
    evidence = evaluation.predicted["evidence"].to_numpy(dtype=np.float64)
    return curve.score, curve.correct, evidence[curve.detection]


@dataclass(frozen=True)
class _Observations:
    """All places of a measurement, by what they are for."""

    fitting: tuple[Observed, ...]
    held_out: tuple[Observed, ...]
    places: tuple[Observed, ...]
    quiet: tuple[Observed, ...]

    def calibrated(self, calibration: Calibration) -> _Observations:
        groups = (self.fitting, self.held_out, self.places, self.quiet)
        return _Observations(*(tuple(place.calibrated(calibration) for place in group) for group in groups))


def _observe(bundle: Bundle, settings: DetectorMeasurement, say: Callable[[str], None]) -> _Observations:
    engine = Engine(threads=settings.threads)
    with TemporaryDirectory(prefix="truckscape-measure-") as scratch:

        def on_disk(place: Place) -> Observed:
            say(place.name)
            return observe_place(bundle, place, Path(scratch), engine)

        def simulated(seed: Seed) -> Observed:
            say(f"simulated scene {seed.seed}")
            return observe_seed(bundle, seed, Path(scratch), engine)

        return _Observations(
            tuple(simulated(seed) for seed in settings.calibration),
            tuple(simulated(seed) for seed in settings.held_out),
            tuple(on_disk(place) for place in settings.places),
            tuple(on_disk(place) for place in settings.quiet),
        )


def write_quality(measured: Measured, bundle: Bundle, out: Path | None = None) -> Bundle:
    """Write the card and `PICTURE` into the bundle's folder, or a copy of the bundle with them into `out`.

    Raises
    ------
    OutputError
        If the folder can't be written.
    """
    folder = out or bundle.folder
    if folder != bundle.folder:
        with replacing(folder / bundle.weights.name) as part:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.weights, part)
    card = measured.card
    figure = quality_figure(
        measured.curves,
        measured.reliability,
        {"near roads": card.default_threshold(True), "everywhere": card.default_threshold(False)},
    )
    with replacing(folder / PICTURE) as part:
        figure.savefig(part, dpi=110)
    return save_card(folder, card)


def best_threshold(*curves: PrecisionRecall) -> float:
    """The score with the highest F1, the mean over all curves that have one, in hundredths.

    It is the middle of all that are as good, and 0.5 where none is.
    """
    f1 = np.mean([_f1(curve) for curve in curves if len(curve.score)] or [np.zeros(len(_THRESHOLDS))], axis=0)
    if not f1.any():
        return 0.5
    return float(np.quantile(_THRESHOLDS[f1 >= f1.max() - _AS_GOOD], 0.5, method="lower"))


def _f1(curve: PrecisionRecall) -> NDArray[np.float64]:
    """F1 at each of `_THRESHOLDS`."""
    last = np.searchsorted(-curve.score, -_THRESHOLDS, side="right") - 1
    precision, recall = (np.append(values, 0.0)[last] for values in (curve.precision, curve.recall))
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)


def quiet_threshold(quiet: Observed, per_10_km2: float) -> float:
    """The lowest score, in thousandths, from which on a quiet place has no more detections than allowed."""
    allowed = int(per_10_km2 * quiet.km2 / 10)
    scores = np.sort(quiet.trucks["score"].to_numpy(dtype=np.float64))[::-1]
    if len(scores) <= allowed:
        return 0.0
    return min(_HIGHEST, float(np.floor(scores[allowed] * 1000 + 1) / 1000))


def figures(evaluation: TruckEvaluation) -> dict[str, Any]:
    """Counts, precision, recall and F1 of centres within 20 m, with their intervals."""
    counts = truck_counts(evaluation)
    names = ("precision", "recall", "f1")
    total = counts.sum(axis=0)
    values = precision_recall_f1(total.astype(np.float64))
    bounds = block_bootstrap(counts, precision_recall_f1)
    return {
        **{name: int(count) for name, count in zip(("tp", "fp", "fn"), total, strict=True)},
        **{name: _round(value) for name, value in zip(names, values, strict=True)},
        "interval_95": {name: [_round(v) for v in pair] for name, pair in zip(names, bounds.T, strict=True)},
        "blocks": len(counts),
    }


def motion_figures(evaluation: TruckEvaluation) -> dict[str, Any]:
    """Headings and speeds of the trucks that were found, against the truth."""
    heading, pace = evaluation.heading, evaluation.speed
    return {
        "headings": {
            "known": heading.known,
            "flipped": heading.flips,
            "median_error_deg": _round(heading.median_deg),
        },
        "speeds": {
            "known": pace.known,
            "rmse_kmh": _round(pace.rmse_kmh),
            "median_error_kmh": _round(pace.median_kmh),
            "bias_kmh": _round(pace.bias_kmh),
            "within_one_sigma": _round(pace.within_one_sigma),
        },
    }


def curve_table(curve: PrecisionRecall) -> dict[str, Any]:
    """Precision and recall of all detections from a score on, at 20 scores."""
    last = np.searchsorted(-curve.score, -np.array(_CURVE_SCORES), side="right") - 1
    rows = [
        [score, _round(curve.precision[index]), _round(curve.recall[index])]
        for score, index in zip(_CURVE_SCORES, last, strict=True)
        if index >= 0
    ]
    return {"columns": ["score_from", "precision", "recall"], "rows": rows}


def reliability_table(table: Reliability) -> dict[str, Any]:
    """Mean score, share that is right and number of boxes of every bin."""
    rows = [
        [_round(score), _round(right), int(count)]
        for score, right, count in zip(table.score, table.right, table.count, strict=True)
    ]
    return {"columns": ["score", "share_right", "boxes"], "rows": rows}


def false_alarms(quiet: Observed, threshold: float) -> dict[str, Any]:
    """Detections where there is hardly a truck to be found."""
    count = int((quiet.trucks["score"] >= threshold).sum())
    return {"detections": count, "km2": round(quiet.km2, 1), "per_10_km2": _round(10 * count / quiet.km2)}


def confusions(observed: Observed, evaluation: TruckEvaluation, threshold: float) -> dict[str, Any]:
    """Mistakes by likely cause, see `truck_cases`, most frequent first."""
    below = observed.trucks[observed.trucks["score"] < threshold]
    cases = truck_cases(evaluation, observed.seen, below)
    return {
        what: {
            str(cause): int(count)
            for cause, count in cases[cases["outcome"] == code]["cause"].value_counts().items()
        }
        for what, code in (("false_positives", "FP"), ("false_negatives", "FN"))
    }


def speed(bundle: Bundle) -> dict[str, Any]:
    """Seconds of the network for a million pixels of a simulated scene, on this machine's processor.

    Decoding and the measurement of motion are not included.
    """
    card, half = bundle.card, half_precision(Engine())
    pixels = simulate_scene(_SPEED_PX, 0, card.bands).reflectance
    image = normalise(pixels, np.ones(pixels.shape[1:], dtype=bool), card)[None]
    seconds = min(network_seconds(bundle, image, half))
    return {
        "seconds_per_mpx_one_thread": round(seconds / (_SPEED_PX**2 / 1e6), 2),
        "precision": "bfloat16" if half else "float32",
        "processor": _processor(),
    }


def _processor() -> str:
    try:
        named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:  # no Linux
        named = None
    return named[1] if named else platform.processor() or platform.machine()


def _round(value: float | np.floating | NDArray[np.float64]) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None
