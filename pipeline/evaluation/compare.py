"""Compare the evaluations of two runs, scene by scene; writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import EvaluationError
from pipeline.evaluation.evaluate import CASES, METRICS
from pipeline.evaluation.features import read_polygons
from pipeline.evaluation.labels import has_layer
from pipeline.evaluation.landcover.accuracy import prediction_grid
from pipeline.evaluation.landcover.compare import LANDCOVER_CHANGES, LandcoverComparison, compare_landcover
from pipeline.evaluation.landcover.labels import read_landcover_labels
from pipeline.evaluation.trucks.compare import (
    CHANGES,
    compare_cases,
    counts_by_block,
    mcnemar,
    truck_differences,
)
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.safe_json import read_json_object
from pipeline.storage.out_folder import MOST_RECORD_BYTES
from pipeline.storage.untrusted_vectors import file_of


@dataclass(frozen=True)
class EvaluatedScene:
    """The evaluation of one scene by one run, read from its folder."""

    folder: Path
    metrics: Mapping[str, Any]
    run: Mapping[str, Any]
    """`run.json` of the run; empty if the evaluation is not part of a run."""

    @property
    def scene(self) -> str | None:
        """The scene's id; None if unknown."""
        return self.run.get("scene")

    @property
    def landcover(self) -> Path | None:
        """The map that was evaluated; None if it no longer exists."""
        path = self.folder.parent / "landcover.tif"
        return path if path.is_file() else None

    def cases(self) -> gpd.GeoDataFrame | None:
        """Read the confusion cases of trucks; None if there are no such cases."""
        path = self.folder / CASES
        if not has_layer(path, "trucks"):
            return None
        cases = read_polygons(path, "Confusion cases", layers=("trucks",))
        lacking = {"id", "outcome", "cause", "score", "prediction_id", "reference_id"} - set(cases.columns)
        if lacking:
            raise EvaluationError(
                f"The cases in {path} lack {', '.join(sorted(lacking))}: an older version made them. "
                "Evaluate again."
            )
        return cases

    @property
    def is_current(self) -> bool:
        """Return False if the run's layers have changed since they were evaluated."""
        return (self.run.get("evaluation") or {}).get("is_current") is not False

    def describe(self) -> dict[str, Any]:
        """Return folder, scene, models, threshold and labels, which distinguish a run from another."""
        return {
            "folder": str(self.folder),
            "scene": self.scene,
            "models": dict(self.run.get("models", {})),
            "score_threshold": self.run.get("score_threshold"),
            "labels": {
                task: self.metrics[task].get("labels")
                for task in ("trucks", "landcover")
                if task in self.metrics
            },
        }


@dataclass(frozen=True)
class RunComparison:
    """Two runs with evaluations of the same scenes against the same labels."""

    record: dict[str, Any]
    """The content of `comparison.json`."""
    pairs: Sequence[tuple[EvaluatedScene, EvaluatedScene]]
    """Each scene, before and after."""
    trucks: gpd.GeoDataFrame | None
    """Cases of `trucks.compare.compare_cases`, with a column `scene`."""
    landcover: LandcoverComparison | None


def find_evaluations(path: Path) -> dict[str, EvaluatedScene]:
    """Find evaluations by the scene's id, or by the folder's name if the id is unknown.

    `path` is the folder of an evaluation, of a run of a scene, or of several scenes.

    Raises
    ------
    EvaluationError
        If there is no evaluation, or one can't be read.
    """
    candidates = [path, path / "evaluation", *sorted(path.glob("*/evaluation"))]
    found = [_read(folder) for folder in candidates if (folder / METRICS).is_file()]
    if not found:
        raise EvaluationError(
            f"No evaluation in {path}. Name a run with labels (truckscape run ... --truck-labels), or a "
            "folder that truckscape evaluate wrote."
        )
    return {each.scene or each.folder.name: each for each in found}


def compare_runs(before: Path, after: Path) -> RunComparison:
    """Compare the evaluations in two folders, scene by scene.

    Both must be of the same scenes against the same labels. Land cover is compared if both runs' maps and the
    labels still exist; otherwise a note in the record says so.

    Raises
    ------
    EvaluationError
        If the two don't compare, or an evaluation can't be read.
    """
    pairs = _pairs(find_evaluations(before), find_evaluations(after))
    cases: list[gpd.GeoDataFrame] = []
    counts: list[NDArray[np.int64]] = []
    maps: list[LandcoverComparison] = []
    notes: list[str] = []
    for number, (first, second) in enumerate(pairs):
        notes += [
            f"The layers beside {each.folder} have changed since they were evaluated."
            for each in (first, second)
            if not each.is_current
        ]
        sides = first.cases(), second.cases()
        if sides[0] is not None and sides[1] is not None:
            prefix = f"s{number + 1}-" if len(pairs) > 1 else ""
            compared = compare_cases(sides[0], sides[1], prefix, _same_labels(first, second))
            counts.append(counts_by_block(compared))
            cases.append(compared.assign(scene=first.scene))
        compared_maps = _maps(first, second, notes)
        if compared_maps is not None:
            maps.append(compared_maps)
    if not cases and not maps:
        raise EvaluationError(
            f"{before} and {after} have nothing in common that could be compared: both need trucks, or land "
            f"cover, evaluated against the same labels. {' '.join(notes)}".strip()
        )
    trucks = _joined(cases) if cases else None
    landcover = _joined_maps(maps) if maps else None
    record: dict[str, Any] = {
        "before": [first.describe() for first, _ in pairs],
        "after": [second.describe() for _, second in pairs],
        **({"trucks": _truck_metrics(trucks, np.concatenate(counts))} if trucks is not None else {}),
        **({"landcover": _landcover_metrics(landcover)} if landcover is not None else {}),
        "notes": notes,
    }
    return RunComparison(record, pairs, trucks, landcover)


