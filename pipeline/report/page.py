"""The report of a run or an evaluation: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import geopandas as gpd
import jinja2
import numpy as np
import pandas as pd
import rasterio

from pipeline.evaluation.confusion import truck_cases
from pipeline.evaluation.detection import TruckEvaluation, column
from pipeline.evaluation.matching import UNMATCHED
from pipeline.evaluation.panoptic import PanopticEvaluation
from pipeline.evaluation.segmentation import LandcoverEvaluation
from pipeline.files import replacing
from pipeline.models.bundle import Card, LegendClass
from pipeline.models.segmenter import DYNAMIC_WORLD
from pipeline.report.card import headlines
from pipeline.report.gallery import Chip, Gallery, chip
from pipeline.report.map import (
    FeatureLayer,
    ImageLayer,
    feature_layer,
    leaflet_script,
    leaflet_style,
    map_json,
)
from pipeline.report.pictures import ChipReader, Picture, class_picture, map_image
from pipeline.scenes.scene import Scene

_T = TypeVar("_T")

COLOURS = {
    "TP": "#14b8a6",
    "FP": "#ef4444",
    "FN": "#f59e0b",
    "ignored": "#94a3b8",
    "not_seen": "#a855f7",
    "truck": "#14b8a6",
}
MEANING = {
    "TP": "found",
    "FP": "false alarm",
    "FN": "missed",
    "ignored": "uncertain label, not counted",
    "not_seen": "missed where the model did not look",
}
GALLERY_CHIPS = 24
_SECTIONS = ("found", "trucks", "chart", "causes", "landcover", "matrix", "landcover_cases", "panoptic")
_POPUP_COLUMNS = (
    "id",
    "score",
    "heading_deg",
    "axis_deg",
    "speed_kmh",
    "speed_kmh_sigma",
    "landcover",
    "road_class",
    "near_cloud",
    "touches_edge",
)


@dataclass(frozen=True)
class ReportContext:
    """What a report shows besides results; a part that is not given is left out of the page."""

    title: str
    scene: Scene | None = None
    picture: Picture | None = None
    """The scene's quicklook, below everything else on the map."""
    chips: ChipReader | None = None
    """Pictures around trucks, in the scene's CRS."""
    cards: tuple[Card, ...] = ()
    """Of the models that were used."""
    seen_fraction: float | None = None
    not_seen: gpd.GeoDataFrame | None = None
    """Columns `reason`, `area_m2`: where trucks were not looked for."""
    landcover_raster: Path | None = None
    legend: tuple[LegendClass, ...] = DYNAMIC_WORLD
    roads_source: str | None = None
    """Attribution of the roads, e.g. "(c) OpenStreetMap contributors, ODbL"."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By stage of the run."""


def write_run_report(path: Path, context: ReportContext, trucks: gpd.GeoDataFrame | None) -> None:
    """Write the report of a run without labels: trucks found, land cover, and what was not looked at.

    Raises
    ------
    OutputError
        If `path` can't be written.
    """
    galleries: list[Gallery] = []
    layers: list[FeatureLayer] = []
    if trucks is not None:
        trucks = trucks.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
        galleries = _truck_galleries(trucks, context)
        shown = trucks[[name for name in (*_POPUP_COLUMNS, "geometry") if name in trucks]]
        layers = [feature_layer("trucks", COLOURS["truck"], shown, marked=True)]
    _write(path, context, layers, galleries, {"found": _found(trucks, context)})


