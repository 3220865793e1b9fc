"""What changed from one run to another, as a layer, as figures and as a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.table import Table

from pipeline.errors import LabelsError, TruckscapeError
from pipeline.evaluation.labels import has_layer, read_polygons
from pipeline.evaluation.landcover.accuracy import prediction_grid
from pipeline.evaluation.landcover.compare import (
    LANDCOVER_CHANGES,
    LandcoverComparison,
    compare_landcover,
)
from pipeline.evaluation.landcover.labels import read_landcover_labels
from pipeline.evaluation.trucks.compare import (
    CHANGES,
    compare_cases,
    counts_by_block,
    mcnemar,
    truck_differences,
)
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.report.cases import Kind, case_columns, category_style
from pipeline.report.chips import CHIPS
from pipeline.report.map import FeatureLayer, ImageLayer, feature_layer, map_layers
from pipeline.report.page import copernicus_notice
from pipeline.report.pictures import map_image, quicklook
from pipeline.report.template import write_page
from pipeline.scenes.open import open_scene
from pipeline.scenes.scene import Scene
from pipeline.storage.atomic import make_folder, replacing

LAYERS, FIGURES, PAGE = "comparison.gpkg", "comparison.json", "comparison.html"
KINDS = {
    kind.key: kind
    for kind in (
        Kind("fixed", "fixed", "#009e73", "circle"),
        Kind("broken", "broken", "#d55e00", "diamond"),
        Kind("still wrong", "still wrong", "#e69f00", "triangle"),
        Kind("both right", "both right", "#56b4e9", "square"),
        Kind("not looked at", "not looked at", "#9aa4b2", "cross"),
    )
}
"""Told apart by colour (Okabe and Ito, 2008) and by shape."""
_MOST_CHIPS = 1500
_METRICS, _CASES = "metrics.json", "confusion_cases.gpkg"
_PLAIN_NAMES = {"f1": "F1", "mean_iou": "mean IoU"}


@dataclass(frozen=True)
class Evaluated:
    """The evaluation of one scene by one run, as its folder has it."""

    folder: Path
    metrics: Mapping[str, Any]
    run: Mapping[str, Any]
    """`run.json` of the run; empty where the evaluation is no run's."""

    @property
    def scene(self) -> str | None:
        """The scene's id, where it is known."""
        return self.run.get("scene")

    @property
    def landcover(self) -> Path | None:
        """The map that was evaluated, where it is still there."""
        path = self.folder.parent / "landcover.tif"
        return path if path.is_file() else None

    def cases(self) -> gpd.GeoDataFrame | None:
        """The confusion cases of trucks; None where none were evaluated."""
        path = self.folder / _CASES
        if not has_layer(path, "trucks"):
            return None
        cases = read_polygons(path, "Confusion cases", layer="trucks")
        lacking = {"id", "outcome", "cause", "score", "prediction_id", "reference_id"} - set(cases.columns)
        if lacking:
            raise LabelsError(
                f"The cases in {path} lack {', '.join(sorted(lacking))}: an older version made them; "
                "evaluate anew."
            )
        return cases

    def describe(self) -> dict[str, Any]:
        """What tells this run from the other."""
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


def find_evaluations(path: Path) -> dict[str, Evaluated]:
    """Evaluations in an evaluation's folder, a run's folder of a scene, or an output folder of several; by
    the scene's id, or by the folder's name where that is not known.

    Raises
    ------
    LabelsError
        If there is none.
    """
    candidates = [path, path / "evaluation", *sorted(path.glob("*/evaluation"))]
    found = [_evaluated(folder) for folder in candidates if (folder / _METRICS).is_file()]
    if not found:
        raise LabelsError(
            f"No evaluation in {path}: give a run with labels (truckscape run ... --truck-labels), "
            "or what truckscape evaluate left."
        )
    return {each.scene or each.folder.name: each for each in found}


