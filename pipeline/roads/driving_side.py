"""The side of the road that traffic keeps to, from boxes around countries."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import Literal

_Box = tuple[float, float, float, float]


def driving_side(longitude: float, latitude: float) -> Literal["right", "left"] | None:
    """Return the side of the road at a place in degrees; None near borders where it changes.

    `driving_side.csv` has boxes of countries that drive on the left, and of their neighbours that drive on
    the right. They are the areas of use of the EPSG dataset (11.022, onshore), cut and joined by hand along
    such borders. A place in boxes of both kinds is near a border: None. Elsewhere traffic keeps to the right,
    except on some small islands that are not in the table.
    """

    def inside(side: str) -> bool:
        return any(w <= longitude <= e and s <= latitude <= n for w, s, e, n in _boxes()[side])

    if not inside("left"):
        return "right"
    return None if inside("right") else "left"


@cache
def _boxes() -> dict[str, list[_Box]]:
    """Return west, south, east and north of all boxes, by driving side."""
    boxes: dict[str, list[_Box]] = {"left": [], "right": []}
    with (files("pipeline.roads") / "driving_side.csv").open(encoding="utf-8") as table:
        for row in csv.DictReader(table):
            w, s, e, n = (float(row[edge]) for edge in ("west", "south", "east", "north"))
            boxes[row["side"]].append((w, s, e, n))
    return boxes
