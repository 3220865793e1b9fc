"""Which cases stand in a gallery: spread over their scores, in few places, so that few pixels are decoded."""

from __future__ import annotations

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.trucks.boxes import centres
from pipeline.report.cases import Kind
from pipeline.scenes.raster.blocks import raster_of
from pipeline.scenes.scene import Scene

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


def spread(
    scores: NDArray[np.float64], blocks: NDArray[np.intp], count: int, places: int
) -> NDArray[np.intp]:
    """At most `count` of N cases, spread over their `scores` (N,), out of at most `places` of `blocks` (N,).

    Blocks are taken one by one, each time the one that adds most levels of score, then most cases, then the
    first. Returns their indices, rising. Cases without a score (NaN) are of the lowest.
    """
    if not len(scores):
        return np.zeros(0, dtype=np.intp)
    rank = np.argsort(np.argsort(np.nan_to_num(scores, nan=-np.inf), kind="stable"), kind="stable")
    level = rank * _LEVELS // len(scores)
    names, block = np.unique(blocks, return_inverse=True)
    shows = np.zeros((len(names), _LEVELS), dtype=bool)
    shows[block, level] = True
    number = np.bincount(block, minlength=len(names))
    chosen = np.zeros(len(names), dtype=bool)
    covered = np.zeros(_LEVELS, dtype=bool)
    for _ in range(min(places, len(names))):
        gain = (shows & ~covered).sum(axis=1) * (len(scores) + 1) + number
        best = int(np.argmax(np.where(chosen, -1, gain)))
        chosen[best] = True
        covered |= shows[best]
    there = np.flatnonzero(chosen[block])
    there = there[np.argsort(rank[there], kind="stable")]
    picked = np.unique(np.linspace(0, len(there) - 1, min(count, len(there))).round().astype(np.intp))
    return np.sort(there[picked])


def blocks_of_cases(scene: Scene, cases: gpd.GeoDataFrame, chip_px: int) -> NDArray[np.intp]:
    """(N,): the block of the scene's rasters that holds each case's chip; -1 where it takes several.

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
