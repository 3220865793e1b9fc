"""Scores of trucks by scene, road class, land cover, distance to cloud, and traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from pipeline.evaluation.bootstrap import block_bootstrap
from pipeline.evaluation.trucks.blocks import precision_recall_f1, truck_blocks
from pipeline.evaluation.trucks.boxes import centres
from pipeline.evaluation.trucks.matching import UNMATCHED
from pipeline.evaluation.trucks.scores import TruckEvaluation
from pipeline.scenes.raster.datasets import open_raster
from pipeline.scenes.raster.read import read_points
from pipeline.scenes.scene import BandSource

UNKNOWN = "unknown"
CLOUD_EDGES_M = (0.0, 100.0, 500.0, 2000.0)
"""Distances to the nearest cloud between which groups lie; the last is open."""
TRAFFIC_EDGES = (0, 1, 2, 5, 10)
"""Labelled trucks in a block from which on a group begins; the last is open."""
_CLOUDS = ("cloud", "cirrus")

Names = NDArray[np.object_]


@dataclass(frozen=True)
class Group:
    """Counts at centres within 20 m of a part of the trucks."""

    name: str
    true_positives: int
    false_positives: int
    false_negatives: int | None
    """None if it is unknown which of the missed trucks belong to the group."""
    f1_interval: tuple[float, float]
    """95 %, by blocks; NaN where not defined."""

    @property
    def scores(self) -> tuple[float, float, float]:
        """Precision, recall and F1; NaN where not defined."""
        false_negatives = np.nan if self.false_negatives is None else self.false_negatives
        p, r, f = precision_recall_f1(
            np.array([self.true_positives, self.false_positives, false_negatives], float)
        )
        return float(p), float(r), float(f)


@dataclass(frozen=True)
class _Split:
    """Group of each box; `of_reference` is None if it is known for detections only."""

    of_predicted: Names
    of_reference: Names | None
    order: tuple[str, ...] = ()


def break_down(evaluation: TruckEvaluation) -> dict[str, tuple[Group, ...]]:
    """Group counts by `scene`, `road_class`, `landcover`, `cloud_distance_m` and `trucks_per_block`.

    Unknown groups are left out. A detected truck belongs to the group of its reference, else to that of the
    detection. Road classes are those of the nearest line, land cover that below the centre.
    """
    blocks = truck_blocks(evaluation)
    matching = evaluation.matching
    right, wrong = matching.true_positives, matching.false_positives
    false_negatives = evaluation.false_negatives
    result = {}
    for name, split in _splits(evaluation):
        known = split.of_reference
        of_right = split.of_predicted[right] if known is None else known[matching.reference_of[right]]
        of_missed = np.zeros(0, object) if known is None else known[false_negatives]
        groups = np.concatenate([of_right, split.of_predicted[wrong], of_missed])
        place = np.concatenate(
            [
                blocks.of_predicted[np.append(right, wrong)],
                blocks.of_reference[false_negatives[: len(of_missed)]],
            ]
        )
        kind = np.repeat(np.arange(3), [len(right), len(wrong), len(of_missed)])
        result[name] = tuple(
            _group(group, place[groups == group], kind[groups == group], known is not None)
            for group in _ordered(set(groups.tolist()), split.order)
        )
    return result


def _group(name: str, place: NDArray[np.intp], kind: NDArray[np.intp], complete: bool) -> Group:
    cells, block = np.unique(place, return_inverse=True)
    counts = np.zeros((len(cells), 3))
    np.add.at(counts, (block.reshape(-1), kind), 1)
    tp, fp, fn = (int(total) for total in counts.sum(axis=0))
    low = high = float("nan")
    if complete:
        low, high = block_bootstrap(counts, lambda sums: precision_recall_f1(sums)[..., 2], resamples=500)
    return Group(name, tp, fp, fn if complete else None, (float(low), float(high)))


def _splits(evaluation: TruckEvaluation) -> Iterator[tuple[str, _Split]]:
    predicted, reference, around = evaluation.predicted, evaluation.reference, evaluation.surroundings
    p_xy, r_xy = centres(predicted), centres(reference)
    if "scene_id" in predicted and len(predicted):
        scenes = _texts(predicted["scene_id"])
        of_reference = evaluation.reference_scene
        if of_reference is None and len(set(scenes)) == 1:
            of_reference = np.full(len(reference), scenes[0], dtype=object)
        yield "scene", _Split(scenes, of_reference)
    if around.roads is not None and "road_class" in around.roads and len(around.roads):
        ours, theirs = (_nearest_class(around.roads, xy) for xy in (p_xy, r_xy))
        yield "road_class", _Split(ours, theirs)
    elif "road_class" in predicted and predicted["road_class"].notna().any():
        yield "road_class", _Split(_texts(predicted["road_class"]), None)
    if around.landcover is not None:
        yield "landcover", _Split(_classes(evaluation, p_xy), _classes(evaluation, r_xy))
    elif "landcover" in predicted and predicted["landcover"].notna().any():
        yield "landcover", _Split(_texts(predicted["landcover"]), None)
    names = (*(f"{a:g}-{b:g}" for a, b in pairwise(CLOUD_EDGES_M)), f"{CLOUD_EDGES_M[-1]:g}+")
    if around.not_seen is not None:
        clouds = around.not_seen.geometry[around.not_seen["reason"].isin(_CLOUDS)].to_numpy()
        if len(clouds):
            ours, theirs = (_banded(_apart(clouds, xy), CLOUD_EDGES_M, names) for xy in (p_xy, r_xy))
            yield "cloud_distance_m", _Split(ours, theirs, names)
    elif "near_cloud" in predicted and predicted["near_cloud"].notna().any():
        flag = predicted["near_cloud"].map({True: names[0], False: f"{CLOUD_EDGES_M[1]:g}+"})
        yield "cloud_distance_m", _Split(_texts(flag), None, names)
    yield "trucks_per_block", _traffic(evaluation)


def _traffic(evaluation: TruckEvaluation) -> _Split:
    """Split by the number of certain, observed labels in the block."""
    blocks, matching = truck_blocks(evaluation), evaluation.matching
    counted = ~matching.ignore & (evaluation.observed | (matching.prediction_of != UNMATCHED))
    trucks = np.bincount(blocks.of_reference[counted], minlength=blocks.count)
    inner = (f"{a}" if a + 1 == b else f"{a}-{b - 1}" for a, b in pairwise(TRAFFIC_EDGES))
    names = (*inner, f"{TRAFFIC_EDGES[-1]}+")
    ours, theirs = (
        _banded(trucks[part].astype(np.float64), TRAFFIC_EDGES, names)
        for part in (blocks.of_predicted, blocks.of_reference)
    )
    return _Split(ours, theirs, names)


def _nearest_class(roads: gpd.GeoDataFrame, xy: NDArray[np.float64]) -> Names:
    nearest = shapely.STRtree(roads.geometry.to_numpy()).nearest(np.asarray(shapely.points(xy)))
    return _texts(roads["road_class"])[nearest]


def _classes(evaluation: TruckEvaluation, xy: NDArray[np.float64]) -> Names:
    """Return the class of the land-cover raster at every place."""
    path = str(evaluation.surroundings.landcover)
    with open_raster(path, "The land cover") as raster:
        to_raster = Transformer.from_crs(evaluation.reference.crs, raster.crs, always_xy=True)
    source = BandSource("classes", path, nodata=None)
    xs, ys = (np.asarray(part, dtype=np.float64) for part in to_raster.transform(*xy.T))
    names = {item.value: item.name for item in evaluation.surroundings.legend}
    inside = [names.get(int(value), UNKNOWN) for value in read_points(source, xs, ys)]
    return np.array(inside, dtype=object)


def _apart(areas: NDArray[np.object_], xy: NDArray[np.float64]) -> NDArray[np.float64]:
    points = np.asarray(shapely.points(xy))
    if not len(points):
        return np.zeros(0)
    index, distance = shapely.STRtree(areas).query_nearest(points, return_distance=True, all_matches=False)
    apart = np.empty(len(points))
    apart[index[0]] = distance
    return apart


def _banded(values: NDArray[np.float64], edges: tuple[float, ...], names: tuple[str, ...]) -> Names:
    number = np.searchsorted(np.asarray(edges, dtype=np.float64), values, side="right") - 1
    return np.array(names, dtype=object)[number]


def _texts(values: pd.Series) -> Names:
    return values.astype(object).where(values.notna(), UNKNOWN).astype(str).to_numpy(dtype=object)


def _ordered(groups: set[str], order: tuple[str, ...]) -> list[str]:
    """Sort groups in the given order, else by name; unknown comes last."""
    return sorted(groups, key=lambda name: (name == UNKNOWN, order.index(name) if name in order else 0, name))
