"""Reflectance and classes of a window of a scene, on its 10 m grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from pipeline.errors import (
    MissingBandError,
)
from pipeline.scenes.raster.blocks import raster_of, read
from pipeline.scenes.raster.radiometry import has_number, to_reflectance
from pipeline.scenes.raster.resample import Axis, bilinear, same_grid
from pipeline.scenes.scene import (
    BAND_NAMES,
    BandSource,
    Pixels,
    Scene,
)


def read_pixels(scene: Scene, window: Window, bands: Sequence[str]) -> Pixels:
    """Read reflectance (C, H, W) of `bands` and validity (H, W) in `window` of the 10 m grid.

    Bands on the scene's grid are read by index. Others are resampled by georeference, bilinearly; source
    pixels without data have no weight, and a pixel is valid where the source pixel at its centre is. A pixel
    that has one of `scene.blanks` in all bands of the scene is not valid. A value depends on its place only,
    never on the window.

    Thread-safe; threads share decoded blocks. Memory: about 6 bytes a pixel and band, and the cached blocks
    (`raster.cache`).

    Raises
    ------
    ValueError
        If the window is not a whole-numbered rectangle inside the scene.
    MissingBandError
        If a band is not in the scene.
    CorruptImageError
        If a block can't be decoded, naming file, band and block.
    """
    rows, cols = _slices(scene, window)
    require_bands(scene, bands)
    height, width = rows.stop - rows.start, cols.stop - cols.start
    reflectance = np.empty((len(bands), height, width), np.float32)
    valid = np.ones((height, width), np.bool_)
    for i, band in enumerate(bands):
        reflectance[i], band_valid = _read_band(scene, scene.bands[band], rows, cols)
        valid &= band_valid
    for number in scene.blanks:
        valid &= ~_blank(scene, dict(zip(bands, reflectance, strict=True)), number, rows, cols)
    if not valid.all():
        np.copyto(reflectance, 0.0, where=~valid)
    return Pixels(reflectance, valid, window, scene.grid[rows, cols])


def read_classes(scene: Scene, source: BandSource, window: Window) -> NDArray[np.generic]:
    """Read the values (H, W) of a class raster in `window` of the 10 m grid, by nearest neighbour.

    Outside of the raster: its nodata value, or 0. Errors as `read_pixels`.
    """
    rows, cols = _slices(scene, window)
    raster = raster_of(source)
    y = Axis.along_rows(raster, scene.grid, rows)
    x = Axis.along_cols(raster, scene.grid, cols)
    outside = 0 if source.nodata is None else source.nodata
    values = np.full((len(y.position), len(x.position)), outside, raster.dtypes[source.index - 1])
    if y.inside.any() and x.inside.any():
        numbers, _ = read(source, y.source, x.source)
        nearest = numbers.take(x.nearest[x.inside], axis=1).take(y.nearest[y.inside], axis=0)
        if nearest.shape == values.shape:
            return nearest
        values[np.ix_(y.inside, x.inside)] = nearest
    return values


def read_points(
    source: BandSource, xs: NDArray[np.float64], ys: NDArray[np.float64], block: int = 512
) -> NDArray[np.generic]:
    """Read the values (N,) of a raster at the map points (xs, ys); 0 outside of it.

    Reads blocks of `block` x `block` pixels with points, one after the other. Raises CorruptImageError.
    """
    raster = raster_of(source)
    theirs = raster.transform
    cols = np.floor((xs - theirs.c) / theirs.a).astype(np.intp)
    rows = np.floor((ys - theirs.f) / theirs.e).astype(np.intp)
    values = np.zeros(len(xs), raster.dtypes[source.index - 1])
    inside = np.flatnonzero((rows >= 0) & (rows < raster.shape[0]) & (cols >= 0) & (cols < raster.shape[1]))
    across = raster.shape[1] // block + 1
    number = rows[inside] // block * across + cols[inside] // block
    order = np.argsort(number, kind="stable")
    begins = np.flatnonzero(np.diff(number[order])) + 1
    for here in np.split(inside[order], begins) if len(inside) else ():
        top, left = int(rows[here].min()), int(cols[here].min())
        bottom, right = int(rows[here].max()) + 1, int(cols[here].max()) + 1
        numbers, _ = read(source, slice(top, bottom), slice(left, right))
        values[here] = numbers[rows[here] - top, cols[here] - left]
    return values


def rectangles(
    scene: Scene, window: Window, bands: Iterable[str]
) -> Iterator[tuple[BandSource, slice, slice]]:
    """Yield the rows and columns of each raster that reading `bands` in `window` needs.

    SCL counts as a band, and masks come with their bands. Rasters that don't reach the window are left out.
    Errors as `read_pixels`.
    """
    rows, cols = _slices(scene, window)
    for band in bands:
        source = scene.scl if band == "SCL" else scene.bands.get(band)
        if source is None:
            require_bands(scene, [band])
            continue
        raster = raster_of(source)
        if same_grid(raster, scene.grid):
            yield from _with_masks(source, rows, cols)
            continue
        y = Axis.along_rows(raster, scene.grid, rows)
        x = Axis.along_cols(raster, scene.grid, cols)
        if y.inside.any() and x.inside.any():
            yield from _with_masks(source, y.source, x.source)


def _with_masks(source: BandSource, rows: slice, cols: slice) -> Iterator[tuple[BandSource, slice, slice]]:
    for each in (source, *source.masks):
        yield each, rows, cols


def require_bands(scene: Scene, bands: Iterable[str]) -> None:
    """Raise MissingBandError, with the missing and the present bands, unless the scene has all bands."""
    missing = [band for band in bands if band not in scene.bands]
    if missing:
        there = ", ".join(sorted(scene.bands, key=_band_order)) or "none"
        raise MissingBandError(f"Scene {scene.id} lacks {', '.join(missing)}; it has: {there}.")


def _band_order(band: str) -> int:
    return BAND_NAMES.index(band) if band in BAND_NAMES else len(BAND_NAMES)


def _slices(scene: Scene, window: Window) -> tuple[slice, slice]:
    numbers = (window.row_off, window.col_off, window.height, window.width)
    row, col, height, width = (int(number) for number in numbers)
    rows, cols = scene.shape
    whole = (row, col, height, width) == numbers
    inside = (
        row >= 0 and col >= 0 and height > 0 and width > 0 and row + height <= rows and col + width <= cols
    )
    if not (whole and inside):
        raise ValueError(
            f"A window is a rectangle of whole pixels inside the scene's {rows} x {cols}. Received: {window}"
        )
    return slice(row, row + height), slice(col, col + width)


def _read_band(
    scene: Scene, source: BandSource, rows: slice, cols: slice
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    raster = raster_of(source)
    if same_grid(raster, scene.grid):
        return _decode_reflectance(source, rows, cols)
    y = Axis.along_rows(raster, scene.grid, rows)
    x = Axis.along_cols(raster, scene.grid, cols)
    shape = (len(y.position), len(x.position))
    if not (y.inside.any() and x.inside.any()):
        return np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    values, has_data = _decode_reflectance(source, y.source, x.source)
    inside = y.inside[:, None] & x.inside
    blend = bilinear(values, y, x)
    if has_data.all():
        blend[~inside] = 0.0
        return blend, inside
    # A pixel whose four neighbours have data must equal that of the branch above, bit for bit.
    share = bilinear(has_data.astype(np.float32), y, x)
    whole = has_data[y.low] & has_data[y.high]
    whole = whole[:, x.low] & whole[:, x.high]
    valid = inside & has_data[np.ix_(y.nearest, x.nearest)]
    np.divide(blend, share, out=blend, where=~whole & valid)
    blend[~valid] = 0.0
    return blend, valid


def _blank(
    scene: Scene, known: Mapping[str, NDArray[np.float32]], number: float, rows: slice, cols: slice
) -> NDArray[np.bool_]:
    """Return a mask (H, W) of the pixels with a digital number in all bands; `known` are read already."""
    shape = rows.stop - rows.start, cols.stop - cols.start
    if any(source.nodata == number for source in scene.bands.values()):
        return np.zeros(shape, np.bool_)  # such pixels are not valid in any case
    blank = np.ones(shape, np.bool_)
    for band in (*known, *(band for band in scene.bands if band not in known)):
        source = scene.bands[band]
        if not blank.any():
            break
        values = known[band] if band in known else _read_band(scene, source, rows, cols)[0]
        blank &= has_number(values, number, source)
    return blank


def _decode_reflectance(
    source: BandSource, rows: slice, cols: slice
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    numbers, mask = read(source, rows, cols)
    reflectance, valid = to_reflectance(numbers, source)
    if mask is not None:
        valid &= mask
        reflectance[~valid] = 0.0
    return reflectance, valid
