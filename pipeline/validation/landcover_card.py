"""A land-cover model measured for its card: agreement with a teacher, real labels, calibration, speed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.config import Engine
from pipeline.errors import BundleError, ConfigError
from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.evaluation.trucks.calibration import Reliability
from pipeline.inference.teacher import Teacher, TeacherSettings
from pipeline.models.bundle import NO_BAND, Bundle, Card, open_bundle
from pipeline.open_data.resolve import check_fetched, located
from pipeline.report.charts import PlaceBar, landcover_quality_figure
from pipeline.settings import MOST_THREADS, Settings
from pipeline.validation.card_metrics import reliability_table, rounded
from pipeline.validation.landcover_metrics import (
    BOOTSTRAP_PX,
    Classes,
    Pair,
    advantage,
    class_reliability,
    class_table,
    confusion,
    fit_temperature,
    mean_and_pooled,
    metrics,
    most_confused,
    recall_by_class,
    same_share,
)
from pipeline.validation.landcover_places import (
    LandcoverPlace,
    ObservedLandcover,
    OpenPlace,
    observe_landcover,
)
from pipeline.validation.timing import compared_speed
from pipeline.validation.write_card import write_card

log = logging.getLogger(__name__)

_CONFUSIONS = 8
_MEASURED = (
    "intervals", "reference", "agreement", "mean_iou", "places", "iou_by_place", "classes", "confusions",
    "agreement_without", "mean_iou_without", "real_labels", "levels_agree", "calibration", "speed",
)  # fmt: skip
"""Figures of `quality` that are measured here; others, such as a cross-validation, are the training's."""
RED_EDGE, SHORT_WAVE = ("B05", "B06", "B07"), ("B11", "B12")


class LandcoverMeasurement(Settings):
    """Places on which a land-cover model is measured."""

    teacher: TeacherSettings | None = Field(
        None, description="network whose classes the model is compared with; null: real labels only"
    )
    places: tuple[LandcoverPlace, ...] = Field((), description="places to report, none of them trained on")
    calibration: tuple[LandcoverPlace, ...] = Field(
        (), description="other places, to fit the temperature of the probabilities on"
    )
    pairs: tuple[tuple[str, str], ...] = Field(
        (), description="names of places: the L1C and the L2A of the same acquisition on one grid"
    )
    missing: tuple[tuple[str, ...], ...] = Field(
        (("B8A",), RED_EDGE, SHORT_WAVE, (*RED_EDGE, "B8A", *SHORT_WAVE)),
        description="bands to leave out together, to measure what they are worth",
    )
    previous: str | None = Field(None, description="bundle (name or folder) to compare the speed with")
    threads: int = Field(2, ge=1, le=MOST_THREADS)

    @model_validator(mode="after")
    def _fits_together(self) -> LandcoverMeasurement:
        everything = (*self.places, *self.calibration)
        names = [place.name for place in everything]
        scenes = [f"{place.scene} {place.within or ''}".strip() for place in everything]
        twice = sorted({name for group in (names, scenes) for name in group if group.count(name) > 1})
        if twice:
            raise ValueError(f"each place is measured once; {', '.join(twice)} is given twice")
        unknown = sorted({name for pair in self.pairs for name in pair if name not in names})
        if unknown:
            raise ValueError(f"pairs name places; {', '.join(unknown)} is none of {', '.join(names)}")
        return self


@dataclass(frozen=True)
class MeasuredLandcover:
    """A card with its quality, and the content of its picture."""

    card: Card
    reliability: Mapping[str, Reliability]
    """`as the network gives it` and `calibrated`, on the places that are reported."""
    bars: Sequence[PlaceBar]