def _read(folder: Path) -> EvaluatedScene:
    def read(path: Path) -> dict[str, Any]:
        try:
            return read_json_object(path, MOST_RECORD_BYTES)
        except (OSError, ValueError) as error:
            raise EvaluationError(f"{path} can't be read as JSON. Evaluate again.") from error

    run = folder.parent / "run.json"
    return EvaluatedScene(folder, read(folder / METRICS), read(run) if run.is_file() else {})


def _pairs(
    before: Mapping[str, EvaluatedScene], after: Mapping[str, EvaluatedScene]
) -> list[tuple[EvaluatedScene, EvaluatedScene]]:
    if len(before) == len(after) == 1:
        (first,), (second,) = before.values(), after.values()
        if first.scene and second.scene and first.scene != second.scene:
            raise EvaluationError(
                f"Two runs of the same scene compare, but these are of {first.scene} and {second.scene}."
            )
        return [(first, second)]
    alone = sorted(set(before) ^ set(after))
    if alone:
        raise EvaluationError(
            f"Both sides must hold evaluations of the same scenes; only one has {', '.join(alone[:3])}"
            f"{' and others' if len(alone) > 3 else ''}."
        )
    return [(before[name], after[name]) for name in sorted(before)]


def _same_labels(first: EvaluatedScene, second: EvaluatedScene) -> bool:
    """Return True if the metrics name the same file, with as many boxes."""
    metrics = [each.metrics.get("trucks", {}) for each in (first, second)]
    files = [Path(side.get("labels") or "").name for side in metrics]
    boxes = [side.get("reference", {}).get("boxes") for side in metrics]
    return bool(files[0]) and files[0] == files[1] and boxes[0] is not None and boxes[0] == boxes[1]


def _maps(first: EvaluatedScene, second: EvaluatedScene, notes: list[str]) -> LandcoverComparison | None:
    if not all("landcover" in each.metrics for each in (first, second)):
        return None
    labels = [Path(each.metrics["landcover"].get("labels") or "") for each in (first, second)]
    for each in (first, second):
        if not each.is_current:
            notes.append(f"Land cover is not compared: it has changed since the evaluation in {each.folder}.")
            return None
    if first.landcover is None or second.landcover is None:
        notes.append(f"Land cover is not compared: landcover.tif is missing beside {first.folder}.")
        return None
    if labels[0].name != labels[1].name:
        notes.append(f"Land cover is not compared: labels are {labels[0].name} and {labels[1].name}.")
        return None
    there = next((path for path in reversed(labels) if file_of(path).is_file()), None)
    if there is None:
        notes.append(f"Land cover is not compared: the labels are no longer at {labels[1]}.")
        return None
    truth = read_landcover_labels(there, prediction_grid(first.landcover))
    return compare_landcover(first.landcover, second.landcover, truth, DYNAMIC_WORLD)


def _joined(cases: Sequence[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """Return the cases of all scenes, in WGS 84 if the scenes' CRSs differ."""
    crs = cases[0].crs
    if any(part.crs != crs for part in cases):
        crs = "EPSG:4326"
    filled = [part for part in cases if len(part)] or [cases[0]]
    return gpd.GeoDataFrame(pd.concat([part.to_crs(crs) for part in filled], ignore_index=True), crs=crs)


def _joined_maps(maps: Sequence[LandcoverComparison]) -> LandcoverComparison:
    areas = [each.areas for each in maps]
    return LandcoverComparison(
        maps[0].legend,
        np.concatenate([each.matrices for each in maps]),
        {name: sum(each.hectares[name] for each in maps) for name in LANDCOVER_CHANGES},
        _joined(areas),
    )


def _truck_metrics(compared: gpd.GeoDataFrame, counts: NDArray[np.int64]) -> dict[str, Any]:
    by_kind = compared.groupby(["what", "change"]).size()
    changes = {
        what: {name: int(by_kind.get((what, name), 0)) for name in CHANGES}
        for what in ("truck", "false alarm")
    }
    of_trucks = changes["truck"]
    p_value = mcnemar(of_trucks["fixed"], of_trucks["broken"])
    return {
        "cases": changes,
        "differences": {name: each.as_json() for name, each in truck_differences(counts).items()},
        "blocks": len(counts),
        "mcnemar_p_value": p_value if np.isfinite(p_value) else None,
    }


def _landcover_metrics(landcover: LandcoverComparison) -> dict[str, Any]:
    return {
        "hectares": landcover.hectares,
        "differences": {name: each.as_json() for name, each in landcover.differences().items()},
        "blocks": len(landcover.matrices),
    }
