"""The report of a run or an evaluation: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from markupsafe import Markup

from pipeline.evaluation.evaluate import Evaluation
from pipeline.evaluation.trucks.boxes import column
from pipeline.evaluation.trucks.scores import TruckEvaluation
from pipeline.models.bundle import Card
from pipeline.models.legend import DYNAMIC_WORLD, LegendClass
from pipeline.report.card import headlines
from pipeline.report.cases import case_columns, kind_of
from pipeline.report.gallery import Gallery, choose_examples, choose_given, galleries_of
from pipeline.report.map import FeatureLayer, ImageLayer, feature_layer, map_layers, not_seen_picture
from pipeline.report.pictures import Picture, class_picture, map_image
from pipeline.report.sections import (
    breakdown,
    causes,
    class_areas,
    class_rows,
    found_key_metrics,
    landcover_key_metrics,
    matrices,
    matrix_legend,
    not_seen_areas,
    truck_key_metrics,
    vehicle_rows,
)
from pipeline.report.template import write_page
from pipeline.scenes.scene import Scene

_SECTIONS = (
    "found",
    "trucks",
    "truck_metrics",
    "key_metrics",
    "landcover_key_metrics",
    "charts",
    "causes",
    "breakdown",
    "landcover",
    "matrices",
    "matrix_legend",
    "classes",
    "landcover_cases",
    "panoptic",
)
_TRUCK_FACTS = (
    "speed_kmh",
    "speed_kmh_sigma",
    "heading_deg",
    "axis_deg",
    "landcover",
    "road_class",
    "near_cloud",
    "touches_edge",
)
_RAMP = ("#d4d4d8", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""None, then viridis: it rises in lightness, for every kind of colour vision."""
_DIFFERS = "#d55e00"


@dataclass(frozen=True)
class ReportContext:
    """Content of a report besides results; a missing part is left out of the page."""

    title: str
    scene: Scene | None = None
    """Its pixels are shown around trucks."""
    picture: Picture | None = None
    """The scene's quicklook, below everything else on the map."""
    cards: tuple[Card, ...] = ()
    """Cards of the models."""
    seen_fraction: float | None = None
    not_seen: gpd.GeoDataFrame | None = None
    """Columns `reason`, `area_m2`: the area not searched for trucks."""
    road_segments: gpd.GeoDataFrame | None = None
    """The layer of `pipeline.layers.traffic`."""
    landcover_raster: Path | None = None
    has_probabilities: bool = False
    """The run wrote the probabilities of its classes."""
    legend: tuple[LegendClass, ...] = DYNAMIC_WORLD
    roads_source: str | None = None
    """Attribution of the roads, e.g. "Roads: (c) OpenStreetMap contributors, ODbL"."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage of the run."""
    warnings: Sequence[str] = ()
    """What looks odd in the inputs of the run."""


def write_run_report(path: Path, context: ReportContext, trucks: gpd.GeoDataFrame | None) -> None:
    """Write the report of a run without labels: trucks found, land cover, and the area not searched.

    Raises
    ------
    OutputError
        If `path` can't be written.
    CorruptImageError
        If pixels of the scene can't be decoded.
    """
    sections: dict[str, Any] = {}
    cases, galleries = None, list[Gallery]()
    chips: dict[str, bytes] = {}
    if trucks is not None:
        cases = _trucks_as_cases(trucks)
        sections["found"] = len(trucks)
        sections["key_metrics"] = found_key_metrics(trucks, context.seen_fraction, context.scene)
        if context.scene is not None:
            chosen, chips = choose_examples(context.scene, cases)
            galleries = galleries_of(cases, chosen, chips)
    _write(path, context, sections, cases, galleries, chips, [])


def write_evaluation_report(
    path: Path, evaluation: Evaluation, context: ReportContext, chips: Mapping[str, bytes] | None = None
) -> None:
    """Write the report of an evaluation; `chips` are pictures of cases, by id (`case_chips`).

    Raises
    ------
    OutputError
        If `path` can't be written.
    """
    layers: list[FeatureLayer] = []
    sections: dict[str, Any] = {"panoptic": evaluation.metrics.get("panoptic")}
    if evaluation.landcover is not None:
        metrics = evaluation.metrics["landcover"]
        sections |= {
            "landcover": evaluation.landcover,
            "landcover_key_metrics": landcover_key_metrics(evaluation.landcover, metrics),
            "matrices": matrices(evaluation.landcover),
            "matrix_legend": matrix_legend(evaluation.landcover),
            "classes": class_rows(evaluation.landcover, metrics),
        }
    if evaluation.landcover_cases is not None:
        sections["landcover_cases"] = evaluation.landcover_cases.head(10).to_dict("records")
        layers.append(
            feature_layer(
                "land cover that differs",
                evaluation.landcover_cases,
                _DIFFERS,
                shown=evaluation.trucks is None,
                legend=[("mapped as one class, labelled as another", _DIFFERS)],
                detail=_detail(context),
            )
        )
    cases, galleries = None, list[Gallery]()
    shown: dict[str, bytes] = {}
    if evaluation.trucks is not None and evaluation.truck_cases is not None:
        metrics = evaluation.metrics["trucks"]
        cases = _by_importance(evaluation.truck_cases)
        sections |= {
            "trucks": evaluation.trucks,
            "truck_metrics": metrics,
            "key_metrics": truck_key_metrics(evaluation.trucks, metrics),
            "vehicles": vehicle_rows(evaluation.metrics),
            "breakdown": breakdown(metrics),
            "charts": _charts(evaluation.trucks),
            "causes": causes(metrics),
        }
        chosen, shown = choose_given(cases, chips or {})
        galleries = galleries_of(cases, chosen, shown)
    _write(path, context, sections, cases, galleries, shown, layers)