def write_evaluation_report(
    path: Path,
    context: ReportContext,
    trucks: TruckEvaluation | None = None,
    landcover: LandcoverEvaluation | None = None,
    panoptic: PanopticEvaluation | None = None,
    cases: gpd.GeoDataFrame | None = None,
    landcover_cases: gpd.GeoDataFrame | None = None,
) -> None:
    """Write the report of an evaluation; `cases` are `truck_cases` (made here when not given).

    Raises
    ------
    OutputError
        If `path` can't be written.
    """
    galleries: list[Gallery] = []
    layers: list[FeatureLayer] = []
    sections: dict[str, Any] = {}
    if landcover is not None:
        sections["landcover"] = landcover
        sections["matrix"] = _matrix_rows(landcover)
        if landcover_cases is not None:
            sections["landcover_cases"] = landcover_cases.head(10).to_dict("records")
            layers.append(feature_layer("land cover that differs", "#f97316", landcover_cases, limit=2000))
    if panoptic is not None:
        sections["panoptic"] = panoptic.metrics()
    if trucks is not None:
        from pipeline.report.charts import precision_recall_chart  # Matplotlib takes long to import

        cases = truck_cases(trucks) if cases is None else cases
        sections["trucks"] = trucks
        sections["chart"] = precision_recall_chart(trucks.curves)
        sections["causes"] = _causes(cases)
        galleries = _case_galleries(trucks, cases, context)
        for outcome, meaning in MEANING.items():
            part = cases[cases["outcome"] == outcome]
            if len(part):
                layers.append(feature_layer(meaning, COLOURS[outcome], part, marked=True))
    _write(path, context, layers, galleries, sections)


def _write(
    path: Path,
    context: ReportContext,
    layers: Sequence[FeatureLayer],
    galleries: Sequence[Gallery],
    sections: Mapping[str, Any],
) -> None:
    images = []
    if context.picture is not None:
        images.append(ImageLayer("true colour", map_image(context.picture)))
    areas = None
    if context.landcover_raster is not None:
        image = map_image(class_picture(context.landcover_raster, context.legend), lossless=True)
        images.append(ImageLayer("land cover", image, shown=not images, opacity=0.65 if images else 1.0))
        areas = class_areas(context.landcover_raster, context.legend)
    if context.not_seen is not None and len(context.not_seen):
        largest = context.not_seen.sort_values("area_m2", ascending=False, kind="stable")
        outside = feature_layer(
            "not looked at", "#64748b", largest, shown=False, limit=2000, detail=_detail(context)
        )
        layers = [outside, *layers]
    attribution = copernicus_notice(context.scene)
    page = _environment().get_template("report.html.j2")
    text = page.render(
        context=context,
        scene=context.scene,
        sections={**dict.fromkeys(_SECTIONS), **sections},
        galleries=[gallery for gallery in galleries if gallery.chips],
        areas=areas,
        not_seen=_not_seen_areas(context.not_seen),
        attribution=attribution,
        map_json=map_json(images, layers, attribution) if images or layers else None,
        leaflet_script=leaflet_script(),
        leaflet_style=leaflet_style(),
        colours=COLOURS,
        meaning=MEANING,
        headlines=headlines,
    )
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def case_styles(legend: Sequence[LegendClass]) -> dict[str, str]:
    """QGIS styles (QML) of the confusion cases: trucks by outcome, land cover by the class mapped."""
    template = _environment().get_template("cases.qml.j2")
    trucks = [(outcome, meaning, COLOURS[outcome]) for outcome, meaning in MEANING.items()]
    landcover = [(item.name, f"mapped as {item.name}", item.colour) for item in legend]

    def style(attribute: str, categories: Sequence[tuple[str, str, str]]) -> str:
        rows = [
            (value, label, ",".join(map(str, bytes.fromhex(hue[1:])))) for value, label, hue in categories
        ]
        return template.render(attribute=attribute, categories=rows)

    return {"trucks": style("outcome", trucks), "landcover": style("predicted_class", landcover)}


def copernicus_notice(scene: Scene | None) -> str:
    """The attribution that the Copernicus licence asks for, or that the scene is simulated."""
    if scene is not None and scene.simulated:
        return "Simulated scene: no satellite has seen this."
    year = f" {scene.acquired.year}" if scene is not None and scene.acquired is not None else ""
    return f"Contains modified Copernicus Sentinel data{year}"


