"""An evaluation as files: metrics for machines, cases for the map, a report for people."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd

from pipeline.evaluation.labels import (
    LeftOut,
    checked_predicted_trucks,
    checked_truck_labels,
    read_not_seen,
    read_seen,
)
from pipeline.evaluation.landcover.accuracy import evaluate_landcover, prediction_grid
from pipeline.evaluation.landcover.disagreement import disagreement_metrics, landcover_cases
from pipeline.evaluation.landcover.labels import read_landcover_labels
from pipeline.evaluation.panoptic import evaluate_panoptic
from pipeline.evaluation.trucks.cases import cause_metrics, truck_cases
from pipeline.evaluation.trucks.metrics import truck_warnings
from pipeline.evaluation.trucks.scores import evaluate_trucks
from pipeline.evaluation.trucks.true_negatives import read_true_negatives
from pipeline.layers.formats.geojson import write_geojson
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.report.chips import CHIPS, case_chips, cases_with_chips, write_chips
from pipeline.report.page import ReportContext, case_styles, write_evaluation_report
from pipeline.report.pictures import quicklook
from pipeline.roads.read import read_roads
from pipeline.scenes.scene import Scene
from pipeline.storage.atomic import make_folder, replacing

METRICS, CASES, REPORT = "metrics.json", "confusion_cases.gpkg", "report.html"
CASES_GEOJSON = "confusion_cases.geojson"


def write_evaluation(
    out: Path,
    context: ReportContext,
    *,
    trucks: gpd.GeoDataFrame | None = None,
    truck_labels: Path | None = None,
    seen: gpd.GeoDataFrame | None = None,
    below_threshold: gpd.GeoDataFrame | None = None,
    roads: gpd.GeoDataFrame | None = None,
    landcover: Path | None = None,
    landcover_labels: Path | None = None,
    trucks_left_out: LeftOut | None = None,
) -> dict[str, Any]:
    """Score trucks, land cover or both against labels; leave `METRICS`, `CASES` and `REPORT` in `out`.

    Of trucks there is `CASES_GEOJSON`, too, and where the context has a scene a chip of each case in `CHIPS`
    (of thousands that are right, some).

    `trucks` are detections (with `seen` as in `layers.search_area`, `below_threshold` detections that were
    not good enough, `roads` to narrow the question to their surroundings, and `trucks_left_out` what of their
    file could not be used), `landcover` a class raster.
    What has no labels is not scored; `panoptic` is what both are together. Returns the metrics, keyed
    `trucks`, `landcover` and `panoptic`. Nothing is written before everything is read and compared.

    Raises
    ------
    LabelsError
        If labels can't be used.
    OutputError
        If `out` can't be written.
    """
    metrics: dict[str, Any] = {}
    layers: dict[str, gpd.GeoDataFrame] = {}
    truck_evaluation = landcover_evaluation = panoptic = None
    if trucks is not None and truck_labels is not None:
        scene_crs = context.scene.grid.crs if context.scene is not None else None
        labels, left_out = checked_truck_labels(truck_labels, scene_crs.to_wkt() if scene_crs else None)
        truck_evaluation = evaluate_trucks(
            trucks,
            labels,
            seen,
            roads,
            not_seen=context.not_seen,
            below_threshold=below_threshold,
            landcover=landcover or context.landcover_raster,
            legend=context.legend,
        )
        cases = truck_cases(
            truck_evaluation,
            seen,
            below_threshold,
            roads=roads,
            scene=context.scene,
            marked=read_true_negatives(truck_labels),
        )
        layers["trucks"] = cases
        metrics["trucks"] = {
            "labels": str(truck_labels),
            **truck_evaluation.metrics(),
            "left_out": {
                "labels": left_out.as_dict(),
                "predicted": (trucks_left_out or LeftOut()).as_dict(),
            },
            "warnings": truck_warnings(truck_evaluation, left_out, trucks_left_out or LeftOut()),
            "causes": cause_metrics(cases),
        }
    if landcover is not None and landcover_labels is not None:
        area_labels = read_landcover_labels(landcover_labels, prediction_grid(landcover))
        landcover_evaluation = evaluate_landcover(landcover, area_labels, context.legend)
        layers["landcover"] = landcover_cases(landcover, area_labels, context.legend)
        metrics["landcover"] = {
            "labels": str(landcover_labels),
            **landcover_evaluation.metrics(),
            "disagreement": disagreement_metrics(landcover_evaluation, layers["landcover"]),
        }
        if truck_evaluation is not None:
            panoptic = evaluate_panoptic(landcover, area_labels, context.legend, truck_evaluation)
            metrics["panoptic"] = panoptic.metrics()
    make_folder(out)
    with replacing(out / METRICS) as part:
        part.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    write_gpkg(out / CASES, layers, case_styles(context.legend))
    chips = None
    if truck_evaluation is not None:
        write_geojson(layers["trucks"], out / CASES_GEOJSON, id_column="id")
        if context.scene is not None:
            shown = cases_with_chips(layers["trucks"])
            sides = truck_evaluation.predicted, truck_evaluation.reference
            chips = write_chips(out / CHIPS, case_chips(context.scene, shown, *sides))
    write_evaluation_report(
        out / REPORT,
        context,
        trucks=truck_evaluation,
        landcover=landcover_evaluation,
        panoptic=panoptic,
        cases=layers.get("trucks"),
        chips=chips,
        landcover_cases=layers.get("landcover"),
    )
    return metrics


def evaluate_trucks_files(
    predicted: Path, reference: Path, out: Path, roads: Path | None = None, scene: Scene | None = None
) -> dict[str, Any]:
    """Score a file of trucks against a file of labels, as `truckscape evaluate trucks` does.

    The areas seen and not seen are taken from the layers of the prediction or of the `trucks.gpkg` beside it,
    the land cover for the breakdown from `landcover.tif` beside it, if there are such. With
    `roads` only what is within 30 m of them is asked for; with `scene` the report has its picture and chips.
    Returns the metrics; see `write_evaluation` for the files and errors.
    """
    trucks, left_out = checked_predicted_trucks(predicted)
    classes = predicted.with_name("landcover.tif")
    context = _context(f"Evaluation of {predicted.name} against {reference.name}", scene)
    return write_evaluation(
        out,
        replace(context, not_seen=read_not_seen(predicted)),
        trucks=trucks,
        truck_labels=reference,
        seen=read_seen(predicted),
        roads=None if roads is None else read_roads(roads, trucks.crs),
        landcover=classes if classes.is_file() else None,
        trucks_left_out=left_out,
    )


def evaluate_landcover_files(
    predicted: Path, reference: Path, out: Path, scene: Scene | None = None
) -> dict[str, Any]:
    """Score a class raster against labels (raster or polygons), as `truckscape evaluate landcover` does.

    Returns the metrics; see `write_evaluation` for the files and errors.
    """
    prediction_grid(predicted)
    context = _context(f"Evaluation of {predicted.name} against {reference.name}", scene)
    context = replace(context, landcover_raster=predicted)
    return write_evaluation(out, context, landcover=predicted, landcover_labels=reference)


def _context(title: str, scene: Scene | None) -> ReportContext:
    if scene is None:
        return ReportContext(title)
    return ReportContext(title, scene=scene, picture=quicklook(scene))
