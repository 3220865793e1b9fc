"""Conversion of published files to the files of a dataset: rasters of named bands, polygons."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.warp import reproject
from safetensors import SafetensorError
from safetensors.numpy import load

from pipeline.errors import MissingExtraError, OpenDataError
from pipeline.scenes.scene import BANDS_20M
from pipeline.storage.atomic import replacing

_LAYERS = {".mat": 'HDF5:"{path}"://{layer}', ".nc": 'netCDF:"{path}":{layer}'}
"""Names by which GDAL opens a layer of a file."""


def copy(parts: Sequence[Path], target: Path) -> None:
    """Take the only part as it is."""
    (part,) = parts
    part.replace(target)


def stack(
    parts: Sequence[Path],
    target: Path,
    bands: Mapping[str, Sequence[Any]],
    *,
    factor: float = 1,
    offset: float = 0,
    empty: float = 0,
    scale: float | None = 1e-4,
    dtype: str = "uint16",
    nodata: int | None = 0,
    crs: str | None = None,
    transform: Sequence[float] | None = None,
    transposed: bool = False,
    coarse_transform: Sequence[float] | None = None,
    coarse_step: int = 1,
    window: Sequence[int] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write bands as one GeoTIFF, on the grid of the first.

    `bands` are names, each with the index of its part, the number of its band (from 1), and its layer if the
    file has layers. Bands of other resolution are interpolated (bilinear). Values are multiplied by `factor`,
    and `offset` is subtracted. Pixels with data are at least 1, pixels that are `empty` in all bands are 0.
    `scale` and `nodata` are metadata of the GeoTIFF.

    `crs` and `transform` are for files without, or with wrong ones; `transposed` files have columns before
    rows. Of 20 m bands, `coarse_transform` replaces the transform, and every `coarse_step`-th pixel is used,
    for files in which they are doubled to 10 m. `window` is kept: first row, first column, rows, columns.

    Memory: three times that of the bands in single precision.

    Raises
    ------
    OpenDataError
        If a part can't be read.
    """
    found = {
        name: _Band.read(parts[part], *where, transposed=transposed) for name, (part, *where) in bands.items()
    }
    first = next(iter(found.values()))
    first.crs, first.transform = crs or first.crs, Affine(*transform) if transform else first.transform
    for name in found.keys() & set(BANDS_20M):
        found[name].thin(coarse_step, coarse_transform)
    values = np.stack([band.on(first) for band in found.values()])
    top, left, *shape = window or (0, 0, *first.values.shape)
    values = values[:, top : top + shape[0], left : left + shape[1]]
    has_data = (values != empty).any(axis=0)
    numbers = np.where(has_data, np.maximum(np.rint(values * factor - offset), 1), 0).astype(dtype)
    profile = {
        "crs": first.crs,
        "transform": first.transform * Affine.translation(left, top),
        "nodata": nodata,
    }
    target.write_bytes(_geotiff(numbers, profile, tuple(bands), scale, tags or {}))


def _geotiff(
    numbers: NDArray[Any],
    profile: Mapping[str, Any],
    names: Sequence[str],
    scale: float | None,
    tags: Mapping[str, str],
) -> bytes:
    """Return the content of a GeoTIFF of (C, H, W); in memory, since GDAL reports no full disk."""
    shape = dict(zip(("count", "height", "width"), numbers.shape, strict=True))
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", dtype=numbers.dtype, compress="deflate", **shape, **profile
        ) as raster:
            raster.write(numbers)
            raster.descriptions = tuple(names)
            raster.update_tags(**tags)
            if scale is not None:
                raster.scales = (scale,) * len(numbers)
        return bytes(memory.getbuffer())


