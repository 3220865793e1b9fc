"""Arrays of reflectance as scenes: checks of shape, type, bands and place, and the file that a run reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError

from pipeline.errors import ArrayError, GeoreferenceError, OutputError
from pipeline.redaction import shown
from pipeline.scenes.readers.naming import band_name

_NEEDED = (
    "Give it, e.g. bands=['B02', 'B03', 'B04', 'B08'], transform=Affine(10, 0, x, 0, -10, y), crs=32632."
)
_MOST_BANDS = 64
"""Arrays with more in their first axis have it last."""


@dataclass(frozen=True)
class Image:
    """Array with the names of its bands and its place."""

    values: NDArray[Any]
    """(C, H, W), reflectance, or digital numbers if a scale is given."""
    bands: tuple[str, ...]
    transform: Affine
    crs: str
    """WKT of the CRS."""
    acquired: str | None = None
    """Time that an array of xarray states, UTC."""


def image_of(array: Any, bands: Sequence[str] | None, transform: Any, crs: Any, is_scaled: bool) -> Image:
    """Return an array with its bands and place, checked.

    An array of xarray states them itself: band names as the coordinate `band`, CRS and transform as rioxarray
    and odc-geo write them. Numbers are reflectance, 0-1, or of any unit if the user gives a scale
    (`is_scaled`).

    Raises
    ------
    ArrayError
        If shape, type or bands are not those of an image.
    GeoreferenceError
        If its place is not given, or is none.
    """
    acquired = None
    if hasattr(array, "data_vars"):
        raise ArrayError("A Dataset of xarray has its bands as variables: give dataset.to_array('band').")
    if hasattr(array, "dims") and hasattr(array, "coords"):
        acquired = _time(array)
        array, bands, transform, crs = _of_xarray(array, bands, transform, crs)
    values = np.asarray(_unmasked(array))
    names = _bands(values, bands)
    _check_type(values, is_scaled)
    return Image(values, names, _transform(transform), _crs(crs), acquired)


def write_image(image: Image, path: Path) -> None:
    """Write an image as a GeoTIFF that `open_scene` reads: float32, NaN without data; integers as they are.

    Raises OutputError if it can't be written.
    """
    values = image.values
    if values.dtype not in (np.uint8, np.uint16):  # GDAL has no bits for some others
        values = values.astype(np.float32)
    bands, height, width = values.shape
    try:
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=bands,
            height=height,
            width=width,
            dtype=values.dtype.name,
            crs=rasterio.CRS.from_wkt(image.crs),
            transform=image.transform,
            tiled=True,
            blockxsize=512,
            blockysize=512,
            bigtiff="if_safer",
        ) as dataset:
            dataset.write(values)
            dataset.descriptions = image.bands
    except (OSError, RasterioError) as error:
        raise OutputError(
            f"The array can't be written to the temporary folder {path.parent} ({error}). Set TMPDIR to a "
            "folder with room."
        ) from error


def _unmasked(array: Any) -> Any:
    """Return an array with NaN where NumPy masks it, of integers as floating-point numbers."""
    if not np.ma.isMaskedArray(array):
        return array
    is_whole = array.dtype.kind in "iu" and not np.ma.is_masked(array)
    return array.data if is_whole else np.ma.filled(array.astype(np.result_type(array, np.float32)), np.nan)


def _of_xarray(array: Any, bands: Sequence[str] | None, transform: Any, crs: Any) -> tuple[Any, ...]:
    """Return the values of an array of xarray, (band, y, x), and what it states beside what is given."""
    import odc.geo.xr  # noqa: F401 (registers the accessor)

    if not {"band", "y", "x"} >= set(array.dims) or array.ndim != 3:
        raise ArrayError(
            "An array of xarray has the dimensions band, y and x. Received: "
            f"{', '.join(map(str, array.dims))}."
        )
    array = array.transpose("band", "y", "x")
    if bands is None and "band" in array.coords:
        bands = [str(name) for name in array.coords["band"].values]
    grid = array.odc.geobox
    if grid is not None:
        transform = grid.affine if transform is None else transform
        crs = (None if grid.crs is None else grid.crs.to_wkt()) if crs is None else crs
    return array.values, bands, transform, crs


def _time(array: Any) -> str | None:
    """Return the time of an array of xarray that has one, else None."""
    if "time" not in array.coords:
        return None
    times: NDArray[Any] = array.coords["time"].values
    is_one = times.size == 1 and times.dtype.kind == "M"
    return f"{times.ravel()[0].astype('datetime64[s]')}Z" if is_one else None


def _bands(values: NDArray[Any], bands: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the bands of an array (C, H, W)."""
    if values.ndim != 3 or 0 in values.shape:
        raise ArrayError(f"An array has the shape (bands, rows, columns). Received: {values.shape}.")
    if bands is None:
        raise ArrayError(f"The bands of an array are not known. {_NEEDED}")
    given = [bands] if isinstance(bands, str) else list(bands)
    count = values.shape[0]
    if len(given) != count:
        is_last = len(given) == values.shape[2] or count > _MOST_BANDS >= values.shape[2]
        hint = " Its bands seem to be the last axis: give np.moveaxis(array, -1, 0)." if is_last else ""
        raise ArrayError(
            f"An array has the shape (bands, rows, columns), here ({len(given)}, rows, columns) for bands="
            f"{given}. Received: {values.shape}.{hint}"
        )
    names = [band_name(name) for name in given]
    unknown = [str(name) for name, found in zip(given, names, strict=True) if found is None]
    if unknown or len(set(names)) < len(names):
        what = f"Unknown: {', '.join(unknown)}" if unknown else f"Received: {', '.join(map(str, given))}"
        raise ArrayError(f"bands= are names of Sentinel-2, each once, such as B02, B8A. {what}.")
    return tuple(name for name in names if name is not None)


def _check_type(values: NDArray[Any], is_scaled: bool) -> None:
    if values.dtype.kind not in "fiu":
        raise ArrayError(f"An array holds floating-point reflectance. Received: {values.dtype}.")
    if values.dtype.kind in "iu" and not is_scaled:
        raise ArrayError(
            f"An array of {values.dtype} holds digital numbers, and reflectance from 0 to 1 is expected. "
            "Give their scale and offset: scale=0.0001, offset=-0.1 for Sentinel-2 since baseline 04.00 "
            "(offset=0 before, or where it is taken off), or scale the array."
        )


def _transform(transform: Any) -> Affine:
    if transform is None:
        raise GeoreferenceError(f"The place of an array is not known: transform= is missing. {_NEEDED}")
    try:
        found = Affine(*(float(value) for value in tuple(transform)[:6]))
    except (TypeError, ValueError) as error:
        raise GeoreferenceError(
            f"transform= is an affine.Affine, or its six numbers. Received: {shown(transform)}."
        ) from error
    if not found.e:
        raise GeoreferenceError(
            "transform= looks like that of GDAL: give Affine.from_gdal(*transform). Received: "
            f"{shown(transform)}."
        )
    return found


def _crs(crs: Any) -> str:
    if crs is None:
        raise GeoreferenceError(f"The place of an array is not known: crs= is missing. {_NEEDED}")
    try:
        return str(pyproj.CRS.from_user_input(getattr(crs, "proj", crs)).to_wkt())
    except (ProjError, TypeError) as error:
        raise GeoreferenceError(
            f"crs= is an EPSG code, text, or a CRS of pyproj or rasterio. Received: {shown(crs)}."
        ) from error
