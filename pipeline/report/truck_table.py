"""The figures of an evaluation of trucks as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.report.sections import vehicle_rows

_HEADLINE = {
    "precision": ("precision", 100, " %"),
    "recall": ("recall", 100, " %"),
    "f1": ("F1", 100, " %"),
    "average_precision_centre_20m": ("average precision", 100, " %"),
    "count_bias": ("count, too many (+) or too few (-)", 100, " %"),
    "false_alarms_per_100_km2": ("false alarms per 100 km2 seen", 1, ""),
    "false_alarms_per_100_km_road": ("false alarms per 100 km of road", 1, ""),
    "light_vehicle_share": ("detections that are light vehicles", 100, " %"),
    "flip_rate": ("headings that are flipped", 100, " %"),
    "speed_rmse_kmh": ("speed, root mean square error", 1, " km/h"),
    "speed_bias_kmh": ("speed, bias", 1, " km/h"),
    "expected_calibration_error": ("expected calibration error", 100, " %"),
}
_REASON = {
    "average_precision_centre_20m": "average_precision",
    "false_alarms_per_100_km2": "false_alarms.per_100_km2",
    "false_alarms_per_100_km_road": "false_alarms.per_100_km_road",
    "f1": "recall",
    "count_bias": "recall",
    "flip_rate": "heading",
    "speed_rmse_kmh": "speed",
    "speed_bias_kmh": "speed",
    "expected_calibration_error": "calibration",
}
_BY = {
    "scene": "scene",
    "road_class": "road class",
    "landcover": "land cover",
    "cloud_distance_m": "metres to cloud",
    "trucks_per_block": "trucks in the block",
}


def truck_tables(metrics: dict[str, Any]) -> RenderableType:
    """Return tables of `metrics.json`: headline with intervals, heavy and moving vehicles, scores, groups.

    A figure that is not defined has its reason, never 0.
    """
    vehicles = vehicle_rows(metrics)
    metrics = metrics["trucks"]
    warnings = [Text(f"warning: {line}", style="yellow") for line in metrics.get("warnings", ())]
    if metrics["not_measured"]:
        return Group(*warnings)
    return Group(
        *warnings,
        *_spaced(_headline(metrics), _vehicles(vehicles), _limits(metrics), *_groups(metrics)),
        *(Text(row["meaning"]) for row in vehicles),
        *_best(metrics),
    )


def _headline(metrics: dict[str, Any]) -> Table:
    table = Table("centres within 20 m", "measured", "95 % interval", box=None, header_style="bold")
    reasons = metrics["reasons"]
    for name, (title, factor, unit) in _HEADLINE.items():
        entry = metrics["headline"][name]
        if entry["value"] is None:
            reason = reasons.get(_REASON.get(name, name), "not defined")
            table.add_row(title, Text("not measured", style="dim"), Text(reason, style="dim"))
            continue
        ends = entry["interval_95"]
        shown = "" if ends is None else f"{factor * ends[0]:.1f} to {factor * ends[1]:.1f}{unit}"
        table.add_row(title, f"{factor * entry['value']:.1f}{unit}", shown)
    return table


def _vehicles(rows: Sequence[dict[str, Any]]) -> Table:
    numbers, shares = ("tp", "fp", "fn"), ("precision", "recall", "f1", "ap")
    table = Table(
        "to be found", "right", "false", "missed", "P", "R", "F1", "AP", box=None, header_style="bold"
    )
    for row in rows:
        shown = (*(str(row[name]) for name in numbers), *(_share(row[name]) for name in shares))
        table.add_row(row["title"], *shown)
    return table


def _limits(metrics: dict[str, Any]) -> Table:
    table = Table(
        "matched by", "right", "false", "missed", "not seen", "ignored", box=None, header_style="bold"
    )
    for name in ("P", "R", "F1", "AP"):
        table.add_column(name, justify="right")
    centres = {f"centre {limit}": (f"centre_{limit}", entry) for limit, entry in metrics["centres"].items()}
    overlaps = {
        name.replace("iou_", "IoU ").replace("nwd_", "NWD "): (name, entry)
        for name, entry in metrics["overlaps"].items()
    }
    for title, (name, entry) in (centres | overlaps).items():
        counts = (str(entry[key]) for key in ("tp", "fp", "fn", "fn_not_seen", "ignored"))
        shares = (_share(entry[key]) for key in ("precision", "recall", "f1"))
        table.add_row(title, *counts, *shares, _share(metrics["average_precision"].get(name)))
    return table


def _groups(metrics: dict[str, Any]) -> Iterator[Table]:
    for by, groups in metrics["breakdown"].items():
        if len(groups) < 2 and by != "trucks_per_block":
            continue
        table = Table(_BY.get(by, by), "right", "false", "missed", box=None, header_style="bold")
        for name in ("P", "R", "F1"):
            table.add_column(name, justify="right")
        for group in groups:
            false_negatives = "?" if group["fn"] is None else str(group["fn"])
            shares = (_share(group[key]) for key in ("precision", "recall", "f1"))
            table.add_row(group["group"], str(group["tp"]), str(group["fp"]), false_negatives, *shares)
        yield table


def _best(metrics: dict[str, Any]) -> Iterator[Text]:
    best = (metrics["thresholds"] or {}).get("best")
    if best is not None:
        yield Text(
            f"Best F1 on these labels, {_share(best['f1'])}, with scores from {best['score_from']:.2f} on; "
            f"the lowest score reported is {metrics['thresholds']['lowest_score_reported']:.2f}."
        )


def _spaced(*tables: Table) -> Iterator[RenderableType]:
    for table in tables:
        for column in table.columns[1:]:
            column.justify = "right"
        yield table
        yield ""


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