def class_areas(raster: Path, legend: Sequence[LegendClass]) -> list[tuple[LegendClass, float, float]]:
    """Each class of the legend with its area in hectares and its share of the area with a class (0-1)."""
    counts = np.zeros(256, dtype=np.int64)
    with rasterio.open(raster) as source:
        hectares = abs(source.transform.determinant) / 10_000
        for _, window in source.block_windows(1):
            counts += np.bincount(source.read(1, window=window).ravel(), minlength=256)
    total = max(1, sum(int(counts[item.value]) for item in legend))
    rows = [
        (item, float(counts[item.value] * hectares), float(counts[item.value] / total)) for item in legend
    ]
    return [row for row in rows if row[1] > 0]


def _found(trucks: gpd.GeoDataFrame | None, context: ReportContext) -> dict[str, Any]:
    if trucks is None:
        return {}
    speed = column(trucks, "speed_kmh")
    known = speed[np.isfinite(speed)]
    area_km2 = None
    if context.scene is not None and context.seen_fraction is not None:
        rows, cols = context.scene.shape
        pixel_km2 = abs(context.scene.grid.affine.determinant) / 1e6
        area_km2 = context.seen_fraction * rows * cols * pixel_km2
    return {
        "trucks": len(trucks),
        "area_km2": area_km2,
        "heading_known": int(np.isfinite(column(trucks, "heading_deg")).sum()),
        "speed_known": len(known),
        "speed_median": float(np.median(known)) if len(known) else float("nan"),
        "near_cloud": int((column(trucks, "near_cloud") == 1).sum()),
    }


def _truck_galleries(trucks: gpd.GeoDataFrame, context: ReportContext) -> list[Gallery]:
    if context.chips is None:
        return []
    located = _in_scene(trucks, context)
    half = GALLERY_CHIPS // 2
    surest = range(min(half, len(located)))
    doubtful = range(max(half, len(located) - half), len(located))

    def chips(rows: Sequence[int]) -> tuple[Chip, ...]:
        return _drawn(lambda row: _truck_chip(located.iloc[row], context.chips), rows)

    return [
        Gallery("Highest scores", "truck", "the surest detections", chips(surest), len(located)),
        Gallery("Lowest scores", "truck", "where false alarms are", chips(doubtful[::-1]), len(located)),
    ]


def _truck_chip(truck: pd.Series, read: ChipReader | None) -> Chip | None:
    if read is None:
        return None
    facts = []
    if _known(truck.get("speed_kmh")):
        facts.append(f"{truck['speed_kmh']:.0f} km/h")
    if _known(truck.get("heading_deg")):
        facts.append(f"heading {truck['heading_deg']:.0f}°")
    elif _known(truck.get("axis_deg")):
        facts.append(f"axis {truck['axis_deg']:.0f}°")
    return chip(read, [("predicted", truck.geometry)], f"score {truck['score']:.2f}", [", ".join(facts)])


def _case_galleries(
    trucks: TruckEvaluation, cases: gpd.GeoDataFrame, context: ReportContext
) -> list[Gallery]:
    read = context.chips
    if read is None:
        return []
    located = _in_scene(cases, context)
    references = _in_scene(trucks.reference, context).geometry
    notes = {
        "FP": "detections that match no label, the surest first",
        "FN": "labels that no detection matches",
        "TP": "detections that match a label, the least sure first",
    }
    galleries = []
    for outcome, note in notes.items():
        part = located[located["outcome"] == outcome].sort_values(
            "score", ascending=outcome == "TP", kind="stable"
        )
        chips = _drawn(
            lambda case: _case_chip(int(case.name), case, trucks, references, read),
            (case for _, case in part.head(GALLERY_CHIPS).iterrows()),
        )
        galleries.append(Gallery(MEANING[outcome].capitalize(), outcome, note, chips, len(part)))
    return galleries


