"""Pixels of scenes and of results as arrays of xarray, with their CRS and transform."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from pyproj.exceptions import ProjError
from rasterio.windows import Window

from pipeline.errors import ConfigError, GeoreferenceError, MissingExtraError
from pipeline.inference.predictions import NO_CLASS, PROBABILITY_STEPS
from pipeline.models.legend import LegendClass
from pipeline.redaction import shown
from pipeline.scenes.raster.read import read_pixels, require_bands
from pipeline.scenes.scene import Scene

Bounds = tuple[float, float, float, float]
_EDGE_PX = 1e-6
"""Bounds on an edge between pixels, but for rounding, touch one side only."""


def reflectance(
    scene: Scene,
    bands: Sequence[str] | None,
    bounds: Sequence[float] | None,
    crs: Any,
    chunks: int | Mapping[str, int] | str | None,
) -> xr.DataArray:
    """Return the array of `pipeline.api.scene.Scene.to_xarray`."""
    names = tuple(scene.bands) if bands is None else _names(bands)
    require_bands(scene, names)
    if bounds is None and crs is not None:
        raise ConfigError(
            "crs= is the CRS of bounds=, and there are none. Pixels stay on the scene's grid; for another "
            f"use .rio.reproject({shown(crs)})."
        )
    rows, columns = _window(scene, bounds, crs)
    grid = scene.grid[rows, columns]
    if chunks is None:
        values: Any = _read(scene, names, rows, columns)
    else:
        values = _lazy(scene, names, rows, columns, chunks)
    coords: dict[Any, Any] = {"band": list(names), **xr_coords(grid, always_yx=True)}
    if scene.acquired is not None:
        coords["time"] = np.datetime64(f"{scene.acquired:%Y-%m-%dT%H:%M:%S}", "ns")
    array = xr.DataArray(values, coords, ("band", "y", "x"), name="reflectance")
    array.attrs = {"scene": scene.id, "long_name": "reflectance", "units": "1"}
    array.encoding["grid_mapping"] = "spatial_ref"
    return array


def classes(raster: Path, grid: GeoBox, legend: Sequence[LegendClass]) -> xr.DataArray:
    """Return a raster of classes (y, x), uint8, with its legend as CF's flags; 255 has no class."""
    with rasterio.open(raster) as dataset:
        values = dataset.read(1)
    array = xr.DataArray(values, xr_coords(grid, always_yx=True), ("y", "x"), name="landcover")
    array.attrs = {
        "flag_values": [each.value for each in legend],
        "flag_meanings": " ".join(each.name.replace(" ", "_") for each in legend),
        "flag_colors": " ".join(each.colour for each in legend),
        "nodata": NO_CLASS,
    }
    array.encoding["grid_mapping"] = "spatial_ref"
    return array


def probabilities(raster: Path, grid: GeoBox, legend: Sequence[LegendClass]) -> xr.DataArray:
    """Return probabilities of classes (class, y, x), float32, 0-1 by steps of 0.005; NaN without a class."""
    with rasterio.open(raster) as dataset:
        stored = dataset.read()
    values = stored.astype(np.float32) / np.float32(PROBABILITY_STEPS)
    values[stored == NO_CLASS] = np.nan
    coords = {"class": [each.name for each in legend], **xr_coords(grid, always_yx=True)}
    array = xr.DataArray(values, coords, ("class", "y", "x"), name="probability")
    array.attrs = {"long_name": "probability of a land-cover class", "units": "1"}
    array.encoding["grid_mapping"] = "spatial_ref"
    return array


def _names(bands: Sequence[str]) -> tuple[str, ...]:
    names = (bands,) if isinstance(bands, str) else tuple(bands)
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"bands= names bands, each once. Received: {', '.join(map(str, names)) or 'none'}.")
    return names