def measure_landcover(
    bundle: Bundle, settings: LandcoverMeasurement, say: Callable[[str], None] = log.info
) -> MeasuredLandcover:
    """Map all places of `settings` with a model; compare, calibrate its probabilities, take the time.

    `quality` of the card: agreement and mean IoU with the teacher for each place and level, pooled and as
    mean of places; by class; by missing bands; of the L1C and the L2A of one acquisition; accuracy on real
    labels beside the teacher's, with 95 % intervals; calibration error before and after; confusions; seconds.
    `calibration.temperature` is fitted on the places of `calibration` and reported on `places`. Memory: 30
    bytes a pixel of the largest place, and the engine's.

    Raises
    ------
    BundleError
        If the bundle is no segmenter, or the teacher can't be opened.
    ConfigError
        If there are no places, one has nothing to compare with, or a pair does not lie on one grid.
    TruckscapeError
        As scenes and labels may raise.
    """
    card = bundle.card
    if card.task != "segmentation":
        raise BundleError(f"Land-cover models are measured here; {card.id} is for {card.task}.")
    if not settings.places:
        raise ConfigError(
            f"A land-cover model ({card.id}) is measured on places. Give them, e.g. "
            "--config configs/measure-landcover.yaml"
        )
    check_fetched(settings)
    teacher = Teacher(located(settings.teacher), settings.threads) if settings.teacher else None
    missing = [bands for bands in settings.missing if set(bands) <= set(card.optional_bands)]
    fitting = _observe(bundle, settings, settings.calibration, teacher, (), say)
    observed = _observe(bundle, settings, settings.places, teacher, missing, say)
    say("speed")
    previous = open_bundle(settings.previous) if settings.previous else None
    speed = compared_speed(bundle, previous, Engine(threads=settings.threads))
    temperature = fit_temperature([(place.logits, place.truth) for place in fitting])
    before, after = (_reliability(observed, card, value) for value in (1.0, temperature))
    quality = _quality(observed, fitting, card, settings) | {
        "calibration": {
            "temperature": temperature,
            "fitted_on": [place.name for place in fitting],
            "expected_error_before": rounded(before.expected_error),
            "expected_error_after": rounded(after.expected_error),
            "reliability": reliability_table(after, "pixels"),
        },
        "speed": speed,
    }
    calibration = card.calibration.model_copy(update={"temperature": temperature})
    from_training = {name: value for name, value in card.quality.items() if name not in _MEASURED}
    return MeasuredLandcover(
        card.model_copy(update={"quality": quality | from_training, "calibration": calibration}),
        {"as the network gives it": before, "calibrated": after},
        [_bar(place, card) for place in observed if place.teacher is not None or place.labels is not None],
    )


def _observe(
    bundle: Bundle,
    settings: LandcoverMeasurement,
    places: Sequence[LandcoverPlace],
    teacher: Teacher | None,
    missing: Sequence[tuple[str, ...]],
    say: Callable[[str], None],
) -> list[ObservedLandcover]:
    """Map some of the places; the second of a pair has the teacher's classes of the first."""
    engine = Engine(threads=settings.threads)
    by_name = {place.name: place for place in (*settings.places, *settings.calibration)}
    first_of = {second: first for first, second in settings.pairs}
    paired = {name for pair in settings.pairs for name in pair}
    observed = []

    def taught(place: OpenPlace) -> Classes | None:
        first = first_of.get(place.settings.name)
        source = OpenPlace.of(by_name[first]) if first else place
        if source.scene.shape != place.scene.shape:
            raise ConfigError(
                f"{first} and {place.settings.name} are a pair, so they must lie on one grid. "
                f"Received: {source.scene.shape} and {place.scene.shape} pixels."
            )
        classes = source.teacher_classes(teacher, bundle.card) if teacher else None
        return None if classes is None else np.where(place.counted, classes, np.uint8(UNLABELLED))

    for number, place in enumerate(places, 1):
        say(f"place {number} of {len(places)}: {place.name}")
        one = observe_landcover(OpenPlace.of(place), bundle, engine, taught, missing)
        if one.teacher is None and one.labels is None and place.name not in paired:
            raise ConfigError(
                f"Place {place.name} has nothing to compare with: no labels, and no teacher that its bands "
                f"suffice for. Give labels, or leave it out."
            )
        observed.append(one)
    return observed


def _quality(
    observed: Sequence[ObservedLandcover],
    fitting: Sequence[ObservedLandcover],
    card: Card,
    settings: LandcoverMeasurement,
) -> dict[str, Any]:
    """Return the figures of the card that need no probabilities."""
    pairs = {place.name: (place.teacher, place.found) for place in observed if place.teacher is not None}
    levels = {level: [p.name for p in observed if p.level == level] for level in ("L1C", "L2A")}
    quality: dict[str, Any] = {"intervals": f"95 %, bootstrap of blocks of {10 * BOOTSTRAP_PX} m"}
    if settings.teacher and pairs:
        agreement, mean_iou = mean_and_pooled(pairs, card, levels)
        pooled = confusion(pairs.values(), card)
        quality |= {
            "reference": settings.teacher.title,
            "agreement": agreement,
            "mean_iou": mean_iou,
            "places": _place_table([place for place in observed if place.teacher is not None], card),
            "iou_by_place": {name: metrics([pair], card)["iou"] for name, pair in pairs.items()},
            "classes": class_table(pooled),
            "confusions": most_confused(pooled, _CONFUSIONS),
            **_without(observed, card),
        }
    labelled = [place for place in observed if place.labels is not None]
    if labelled:
        quality["real_labels"] = {place.name: _real(place, card) for place in labelled}
    if settings.pairs:
        by_name = {place.name: place.found for place in (*observed, *fitting)}
        quality["levels_agree"] = {
            f"{one} and {other}": same_share(by_name[one], by_name[other]) for one, other in settings.pairs
        }
    return quality


