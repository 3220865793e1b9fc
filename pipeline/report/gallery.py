"""Chips of trucks with their boxes drawn, for the eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import shapely
from shapely.geometry import Polygon

from pipeline.report.pictures import ChipReader, data_uri


@dataclass(frozen=True)
class Chip:
    """One picture of the gallery; the page enlarges its pixels."""

    uri: str
    width: int
    height: int
    """In pixels of the scene."""
    boxes: tuple[tuple[str, str], ...]
    """Each `predicted` or `reference`, and its outline as the points of an SVG polygon, in pixels."""
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """Chips of one kind, and how many there are in all."""

    name: str
    outcome: str
    note: str
    chips: tuple[Chip, ...]
    total: int


def chip(
    read: ChipReader,
    boxes: Sequence[tuple[str, Polygon]],
    title: str,
    lines: Sequence[str],
) -> Chip | None:
    """The chip around the first of the boxes (polygons in the scene's CRS); None where it has no pixels."""
    west, south, east, north = boxes[0][1].bounds
    picture = read((west + east) / 2, (south + north) / 2)
    if picture is None:
        return None
    to_pixels = ~picture.grid.affine
    outlines = []
    for kind, box in boxes:
        cols, rows = to_pixels * tuple(shapely.get_coordinates(box.convex_hull).T)
        points = " ".join(f"{col:.2f},{row:.2f}" for col, row in zip(cols, rows, strict=True))
        outlines.append((kind, points))
    height, width = picture.rgba.shape[:2]
    return Chip(data_uri(picture.rgba), width, height, tuple(outlines), title, tuple(lines))
