"""Boxes that a tool has rotated."""

from __future__ import annotations

import shapely
from shapely.affinity import rotate

from pipeline.labelling.images import Bounds


def envelope(bounds: Bounds, degrees: float, origin: tuple[float, float]) -> Bounds:
    """Return the bounds of a box that is turned clockwise, as seen on the image, around a point."""
    if not degrees:
        return bounds
    # y points down in images, so that positive angles, anticlockwise on a map, are clockwise.
    left, top, right, bottom = rotate(shapely.box(*bounds), degrees, origin=origin).bounds
    return float(left), float(top), float(right), float(bottom)