def _place_table(observed: Sequence[ObservedLandcover], card: Card) -> dict[str, Any]:
    rows = []
    for place in observed:
        pair = _pair(place)
        found, result = metrics([pair], card), confusion([pair], card)
        lacking = [band for band in card.bands if band not in place.bands]
        rows.append(
            [
                place.name,
                place.level,
                found["pixels"],
                found["accuracy"],
                *found["accuracy_95"],
                rounded(result.mean_iou),
                " ".join(lacking) or "-",
            ]
        )
    columns = ["place", "level", "pixels", "agreement", "from", "to", "mean_iou", "missing_bands"]
    return {"columns": columns, "rows": rows}


def _without(observed: Sequence[ObservedLandcover], card: Card) -> dict[str, Any]:
    """Return the mean agreement of places with all bands, as they are and as if they lacked some."""
    complete = [place for place in observed if place.without]
    if not complete:
        return {}
    maps: dict[str, dict[str, Pair]] = {NO_BAND: {place.name: _pair(place) for place in complete}}
    for bands in complete[0].without:
        lacking = " ".join(band for band in card.bands if band in bands)
        maps[lacking] = {place.name: (_pair(place)[0], place.without[bands]) for place in complete}
    found = {lacking: mean_and_pooled(pairs, card, {}) for lacking, pairs in maps.items()}
    return {
        "agreement_without": {lacking: means["mean_of_places"] for lacking, (means, _) in found.items()},
        "mean_iou_without": {lacking: means["mean_of_places"] for lacking, (_, means) in found.items()},
    }


def _real(place: ObservedLandcover, card: Card) -> dict[str, Any]:
    """Return accuracy on real labels, also by class, beside the teacher's on the same pixels."""
    labels = np.full_like(place.found, UNLABELLED) if place.labels is None else place.labels
    both = np.where(place.found == UNLABELLED, np.uint8(UNLABELLED), labels)
    found = metrics([(both, place.found)], card)
    result = {key: found[key] for key in ("pixels", "accuracy", "accuracy_95")}
    result["mean_iou"] = rounded(confusion([(both, place.found)], card).mean_iou)
    of_model = recall_by_class([(both, place.found)], card)
    if place.teacher is None:
        rows = [[name, pixels, share] for name, (pixels, share) in of_model.items()]
        return result | {"classes": {"columns": ["class", "pixels", "found"], "rows": rows}}
    teachers, gained, interval = advantage([(both, place.found, place.teacher)])
    of_teacher = recall_by_class([(both, place.teacher)], card)
    rows = [[name, pixels, share, of_teacher[name][1]] for name, (pixels, share) in of_model.items()]
    return result | {
        "teacher_accuracy": teachers,
        "advantage": gained,
        "advantage_95": interval,
        "classes": {"columns": ["class", "pixels", "found", "found_by_teacher"], "rows": rows},
    }


def _pair(place: ObservedLandcover) -> Pair:
    nothing = np.full_like(place.found, UNLABELLED)
    return (nothing if place.teacher is None else place.teacher), place.found


def _reliability(observed: Sequence[ObservedLandcover], card: Card, temperature: float) -> Reliability:
    logits: list[NDArray[np.float32]] = [np.zeros((0, len(card.classes)), np.float32)]
    logits += [place.logits for place in observed]
    truth: list[NDArray[np.uint8]] = [np.zeros(0, np.uint8), *(place.truth for place in observed)]
    return class_reliability(np.concatenate(logits), np.concatenate(truth), temperature)


def _bar(place: ObservedLandcover, card: Card) -> PlaceBar:
    agreement = confusion([_pair(place)], card).accuracy
    if place.labels is None:
        return PlaceBar(place.name, place.level, agreement, None, None)
    real = metrics([(place.labels, place.found)], card)
    low, high = real["accuracy_95"]
    interval = None if low is None or high is None else (low, high)
    return PlaceBar(place.name, place.level, agreement, real["accuracy"], interval)


def write_landcover_quality(measured: MeasuredLandcover, bundle: Bundle, out: Path | None = None) -> Bundle:
    """Write the card and its picture into the bundle's folder, or a copy of the bundle into `out`.

    Raises OutputError if the folder can't be written.
    """
    figure = landcover_quality_figure(measured.reliability, measured.bars)
    return write_card(measured.card, figure, bundle, out)
