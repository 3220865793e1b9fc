"""Compare the trucks and the land cover of a scene with labels; writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import shapely

from pipeline.errors import EvaluationError, LabelsError
from pipeline.evaluation.features import LeftOut
from pipeline.evaluation.labels import (
    checked_predicted_trucks,
    checked_truck_labels,
    read_not_seen,
    read_seen,
    read_vehicles,
    warn_if_labels_elsewhere,
)
from pipeline.evaluation.landcover.accuracy import LandcoverEvaluation, evaluate_landcover, prediction_grid
from pipeline.evaluation.landcover.disagreement import (
    disagreement_metrics,
    landcover_cases,
    smallest_case_ha,
)
from pipeline.evaluation.landcover.labels import PointLabels, read_landcover_labels
from pipeline.evaluation.panoptic import evaluate_panoptic
from pipeline.evaluation.trucks.cases import cause_metrics, truck_cases
from pipeline.evaluation.trucks.metrics import truck_metrics, truck_warnings
from pipeline.evaluation.trucks.scores import ROAD_BUFFER_M, TruckEvaluation, evaluate_trucks
from pipeline.evaluation.trucks.true_negatives import read_true_negatives
from pipeline.input_warnings import warn
from pipeline.models.legend import DYNAMIC_WORLD, LegendClass
from pipeline.roads.read import in_view, read_roads
from pipeline.scenes.scene import Scene
from pipeline.storage.untrusted_vectors import file_of
from pipeline.storage.vector_places import warn_if_elsewhere

METRICS, CASES = "metrics.json", "confusion_cases.gpkg"
"""Files of an evaluation's folder."""
_AROUND_M = 20_000.0
"""Distance of labels to all detections from which they are of another place."""


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a scene against labels; None for a part that has no labels."""

    metrics: dict[str, Any]
    """By `trucks`, `moving_vehicles`, `landcover` and `panoptic`, as `metrics.json` has them."""
    trucks: TruckEvaluation | None = None
    """Evaluation of heavy vehicles."""
    truck_cases: gpd.GeoDataFrame | None = None
    """See `pipeline.evaluation.trucks.cases.truck_cases`."""
    landcover: LandcoverEvaluation | None = None
    landcover_cases: gpd.GeoDataFrame | None = None
    """See `pipeline.evaluation.landcover.disagreement.landcover_cases`."""


def evaluate(
    *,
    trucks: gpd.GeoDataFrame | None = None,
    truck_labels: Path | None = None,
    seen: gpd.GeoDataFrame | None = None,
    not_seen: gpd.GeoDataFrame | None = None,
    below_threshold: gpd.GeoDataFrame | None = None,
    vehicles: gpd.GeoDataFrame | None = None,
    vehicles_below_threshold: gpd.GeoDataFrame | None = None,
    roads: gpd.GeoDataFrame | None = None,
    trucks_left_out: LeftOut | None = None,
    landcover: Path | None = None,
    landcover_labels: Path | None = None,
    legend: Sequence[LegendClass] = DYNAMIC_WORLD,
    scene: Scene | None = None,
) -> Evaluation:
    """Compare trucks, land cover, or both together (`panoptic`) with labels.

    Trucks are compared twice: heavy vehicles, with all else as an error, of which are the cases; and moving
    vehicles of any kind, of which `metrics` has the figures (`moving_vehicles`).

    `trucks` are detections of heavy vehicles, `vehicles` those of any kind; without these, `trucks` are
    compared with moving vehicles, too. `seen` and `not_seen` are as in `layers.search_area`.
    `below_threshold` are detections with a score below the threshold, `vehicles_below_threshold` those that
    are below it and below that of vehicles. `roads` restrict the comparison to their surroundings.
    `trucks_left_out` counts the features of a file of trucks that could not be used. `landcover` is a raster
    of the classes of `legend`; without labels of its own it is for the breakdown of trucks. `scene` gives the
    pixels from which causes of mistakes are inferred.

    Raises
    ------
    LabelsError
        If labels can't be used.
    """
    metrics: dict[str, Any] = {}
    truck_evaluation = cases = landcover_evaluation = differing = None
    if trucks is not None and truck_labels is not None:
        scene_crs = scene.grid.crs if scene is not None else None
        labels, left_out = checked_truck_labels(truck_labels, scene_crs.to_wkt() if scene_crs else None)
        warn_if_labels_elsewhere(labels, truck_labels, *_searched(scene, seen, trucks))
        compared = partial(
            evaluate_trucks,
            reference=labels,
            seen=seen,
            roads=roads,
            not_seen=not_seen,
            landcover=landcover,
            legend=legend,
        )
        truck_evaluation = compared(trucks, below_threshold=below_threshold, counted="heavy")
        marked = read_true_negatives(truck_labels)
        cases = truck_cases(truck_evaluation, seen, below_threshold, roads=roads, scene=scene, marked=marked)
        predicted_left_out = trucks_left_out or LeftOut()
        metrics["trucks"] = {
            "labels": str(truck_labels),
            **truck_metrics(truck_evaluation),
            "left_out": {"labels": left_out.as_dict(), "predicted": predicted_left_out.as_dict()},
            "warnings": truck_warnings(truck_evaluation, left_out, predicted_left_out),
            "causes": cause_metrics(cases),
        }
        moving = (trucks, below_threshold) if vehicles is None else (vehicles, vehicles_below_threshold)
        metrics["moving_vehicles"] = truck_metrics(
            compared(moving[0], below_threshold=moving[1], counted="moving")
        )
    if landcover is not None and landcover_labels is not None:
        area_labels = read_landcover_labels(landcover_labels, prediction_grid(landcover))
        landcover_evaluation = evaluate_landcover(landcover, area_labels, legend)
        _warn_of_unknown_classes(landcover_evaluation, landcover_labels, landcover)
        differing = landcover_cases(landcover, area_labels, legend)
        metrics["landcover"] = {
            "labels": str(landcover_labels),
            **landcover_evaluation.metrics(),
            "disagreement": disagreement_metrics(
                landcover_evaluation, differing, smallest_case_ha(area_labels)
            ),
        }
        if truck_evaluation is not None and not isinstance(area_labels, PointLabels):  # they have no segments
            panoptic = evaluate_panoptic(landcover, area_labels, legend, truck_evaluation)
            metrics["panoptic"] = panoptic.metrics()
    return Evaluation(metrics, truck_evaluation, cases, landcover_evaluation, differing)


def not_measured(metrics: Mapping[str, Any]) -> list[str]:
    """Return the reason for each kind of labels with which nothing was measured."""
    parts = ((metrics.get("trucks", {}), "not_measured"), (metrics.get("landcover", {}), "note"))
    return [f"{part.get('labels')}: {part[why]}" for part, why in parts if part.get(why)]


def check_measured(metrics: Mapping[str, Any]) -> None:
    """Raise EvaluationError if nothing was measured with labels that were given."""
    if reasons := not_measured(metrics):
        raise EvaluationError(f"Nothing was measured. {' '.join(reasons)}")


def file_of_run(predicted: Path, *names: str) -> Path:
    """Return a file of predictions: the path itself or, in the folder of a run, the first of `names`.

    Raises
    ------
    LabelsError
        If a folder has none of them.
    """
    if not predicted.is_dir() or next(predicted.glob("*.shp"), None):
        return predicted
    found = next((predicted / name for name in names if (predicted / name).is_file()), None)
    if found is None:
        inside = [path.parent.name for path in sorted(predicted.glob("*/run.json"))[:3]]
        of_scenes = f" It has the runs {', '.join(inside)}; choose one." if inside else ""
        raise LabelsError(
            f"{predicted} has no {' or '.join(names)}; the folder of a scene's run is expected.{of_scenes}"
        )
    return found


def evaluate_truck_file(
    predicted: Path, reference: Path, roads: Path | None = None, scene: Scene | None = None
) -> Evaluation:
    """Compare a file of trucks with a file of labels, as `truckscape evaluate trucks` does.

    The areas seen and not seen are layers of the prediction or of the `trucks.gpkg` beside it. If the
    prediction is the `trucks.gpkg` of a run, moving vehicles are its layer `vehicles`. The land cover
    for the breakdown is the `landcover.tif` beside it. Both are optional.

    Raises
    ------
    LabelsError
        If a file can't be used.
    """
    trucks, left_out = checked_predicted_trucks(predicted)
    classes = file_of(predicted).parent / "landcover.tif"
    seen = read_seen(predicted)
    return evaluate(
        trucks=trucks,
        truck_labels=reference,
        vehicles=read_vehicles(predicted),
        seen=seen,
        not_seen=read_not_seen(predicted),
        roads=None if roads is None else _roads_on(roads, scene, seen, trucks),
        trucks_left_out=left_out,
        landcover=classes if classes.is_file() else None,
        scene=scene,
    )


def _searched(
    scene: Scene | None, seen: gpd.GeoDataFrame | None, trucks: gpd.GeoDataFrame
) -> tuple[Any, tuple[float, float, float, float] | None]:
    """Return a CRS and the bounds of a search for trucks; without scene and `seen` a guess, or None."""
    if scene is not None and scene.grid.crs is not None:
        return scene.grid.crs.to_wkt(), scene.grid.boundingbox.bbox
    if seen is not None and len(seen):
        return seen.crs, tuple(seen.total_bounds)
    if trucks.empty or trucks.crs is None:
        return trucks.crs, None
    placed = trucks if trucks.crs.is_projected else trucks.to_crs(trucks.estimate_utm_crs())
    west, south, east, north = placed.total_bounds
    return placed.crs, (west - _AROUND_M, south - _AROUND_M, east + _AROUND_M, north + _AROUND_M)


def _warn_of_unknown_classes(evaluation: LandcoverEvaluation, labels: Path, predicted: Path) -> None:
    values = ", ".join(str(item.value) for item in evaluation.legend)
    for pixels, what in (
        (evaluation.unknown_labelled, f"Land-cover labels {labels}"),
        (evaluation.unknown_predicted, f"Predicted land cover {predicted}"),
    ):
        if pixels:
            warn(f"{what}: {pixels:,} pixels are not used: their values are no class ({values}; 255: none).")


def _roads_on(
    path: Path, scene: Scene | None, seen: gpd.GeoDataFrame | None, trucks: gpd.GeoDataFrame
) -> gpd.GeoDataFrame:
    """Read the roads that can be seen; warn if none is where trucks were searched."""
    roads = in_view(read_roads(path, trucks.crs))
    crs, bounds = _searched(scene, seen, trucks)
    if roads.empty:
        warn(f"Roads: {path} has no road that can be seen from above, so no truck is measured.")
    elif bounds is not None:
        near = shapely.box(*bounds).buffer(ROAD_BUFFER_M).bounds
        warn_if_elsewhere(roads, crs, near, f"Roads: {path}", "no truck is measured")
    return roads
