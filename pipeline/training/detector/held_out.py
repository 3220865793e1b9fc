"""Evaluation of a detector on the blocks that its training held out: in its card, and as a page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import shapely

from pipeline.config import Engine
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.labels import read_truck_labels
from pipeline.evaluation.trucks.boxes import centres
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.models.bundle import Bundle, open_bundle, save_card
from pipeline.report.evaluation import write_evaluation
from pipeline.report.page import ReportContext
from pipeline.report.pictures import quicklook
from pipeline.scenes.open import open_scene
from pipeline.scenes.plausibility import plausible
from pipeline.storage.atomic import make_folder
from pipeline.training.detector.labelled import LabelledBlocks
from pipeline.training.detector.settings import TruckSource
from pipeline.validation.card_metrics import detector_metrics
from pipeline.validation.observe import Observed, Place, observe_place

log = logging.getLogger(__name__)


def evaluate_held_out(
    bundle: Bundle,
    before: str | None,
    sources: Sequence[TruckSource],
    blocks: Sequence[LabelledBlocks],
    out: Path,
) -> Bundle:
    """Return the bundle with its metrics on the held-out blocks in its card, under `held_out`.

    Detections are those of a run over the complete scene. Metrics are true and false positives and false
    negatives of centres within 20 m in the held-out blocks, with 95 % intervals, and, as `before`, the same
    of the bundle that the training started from. `out/NAME` gets the blocks and their boxes as GeoPackages,
    and the evaluation's page, metrics and confusion cases. Takes as long as two runs over the scene.

    Raises
    ------
    OutputError
        If `out` can't be written; and as a run may raise.
    """
    quality: dict[str, Any] = {}
    for number, (source, part) in enumerate(zip(sources, blocks, strict=True), start=1):
        if not part.held_out:
            continue
        name = part.name if len(sources) == 1 else f"{number}-{part.name}"
        log.info("evaluating on the held-out blocks of %s", name)
        place = write_held_out(source, part, name, out / name)
        after = _observed(bundle, place)
        threshold = bundle.card.default_threshold(near_roads=False)
        quality[name] = {"threshold": threshold, **detector_metrics(after.evaluate(False, threshold))}
        if before:
            first = open_bundle(before)
            lowest = first.card.default_threshold(near_roads=False)
            was = detector_metrics(_observed(first, place).evaluate(False, lowest))
            quality[name]["before"] = {"model": first.card.id, "threshold": lowest, **was}
            log.info("F1 on held-out blocks: %s before, %s now", was["f1"], quality[name]["f1"])
        _write_page(after, threshold, source, place, out / name)
    if not quality:
        return bundle
    return save_card(
        bundle.folder,
        bundle.card.model_copy(update={"quality": {**bundle.card.quality, "held_out": quality}}),
    )


def write_held_out(source: TruckSource, blocks: LabelledBlocks, name: str, out: Path) -> Place:
    """Write the held-out blocks and the labels whose centre they hold, `blocks.gpkg` and `trucks.gpkg`."""
    labels = read_truck_labels(source.labels, blocks.held_out_area.crs)
    inside = shapely.intersects(blocks.held_out_area.union_all(), shapely.points(centres(labels)))
    make_folder(out)
    write_gpkg(out / "blocks.gpkg", {"blocks": blocks.held_out_area}, {})
    write_gpkg(out / "trucks.gpkg", {"trucks": labels[inside].reset_index(drop=True)}, {})
    return Place(
        name=name,
        scene=source.imagery,
        labels=out / "trucks.gpkg",
        within=out / "blocks.gpkg",
        bands=source.bands,
        values=source.values,
    )


def _observed(bundle: Bundle, place: Place) -> Observed:
    with TemporaryDirectory(prefix="truckscape-held-out-") as scratch:
        observed = observe_place(bundle, place, Path(scratch), Engine())
    return observed.calibrated(bundle.card.calibration_for(near_roads=False))


def _write_page(after: Observed, threshold: float, source: TruckSource, place: Place, out: Path) -> None:
    scene = plausible(open_scene(source.imagery, source.bands, source.values), source.values.given)
    context = ReportContext(f"Held-out blocks of {place.name}", scene=scene, picture=quicklook(scene))
    good = after.trucks["score"] >= threshold
    evaluation = evaluate(
        trucks=after.trucks[good].reset_index(drop=True),
        truck_labels=place.labels,
        seen=after.seen,
        below_threshold=after.trucks[~good].reset_index(drop=True),
        scene=scene,
    )
    write_evaluation(out, evaluation, context)
