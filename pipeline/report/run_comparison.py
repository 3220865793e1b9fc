"""A comparison of two runs as a layer, as JSON, as a page, and as a table for the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
from pydantic import ValidationError
from rich.table import Table

from pipeline.config import SceneSettings
from pipeline.errors import TruckscapeError
from pipeline.evaluation.compare import EvaluatedScene, RunComparison
from pipeline.evaluation.landcover.compare import LANDCOVER_CHANGES
from pipeline.evaluation.trucks.compare import CHANGES
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.report.cases import Kind, case_columns, category_style
from pipeline.report.chips import CHIPS
from pipeline.report.map import FeatureLayer, ImageLayer, feature_layer, map_layers
from pipeline.report.page import copernicus_notice
from pipeline.report.pictures import map_image, quicklook
from pipeline.report.template import write_page
from pipeline.scenes.open import open_scene
from pipeline.scenes.scene import Scene
from pipeline.storage.atomic import make_folder, replacing

LAYERS, RECORD, PAGE = "comparison.gpkg", "comparison.json", "comparison.html"
KINDS = {
    kind.key: kind
    for kind in (
        Kind("fixed", "fixed", "#009e73", "circle"),
        Kind("broken", "broken", "#d55e00", "diamond"),
        Kind("still wrong", "still wrong", "#e69f00", "triangle"),
        Kind("both right", "both right", "#56b4e9", "square"),
        Kind("not observed", "not observed", "#9aa4b2", "cross"),
    )
}
"""Distinguished by colour (Okabe and Ito, 2008) and by shape."""
_MAX_CHIPS = 1500
_PLAIN_NAMES = {"f1": "F1", "mean_iou": "mean IoU"}


def write_run_comparison(out: Path, comparison: RunComparison) -> None:
    """Write `LAYERS`, `RECORD` and `PAGE` into `out`.

    Raises
    ------
    OutputError
        If `out` can't be written.
    """
    layers = {}
    if comparison.trucks is not None:
        layers["trucks"] = comparison.trucks
    if comparison.landcover is not None:
        layers["landcover"] = comparison.landcover.areas
    make_folder(out)
    style = category_style("change", [(kind.key, kind.name, kind.colour) for kind in KINDS.values()])
    write_gpkg(out / LAYERS, layers, dict.fromkeys(layers, style))
    with replacing(out / RECORD) as part:
        part.write_text(json.dumps(comparison.record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    _write_page(out / PAGE, comparison)


def run_comparison_table(record: Mapping[str, Any]) -> Table:
    """Return a table for the terminal: figures before and after, and the changes."""
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


def _write_page(path: Path, comparison: RunComparison) -> None:
    record, pairs, trucks = comparison.record, comparison.pairs, comparison.trucks
    landcover = comparison.landcover
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
        "run_comparison.html.j2",
        title="Comparison of two runs",
        scenes=[first.scene for first, _ in pairs if first.scene],
        simulated=any(first.run.get("simulated") for first, _ in pairs),
        record=record,
        sides=_sides(record),
        truck_key_metrics=_key_metrics(record.get("trucks")),
        landcover_key_metrics=_key_metrics(record.get("landcover"), ("accuracy", "mean_iou")),
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


def _columns(
    trucks: gpd.GeoDataFrame, pairs: Sequence[tuple[EvaluatedScene, EvaluatedScene]]
) -> dict[str, Any]:
    """Return the cases for the page's script: kinds are changes, causes those of the last wrong run."""
    cause = trucks["cause_after"].where(trucks["cause_after"].notna(), trucks["cause_before"])
    shown = trucks.assign(
        outcome=trucks["change"],
        cause=cause,
        score=trucks["score_after"].where(trucks["score_after"].notna(), trucks["score_before"]),
    ).drop(columns=["change"])
    shown = shown.dropna(axis="columns", how="all")
    return case_columns(shown, _chips(trucks, pairs), KINDS)


def _chips(
    trucks: gpd.GeoDataFrame, pairs: Sequence[tuple[EvaluatedScene, EvaluatedScene]]
) -> dict[str, bytes]:
    """Pictures of what is not right in both, as the second run's evaluation left them, else the first's."""
    folders = {first.scene: (second.folder / CHIPS, first.folder / CHIPS) for first, second in pairs}
    chips: dict[str, bytes] = {}
    wrong = trucks[trucks["change"] != "both right"]
    for case in wrong.itertuples():
        if len(chips) == _MAX_CHIPS:
            break
        after, before = folders[case.scene]
        for folder, name in ((after, case.case_after), (before, case.case_before)):
            path = folder / f"{name}.webp"
            if name and path.is_file():
                chips[str(case.id)] = path.read_bytes()
                break
    return chips


def _scene(evaluated: EvaluatedScene) -> Scene | None:
    """Open the scene if it is on this machine; the page also works without its picture."""
    source = evaluated.run.get("source")
    if not source or not Path(source).exists():
        return None
    try:
        values = SceneSettings.model_validate(evaluated.run.get("parameters", {}).get("scene", {}))
        return open_scene(source, settings=values)
    except (TruckscapeError, ValidationError):
        return None


def _sides(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the differences of the runs: a name, and its values before and after."""
    first, second = record["before"][0], record["after"][0]
    rows = [("folder", first["folder"], second["folder"])]
    for task in sorted({*first["models"], *second["models"]}):
        name = f"model of {task}"
        rows.append((name, first["models"].get(task, "none"), second["models"].get(task, "none")))
    if first["score_threshold"] is not None or second["score_threshold"] is not None:
        rows.append(("score from", f"{first['score_threshold']}", f"{second['score_threshold']}"))
    return rows


def _key_metrics(
    metrics: Mapping[str, Any] | None, names: Sequence[str] | None = None
) -> list[dict[str, str]]:
    if metrics is None:
        return []
    differences = metrics["differences"]
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
    """Format a p-value for people."""
    if p_value is None:
        return "n/a"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def verdict(difference: Mapping[str, Any]) -> str:
    """Return in a word whether a difference is significant."""
    if difference["change_interval_95"][0] is None:
        return "too few blocks to say"
    if not difference["significant"]:
        return "may be chance"
    return "better" if difference["change"] > 0 else "worse"
