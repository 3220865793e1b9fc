"""Scores of truck detections: centres matched one to one, average precision, heading and speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from pipeline.evaluation.labels import IGNORED_CONFIDENCES
from pipeline.evaluation.trucks.boxes import (
    angle_between,
    centres,
    column,
    median_of,
    share,
    to_metres,
    within,
)
from pipeline.evaluation.trucks.matching import (
    UNMATCHED,
    Matching,
    Pairs,
    centre_pairs,
    iou_pairs,
    match,
    same_class,
)
from pipeline.evaluation.trucks.precision_recall import PrecisionRecall, precision_recall
from pipeline.evaluation.trucks.vehicles import Counted, match_light, ranked_alike, split_light
from pipeline.models.legend import DYNAMIC_WORLD, LegendClass

RADII_M = (10.0, 20.0, 30.0)
PRIMARY_RADIUS_M = 20.0
IOU_THRESHOLDS = (0.25, 0.5)
ROAD_BUFFER_M = 30.0


@dataclass(frozen=True)
class CentreScore:
    """Counts of one-to-one matches, of centres within a radius or by overlap, and what follows from them."""

    radius_m: float
    """NaN where boxes were matched by their overlap."""
    true_positives: int
    false_positives: int
    false_negatives: int
    """Certain references in the observed area without a match."""
    not_seen: int
    """Certain references without a match outside of it (cloud, nodata, no road): not in `recall`."""
    ignored: int
    """Detections matched to an ignored reference: neither TP nor FP."""

    @property
    def precision(self) -> float:
        """Share of the detections that are vehicles that count; NaN without detections."""
        return share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of those vehicles in the observed area that were found; NaN without any."""
        return share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def recall_all(self) -> float:
        """Share of all of them that were found, in the observed area or not."""
        return share(self.true_positives, self.true_positives + self.false_negatives + self.not_seen)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return share(
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
    """Median over matched trucks with an axis, also those without a heading."""


@dataclass(frozen=True)
class SpeedError:
    """Speed of matched trucks against their reference, km/h."""

    known: int
    median_kmh: float
    """Of the absolute errors."""
    rmse_kmh: float
    bias_kmh: float
    within_one_sigma: float
    """Share of errors below the stated `speed_kmh_sigma`: 0.68 if that is right."""


@dataclass(frozen=True)
class Surroundings:
    """Layers around the trucks, in the evaluation's CRS; None if unknown."""

    seen: gpd.GeoDataFrame | None = None
    """Polygons of the area that the model observed."""
    not_seen: gpd.GeoDataFrame | None = None
    """Polygons of the rest, with a column `reason`; see `pipeline.layers.search_area`."""
    roads: gpd.GeoDataFrame | None = None
    """Lines to whose surroundings the evaluation is restricted."""
    road_buffer_m: float = ROAD_BUFFER_M
    landcover: Path | None = None
    """Raster of classes, in any CRS."""
    legend: Sequence[LegendClass] = DYNAMIC_WORLD


@dataclass(frozen=True)
class TruckEvaluation:
    """Predicted trucks against references, both in the same metric CRS."""

    predicted: gpd.GeoDataFrame
    """The N detections that were scored."""
    reference: gpd.GeoDataFrame
    """M boxes as `read_truck_labels` gives them, without `light`."""
    matching: Matching
    """At `PRIMARY_RADIUS_M`. Ignored are references of `IGNORED_CONFIDENCES`, and `truncated` ones."""
    observed: NDArray[np.bool_]
    """(M,): True if the centre of the reference is in the observed area."""
    off_road: gpd.GeoDataFrame
    """Detections left out because they are far from every road; empty without roads."""
    scores: Mapping[float, CentreScore]
    """By radius in metres."""
    curves: Mapping[str, PrecisionRecall]
    """`centre_20m`, `iou_0.25`, `iou_0.5`, `centre_10m`, `centre_30m`."""
    heading: AngleError
    speed: SpeedError
    truncated: NDArray[np.bool_]
    """(M,): references that reach over the border of what could be seen (nodata, cloud, the scene's edge)."""
    counted: Counted
    light: gpd.GeoDataFrame
    """L labels of light vehicles, which are neither to be found nor ignored; empty if moving ones count."""
    light_of: NDArray[np.intp]
    """(N,): the light vehicle on which a false positive is, or `UNMATCHED`; see `vehicles.match_light`."""
    told_apart: bool
    """True if the labels say which vehicles are heavy and which are light."""
    surroundings: Surroundings = field(default_factory=Surroundings)
    below_threshold: gpd.GeoDataFrame | None = None
    """Detections below the score threshold, for the curve of thresholds; in the evaluation's CRS."""
    predicted_scene: NDArray[np.object_] | None = None
    """(N,): only boxes of the same scene were matched; None if all are of one scene."""
    reference_scene: NDArray[np.object_] | None = None
    """(M,)"""
    scored: bool = True
    """False if the detections have no scores: then metrics of thresholds are undefined."""

    @property
    def primary(self) -> CentreScore:
        """The headline: centres within 20 m."""
        return self.scores[PRIMARY_RADIUS_M]

    @property
    def false_negatives(self) -> NDArray[np.intp]:
        """Indices of the certain references in the observed area without a match."""
        false_negatives = self.matching.false_negatives
        return false_negatives[self.observed[false_negatives]]

    @property
    def on_light(self) -> NDArray[np.bool_]:
        """(N,): True for false positives on a light vehicle."""
        return np.asarray(self.light_of != UNMATCHED)

    @property
    def knows_light(self) -> bool:
        """True if false positives on light vehicles are known."""
        return self.told_apart and self.counted == "heavy"

    @property
    def ignored(self) -> NDArray[np.bool_]:
        """(M,): references that are not in recall: ignored, or unmatched outside of the observed area."""
        return _ignored(self.matching, self.observed)

    @property
    def not_measured(self) -> str | None:
        """The reason if nothing can be measured: nothing was searched, or the labels are elsewhere."""
        seen = self.surroundings.seen
        if seen is not None and not seen.area.sum():
            return "Nothing of the scene was searched for trucks."
        has_match = (self.matching.reference_of != UNMATCHED).any()
        if not len(self.reference) or has_match or (seen is not None and self.observed.any()):
            return None
        count = len(self.reference)
        if seen is not None:
            return (
                f"None of the {count} labels is in the search area: "
                "are they of this scene, and is their CRS right?"
            )
        if not len(self.predicted):
            return None
        ours, theirs = (shapely.box(*frame.total_bounds) for frame in (self.predicted, self.reference))
        if ours.distance(theirs) <= max(RADII_M):
            return None
        return (
            f"The {count} labels and the {len(self.predicted)} detections are "
            f"{ours.distance(theirs) / 1000:,.1f} km apart: "
            "are they of the same scene, and is their CRS right?"
        )


def evaluate_trucks(
    predicted: gpd.GeoDataFrame,
    reference: gpd.GeoDataFrame,
    seen: gpd.GeoDataFrame | None = None,
    roads: gpd.GeoDataFrame | None = None,
    road_buffer_m: float = ROAD_BUFFER_M,
    *,
    not_seen: gpd.GeoDataFrame | None = None,
    below_threshold: gpd.GeoDataFrame | None = None,
    landcover: Path | None = None,
    legend: Sequence[LegendClass] = DYNAMIC_WORLD,
    counted: Counted = "heavy",
) -> TruckEvaluation:
    """Score detections against references (as `read_truck_labels` gives them), in the references' CRS.

    That CRS is replaced by the UTM zone of the data if it is not in metres. `seen` is the observed area:
    references with their centre outside of it are counted apart (`not_seen`), not as FN, unless they are
    matched. `roads` restrict the evaluation to `road_buffer_m` around them: detections further away are left
    out (`off_road`), references there are `not_seen`. References of `IGNORED_CONFIDENCES` are ignored. With
    `not_seen`, the areas not observed with their reasons, so are references that nodata, cloud or the edge of
    the scene truncates.

    If the detections are of several scenes (`scene_id`) and the references name theirs, only boxes of the
    same scene match. `below_threshold` are detections below the score threshold, for the curve of thresholds.
    `landcover`, a raster of the classes of `legend`, is for the breakdown.

    If heavy vehicles are `counted`, references of light ones count as absent: what is there is a false
    positive. If moving vehicles are, both kinds are to be found, and `vehicle_score` is the score where the
    detections have it; `below_threshold` is then used only if it has it too.
    """
    told_apart = "vehicle" in reference
    reference, light = split_light(to_metres(reference, predicted), counted)
    predicted, below_threshold = ranked_alike(predicted, below_threshold, counted)
    scored = "score" in predicted
    predicted = _scored(predicted, reference)
    seen, not_seen, roads = (
        None if part is None else part.to_crs(reference.crs) for part in (seen, not_seen, roads)
    )
    surroundings = Surroundings(seen, not_seen, roads, road_buffer_m, landcover, legend)
    on_road, road_seen = np.ones(len(predicted), bool), np.ones(len(reference), bool)
    weak = None if below_threshold is None else _scored(below_threshold, reference)
    if surroundings.roads is not None:
        strips = surroundings.roads.buffer(road_buffer_m).to_numpy()
        on_road, road_seen = within(centres(predicted), strips), within(centres(reference), strips)
        weak = None if weak is None else weak[within(centres(weak), strips)]
    off_road = predicted[~on_road].reset_index(drop=True)
    predicted = predicted[on_road].reset_index(drop=True)
    in_seen = np.ones(len(reference), bool)
    if surroundings.seen is not None:
        in_seen = within(centres(reference), surroundings.seen.geometry.to_numpy())
    observed = road_seen & in_seen
    truncated = in_seen & _truncated(reference, surroundings)
    ignore = reference["confidence"].isin(IGNORED_CONFIDENCES).to_numpy() | truncated
    (scene_p, scene_r), scenes_of_light = _scenes(predicted, reference), _scenes(predicted, light)
    p_xy, r_xy = centres(predicted), centres(reference)
    matchings = {radius: match(p_xy, r_xy, ignore, radius, scene_p, scene_r) for radius in RADII_M}
    primary = matchings[PRIMARY_RADIUS_M]
    return TruckEvaluation(
        predicted=predicted,
        reference=reference,
        matching=primary,
        observed=observed,
        off_road=off_road,
        scores={radius: centre_score(matching, observed) for radius, matching in matchings.items()},
        curves=_curves(predicted, reference, _ignored(primary, observed), scene_p, scene_r),
        heading=_heading_error(predicted, reference, primary),
        speed=_speed_error(predicted, reference, primary),
        truncated=truncated,
        surroundings=surroundings,
        below_threshold=None if weak is None else weak.reset_index(drop=True),
        predicted_scene=scene_p,
        reference_scene=scene_r,
        scored=scored,
        counted=counted,
        light=light,
        light_of=match_light(predicted, light, primary, scenes_of_light),
        told_apart=told_apart,
    )


def _scored(predicted: gpd.GeoDataFrame, reference: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    if predicted.crs is None:
        predicted = predicted.set_crs(reference.crs)
    predicted = predicted.to_crs(reference.crs).reset_index(drop=True)
    return predicted if "score" in predicted else predicted.assign(score=1.0)


def centre_score(matching: Matching, observed: NDArray[np.bool_]) -> CentreScore:
    """Count a matching; `observed` (M,) marks the references in the observed area."""
    false_negatives = matching.false_negatives
    return CentreScore(
        radius_m=matching.radius_m,
        true_positives=len(matching.true_positives),
        false_positives=len(matching.false_positives),
        false_negatives=int(observed[false_negatives].sum()),
        not_seen=int((~observed[false_negatives]).sum()),
        ignored=int(matching.ignored_predictions.sum()),
    )


def _ignored(matching: Matching, observed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return matching.ignore | (~observed & (matching.prediction_of == UNMATCHED))


def _truncated(reference: gpd.GeoDataFrame, surroundings: Surroundings) -> NDArray[np.bool_]:
    """Return (M,): True for boxes across the border of what can be seen; a road's strip is no border."""
    seen, not_seen = surroundings.seen, surroundings.not_seen
    truncated = np.zeros(len(reference), dtype=bool)
    if seen is None or not_seen is None or not len(reference):
        return truncated
    boxes = reference.geometry.to_numpy()
    tree = shapely.STRtree(not_seen.geometry.to_numpy()[(not_seen["reason"] != "no_road").to_numpy()])
    for predicate in ("overlaps", "contains"):  # boxes that only touch it are not truncated
        truncated[tree.query(boxes, predicate=predicate)[0]] = True
    corners = np.array([frame.total_bounds for frame in (seen, not_seen) if len(frame)])
    if len(corners):
        whole = shapely.box(*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0))
        truncated |= shapely.overlaps(boxes, whole)
    return truncated


def _scenes(
    predicted: gpd.GeoDataFrame, reference: gpd.GeoDataFrame
) -> tuple[NDArray[np.object_] | None, NDArray[np.object_] | None]:
    """Return the scene of each box if there are several and both sides name it."""
    both = "scene_id" in predicted and "scene_id" in reference
    if not both or predicted["scene_id"].nunique() < 2 or reference["scene_id"].isna().any():
        return None, None
    return tuple(frame["scene_id"].astype(str).to_numpy(dtype=object) for frame in (predicted, reference))


def _curves(
    predicted: gpd.GeoDataFrame,
    reference: gpd.GeoDataFrame,
    ignore: NDArray[np.bool_],
    predicted_scene: NDArray[np.object_] | None,
    reference_scene: NDArray[np.object_] | None,
) -> dict[str, PrecisionRecall]:
    score = column(predicted, "score")

    def curve(pairs: Pairs, affinity: NDArray[np.float64]) -> PrecisionRecall:
        return precision_recall(
            score, np.stack([pairs.prediction, pairs.reference], axis=1), affinity, ignore
        )

    near = centre_pairs(centres(predicted), centres(reference), max(RADII_M))
    near = same_class(near, predicted_scene, reference_scene)
    over = iou_pairs(predicted.geometry.to_numpy(), reference.geometry.to_numpy())
    over = same_class(over, predicted_scene, reference_scene)
    radii = {radius: near.where(near.fit <= radius) for radius in RADII_M}
    by_centre = {f"centre_{radius:g}m": curve(pairs, -pairs.fit) for radius, pairs in radii.items()}
    headline = f"centre_{PRIMARY_RADIUS_M:g}m"
    curves = {headline: by_centre.pop(headline)}
    for threshold in IOU_THRESHOLDS:
        enough = over.where(over.fit >= threshold)
        curves[f"iou_{threshold:g}"] = curve(enough, enough.fit)
    return curves | by_centre


def _heading_error(
    predicted: gpd.GeoDataFrame, reference: gpd.GeoDataFrame, matching: Matching
) -> AngleError:
    found = matching.true_positives
    truth = column(reference, "travel_deg")[matching.reference_of[found]]
    error = angle_between(column(predicted, "heading_deg")[found], truth)
    axis = angle_between(column(predicted, "axis_deg")[found], truth, period=180.0)
    error, axis = error[np.isfinite(error)], axis[np.isfinite(axis)]
    return AngleError(len(error), median_of(error), int((error > 90).sum()), len(axis), median_of(axis))


def _speed_error(predicted: gpd.GeoDataFrame, reference: gpd.GeoDataFrame, matching: Matching) -> SpeedError:
    found = matching.true_positives
    truth = column(reference, "speed_kmh")[matching.reference_of[found]]
    error = column(predicted, "speed_kmh")[found] - truth
    sigma = column(predicted, "speed_kmh_sigma")[found]
    honest = (np.abs(error) <= sigma)[np.isfinite(error) & np.isfinite(sigma)]
    error = error[np.isfinite(error)]
    return SpeedError(
        known=len(error),
        median_kmh=median_of(np.abs(error)),
        rmse_kmh=float(np.sqrt(np.mean(error**2))) if len(error) else float("nan"),
        bias_kmh=float(error.mean()) if len(error) else float("nan"),
        within_one_sigma=float(honest.mean()) if len(honest) else float("nan"),
    )