def write_differences(before: Path, after: Path, out: Path) -> dict[str, Any]:
    """Compare the evaluations in two folders, scene by scene; leave `LAYERS`, `FIGURES` and `PAGE` in `out`.

    Both must be of the same scenes against the same labels. Land cover is compared where both runs' maps and
    the labels are still there. Returns what `FIGURES` holds. Nothing is written before all is compared.

    Raises
    ------
    LabelsError
        If the two don't compare, or an evaluation can't be read.
    OutputError
        If `out` can't be written.
    """
    pairs = _pairs(find_evaluations(before), find_evaluations(after))
    cases: list[gpd.GeoDataFrame] = []
    counts: list[NDArray[np.int64]] = []
    maps: list[LandcoverComparison] = []
    notes: list[str] = []
    for number, (first, second) in enumerate(pairs):
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
        raise LabelsError(
            f"{before} and {after} have nothing in common that could be compared: both need trucks, or land "
            f"cover, evaluated against the same labels. {' '.join(notes)}".strip()
        )
    trucks = _joined(cases) if cases else None
    landcover = _joined_maps(maps) if maps else None
    record: dict[str, Any] = {
        "before": [first.describe() for first, _ in pairs],
        "after": [second.describe() for _, second in pairs],
        **({"trucks": _truck_figures(trucks, np.concatenate(counts))} if trucks is not None else {}),
        **({"landcover": _landcover_figures(landcover)} if landcover is not None else {}),
        "notes": notes,
    }
    _write(out, record, trucks, landcover, pairs)
    return record


def differences_table(record: Mapping[str, Any]) -> Table:
    """For the terminal: figures before and after, and what changed."""
    table = Table("", "before", "after", "change", "95 %", "", box=None, header_style="bold", pad_edge=False)
    for task, names in (("trucks", ("precision", "recall", "f1")), ("landcover", ("accuracy", "mean_iou"))):
        for name in names if task in record else ():
            each = record[task]["differences"][name]
            low, high = each["change_interval_95"]
            table.add_row(
                f"{task} {_PLAIN_NAMES.get(name, name)}",
                *("n/a" if each[side] is None else f"{each[side]:.3f}" for side in ("before", "after")),
                "n/a" if each["change"] is None else f"{each['change']:+.3f}",
                "" if low is None else f"{low:+.3f} to {high:+.3f}",
                verdict(each),
            )
    for what, changes in record.get("trucks", {}).get("cases", {}).items():
        reported = ", ".join(f"{count} {change}" for change, count in changes.items() if count)
        table.caption = f"{table.caption + chr(10) if table.caption else ''}{what}s: {reported or 'none'}"
    for note in record["notes"]:
        table.caption = f"{table.caption + chr(10) if table.caption else ''}{note}"
    return table


def _evaluated(folder: Path) -> Evaluated:
    def read(path: Path) -> dict[str, Any]:
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise LabelsError(f"{path} can't be read as JSON; evaluate anew.") from error

    run = folder.parent / "run.json"
    return Evaluated(folder, read(folder / _METRICS), read(run) if run.is_file() else {})


def _pairs(
    before: Mapping[str, Evaluated], after: Mapping[str, Evaluated]
) -> list[tuple[Evaluated, Evaluated]]:
    if len(before) == len(after) == 1:
        (first,), (second,) = before.values(), after.values()
        if first.scene and second.scene and first.scene != second.scene:
            raise LabelsError(
                f"Two runs of the same scene compare, but these are of {first.scene} and {second.scene}."
            )
        return [(first, second)]
    alone = sorted(set(before) ^ set(after))
    if alone:
        raise LabelsError(
            f"Both sides must hold evaluations of the same scenes; only one has {', '.join(alone[:3])}"
            f"{' and others' if len(alone) > 3 else ''}."
        )
    return [(before[name], after[name]) for name in sorted(before)]


