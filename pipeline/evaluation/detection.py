"""How good truck detections are: centres matched one to one, average precision, heading and speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.average_precision import PrecisionRecall, precision_recall
from pipeline.evaluation.labels import COUNT_NEITHER_WAY
from pipeline.evaluation.matching import UNMATCHED, Matching, match

RADII_M = (10.0, 20.0, 30.0)
PRIMARY_RADIUS_M = 20.0
IOU_THRESHOLDS = (0.25, 0.5)
ROAD_BUFFER_M = 30.0


@dataclass(frozen=True)
class CentreScore:
    """Counts of one-to-one matches of centres within a radius, and what follows from them."""

    radius_m: float
    true_positives: int
    false_positives: int
    false_negatives: int
    """Firm references missed where the model looked."""
    not_seen: int
    """Firm references missed where it did not look (cloud, nodata, no road): not in `recall`."""
    dropped: int
    """Detections matched to a `low` or `ignore` reference: neither right nor wrong."""

    @property
    def precision(self) -> float:
        """Share of the detections that are trucks; NaN without detections."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the trucks that were found where the model looked; NaN without any."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def recall_all(self) -> float:
        """Share of all trucks that were found, whether the model looked there or not."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives + self.not_seen)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(
            2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives
        )


@dataclass(frozen=True)
class AngleError:
    """Heading of matched trucks against their reference."""

    known: int
    median_deg: float
    flips: int
    """Headings that are off by more than 90 degrees."""
    axis_known: int
    axis_median_deg: float
    """Of all matched trucks with an axis, whether or not their heading is known."""


@dataclass(frozen=True)
class SpeedError:
    """Speed of matched trucks against their reference, km/h."""

    known: int
    median_kmh: float
    """Of the absolute errors."""
    rmse_kmh: float
    bias_kmh: float
    within_one_sigma: float
    """Share of errors below the stated `speed_kmh_sigma`: 0.68 where it is honest."""


@dataclass(frozen=True)
class TruckEvaluation:
    """Predicted trucks against references, both in the same metric CRS."""

    predicted: gpd.GeoDataFrame
    """The N detections that were scored."""
    reference: gpd.GeoDataFrame
    """M boxes as `read_truck_labels` gives them."""
    matching: Matching
    """At `PRIMARY_RADIUS_M`."""
    looked_at: NDArray[np.bool_]
    """(M,): whether the centre of the reference lies in what the model looked at."""
    off_road: gpd.GeoDataFrame
    """Detections left out because they are far from every road; empty where no roads were given."""
    scores: Mapping[float, CentreScore]
    """By radius in metres."""
    curves: Mapping[str, PrecisionRecall]
    """`centre_20m`, `iou_0.25`, `iou_0.5`."""
    heading: AngleError
    speed: SpeedError

    @property
    def primary(self) -> CentreScore:
        """The headline: centres within 20 m."""
        return self.scores[PRIMARY_RADIUS_M]

    def metrics(self) -> dict[str, Any]:
        """All figures as plain numbers for JSON; None where a figure is not defined."""
        return {
            "predicted": len(self.predicted),
            "off_road": len(self.off_road),
            "reference": {
                "boxes": len(self.reference),
                "firm": int((~self.matching.ignore).sum()),
                "ignored": int(self.matching.ignore.sum()),
                "firm_not_looked_at": int((~self.matching.ignore & ~self.looked_at).sum()),
            },
            "centres": {
                f"{radius:g}m": {
                    "tp": score.true_positives,
                    "fp": score.false_positives,
                    "fn": score.false_negatives,
                    "fn_not_seen": score.not_seen,
                    "ignored": score.dropped,
                    "precision": _number(score.precision),
                    "recall": _number(score.recall),
                    "recall_all": _number(score.recall_all),
                    "f1": _number(score.f1),
                }
                for radius, score in self.scores.items()
            },
            "average_precision": {
                name: _number(curve.average_precision) for name, curve in self.curves.items()
            },
            "heading": {
                "known": self.heading.known,
                "median_error_deg": _number(self.heading.median_deg),
                "flips": self.heading.flips,
                "axis_known": self.heading.axis_known,
                "axis_median_error_deg": _number(self.heading.axis_median_deg),
            },
            "speed": {
                "known": self.speed.known,
                "median_error_kmh": _number(self.speed.median_kmh),
                "rmse_kmh": _number(self.speed.rmse_kmh),
                "bias_kmh": _number(self.speed.bias_kmh),
                "within_one_sigma": _number(self.speed.within_one_sigma),
            },
        }


def evaluate_trucks(
    predicted: gpd.GeoDataFrame,
    reference: gpd.GeoDataFrame,
    seen: gpd.GeoDataFrame | None = None,
    roads: gpd.GeoDataFrame | None = None,
    road_buffer_m: float = ROAD_BUFFER_M,
) -> TruckEvaluation:
    """Score detections against references (as `read_truck_labels` gives them), in the references' CRS.

    That CRS is replaced by the UTM zone of the data where it doesn't count in metres. `seen` is the area the
    model looked at: references with their centre outside of it are counted apart (`not_seen`), never as
    misses, unless they were found all the same. With `roads` the question is narrowed to within
    `road_buffer_m` of them: detections further away are set aside (`off_road`), references there are
    `not_seen`. References of confidence `low` and `ignore` count neither way.
    """
    reference = to_metres(reference, predicted)
    predicted = _scored(predicted, reference)
    on_road, road_seen = np.ones(len(predicted), bool), np.ones(len(reference), bool)
    if roads is not None:
        strips = roads.to_crs(reference.crs).buffer(road_buffer_m).to_numpy()
        on_road, road_seen = _within(predicted, strips), _within(reference, strips)
    off_road = predicted[~on_road].reset_index(drop=True)
    predicted = predicted[on_road].reset_index(drop=True)
    ignore = reference["confidence"].isin(COUNT_NEITHER_WAY).to_numpy()
    looked_at = road_seen
    if seen is not None:
        looked_at = road_seen & _within(reference, seen.to_crs(reference.crs).geometry.to_numpy())
    p_xy, r_xy = centres(predicted), centres(reference)
    matchings = {radius: match(p_xy, r_xy, ignore, radius) for radius in RADII_M}
    primary = matchings[PRIMARY_RADIUS_M]
    unseen = ~ignore & ~looked_at & (primary.prediction_of == UNMATCHED)
    return TruckEvaluation(
        predicted=predicted,
        reference=reference,
        matching=primary,
        looked_at=looked_at,
        off_road=off_road,
        scores={radius: _centre_score(matching, looked_at) for radius, matching in matchings.items()},
        curves=_curves(predicted, reference, ignore | unseen),
        heading=_heading_error(predicted, reference, primary),
        speed=_speed_error(predicted, reference, primary),
    )


def centres(frame: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """(N, 2): x, y of the middle of each geometry's bounds."""
    bounds = frame.geometry.bounds.to_numpy(dtype=np.float64).reshape(-1, 4)
    return (bounds[:, :2] + bounds[:, 2:]) / 2


