"""The report of a run or an evaluation: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from markupsafe import Markup

from pipeline.evaluation.landcover.accuracy import LandcoverEvaluation
from pipeline.evaluation.panoptic import PanopticEvaluation
from pipeline.evaluation.trucks.boxes import column
from pipeline.evaluation.trucks.calibration import reliability
from pipeline.evaluation.trucks.cases import truck_cases
from pipeline.evaluation.trucks.metrics import threshold_curve
from pipeline.evaluation.trucks.scores import TruckEvaluation
from pipeline.layers.styles import rgb
from pipeline.models.bundle import Card
from pipeline.models.legend import DYNAMIC_WORLD, LegendClass
from pipeline.report.card import headlines
from pipeline.report.cases import KINDS, case_columns, data_uri, kind_of, known_facts
from pipeline.report.chips import CHIP_PX, case_chips
from pipeline.report.gallery import Example, Gallery, blocks_of_cases, spread
from pipeline.report.map import FeatureLayer, ImageLayer, feature_layer, map_layers, not_seen_picture
from pipeline.report.pictures import TRUE_COLOUR, Picture, class_picture, map_image
from pipeline.report.sections import (
    breakdown,
    causes,
    class_areas,
    class_rows,
    found_cards,
    landcover_cards,
    matrices,
    matrix_legend,
    not_seen_areas,
    truck_cards,
)
from pipeline.report.template import environment, write_page
from pipeline.scenes.scene import Scene

GALLERY_CHIPS = 24
"""Of a kind."""
_PLACES, _PLACES_WITH_LABELS = 1, 6
"""Blocks of the scene's rasters that are decoded for a gallery: they cost more than all else on the page."""
_MOST_CHIPS = 2500
"""Inside a page, 2 kB each."""
_SECTIONS = (
    "found",
    "trucks",
    "truck_metrics",
    "cards",
    "landcover_cards",
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
_NOTES = {
    "truck": "from the surest to the most doubtful",
    "FP": "detections that match no label, the surest first",
    "FN": "labels that no detection matches",
    "TP": "detections that match a label, the least sure first",
    "TN": "places that look like a truck and were left out",
}
_RAMP = ("#d4d4d8", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""None, then viridis: it rises in lightness, for every kind of colour vision."""
_DIFFERS = "#d55e00"


@dataclass(frozen=True)
class ReportContext:
    """What a report shows besides results; a part that is not given is left out of the page."""

    title: str
    scene: Scene | None = None
    """Its pixels are shown around trucks."""
    picture: Picture | None = None
    """The scene's quicklook, below everything else on the map."""
    cards: tuple[Card, ...] = ()
    """Of the models that were used."""
    seen_fraction: float | None = None
    not_seen: gpd.GeoDataFrame | None = None
    """Columns `reason`, `area_m2`: where trucks were not looked for."""
    road_segments: gpd.GeoDataFrame | None = None
    """As `pipeline.layers.traffic` has them."""
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
    CorruptImageError
        If pixels of the scene can't be decoded.
    """
    sections: dict[str, Any] = {}
    cases = None
    if trucks is not None:
        cases = _trucks_as_cases(trucks)
        sections["found"] = len(trucks)
        sections["cards"] = found_cards(trucks, context.seen_fraction, context.scene)
    chosen, chips = _chosen_chips(context, cases, _PLACES)
    _write(path, context, sections, cases, chosen, chips, [])


def write_evaluation_report(
    path: Path,
    context: ReportContext,
    trucks: TruckEvaluation | None = None,
    landcover: LandcoverEvaluation | None = None,
    panoptic: PanopticEvaluation | None = None,
    cases: gpd.GeoDataFrame | None = None,
    landcover_cases: gpd.GeoDataFrame | None = None,
    chips: Mapping[str, bytes] | None = None,
) -> None:
    """Write the report of an evaluation.

    `cases` are `truck_cases` (made here when not given), `chips` their pictures by id, of which as many as a
    page can bear stand in it, mistakes first; without them those of the gallery are made from the scene.

    Raises
    ------
    OutputError
        If `path` can't be written.
    CorruptImageError
        If pixels of the scene can't be decoded.
    """
    layers: list[FeatureLayer] = []
    sections: dict[str, Any] = {}
    chosen: dict[str, list[int]] = {}
    if landcover is not None:
        sections |= {
            "landcover": landcover,
            "landcover_cards": landcover_cards(landcover),
            "matrices": matrices(landcover),
            "matrix_legend": matrix_legend(landcover),
            "classes": class_rows(landcover),
        }
        if landcover_cases is not None:
            sections["landcover_cases"] = landcover_cases.head(10).to_dict("records")
            layers.append(
                feature_layer(
                    "land cover that differs",
                    landcover_cases,
                    _DIFFERS,
                    shown=trucks is None,
                    legend=[("mapped as one class, labelled as another", _DIFFERS)],
                    detail=_detail(context),
                )
            )
    if panoptic is not None:
        sections["panoptic"] = panoptic.metrics()
    if trucks is not None:
        metrics = trucks.metrics()
        cases = _by_importance(truck_cases(trucks) if cases is None else cases)
        sections |= {
            "trucks": trucks,
            "truck_metrics": metrics,
            "cards": truck_cards(trucks),
            "breakdown": breakdown(metrics),
            "charts": _charts(trucks),
            "causes": causes(cases),
        }
        if chips is None:
            chosen, chips = _chosen_chips(context, cases, _PLACES_WITH_LABELS, trucks)
        else:
            chosen, chips = _given_chips(cases, chips)
    _write(path, context, sections, cases, chosen, chips or {}, layers)


def _write(
    path: Path,
    context: ReportContext,
    sections: Mapping[str, Any],
    cases: gpd.GeoDataFrame | None,
    chosen: Mapping[str, Sequence[int]],
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
    galleries = [] if cases is None else _galleries(cases, chosen, chips)
    shown = {example.row for gallery in galleries for example in gallery.examples}
    columns = None
    if cases is not None and len(cases):
        ids = cases["id"].astype(str)
        in_gallery = {ids.iloc[row] for row in shown}
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


def case_styles(legend: Sequence[LegendClass]) -> dict[str, str]:
    """QGIS styles (QML) of the confusion cases: trucks by outcome, land cover by the class mapped."""
    trucks = [(kind.key, kind.name, kind.colour) for kind in KINDS.values() if kind.key != "truck"]
    landcover = [(item.name, f"mapped as {item.name}", item.colour) for item in legend]
    return {
        "trucks": category_style("outcome", trucks),
        "landcover": category_style("predicted_class", landcover),
    }


def category_style(attribute: str, categories: Iterable[tuple[str, str, str]]) -> str:
    """A QGIS style (QML) of areas by the value of an attribute: value, what the legend says, and colour."""
    rows = [(value, label, ",".join(map(str, rgb(colour)))) for value, label, colour in categories]
    return environment().get_template("cases.qml.j2").render(attribute=attribute, categories=rows)


def copernicus_notice(scene: Scene | None) -> str:
    """The attribution that the Copernicus licence asks for, or that the scene is simulated."""
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
        images.append(ImageLayer("not looked at", image, shown=False, opacity=0.6, legend=legend))
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
    """The surest first, with the facts that a page shows."""
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


def _chosen_chips(
    context: ReportContext, cases: gpd.GeoDataFrame | None, places: int, trucks: TruckEvaluation | None = None
) -> tuple[dict[str, list[int]], dict[str, bytes]]:
    """Rows of each kind for the gallery, out of few blocks of the scene, and their chips by id."""
    scene = context.scene
    if scene is None or cases is None or any(band not in scene.bands for band in TRUE_COLOUR):
        return {}, {}
    blocks = blocks_of_cases(scene, cases, CHIP_PX)
    usable = np.flatnonzero(blocks >= 0)
    usable = usable if len(usable) else np.flatnonzero(blocks >= -1)
    score = column(cases, "score")
    chosen: dict[str, list[int]] = {}
    taken: set[int] = set()
    for key in _NOTES:
        rows = usable[cases["outcome"].to_numpy()[usable] == key]
        if not len(rows):
            continue
        # Blocks that are decoded already cost nothing more; each kind may add some.
        known = rows[np.isin(blocks[rows], list(taken))]
        rows = known if len(known) >= GALLERY_CHIPS else rows
        picked = rows[spread(score[rows], blocks[rows], GALLERY_CHIPS, places)]
        chosen[key] = picked.tolist()
        taken |= set(blocks[picked].tolist())
    shown = cases.iloc[sorted(row for rows in chosen.values() for row in rows)]
    sides = (None, None) if trucks is None else (trucks.predicted, trucks.reference)
    return chosen, dict(case_chips(scene, shown, *sides))


def _given_chips(
    cases: gpd.GeoDataFrame, chips: Mapping[str, bytes]
) -> tuple[dict[str, list[int]], dict[str, bytes]]:
    """Rows of each kind for the gallery, and the chips that a page can bear: of mistakes, then spread."""
    ids = cases["id"].astype(str).to_numpy()
    there = np.flatnonzero(np.isin(ids, list(chips)))
    outcome, score = cases["outcome"].to_numpy(), column(cases, "score")
    chosen = {}
    for key in _NOTES:
        rows = there[outcome[there] == key]
        if len(rows):
            one_block = np.zeros(len(rows), dtype=np.intp)
            chosen[key] = rows[spread(score[rows], one_block, GALLERY_CHIPS, 1)].tolist()
    kept = list(dict.fromkeys([*(row for rows in chosen.values() for row in rows), *there.tolist()]))
    return chosen, {ids[row]: chips[ids[row]] for row in kept[:_MOST_CHIPS]}


def _galleries(
    cases: gpd.GeoDataFrame, chosen: Mapping[str, Sequence[int]], chips: Mapping[str, bytes]
) -> list[Gallery]:
    galleries = []
    for key, rows in chosen.items():
        examples = []
        for row in rows:
            case = cases.iloc[row]
            picture = chips.get(str(case["id"]))
            if picture is not None:
                examples.append(Example(row, data_uri(picture), _title(case), tuple(_lines(case))))
        if examples:
            total = int((cases["outcome"] == key).sum())
            galleries.append(Gallery(kind_of(key), _NOTES[key], tuple(examples), total))
    return galleries


def _title(case: pd.Series) -> str:
    score = case.get("score")
    if score is not None and not pd.isna(score):
        return f"score {score:.2f}"
    reference = case.get("reference_id")
    return f"label {reference}" if reference is not None and not pd.isna(reference) else str(case["id"])


def _lines(case: pd.Series) -> list[str]:
    cause = case.get("cause")
    lines = [] if cause is None or pd.isna(cause) else [str(cause)]
    shown = ("speed_kmh", "heading_deg", "distance_m", "heading_error_deg")
    if pd.isna(case.get("heading_deg", np.nan)):
        shown = ("speed_kmh", "axis_deg", "distance_m", "heading_error_deg")
    return lines + known_facts(case, shown)


def _charts(trucks: TruckEvaluation) -> list[tuple[Markup, str]]:
    """Charts and what they say; none where nothing was measured, or detections came without scores."""
    if trucks.not_measured is not None or not trucks.scored:
        return []
    # Matplotlib takes long to import.
    from pipeline.report.charts import NAMES, precision_recall_chart, reliability_chart, threshold_chart

    charts = [
        (
            precision_recall_chart({name: curve for name, curve in trucks.curves.items() if name in NAMES}),
            "Precision over recall, down to the least score that counts. AP as COCO defines it "
            "(101 points), without a cap on the number of detections.",
        )
    ]
    curve = threshold_curve(trucks)
    if len(curve.score) and np.isfinite(curve.recall).all():
        charts.append((threshold_chart(curve), "What another threshold would give; centres within 20 m."))
    counted = next(iter(trucks.curves.values()))
    if len(counted.score):
        charts.append(
            (
                reliability_chart(reliability(counted.score, counted.correct)),
                "Calibration: of the detections with a score of about 0.8, 80 % should be trucks. Larger "
                "dots stand for more detections.",
            )
        )
    return charts


def _detail(context: ReportContext) -> float:
    """How far outlines may be off: by a pixel of the picture below them, not at all where that shows all."""
    if context.picture is None or context.scene is None:
        return 0.0
    shown, whole = (abs(grid.resolution.x) for grid in (context.picture.grid, context.scene.grid))
    return float(shown) if shown > whole else 0.0