def _same_labels(first: Evaluated, second: Evaluated) -> bool:
    """Whether the records say so: the same file, of as many boxes."""
    said = [each.metrics.get("trucks", {}) for each in (first, second)]
    files = [Path(side.get("labels") or "").name for side in said]
    boxes = [side.get("reference", {}).get("boxes") for side in said]
    return bool(files[0]) and files[0] == files[1] and boxes[0] is not None and boxes[0] == boxes[1]


def _maps(first: Evaluated, second: Evaluated, notes: list[str]) -> LandcoverComparison | None:
    if not all("landcover" in each.metrics for each in (first, second)):
        return None
    labels = [Path(each.metrics["landcover"].get("labels") or "") for each in (first, second)]
    if first.landcover is None or second.landcover is None:
        notes.append(f"Land cover is not compared: landcover.tif is missing beside {first.folder}.")
        return None
    if labels[0].name != labels[1].name:
        notes.append(f"Land cover is not compared: labels are {labels[0].name} and {labels[1].name}.")
        return None
    there = next((path for path in reversed(labels) if path.is_file()), None)
    if there is None:
        notes.append(f"Land cover is not compared: the labels are no longer at {labels[1]}.")
        return None
    truth = read_landcover_labels(there, prediction_grid(first.landcover))
    return compare_landcover(first.landcover, second.landcover, truth, DYNAMIC_WORLD)