def to_metres(frame: gpd.GeoDataFrame, other: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The frame in its own CRS if that counts in metres, else in the other's, else in its UTM zone."""
    for crs in (frame.crs, other.crs):
        if crs is not None and crs.is_projected and crs.axis_info[0].unit_name in ("metre", "meter"):
            return frame.to_crs(crs)
    located = next((part for part in (frame, other) if len(part)), None)
    return frame if located is None else frame.to_crs(located.estimate_utm_crs())


def angle_between(a: ArrayLike, b: ArrayLike, period: float = 360.0) -> NDArray[np.float64]:
    """Smallest angle between directions, in degrees; `period` 180 for axes."""
    half = period / 2
    return np.abs((np.asarray(a, dtype=float) - np.asarray(b, dtype=float) + half) % period - half)


def column(frame: gpd.GeoDataFrame, name: str) -> NDArray[np.float64]:
    """(N,): a column of numbers, NaN where it or a value is missing."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    return pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _scored(predicted: gpd.GeoDataFrame, reference: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    if predicted.crs is None:
        predicted = predicted.set_crs(reference.crs)
    predicted = predicted.to_crs(reference.crs).reset_index(drop=True)
    return predicted if "score" in predicted else predicted.assign(score=1.0)


def _within(frame: gpd.GeoDataFrame, areas: NDArray[np.object_]) -> NDArray[np.bool_]:
    """(N,): whether the centre of each geometry lies in any of the areas."""
    inside = np.zeros(len(frame), dtype=bool)
    # The areas are asked for their points, not the other way round: large areas are then indexed as well.
    points = shapely.STRtree(np.asarray(shapely.points(centres(frame))))
    inside[points.query(areas, predicate="intersects")[1]] = True
    return inside


def _centre_score(matching: Matching, looked_at: NDArray[np.bool_]) -> CentreScore:
    missed = matching.missed
    return CentreScore(
        radius_m=matching.radius_m,
        true_positives=len(matching.true_positives),
        false_positives=len(matching.false_positives),
        false_negatives=int(looked_at[missed].sum()),
        not_seen=int((~looked_at[missed]).sum()),
        dropped=int(matching.dropped.sum()),
    )


def _curves(
    predicted: gpd.GeoDataFrame, reference: gpd.GeoDataFrame, ignore: NDArray[np.bool_]
) -> dict[str, PrecisionRecall]:
    score = column(predicted, "score")
    boxes, truth = predicted.geometry.to_numpy(), reference.geometry.to_numpy()
    reach = shapely.STRtree(truth).query(boxes, predicate="dwithin", distance=PRIMARY_RADIUS_M).T
    pairs = np.asarray(reach, dtype=np.intp).reshape(-1, 2)
    apart = np.hypot(*(centres(predicted)[pairs[:, 0]] - centres(reference)[pairs[:, 1]]).T)
    overlap = shapely.area(shapely.intersection(boxes[pairs[:, 0]], truth[pairs[:, 1]]))
    union = shapely.area(boxes[pairs[:, 0]]) + shapely.area(truth[pairs[:, 1]]) - overlap
    iou = np.divide(overlap, union, out=np.zeros(len(pairs)), where=union > 0)
    near = apart <= PRIMARY_RADIUS_M
    curves = {f"centre_{PRIMARY_RADIUS_M:g}m": precision_recall(score, pairs[near], -apart[near], ignore)}
    for threshold in IOU_THRESHOLDS:
        enough = iou >= threshold
        curves[f"iou_{threshold:g}"] = precision_recall(score, pairs[enough], iou[enough], ignore)
    return curves


def _heading_error(
    predicted: gpd.GeoDataFrame, reference: gpd.GeoDataFrame, matching: Matching
) -> AngleError:
    found = matching.true_positives
    truth = column(reference, "travel_deg")[matching.reference_of[found]]
    error = angle_between(column(predicted, "heading_deg")[found], truth)
    axis = angle_between(column(predicted, "axis_deg")[found], truth, period=180.0)
    error, axis = error[np.isfinite(error)], axis[np.isfinite(axis)]
    return AngleError(len(error), _median(error), int((error > 90).sum()), len(axis), _median(axis))


def _speed_error(predicted: gpd.GeoDataFrame, reference: gpd.GeoDataFrame, matching: Matching) -> SpeedError:
    found = matching.true_positives
    truth = column(reference, "speed_kmh")[matching.reference_of[found]]
    error = column(predicted, "speed_kmh")[found] - truth
    sigma = column(predicted, "speed_kmh_sigma")[found]
    honest = (np.abs(error) <= sigma)[np.isfinite(error) & np.isfinite(sigma)]
    error = error[np.isfinite(error)]
    return SpeedError(
        known=len(error),
        median_kmh=_median(np.abs(error)),
        rmse_kmh=float(np.sqrt(np.mean(error**2))) if len(error) else float("nan"),
        bias_kmh=float(error.mean()) if len(error) else float("nan"),
        within_one_sigma=float(honest.mean()) if len(honest) else float("nan"),
    )


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
