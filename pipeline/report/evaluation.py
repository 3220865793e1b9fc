"""An evaluation as files: metrics for machines, cases for the map, a report for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.evaluation.evaluate import CASES, METRICS, Evaluation
from pipeline.layers.formats.geojson import write_geojson
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.report.cases import case_styles
from pipeline.report.chips import CHIPS, case_chips, cases_with_chips, write_chips
from pipeline.report.page import REPORT, ReportContext, write_report
from pipeline.report.pictures import quicklook
from pipeline.scenes.scene import Scene
from pipeline.storage.atomic import make_folder, replacing

CASES_GEOJSON = "confusion_cases.geojson"


def write_evaluation(
    out: Path, evaluation: Evaluation, context: ReportContext, chips: Mapping[str, bytes] | None = None
) -> dict[str, Any]:
    """Write `METRICS`, `CASES` and `REPORT` into `out`; return the metrics.

    Trucks have `CASES_GEOJSON`, too, and, where the context has a scene, a chip of each case in `CHIPS` (of
    some true positives only where there are thousands). `REPORT` is also written into the folder of the run,
    where the context has one. `chips` are those of the run's trucks, for a page without labels of trucks.

    Raises
    ------
    OutputError
        If `out` can't be written.
    CorruptImageError
        If pixels of the scene can't be decoded.
    """
    make_folder(out)
    with replacing(out / METRICS) as part:
        part.write_text(json.dumps(evaluation.metrics, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    layers = {"trucks": evaluation.truck_cases, "landcover": evaluation.landcover_cases}
    there = {name: layer for name, layer in layers.items() if layer is not None}
    write_gpkg(out / CASES, there, case_styles(context.legend))
    if evaluation.trucks is not None and evaluation.truck_cases is not None:
        write_geojson(evaluation.truck_cases, out / CASES_GEOJSON)
        if context.scene is not None:
            shown = cases_with_chips(evaluation.truck_cases)
            sides = evaluation.trucks.predicted, evaluation.trucks.reference
            chips = write_chips(out / CHIPS, case_chips(context.scene, shown, *sides))
    write_report([folder / REPORT for folder in (out, context.folder) if folder], context, evaluation, chips)
    return evaluation.metrics


def file_context(
    evaluation: Evaluation, predicted: Path, reference: Path, scene: Scene | None = None
) -> ReportContext:
    """Return the context of an evaluation of a file, with the picture of the scene where it is given."""
    return ReportContext(
        f"Evaluation of {predicted.name} against {reference.name}",
        scene=scene,
        picture=None if scene is None else quicklook(scene),
        not_seen=None if evaluation.trucks is None else evaluation.trucks.surroundings.not_seen,
        landcover_raster=None if evaluation.landcover is None else predicted,
    )
