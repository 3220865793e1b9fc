"""Texts and tables of a page: cards and rows, from trucks and evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.landcover.accuracy import LandcoverEvaluation
from pipeline.evaluation.trucks.boxes import column
from pipeline.evaluation.trucks.scores import TruckEvaluation
from pipeline.models.legend import LegendClass
from pipeline.scenes.raster.datasets import open_raster
from pipeline.scenes.scene import Scene

_BROKEN_DOWN_BY = {
    "road_class": "class of road",
    "landcover": "land cover below",
    "cloud_distance_m": "distance to cloud, m",
    "trucks_per_block": "labelled trucks in a block",
}


VEHICLES = {
    "trucks": (
        "heavy vehicles",
        "Heavy vehicles are 8 m or longer (lorries, trailers, buses, coaches); "
        "a detection of anything else is false.",
    ),
    "moving_vehicles": (
        "moving vehicles",
        "Moving vehicles are of any kind: cars and vans are to be found, too.",
    ),
}
"""Title and meaning of the two parts of `metrics.json` that compare trucks with labels."""


@dataclass(frozen=True)
class KeyMetric:
    """A figure that stands large."""

    value: str
    label: str
    interval: str = ""


@dataclass(frozen=True)
class Matrix:
    """One way to see a confusion matrix: texts, and between 0 and 1 how strongly each cell is coloured."""

    title: str
    note: str
    cells: tuple[tuple[str, ...], ...]
    strength: tuple[tuple[float, ...], ...]


def found_key_metrics(
    trucks: gpd.GeoDataFrame,
    seen_fraction: float | None,
    scene: Scene | None,
    vehicles: gpd.GeoDataFrame | None = None,
) -> list[KeyMetric]:
    """Return the key metrics of a run without labels; `vehicles` are of any kind, trucks among them."""
    speed = column(trucks, "speed_kmh")
    known = speed[np.isfinite(speed)]
    shown = [KeyMetric(f"{len(trucks):,}", "truck" if len(trucks) == 1 else "trucks")]
    if vehicles is not None:
        shown.append(KeyMetric(f"{len(vehicles):,}", "moving vehicles of any kind, trucks among them"))
    if seen_fraction is not None:
        area = seen_km2(seen_fraction, scene)
        shown.append(
            KeyMetric(
                f"{seen_fraction:.1%}".replace("%", " %"),
                "of the scene searched" + (f", {area:,.1f} km²" if area is not None else ""),
            )
        )
    headings = int(np.isfinite(column(trucks, "heading_deg")).sum())
    shown.append(KeyMetric(f"{headings:,}", "with a known heading"))
    if len(known):
        shown.append(KeyMetric(f"{np.median(known):.0f} km/h", f"median speed of {len(known):,}"))
    near = int((column(trucks, "near_cloud") == 1).sum())
    if near:
        shown.append(KeyMetric(f"{near:,}", "near a cloud: look-alikes"))
    return shown


def truck_key_metrics(trucks: TruckEvaluation, metrics: Mapping[str, Any]) -> list[KeyMetric]:
    """Return the key metrics of an evaluation, with intervals if known; empty if nothing was measured."""
    if metrics["not_measured"]:
        return []
    score, heading, speed = trucks.primary, trucks.heading, trucks.speed
    headline, count, alarms = metrics["headline"], metrics["count"], metrics["false_alarms"]
    wrong, false_negatives = score.false_positives, score.false_negatives

    def key_metric(text: str, label: str, name: str, form: str = "{:.2f}", times: float = 1) -> KeyMetric:
        return KeyMetric(text, label, _interval(headline.get(name, {}).get("interval_95"), form, times))

    shown = [
        key_metric(_ratio(score.f1), f"F1, centres within {score.radius_m:g} m", "f1"),
        key_metric(_ratio(score.precision), f"precision: {_counted(wrong, 'false alarm')}", "precision"),
        key_metric(_ratio(score.recall), f"recall: {false_negatives:,} missed", "recall"),
    ]
    if count["relative_bias"] is not None:
        label = f"bias of the count: {count['detected']:,} for {count['labelled']:,}"
        shown.append(
            key_metric(f"{100 * count['relative_bias']:+.0f} %", label, "count_bias", "{:+.0f} %", times=100)
        )
    for key, label in (("per_100_km_road", "100 km of road"), ("per_100_km2", "100 km² searched")):
        if alarms[key] is not None:
            text = f"false alarms on {label}"
            shown.append(key_metric(f"{alarms[key]:.1f}", text, f"false_alarms_{key}", "{:.1f}"))
            break
    if heading.known:
        flips = f"median heading error; {heading.flips} of {heading.known:,} flipped"
        shown.append(KeyMetric(f"{heading.median_deg:.1f}°", flips))
    elif heading.axis_known:
        shown.append(KeyMetric(f"{heading.axis_median_deg:.1f}°", "median error of the axis (no headings)"))
    if speed.known:
        label = f"speed, root mean square error of {speed.known:,}"
        shown.append(key_metric(f"{speed.rmse_kmh:.1f} km/h", label, "speed_rmse_kmh", "{:.1f}"))
    return shown


def vehicle_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for heavy and one for moving vehicles, of all parts of `metrics.json`.

    `title`, `meaning`, and of centres within 20 m the numbers `tp`, `fp`, `fn`, and `precision`, `recall`,
    `f1` and `ap`, None where undefined.
    Files of older versions have heavy vehicles only.
    """
    rows = []
    for part, (title, meaning) in VEHICLES.items():
        if part in metrics:
            found = metrics[part]["centres"]["20m"]
            centres = {name: found[name] for name in ("tp", "fp", "fn", "precision", "recall", "f1")}
            ap = metrics[part]["average_precision"]["centre_20m"]
            rows.append({"title": title, "meaning": meaning, **centres, "ap": ap})
    return rows