def _window(scene: Scene, bounds: Sequence[float] | None, crs: Any) -> tuple[slice, slice]:
    """Return the rows and columns that bounds touch."""
    height, width = scene.shape
    if bounds is None:
        return slice(0, height), slice(0, width)
    given = _checked(bounds)
    left, bottom, right, top = given if crs is None else _transformed(given, crs, scene.grid.crs)
    inverse = ~scene.grid.affine
    (first_x, first_y), (last_x, last_y) = inverse * (left, top), inverse * (right, bottom)
    columns = max(0, math.floor(first_x + _EDGE_PX)), min(width, math.ceil(last_x - _EDGE_PX))
    rows = max(0, math.floor(first_y + _EDGE_PX)), min(height, math.ceil(last_y - _EDGE_PX))
    if columns[0] >= columns[1] or rows[0] >= rows[1]:
        there: Bounds = scene.grid.boundingbox.bbox
        there = there if crs is None else _transformed(there, scene.grid.crs, crs)
        raise GeoreferenceError(
            f"bounds= {_shown(bounds)} are outside of {scene.id}, which has {_shown(there)} in the same CRS. "
            "Expected: (left, bottom, right, top), x or longitude first."
        )
    return slice(*rows), slice(*columns)


def _checked(bounds: Sequence[float]) -> Bounds:
    try:
        left, bottom, right, top = (float(value) for value in bounds)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"bounds= are four numbers, left, bottom, right, top. Received: {shown(bounds)}."
        ) from error
    if not (left < right and bottom < top and all(map(math.isfinite, (left, bottom, right, top)))):
        raise ConfigError(
            "bounds= are (left, bottom, right, top) with left < right and bottom < top. Received: "
            f"{_shown(bounds)}."
        )
    return left, bottom, right, top


def _transformed(bounds: Bounds, source: Any, target: Any) -> Bounds:
    try:
        given, wanted = (pyproj.CRS.from_user_input(getattr(crs, "proj", crs)) for crs in (source, target))
        found = pyproj.Transformer.from_crs(given, wanted, always_xy=True).transform_bounds(*bounds)
    except (ProjError, TypeError) as error:
        raise GeoreferenceError(
            f"crs= is an EPSG code or a CRS that the bounds can be converted from. Received: {shown(source)} "
            f"with {_shown(bounds)}."
        ) from error
    return found[0], found[1], found[2], found[3]


def _shown(bounds: Sequence[float]) -> str:
    return f"({', '.join(f'{float(value):.8g}' for value in bounds)})"


def _read(scene: Scene, bands: Sequence[str], rows: slice, columns: slice) -> NDArray[np.float32]:
    """Return the pixels (C, H, W) of a window, NaN where a band has no data."""
    window = Window.from_slices(rows, columns)
    found = np.empty((len(bands), rows.stop - rows.start, columns.stop - columns.start), np.float32)
    for values, band in zip(found, bands, strict=True):
        pixels = read_pixels(scene, window, (band,))
        values[:] = np.where(pixels.valid, pixels.reflectance[0], np.float32(np.nan))
    return found


def _lazy(
    scene: Scene, bands: Sequence[str], rows: slice, columns: slice, chunks: int | Mapping[str, int] | str
) -> Any:
    """Return the pixels as an array of Dask, by default of one band a chunk."""
    try:
        da: Any = import_module("dask.array")
    except ImportError as error:
        raise MissingExtraError(
            "chunks= needs Dask, which is not installed: pip install 'truckscape[xarray]'."
        ) from error
    shape = len(bands), rows.stop - rows.start, columns.stop - columns.start
    if isinstance(chunks, Mapping):
        sizes: tuple[Any, ...] = chunks.get("band", 1), chunks.get("y", -1), chunks.get("x", -1)
    else:
        sizes = 1, chunks, chunks
    try:
        normal = da.core.normalize_chunks(sizes, shape, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"chunks= is a side in pixels, sizes of band, y and x, or 'auto'. Received: {shown(chunks)}."
        ) from error
    return da.map_blocks(
        _block,
        dtype=np.float32,
        chunks=normal,
        meta=np.empty((0, 0, 0), np.float32),
        scene=scene,
        bands=tuple(bands),
        top=rows.start,
        left=columns.start,
    )


def _block(
    scene: Scene, bands: tuple[str, ...], top: int, left: int, block_info: Any = None
) -> NDArray[np.float32]:
    """Read one chunk of an array of Dask."""
    (first, last), (up, down), (start, stop) = block_info[None]["array-location"]
    return _read(scene, bands[first:last], slice(top + up, top + down), slice(left + start, left + stop))