def polygons(
    parts: Sequence[Path], target: Path, columns: Sequence[str], *, unique: str, west_of: float, layer: str
) -> None:
    """Write the polygons of a vector file that end west of an x in its CRS, with some of its columns.

    Of several with the same value of the column `unique` the first is taken.
    """
    (part,) = parts
    try:
        frame = gpd.read_file(part, columns=list(columns))
    except DataSourceError as error:
        raise OpenDataError(f"{part.name} can't be read: {error}.") from error
    frame = frame[frame.bounds["maxx"] < west_of].drop_duplicates(unique).reset_index(drop=True)
    with replacing(target, DataSourceError) as part:
        pyogrio.write_dataframe(frame, part, layer=layer, driver="GPKG")


def patches(
    parts: Sequence[Path],
    target: Path,
    keys: Sequence[Sequence[str]],
    bands: Sequence[str],
    *,
    crs: str,
    transform: Sequence[float],
    scale: float | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write patches of an LMDB of safetensors, such as BigEarthNet's, as one GeoTIFF of named bands.

    `keys` are rows of patches, from north to south. Bands of 20 m among those of 10 m are doubled.

    Raises
    ------
    OpenDataError
        If the database can't be read, or lacks a patch or band.
    MissingExtraError
        If the reader of LMDB is not installed.
    """
    (part,) = parts
    try:
        import lmdb
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{target.name} is made of an LMDB. Its reader is in an extra: pip install 'truckscape[train]'."
        ) from error
    try:
        with (
            lmdb.open(str(part), subdir=False, readonly=True, lock=False) as opened,
            opened.begin() as database,
        ):
            rows = [[load(database.get(key.encode(), b"")) for key in row] for row in keys]
        found = [np.block([[patch[band] for patch in row] for row in rows]) for band in bands]
    except (lmdb.Error, SafetensorError, KeyError) as error:
        raise OpenDataError(f"{part.name} can't be read, or lacks a patch: {error}.") from error
    fold = [found[0].shape[0] // band.shape[0] for band in found]
    numbers = np.stack(
        [np.kron(band, np.ones((n, n), band.dtype)) for n, band in zip(fold, found, strict=True)]
    )
    profile = {"crs": crs, "transform": Affine(*transform), "nodata": 0}
    target.write_bytes(_geotiff(numbers, profile, bands, scale, tags or {}))


CONVERTERS: Mapping[str, Callable[..., None]] = {
    "copy": copy,
    "stack": stack,
    "polygons": polygons,
    "patches": patches,
}
"""By their name in the catalogue."""


@dataclass
class _Band:
    """Values of a band, with its grid if it has one."""

    values: NDArray[np.float32]
    crs: CRS | str | None
    transform: Affine

    @classmethod
    def read(cls, path: Path, number: int, layer: str = "", *, transposed: bool) -> _Band:
        """Read a band; OpenDataError if the file can't be read or has no such band."""
        if path.suffix == ".json":
            return cls(
                np.array(json.loads(path.read_bytes())[number - 1], np.float32), None, Affine.identity()
            )
        name = _LAYERS[path.suffix].format(path=path, layer=layer) if layer else path
        try:
            with rasterio.open(name) as raster:  # any driver: the file is known by its checksum
                values = raster.read(number).astype(np.float32)
                return cls(values.T if transposed else values, raster.crs, raster.transform)
        except (RasterioError, IndexError) as error:
            raise OpenDataError(f"{path.name} can't be read by this GDAL: {error}.") from error

    def thin(self, step: int, transform: Sequence[float] | None) -> None:
        """Keep every step-th row and column, on another grid if one is given."""
        self.values = self.values[::step, ::step]
        self.transform = Affine(*transform) if transform else self.transform

    def on(self, other: _Band) -> NDArray[np.float32]:
        """Return the values on the grid of another band, interpolated if it has another shape."""
        if self.values.shape == other.values.shape:
            return self.values
        own = self.transform
        if self.crs is None:  # the same ground
            ratio = [big / small for big, small in zip(other.values.shape, self.values.shape, strict=True)]
            own = other.transform * Affine.scale(*reversed(ratio))
        result = np.zeros_like(other.values)
        reproject(
            self.values,
            result,
            src_transform=own,
            src_crs=self.crs or other.crs,
            dst_transform=other.transform,
            dst_crs=other.crs,
            resampling=Resampling.bilinear,
        )
        return result
