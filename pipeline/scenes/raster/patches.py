"""Small squares of a scene around many places, with each block of its rasters decoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from pipeline.scenes.raster.blocks import raster_of
from pipeline.scenes.raster.read import read_classes, read_pixels, require_bands
from pipeline.scenes.scene import Scene


@dataclass(frozen=True)
class Patch:
    """A square around one place."""

    index: int
    """Index of the place among the requested ones."""
    col: int
    row: int
    """Of its upper left pixel, on the scene's grid; may be outside of the scene."""
    reflectance: NDArray[np.float32]
    """(C, S, S), reflectance 0-1; 0 where not valid."""
    valid: NDArray[np.bool_]
    """(S, S), False outside of the scene as well."""
    classes: NDArray[np.uint8] | None
    """(S, S), the scene classification (SCL), 0 outside of the scene; None without one."""


def patches(
    scene: Scene,
    centres: NDArray[np.float64],
    size_px: int,
    bands: Sequence[str],
    classes: bool = False,
) -> Iterator[Patch]:
    """Yield squares of `size_px` pixels around places (N, 2; x, y in pixels of the scene), in no fixed order.

    Reads the scene block by block and yields a patch after its last block. Nothing is decoded twice. Memory:
    one block of each band, and the patches that reach into a later block. With `classes`, patches have the
    scene classification, too.

    Raises
    ------
    MissingBandError
        If a band is not in the scene.
    CorruptImageError
        If a block can't be decoded.
    """
    require_bands(scene, bands)
    rows, cols = scene.shape
    high, wide = raster_of(scene.bands[bands[0]]).block_shape
    left, top = np.round(centres - size_px / 2).astype(np.intp).reshape(-1, 2).T
    right, bottom = left + size_px, top + size_px
    with_classes = classes and scene.scl is not None

    def begun(index: int) -> Patch:
        shape = (size_px, size_px)
        return Patch(
            index,
            int(left[index]),
            int(top[index]),
            np.zeros((len(bands), *shape), np.float32),
            np.zeros(shape, bool),
            np.zeros(shape, np.uint8) if with_classes else None,
        )

    on_scene = (left < cols) & (top < rows) & (right > 0) & (bottom > 0)
    pending: dict[int, Patch] = {}
    for y in range(0, rows, high):
        in_row = on_scene & (top < y + high) & (bottom > y)
        for x in range(0, cols, wide) if in_row.any() else ():
            here = np.flatnonzero(in_row & (left < x + wide) & (right > x))
            if not len(here):
                continue
            y0, y1 = max(y, int(top[here].min())), min(y + high, rows, int(bottom[here].max()))
            x0, x1 = max(x, int(left[here].min())), min(x + wide, cols, int(right[here].max()))
            window = Window.from_slices((y0, y1), (x0, x1))
            pixels = read_pixels(scene, window, bands)
            scl = read_classes(scene, scene.scl, window) if with_classes and scene.scl else None
            for index in here.tolist():
                patch = pending.pop(index, None) or begun(index)
                theirs, ours = _overlap(patch, size_px, (y0, y1), (x0, x1))
                patch.reflectance[:, *ours] = pixels.reflectance[:, *theirs]
                patch.valid[ours] = pixels.valid[theirs]
                if patch.classes is not None and scl is not None:
                    patch.classes[ours] = scl[theirs]
                if (right[index] <= x + wide or x + wide >= cols) and (
                    bottom[index] <= y + high or y + high >= rows
                ):
                    yield patch
                else:
                    pending[index] = patch
    for index in np.flatnonzero(~on_scene).tolist():
        yield begun(index)


def _overlap(
    patch: Patch, size_px: int, rows: tuple[int, int], cols: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the common pixels of a window and a patch: slices of the window, slices of the patch."""
    y0, y1 = max(rows[0], patch.row), min(rows[1], patch.row + size_px)
    x0, x1 = max(cols[0], patch.col), min(cols[1], patch.col + size_px)
    return (
        (slice(y0 - rows[0], y1 - rows[0]), slice(x0 - cols[0], x1 - cols[0])),
        (slice(y0 - patch.row, y1 - patch.row), slice(x0 - patch.col, x1 - patch.col)),
    )