def _write(
    path: Path,
    context: ReportContext,
    sections: Mapping[str, Any],
    cases: gpd.GeoDataFrame | None,
    galleries: Sequence[Gallery],
    chips: Mapping[str, bytes],
    layers: list[FeatureLayer],
) -> None:
    images = _images(context)
    if context.road_segments is not None and len(context.road_segments):
        layers = [_road_layer(context.road_segments, _detail(context)), *layers]
    areas = None
    if context.landcover_raster is not None:
        areas = class_areas(context.landcover_raster, context.legend)
    attribution = copernicus_notice(context.scene)
    columns = None
    if cases is not None and len(cases):
        ids = cases["id"].astype(str)
        in_gallery = {ids.iloc[example.row] for each in galleries for example in each.examples}
        columns = case_columns(cases, {name: chip for name, chip in chips.items() if name not in in_gallery})
    write_page(
        path,
        "report.html.j2",
        title=context.title,
        context=context,
        scene=context.scene,
        sections={**dict.fromkeys(_SECTIONS), **sections},
        galleries=galleries,
        cases=columns,
        areas=areas,
        not_seen=not_seen_areas(context.not_seen),
        attribution=attribution,
        map=map_layers(images, layers, attribution),
        has_map=bool(images or layers or columns),
        kind_of=kind_of,
        headlines=headlines,
    )


def copernicus_notice(scene: Scene | None) -> str:
    """Return the attribution that the Copernicus licence requires, or a note that the scene is simulated."""
    if scene is not None and scene.simulated:
        return "Simulated scene: no satellite has seen this."
    year = f" {scene.acquired.year}" if scene is not None and scene.acquired is not None else ""
    return f"Contains modified Copernicus Sentinel data{year}"


def _images(context: ReportContext) -> list[ImageLayer]:
    images = []
    if context.picture is not None:
        images.append(ImageLayer("true colour", map_image(context.picture)))
    if context.landcover_raster is not None:
        image = map_image(class_picture(context.landcover_raster, context.legend), lossless=True)
        legend = [(item.name, item.colour) for item in context.legend]
        opacity = 0.65 if images else 1.0
        images.append(ImageLayer("land cover", image, shown=not images, opacity=opacity, legend=legend))
    if context.not_seen is not None and len(context.not_seen) and context.scene is not None:
        picture, legend = not_seen_picture(context.not_seen, context.scene.grid)
        image = map_image(picture, lossless=True)
        images.append(ImageLayer("not searched", image, shown=False, opacity=0.6, legend=legend))
    return images


def _road_layer(segments: gpd.GeoDataFrame, detail: float) -> FeatureLayer:
    """Segments of roads by trucks on a kilometre; those without any are thin."""
    density = column(segments, "trucks_per_km")
    busiest = segments.iloc[np.argsort(-np.nan_to_num(density), kind="stable")]
    known = density[np.isfinite(density) & (density > 0)]
    steps = np.unique(np.quantile(known, [0.25, 0.5, 0.75]).round(1)) if len(known) else np.zeros(0)
    bounds = [0.0, *steps.tolist()]
    names = ["no trucks", *(f"more than {low:g} on a km" for low in bounds)]
    ramp: Callable[[int], str] = lambda level: _RAMP[min(level, len(_RAMP) - 1)]  # noqa: E731

    def colour(row: Any) -> str:
        value = row.trucks_per_km
        return ramp(0 if not value > 0 else 1 + int(np.searchsorted(steps, value, side="left")))

    legend = [(name, ramp(level)) for level, name in enumerate(names)]
    return feature_layer("roads by trucks", busiest, colour, shown=False, legend=legend, detail=detail)


def _trucks_as_cases(trucks: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return the trucks as cases, the highest scores first, with the facts that a page shows."""
    ordered = trucks.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
    kept = [name for name in ("id", "score", *_TRUCK_FACTS, "geometry") if name in ordered]
    cases = ordered[kept].assign(outcome="truck")
    return cases if "id" in cases else cases.assign(id=[str(row + 1) for row in range(len(cases))])


def _by_importance(cases: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Mistakes first: sure false alarms, then what was missed, then what was found, the least sure first."""
    kind = cases["outcome"].map({"FP": 0, "FN": 1, "TP": 2, "TN": 3}).fillna(4).to_numpy()
    score = column(cases, "score")
    order = np.lexsort((np.where(kind == 2, score, -np.nan_to_num(score)), kind))
    return cases.iloc[order].reset_index(drop=True)


def _charts(trucks: TruckEvaluation) -> list[tuple[Markup, str]]:
    from pipeline.report.charts import truck_charts  # Matplotlib takes long to import.

    return truck_charts(trucks)


def _detail(context: ReportContext) -> float:
    """Return the tolerance of outlines: a pixel of the picture below them, or 0 if that shows all."""
    if context.picture is None or context.scene is None:
        return 0.0
    shown, whole = (abs(grid.resolution.x) for grid in (context.picture.grid, context.scene.grid))
    return float(shown) if shown > whole else 0.0
