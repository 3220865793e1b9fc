"""The report of a run or an evaluation: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from markupsafe import Markup

from pipeline.evaluation.evaluate import CASES, METRICS, Evaluation
from pipeline.evaluation.trucks.boxes import column
from pipeline.evaluation.trucks.scores import TruckEvaluation
from pipeline.models.bundle import Card
from pipeline.models.legend import DYNAMIC_WORLD, LegendClass
from pipeline.report.card import headlines
from pipeline.report.cases import case_columns, kind_of
from pipeline.report.files import FileLink, file_links
from pipeline.report.gallery import Gallery, choose_examples, galleries_of
from pipeline.report.map import FeatureLayer, ImageLayer, feature_layer, map_layers, not_seen_picture
from pipeline.report.pictures import Picture, class_picture, map_image
from pipeline.report.roads import road_layer, road_rows
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
from pipeline.storage.out_folder import EVALUATION, ITEM, RECORD

REPORT = "report.html"
"""Name of the page in the folder of a run or of an evaluation."""
_SECTIONS = (
    "found",
    "found_key_metrics",
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
    road_traffic: pd.DataFrame | None = None
    """Table by road and direction, as of `pipeline.traffic.table`."""
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
    trucks: gpd.GeoDataFrame | None = None
    """The layer of trucks of the run."""
    vehicles: gpd.GeoDataFrame | None = None
    """Its layer of vehicles of any kind; None if the detector does not know them."""
    folder: Path | None = None
    """Folder of the run; without it the page has no links."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Files of the run that the page links to."""


def write_report(
    pages: Sequence[Path],
    context: ReportContext,
    evaluation: Evaluation | None = None,
    chips: Mapping[str, bytes] | None = None,
) -> None:
    """Write the report of a run, of an evaluation, or of a run with its evaluation, to each of `pages`.

    The pages differ in their links only. `chips` are pictures by id: of the cases where trucks were compared
    with labels (`case_chips`), else of the trucks (`truck_chips`).

    Raises
    ------
    OutputError
        If a page can't be written.
    """
    layers: list[FeatureLayer] = []
    sections: dict[str, Any] = {}
    cases = None
    if context.trucks is not None:
        cases = _trucks_as_cases(context.trucks)
        sections["found"] = len(cases)
        sections["found_key_metrics"] = found_key_metrics(
            cases, context.seen_fraction, context.scene, context.vehicles
        )
    if evaluation is not None:
        sections |= _evaluated(evaluation)
        if evaluation.landcover_cases is not None:
            layers.append(_differences(evaluation.landcover_cases, evaluation.trucks is None, context))
        if evaluation.trucks is not None and evaluation.truck_cases is not None:
            cases = _by_importance(_with_directions(evaluation.truck_cases, evaluation.trucks))
    if context.road_segments is not None and len(context.road_segments):
        layers = [road_layer(context.road_segments, _detail(context)), *layers]
    values = _values(context, sections, cases, chips or {}, layers)
    for page in pages:
        write_page(page, "report.html.j2", files=_files(context, evaluation, page), **values)


def _evaluated(evaluation: Evaluation) -> dict[str, Any]:
    """Return the sections of an evaluation."""
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
    if evaluation.trucks is not None and evaluation.truck_cases is not None:
        metrics = evaluation.metrics["trucks"]
        sections |= {
            "trucks": evaluation.trucks,
            "truck_metrics": metrics,
            "key_metrics": truck_key_metrics(evaluation.trucks, metrics),
            "vehicles": vehicle_rows(evaluation.metrics),
            "breakdown": breakdown(metrics),
            "charts": _charts(evaluation.trucks),
            "causes": causes(metrics),
        }
    return sections


def _values(
    context: ReportContext,
    sections: Mapping[str, Any],
    cases: gpd.GeoDataFrame | None,
    chips: Mapping[str, bytes],
    layers: Sequence[FeatureLayer],
) -> dict[str, Any]:
    """Return what the template is filled with, but for the links."""
    images = _images(context)
    attribution = copernicus_notice(context.scene)
    galleries, columns = list[Gallery](), None
    if cases is not None and len(cases):
        chosen, chips = choose_examples(cases, chips)
        galleries = galleries_of(cases, chosen, chips)
        ids = cases["id"].astype(str)
        in_gallery = {ids.iloc[example.row] for each in galleries for example in each.examples}
        columns = case_columns(cases, {name: chip for name, chip in chips.items() if name not in in_gallery})
    raster = context.landcover_raster
    return {
        "title": context.title,
        "context": context,
        "scene": context.scene,
        "sections": {**dict.fromkeys(_SECTIONS), **sections},
        "galleries": galleries,
        "cases": columns,
        "areas": None if raster is None else class_areas(raster, context.legend),
        "roads": road_rows(context.road_traffic),
        "not_seen": not_seen_areas(context.not_seen),
        "attribution": attribution,
        "map": map_layers(images, layers, attribution),
        "has_map": bool(images or layers or columns),
        "kind_of": kind_of,
        "headlines": headlines,
    }


def _files(
    context: ReportContext, evaluation: Evaluation | None, page: Path
) -> list[tuple[str, list[FileLink]]]:
    """Return links to the files of the run; record and item are written after the page."""
    if context.folder is None:
        return []
    written = [*context.files.values(), context.folder / ITEM, context.folder / RECORD]
    if evaluation is not None:
        written += [context.folder / EVALUATION / name for name in (CASES, METRICS)]
    return file_links(written, page)


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


def _differences(cases: gpd.GeoDataFrame, shown: bool, context: ReportContext) -> FeatureLayer:
    """Return the areas where the map of land cover differs from the labels."""
    legend = [("mapped as one class, labelled as another", _DIFFERS)]
    name = "land cover that differs"
    return feature_layer(name, cases, _DIFFERS, shown=shown, legend=legend, detail=_detail(context))


def _trucks_as_cases(trucks: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return the trucks as cases, the highest scores first, with the facts that a page shows."""
    ordered = trucks.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
    kept = [name for name in ("id", "score", *_TRUCK_FACTS, "geometry") if name in ordered]
    cases = ordered[kept].assign(outcome="truck")
    return cases if "id" in cases else cases.assign(id=[str(row + 1) for row in range(len(cases))])


def _with_directions(cases: gpd.GeoDataFrame, trucks: TruckEvaluation) -> gpd.GeoDataFrame:
    """Return the cases with heading and axis of their detections, where the trucks have them.

    An `id` that several detections have gives none.
    """
    known = [name for name in ("heading_deg", "axis_deg") if name in trucks.predicted]
    if not known or "id" not in trucks.predicted:
        return cases
    named = trucks.predicted.assign(id=trucks.predicted["id"].astype(str)).drop_duplicates("id", keep=False)
    directions = named.set_index("id")[known]
    return cases.assign(**{name: cases["prediction_id"].map(directions[name]) for name in known})


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
