"""The galleries of a page: cases spread over their scores, in few places, so that few pixels are decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.trucks.boxes import centres, column
from pipeline.report.cases import Kind, data_uri, kind_of, known_facts
from pipeline.report.chips import CHIP_PX, case_chips
from pipeline.report.pictures import TRUE_COLOUR
from pipeline.scenes.raster.blocks import raster_of
from pipeline.scenes.scene import Scene

CHIPS_OF_A_KIND = 24
NOTES = {
    "truck": "from the surest to the most doubtful",
    "FP": "detections that match no label, the surest first",
    "FN": "labels that no detection matches",
    "TP": "detections that match a label, the least sure first",
    "TN": "places that look like a truck and were left out",
}
"""The kinds that have a gallery, in the page's order."""
MAX_CHIPS = 2500
"""Inside a page, 2 kB each."""
_LEVELS = 12
"""Parts of equal number into which cases are cut by score; as many of them as possible are shown."""


@dataclass(frozen=True)
class Example:
    """One picture of the gallery."""

    row: int
    """Of the page's cases."""
    uri: str
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """Examples of one kind, and how many cases of it there are in all."""

    kind: Kind
    note: str
    examples: tuple[Example, ...]
    total: int


def spread(scores: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Choose at most `count` of N cases, evenly by the rank of their `scores` (N,); return rising indices.

    Cases without a score (NaN) are the lowest.
    """
    order = _by_score(scores)
    picked = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.intp)
    return np.sort(order[np.unique(picked)])


def in_best_block(scores: NDArray[np.float64], blocks: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the indices of the cases in one of `blocks` (N,), that with the most levels of `scores` (N,).

    Of equally good blocks it is that with the most cases, then the first.
    """
    rank = np.argsort(_by_score(scores), kind="stable")
    names, block = np.unique(blocks, return_inverse=True)
    shows = np.zeros((len(names), _LEVELS), dtype=bool)
    shows[block, rank * _LEVELS // len(scores)] = True
    worth = shows.sum(axis=1) * (len(scores) + 1) + np.bincount(block)
    return np.flatnonzero(block == np.argmax(worth))


def _by_score(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.argsort(np.nan_to_num(scores, nan=-np.inf), kind="stable")


def blocks_of_cases(scene: Scene, cases: gpd.GeoDataFrame, chip_px: int) -> NDArray[np.intp]:
    """Return (N,): the raster block that holds each case's chip; -1 if the chip takes several.

    Cases outside of the scene are of block -2.
    """
    first = next(iter(scene.bands.values()))
    height, width = raster_of(first).block_shape
    crs = scene.grid.crs.to_wkt() if scene.grid.crs else None
    located = cases if crs is None or cases.crs is None else cases.to_crs(crs)
    cols, rows = ~scene.grid.affine * tuple(centres(located).T)
    across = -(-scene.shape[1] // width)

    def block(dy: float, dx: float) -> NDArray[np.intp]:
        row, col = (np.clip(rows + dy, 0, scene.shape[0] - 1), np.clip(cols + dx, 0, scene.shape[1] - 1))
        return (row // height).astype(np.intp) * across + (col // width).astype(np.intp)

    half = chip_px / 2
    corners = [block(dy, dx) for dy in (-half, half) for dx in (-half, half)]
    whole = np.logical_and.reduce([corner == corners[0] for corner in corners])
    inside = (rows >= 0) & (cols >= 0) & (rows < scene.shape[0]) & (cols < scene.shape[1])
    return np.where(inside, np.where(whole, corners[0], -1), -2)


def choose_examples(scene: Scene, cases: gpd.GeoDataFrame) -> tuple[dict[str, list[int]], dict[str, bytes]]:
    """Choose rows of each kind out of one block of the scene, and draw their chips, by id.

    Decoding blocks costs more than all else on a page.

    Raises
    ------
    CorruptImageError
        If pixels of the scene can't be decoded.
    """
    if any(band not in scene.bands for band in TRUE_COLOUR):
        return {}, {}
    blocks = blocks_of_cases(scene, cases, CHIP_PX)
    usable = np.flatnonzero(blocks >= 0)
    usable = usable if len(usable) else np.flatnonzero(blocks >= -1)
    score = column(cases, "score")
    chosen: dict[str, list[int]] = {}
    for key in NOTES:
        rows = usable[cases["outcome"].to_numpy()[usable] == key]
        if len(rows):
            rows = rows[in_best_block(score[rows], blocks[rows])]
            chosen[key] = rows[spread(score[rows], CHIPS_OF_A_KIND)].tolist()
    shown = cases.iloc[sorted(row for rows in chosen.values() for row in rows)]
    return chosen, dict(case_chips(scene, shown))


def choose_given(
    cases: gpd.GeoDataFrame, chips: Mapping[str, bytes]
) -> tuple[dict[str, list[int]], dict[str, bytes]]:
    """Choose rows of each kind, and `MAX_CHIPS` chips: those of the rows, then in the cases' order."""
    ids = cases["id"].astype(str).to_numpy()
    there = np.flatnonzero(np.isin(ids, list(chips)))
    outcome, score = cases["outcome"].to_numpy(), column(cases, "score")
    chosen = {}
    for key in NOTES:
        rows = there[outcome[there] == key]
        if len(rows):
            chosen[key] = rows[spread(score[rows], CHIPS_OF_A_KIND)].tolist()
    kept = list(dict.fromkeys([*(row for rows in chosen.values() for row in rows), *there.tolist()]))
    return chosen, {ids[row]: chips[ids[row]] for row in kept[:MAX_CHIPS]}


def galleries_of(
    cases: gpd.GeoDataFrame, chosen: Mapping[str, Sequence[int]], chips: Mapping[str, bytes]
) -> list[Gallery]:
    """Return a gallery for each kind of which rows were chosen and have a chip."""
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
            galleries.append(Gallery(kind_of(key), NOTES[key], tuple(examples), total))
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
