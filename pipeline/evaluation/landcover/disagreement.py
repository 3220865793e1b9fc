"""Areas with different land cover in map and labels, as features, and their sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from pipeline.evaluation.landcover.accuracy import LandcoverEvaluation, blocks, class_index, prediction_grid
from pipeline.evaluation.landcover.labels import LandcoverLabels, PointLabels
from pipeline.layers.columns import NUMBER, TEXT, Layer
from pipeline.layers.polygonise.outline import outline
from pipeline.layers.polygonise.regions import OUTSIDE, Regions, label_regions
from pipeline.models.legend import LegendClass

MIN_CASE_HA = 1.0
LANDCOVER_CASES = Layer("Polygon", {"predicted_class": TEXT, "reference_class": TEXT, "area_ha": NUMBER})
AGREE = 255
"""Value where map and labels agree, or one of them is unknown."""


def landcover_cases(
    predicted: Path | str,
    labels: LandcoverLabels,
    legend: Sequence[LegendClass],
    min_area_ha: float | None = None,
) -> gpd.GeoDataFrame:
    """Return connected areas of one mapped and one labelled class, of at least `min_area_ha`, largest first.

    The default is `smallest_case_ha` of the labels.
    Columns are those of `LANDCOVER_CASES`; the geometry is along pixel edges, in the CRS of the prediction.
    The legend has up to 15 classes. Strips are read and compared one by one, and outlined as in
    `layers.polygonise`. Small areas are removed at once, so memory grows with the kept cases, not with the
    noise of the map.
    """
    least = smallest_case_ha(labels) if min_area_ha is None else min_area_ha
    found = large_areas(_differing(predicted, labels, legend), prediction_grid(predicted), least)
    truth, value = np.divmod(found.pop("value").to_numpy(), len(legend))
    names = np.array([item.name for item in legend], dtype=object)
    found["predicted_class"], found["reference_class"] = names[value], names[truth]
    return LANDCOVER_CASES.conform(found)


def smallest_case_ha(labels: LandcoverLabels) -> float:
    """Return the hectares from which an area is a case: of points, every pixel is one."""
    return 0.0 if isinstance(labels, PointLabels) else MIN_CASE_HA


def large_areas(strips: Iterable[NDArray[np.uint8]], grid: GeoBox, min_area_ha: float) -> gpd.GeoDataFrame:
    """Return connected areas of one value except `AGREE`, of at least `min_area_ha`, largest first.

    `strips` are rows of the grid from top to bottom, (h, W) each; small areas are cleared in them. Columns
    `value`, `area_ha`, `geometry`.
    """
    pixel_ha = abs(grid.affine.determinant) / 10_000
    smallest = min_area_ha / pixel_ha * (1 - 1e-9)
    regions = label_regions(_without_small(strips, smallest), AGREE)
    regions = _only(regions, regions.sizes >= smallest)
    polygons = outline(regions, grid.affine)
    corners = shapely.bounds(polygons).reshape(-1, 4)
    order = np.lexsort((*corners.T[::-1], -regions.sizes))
    return gpd.GeoDataFrame(
        {"value": regions.values[order], "area_ha": regions.sizes[order] * pixel_ha},
        geometry=polygons[order],
        crs=grid.crs.to_wkt() if grid.crs else None,
    )


def disagreement_metrics(
    evaluation: LandcoverEvaluation, cases: gpd.GeoDataFrame, min_case_ha: float = MIN_CASE_HA
) -> dict[str, Any]:
    """Return the differences as numbers for JSON: total, cases, and by pair of classes, largest first."""
    names = [item.name for item in evaluation.legend]
    wrong = np.where(np.eye(len(names), dtype=bool), 0.0, evaluation.hectares)
    whole = float(wrong.sum())
    in_cases = cases.groupby(["reference_class", "predicted_class"])["area_ha"].agg(["size", "sum"])
    pairs = []
    for i, j in sorted(np.argwhere(wrong > 0).tolist(), key=lambda pair: -wrong[*pair]):
        there = (names[i], names[j]) in in_cases.index
        count, hectares = in_cases.loc[(names[i], names[j])] if there else (0, 0.0)
        pairs.append(
            {
                "labels": names[i],
                "predicted": names[j],
                "hectares": float(wrong[i, j]),
                "share": float(wrong[i, j]) / whole,
                "cases": int(count),
                "cases_ha": float(hectares),
            }
        )
    return {
        "hectares": whole if evaluation.pixels else None,
        "cases": len(cases),
        "cases_ha": float(cases["area_ha"].sum()),
        "min_case_ha": min_case_ha,
        "pairs": pairs,
    }


def _differing(
    predicted: Path | str, labels: LandcoverLabels, legend: Sequence[LegendClass]
) -> Iterator[NDArray[np.uint8]]:
    """Yield strips of rows, (h, W): label x K + prediction where both have a class and differ, else `AGREE`.

    K is at most 15.
    """
    index, count = class_index(legend), len(legend)
    for _, values, truth in blocks(predicted, labels):
        i, j = index[truth], index[values]
        differ = (i < count) & (j < count) & (i != j)
        yield np.where(differ, i * np.uint8(count) + j, np.uint8(AGREE))


def _without_small(strips: Iterable[NDArray[np.uint8]], smallest: float) -> Iterator[NDArray[np.uint8]]:
    """Yield strips without the regions of fewer pixels than `smallest` that end within them."""
    for strip in strips:
        regions = label_regions([strip], AGREE)
        goes = np.append(regions.sizes < smallest, False)  # the last is OUTSIDE
        labels = regions.labels()
        goes[labels[[0, -1]]] = False  # areas that continue above or below may be large
        strip[goes[labels]] = AGREE
        yield strip


def _only(regions: Regions, kept: NDArray[np.bool_]) -> Regions:
    number = np.append(np.where(kept, np.cumsum(kept) - 1, OUTSIDE), OUTSIDE).astype(np.int32)
    return replace(
        regions,
        run_regions=number[regions.run_regions],
        values=regions.values[kept],
        sizes=regions.sizes[kept],
    )