def _joined(cases: Sequence[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """The cases of all scenes, in WGS 84 where the scenes' CRSs differ."""
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


def _truck_figures(compared: gpd.GeoDataFrame, counts: NDArray[np.int64]) -> dict[str, Any]:
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


def _landcover_figures(landcover: LandcoverComparison) -> dict[str, Any]:
    return {
        "hectares": landcover.hectares,
        "differences": {name: each.as_json() for name, each in landcover.differences().items()},
        "blocks": len(landcover.matrices),
    }


def _write(
    out: Path,
    record: dict[str, Any],
    trucks: gpd.GeoDataFrame | None,
    landcover: LandcoverComparison | None,
    pairs: Sequence[tuple[Evaluated, Evaluated]],
) -> None:
    layers = {}
    if trucks is not None:
        layers["trucks"] = trucks
    if landcover is not None:
        layers["landcover"] = landcover.areas
    make_folder(out)
    style = category_style("change", [(kind.key, kind.name, kind.colour) for kind in KINDS.values()])
    write_gpkg(out / LAYERS, layers, dict.fromkeys(layers, style))
    with replacing(out / FIGURES) as part:
        part.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    _write_page(out / PAGE, record, trucks, landcover, pairs)


def _write_page(
    path: Path,
    record: Mapping[str, Any],
    trucks: gpd.GeoDataFrame | None,
    landcover: LandcoverComparison | None,
    pairs: Sequence[tuple[Evaluated, Evaluated]],
) -> None:
    scenes = [scene for scene in (_scene(after) for _, after in pairs) if scene is not None]
    images = []
    for scene in scenes:
        picture = quicklook(scene)
        if picture is not None:
            images.append(ImageLayer(scene.id if len(scenes) > 1 else "true colour", map_image(picture)))
    layers: list[FeatureLayer] = []
    if landcover is not None and len(landcover.areas):
        layers.append(
            feature_layer(
                "land cover that changed or is wrong",
                landcover.areas,
                lambda row: KINDS[row.change].colour,
                shown=trucks is None,
                legend=[(KINDS[change].name, KINDS[change].colour) for change in LANDCOVER_CHANGES[:3]],
            )
        )
    columns = None
    if trucks is not None and len(trucks):
        columns = _columns(trucks, pairs)
    write_page(
        path,
        "differences.html.j2",
        title="Comparison of two runs",
        scenes=[first.scene for first, _ in pairs if first.scene],
        simulated=any(first.run.get("simulated") for first, _ in pairs),
        record=record,
        sides=_sides(record),
        truck_cards=_cards(record.get("trucks")),
        landcover_cards=_cards(record.get("landcover"), ("accuracy", "mean_iou")),
        changes=CHANGES,
        landcover_changes=LANDCOVER_CHANGES,
        kinds=KINDS,
        names=_PLAIN_NAMES,
        verdict=verdict,
        chance=chance,
        galleries=[],
        cases=columns,
        map=map_layers(images, layers, copernicus_notice(scenes[0] if scenes else None)),
        has_map=bool(images or layers or columns),
        attribution=copernicus_notice(scenes[0] if scenes else None),
    )


def _columns(trucks: gpd.GeoDataFrame, pairs: Sequence[tuple[Evaluated, Evaluated]]) -> dict[str, Any]:
    """The cases for the page's script: kinds are changes, and causes those of the run that was wrong last."""
    cause = trucks["cause_after"].where(trucks["cause_after"].notna(), trucks["cause_before"])
    shown = trucks.assign(
        outcome=trucks["change"],
        cause=cause,
        score=trucks["score_after"].where(trucks["score_after"].notna(), trucks["score_before"]),
    ).drop(columns=["change"])
    shown = shown.dropna(axis="columns", how="all")
    return case_columns(shown, _chips(trucks, pairs), KINDS)


def _chips(trucks: gpd.GeoDataFrame, pairs: Sequence[tuple[Evaluated, Evaluated]]) -> dict[str, bytes]:
    """Pictures of what is not right in both, as the second run's evaluation left them, else the first's."""
    folders = {first.scene: (second.folder / CHIPS, first.folder / CHIPS) for first, second in pairs}
    chips: dict[str, bytes] = {}
    wrong = trucks[trucks["change"] != "both right"]
    for case in wrong.itertuples():
        if len(chips) == _MOST_CHIPS:
            break
        after, before = folders[case.scene]
        for folder, name in ((after, case.case_after), (before, case.case_before)):
            path = folder / f"{name}.webp"
            if name and path.is_file():
                chips[str(case.id)] = path.read_bytes()
                break
    return chips


def _scene(evaluated: Evaluated) -> Scene | None:
    """The scene, where it is on this machine: a page does without its picture, too."""
    source = evaluated.run.get("source")
    if not source or not Path(source).exists():
        return None
    try:
        return open_scene(source)
    except TruckscapeError:
        return None


def _sides(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What tells the runs apart: a name, and what it is before and after."""
    first, second = record["before"][0], record["after"][0]
    rows = [("folder", first["folder"], second["folder"])]
    for task in sorted({*first["models"], *second["models"]}):
        name = f"model of {task}"
        rows.append((name, first["models"].get(task, "none"), second["models"].get(task, "none")))
    if first["score_threshold"] is not None or second["score_threshold"] is not None:
        rows.append(("score from", f"{first['score_threshold']}", f"{second['score_threshold']}"))
    return rows


def _cards(figures: Mapping[str, Any] | None, names: Sequence[str] | None = None) -> list[dict[str, str]]:
    if figures is None:
        return []
    differences = figures["differences"]
    chosen = names or ("f1", "precision", "recall")
    cards = []
    for name in chosen:
        each = differences[name]
        if each["change"] is None:
            continue
        low, high = each["change_interval_95"]
        cards.append(
            {
                "value": f"{each['change']:+.3f}",
                "label": f"{_PLAIN_NAMES.get(name, name)}: from {each['before']:.3f} to {each['after']:.3f}",
                "interval": "" if low is None else f"{low:+.3f} to {high:+.3f}, {verdict(each)}",
            }
        )
    return cards


def chance(p_value: float | None) -> str:
    """A p-value as people write it."""
    if p_value is None:
        return "n/a"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def verdict(difference: Mapping[str, Any]) -> str:
    """In a word, whether a difference is more than chance."""
    if difference["change_interval_95"][0] is None:
        return "too few blocks to say"
    if not difference["significant"]:
        return "may be chance"
    return "better" if difference["change"] > 0 else "worse"