def _case_chip(
    row: int, case: pd.Series, trucks: TruckEvaluation, references: gpd.GeoSeries, read: ChipReader
) -> Chip | None:
    boxes = [("reference" if case["outcome"] == "FN" else "predicted", case.geometry)]
    if case["outcome"] == "TP":
        partner = int(trucks.matching.reference_of[row])
        boxes += [("reference", references.iloc[partner])] if partner != UNMATCHED else []
    return chip(read, boxes, _case_title(case), _case_lines(case))


def _case_title(case: pd.Series) -> str:
    return f"score {case['score']:.2f}" if _known(case["score"]) else f"label {case['reference_id']}"


def _case_lines(case: pd.Series) -> list[str]:
    lines = [str(case["cause"])] if _known(case["cause"]) else []
    if _known(case["distance_m"]):
        lines.append(f"{case['distance_m']:.0f} m off")
    if _known(case["heading_error_deg"]):
        lines.append(f"heading {case['heading_error_deg']:.0f}° off")
    if case["outcome"] == "FN":
        lines.append(f"{case['confidence']} confidence")
    return lines


def _causes(cases: gpd.GeoDataFrame) -> list[tuple[str, str, int]]:
    wrong = cases[cases["outcome"].isin(["FP", "FN"])]
    counts = wrong.groupby(["outcome", "cause"]).size().sort_values(ascending=False, kind="stable")
    return [(str(outcome), str(cause), int(count)) for (outcome, cause), count in counts.items()]  # type: ignore[misc]


def _matrix_rows(landcover: LandcoverEvaluation) -> dict[str, Any]:
    """The confusion matrix without the classes that are in neither, with each cell's share of its row."""
    matrix = landcover.matrix
    present = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
    rows = matrix[np.ix_(present, present)]
    share = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1)
    return {
        "classes": [
            {
                "name": landcover.legend[i].name,
                "colour": landcover.legend[i].colour,
                "labelled_ha": landcover.hectares[i].sum(),
                "mapped_ha": landcover.hectares[:, i].sum(),
                "users_accuracy": landcover.users_accuracy[i],
                "producers_accuracy": landcover.producers_accuracy[i],
                "iou": landcover.iou[i],
                "f1": landcover.f1[i],
            }
            for i in present
        ],
        "legend": [landcover.legend[i] for i in present],
        "share": share.tolist(),
        "hectares": landcover.hectares[np.ix_(present, present)].tolist(),
    }


def _not_seen_areas(not_seen: gpd.GeoDataFrame | None) -> list[tuple[str, float]]:
    if not_seen is None or not len(not_seen):
        return []
    areas = not_seen.groupby("reason")["area_m2"].sum().sort_values(ascending=False, kind="stable")
    return [(str(reason).replace("_", " "), float(area) / 1e6) for reason, area in areas.items()]


def _in_scene(frame: gpd.GeoDataFrame, context: ReportContext) -> gpd.GeoDataFrame:
    if context.scene is None or context.scene.grid.crs is None:
        return frame
    return frame.to_crs(context.scene.grid.crs.to_wkt())


def _drawn(draw: Callable[[_T], Chip | None], rows: Iterable[_T]) -> tuple[Chip, ...]:
    """Chips in the order of their rows; several are drawn at a time, as decoding their pixels takes long."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return tuple(made for made in pool.map(draw, rows) if made is not None)


def _detail(context: ReportContext) -> float:
    """How far outlines may be off: by a pixel of the picture below them, not at all where that shows all."""
    if context.picture is None or context.scene is None:
        return 0.0
    shown, whole = (abs(grid.resolution.x) for grid in (context.picture.grid, context.scene.grid))
    return float(shown) if shown > whole else 0.0


def _known(value: Any) -> bool:
    return value is not None and not pd.isna(value)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda share: "n/a" if math.isnan(share) else f"{100 * share:.1f} %"
    environment.filters["ratio"] = lambda value: "n/a" if math.isnan(value) else f"{value:.2f}"
    environment.filters["count"] = lambda value: f"{value:,.0f}"
    return environment