def landcover_key_metrics(landcover: LandcoverEvaluation, metrics: Mapping[str, Any]) -> list[KeyMetric]:
    """Return the key metrics of an evaluation, with intervals if known; empty if nothing was compared."""
    if not landcover.pixels:
        return []
    intervals = metrics.get("interval_95", {})
    classes = _counted(int(landcover.labelled.sum()), "labelled class", "labelled classes")
    shown = [
        KeyMetric(
            f"{100 * landcover.accuracy:.1f} %",
            "agreement",
            _interval(intervals.get("accuracy"), "{:.1f} %", 100),
        ),
        KeyMetric(_ratio(landcover.mean_iou), f"mean IoU of {classes}", _interval(intervals.get("mean_iou"))),
        KeyMetric(_ratio(landcover.mean_f1), "mean F1 of them", _interval(intervals.get("mean_f1"))),
    ]
    for name, label, form, times in (
        ("boundary_f1", "F1 of the boundaries", "{:.2f}", 1),
        ("quantity_disagreement", "disagree in quantity", "{:.1f} %", 100),
        ("allocation_disagreement", "disagree in place", "{:.1f} %", 100),
    ):
        if metrics.get(name) is not None:
            text = form.format(times * metrics[name])
            shown.append(KeyMetric(text, label, _interval(intervals.get(name), form, times)))
    return shown


def breakdown(metrics: Mapping[str, Any]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Return breakdowns of scores with more than one group."""
    return [
        (_BROKEN_DOWN_BY.get(name, name.replace("_", " ")), groups)
        for name, groups in (metrics.get("breakdown") or {}).items()
        if groups and len(groups) > 1
    ]


def matrix_legend(landcover: LandcoverEvaluation) -> list[LegendClass]:
    """Return the classes of a confusion matrix: those of the labels or the map."""
    return [landcover.legend[index] for index in _present(landcover)]


def matrices(landcover: LandcoverEvaluation) -> list[Matrix]:
    """Return the confusion matrix as shares of its rows and columns, and as areas."""
    present = _present(landcover)
    counts = landcover.matrix[np.ix_(present, present)]
    hectares = landcover.hectares[np.ix_(present, present)]
    by_row = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    by_column = counts / np.maximum(counts.sum(axis=0, keepdims=True), 1)
    return [
        Matrix(
            "Share of each labelled class", "A row adds up to 100 %: where the class went.", *_shares(by_row)
        ),
        Matrix(
            "Share of each mapped class",
            "A column adds up to 100 %: what the class is made of.",
            *_shares(by_column),
        ),
        Matrix(
            "Hectares",
            f"Pixels times {landcover.pixel_area_m2:g} m².",
            tuple(tuple(f"{value:,.1f}" if value else "·" for value in row) for row in hectares),
            _shares(hectares / max(float(hectares.max(initial=0)), 1e-9))[1],
        ),
    ]


def class_rows(landcover: LandcoverEvaluation, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each class that the labels or the map have."""
    classes = metrics["classes"]
    return [
        {
            "name": landcover.legend[index].name,
            "colour": landcover.legend[index].colour,
            "labelled_ha": landcover.hectares[index].sum(),
            "mapped_ha": landcover.hectares[:, index].sum(),
            "users_accuracy": landcover.users_accuracy[index],
            "producers_accuracy": landcover.producers_accuracy[index],
            "iou": landcover.iou[index],
            "f1": landcover.f1[index],
            "boundary_f1": classes[landcover.legend[index].name].get("boundary_f1"),
            "interval": _interval(classes[landcover.legend[index].name].get("interval_95", {}).get("f1")),
        }
        for index in _present(landcover)
    ]


def causes(metrics: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Return outcome, likely cause and number of the mistakes, the most frequent first."""
    counts = [(kind, *item) for kind in ("FN", "FP") for item in metrics["causes"][kind].items()]
    return sorted(counts, key=lambda row: -row[2])


def not_seen_areas(not_seen: gpd.GeoDataFrame | None) -> list[tuple[str, float]]:
    """Reasons and square kilometres, the largest first."""
    if not_seen is None or not len(not_seen):
        return []
    areas = not_seen.groupby("reason")["area_m2"].sum().sort_values(ascending=False, kind="stable")
    return [(str(reason).replace("_", " "), float(area) / 1e6) for reason, area in areas.items()]


def class_areas(raster: Path, legend: Sequence[LegendClass]) -> list[tuple[LegendClass, float, float]]:
    """Return each class with its area in hectares and its share (0-1) of the area with a class."""
    counts = np.zeros(256, dtype=np.int64)
    with open_raster(str(raster), "The land cover") as source:
        hectares = abs(source.transform.determinant) / 10_000
        for _, window in source.block_windows(1):
            counts += np.bincount(source.read(1, window=window).ravel(), minlength=256)
    total = max(1, sum(int(counts[item.value]) for item in legend))
    rows = [
        (item, float(counts[item.value] * hectares), float(counts[item.value] / total)) for item in legend
    ]
    return [row for row in rows if row[1] > 0]


def seen_km2(seen_fraction: float, scene: Scene | None) -> float | None:
    """Return the search area; None without a scene."""
    if scene is None:
        return None
    rows, cols = scene.shape
    return seen_fraction * rows * cols * abs(scene.grid.affine.determinant) / 1e6


def _present(landcover: LandcoverEvaluation) -> NDArray[np.intp]:
    return np.flatnonzero(landcover.matrix.sum(axis=0) + landcover.matrix.sum(axis=1))


def _shares(share: NDArray[np.float64]) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[float, ...], ...]]:
    """Texts of shares (K, K), a dot for less than half a percent, and the shares themselves."""
    texts = tuple(tuple(f"{100 * value:.0f} %" if value >= 0.005 else "·" for value in row) for row in share)
    return texts, tuple(tuple(row) for row in share.tolist())


def _interval(ends: Sequence[float | None] | None, form: str = "{:.2f}", times: float = 1) -> str:
    low, high = ends or (None, None)
    if low is None or high is None:
        return ""
    return f"{form.format(times * low).removesuffix(' %')} to {form.format(times * high)}"


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _ratio(value: float) -> str:
    return "n/a" if np.isnan(value) else f"{value:.2f}"
