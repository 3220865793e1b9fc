"""Pixels of a scene from its rasters, and the openers of plain rasters: GeoTIFF, folder of band files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader
from rasterio.windows import Window

from pipeline.errors import (
    ConfigError,
    GeoreferenceError,
    MetadataError,
    MissingBandError,
    NotAProductError,
)
from pipeline.scenes.blocks import Raster, raster_of, read
from pipeline.scenes.datasets import open_raster
from pipeline.scenes.grids import check_georeference, has_pixels_of_10m, on_grid, scene_grid
from pipeline.scenes.radiometry import to_reflectance
from pipeline.scenes.scene import (
    BAND_NAMES,
    BANDS_10M,
    BANDS_20M,
    BANDS_60M,
    BandSource,
    Pixels,
    Scene,
)

DEFAULT_SCALE = 1e-4
"""Reflectance of one digital number in Sentinel-2 products."""
_GRID_TOLERANCE_PX = 1e-3
_ROWS_AT_ONCE = 64
_NUMBER = re.compile(r"^b(?:and)?[ _-]?0?(1[0-2]|[1-9]|8a)(?:[ _-](?:10|20|60)m)?$", re.IGNORECASE)
_BAND_IN_STEM = re.compile(r"(?:^|[_-])(B(?:0?[1-9]|1[0-2]|8A))(?:[_-](10|20|60)m)?$", re.IGNORECASE)
_DATE_IN_NAME = re.compile(r"(?<!\d)(20\d\d)(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d))?(?!\d)")
_TILE_IN_NAME = re.compile(r"(?:^|_)T(\d\d[A-Z]{3})(?=[_.]|$)")
_PLATFORM_IN_NAME = re.compile(r"(?:^|_)S2([A-D])(?=[_.]|$)")
_RASTER_SUFFIXES = {".jp2", ".tif", ".tiff"}


def band_name(text: str | None) -> str | None:
    """The Sentinel-2 name of a band written as B2, B02, b8a, band 4 or B04_10m; None for anything else."""
    match = _NUMBER.match(text.strip()) if text else None
    return f"B{match[1].upper().zfill(2)}" if match else None


def native_gsd(band: str) -> float:
    """Metres between the pixels of `band` as Sentinel-2 delivers it."""
    return 20.0 if band in BANDS_20M else 60.0 if band in BANDS_60M else 10.0


# ---------------------------------------------------------------------------------------- reading


def read_pixels(scene: Scene, window: Window, bands: Sequence[str]) -> Pixels:
    """Reflectance (C, H, W) of `bands`, in that order, and validity (H, W) in `window` of the 10 m grid.

    Bands on the scene's grid are read by index. Others are brought to it by georeference, bilinearly; a
    pixel of theirs without data lends no weight, and the result is valid where the source pixel that holds
    its centre is. What a pixel gets depends on its place only, never on the window it is read in.

    Safe to call from several threads: a block that one of them decodes is there for all of them. Memory:
    about 6 bytes a pixel and band, and the blocks that are kept (`pipeline.scenes.blocks`).

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
    if not valid.all():
        np.copyto(reflectance, 0.0, where=~valid)
    return Pixels(reflectance, valid, window, scene.grid[rows, cols])


def read_classes(scene: Scene, source: BandSource, window: Window) -> NDArray[np.generic]:
    """Values (H, W) of a class raster in `window` of the 10 m grid: of the pixel holding each centre.

    Where the raster does not reach, its nodata value (0 where it has none). Errors as `read_pixels`.
    """
    rows, cols = _slices(scene, window)
    raster = raster_of(source)
    y = _Axis.along_rows(raster, scene.grid, rows)
    x = _Axis.along_cols(raster, scene.grid, cols)
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
    """Values (N,) of the pixels of a raster that hold the map points (xs, ys); 0 outside of it.

    Reads the blocks of `block` x `block` pixels in which there are points, one after the other. Raises
    CorruptImageError.
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
    """What reading `bands` (SCL is one, too) in `window` of the 10 m grid needs of each raster's own grid.

    Each band with its rows and columns; without those that don't reach the window. Errors as `read_pixels`.
    """
    rows, cols = _slices(scene, window)
    for band in bands:
        source = scene.scl if band == "SCL" else scene.bands.get(band)
        if source is None:
            require_bands(scene, [band])
            continue
        raster = raster_of(source)
        if _same_grid(raster, scene.grid):
            yield source, rows, cols
            continue
        y = _Axis.along_rows(raster, scene.grid, rows)
        x = _Axis.along_cols(raster, scene.grid, cols)
        if y.inside.any() and x.inside.any():
            yield source, y.source, x.source


def require_bands(scene: Scene, bands: Iterable[str]) -> None:
    """Raise MissingBandError, naming what is missing and what is there, unless the scene has all bands."""
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
    if _same_grid(raster, scene.grid):
        return _decode_reflectance(source, rows, cols)
    y = _Axis.along_rows(raster, scene.grid, rows)
    x = _Axis.along_cols(raster, scene.grid, cols)
    shape = (len(y.position), len(x.position))
    if not (y.inside.any() and x.inside.any()):
        return np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    values, has_data = _decode_reflectance(source, y.source, x.source)
    inside = y.inside[:, None] & x.inside
    blend = _bilinear(values, y, x)
    if has_data.all():
        blend[~inside] = 0.0
        return blend, inside
    # Written so that a pixel whose four neighbours have data comes out bit for bit as in the branch above.
    share = _bilinear(has_data.astype(np.float32), y, x)
    whole = has_data[y.low] & has_data[y.high]
    whole = whole[:, x.low] & whole[:, x.high]
    valid = inside & has_data[np.ix_(y.nearest, x.nearest)]
    np.divide(blend, share, out=blend, where=~whole & valid)
    blend[~valid] = 0.0
    return blend, valid


def _same_grid(raster: Raster, grid: GeoBox) -> bool:
    rows, cols = raster.shape
    if (rows, cols) != tuple(grid.shape):
        return False
    ours, theirs = grid.affine, raster.transform
    apart = (
        ours.c - theirs.c,
        ours.f - theirs.f,
        ours.c - theirs.c + cols * (ours.a - theirs.a),
        ours.f - theirs.f + rows * (ours.e - theirs.e),
    )
    return max(map(abs, apart)) <= _GRID_TOLERANCE_PX * ours.a


@dataclass(frozen=True)
class _Axis:
    """Where the pixel centres of one axis of a window fall on the same axis of another raster."""

    position: NDArray[np.float64]
    """In pixels from the first pixel *centre* of `source`."""
    inside: NDArray[np.bool_]
    """Whether they lie on the raster at all."""
    source: slice
    """The raster's pixels that are needed."""

    @classmethod
    def along_cols(cls, raster: Raster, grid: GeoBox, pixels: slice) -> _Axis:
        ours, theirs = grid.affine, raster.transform
        return cls._of(ours.c, ours.a, theirs.c, theirs.a, raster.shape[1], pixels)

    @classmethod
    def along_rows(cls, raster: Raster, grid: GeoBox, pixels: slice) -> _Axis:
        ours, theirs = grid.affine, raster.transform
        return cls._of(ours.f, ours.e, theirs.f, theirs.e, raster.shape[0], pixels)

    @classmethod
    def _of(
        cls, origin: float, step: float, their_origin: float, their_step: float, size: int, pixels: slice
    ) -> _Axis:
        # From the pixel's number in the scene, not in the window: so rounding is the same in every window.
        centres = origin + (np.arange(pixels.start, pixels.stop) + 0.5) * step
        edges = (centres - their_origin) / their_step
        inside = (edges >= 0) & (edges < size)
        position = np.clip(edges - 0.5, 0.0, size - 1.0)
        first = int(position.min())
        last = min(int(position.max()) + 1, size - 1)
        return cls(position - first, inside, slice(first, last + 1))

    @property
    def low(self) -> NDArray[np.intp]:
        return self.position.astype(np.intp)

    @property
    def high(self) -> NDArray[np.intp]:
        return np.minimum(self.low + 1, self.source.stop - self.source.start - 1)

    @property
    def nearest(self) -> NDArray[np.intp]:
        last = self.source.stop - self.source.start - 1
        return np.minimum((self.position + 0.5).astype(np.intp), last)

    @property
    def weight(self) -> NDArray[np.float32]:
        """Of `high`; of `low` it is the rest."""
        return (self.position - self.low).astype(np.float32)


def _bilinear(values: NDArray[np.float32], y: _Axis, x: _Axis) -> NDArray[np.float32]:
    low, high, left, right = y.low, y.high, x.low, x.high
    wy, wx = y.weight[:, None], x.weight
    blend = np.empty((len(low), len(left)), np.float32)
    for top in range(0, len(low), _ROWS_AT_ONCE):  # so few rows that they stay in the processor's cache
        part = slice(top, top + _ROWS_AT_ONCE)
        rows = values[low[part]] * (1 - wy[part]) + values[high[part]] * wy[part]
        np.multiply(np.take(rows, left, axis=1), 1 - wx, out=blend[part])
        blend[part] += np.take(rows, right, axis=1) * wx
    return blend


def _decode_reflectance(
    source: BandSource, rows: slice, cols: slice
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    numbers, mask = read(source, rows, cols)
    reflectance, valid = to_reflectance(numbers, source)
    if mask is not None:
        valid &= mask
        reflectance[~valid] = 0.0
    return reflectance, valid


# ---------------------------------------------------------------------------------------- opening


def open_geotiff(path: Path, bands: Sequence[str] | None = None) -> Scene:
    """The scene in a multi-band GeoTIFF whose band descriptions are Sentinel-2 band names.

    `bands` names them, one for each band of the file, where descriptions are missing or wrong. Bands whose
    description is something else are left out. GDAL's scale, offset and nodata are honoured; where there is
    no scale, 16-bit integers are taken as Sentinel-2's own (reflectance x 10000) and floats as reflectance;
    0 is nodata in 16-bit integers that don't say. Acquisition time, level and platform come from the tags
    `acquired`, `level` and `platform`, else from the file's name.

    Raises
    ------
    CorruptImageError, GeoreferenceError, NotAProductError
        If the file can't be opened, is not georeferenced, or names no band.
    MetadataError
        If it has 8 bits and no scale: then nobody knows its reflectance.
    ConfigError
        If `bands` does not fit the file.
    """
    with open_raster(str(path), "The scene") as dataset:
        names = _band_names(dataset, bands)
        grid = scene_grid(dataset)
        sources = {
            name: on_grid(_source(dataset, name, str(path), index), dataset.crs.to_wkt(), grid)
            for index, name in enumerate(names, 1)
            if name
        }
        tags = {key.lower(): value for key, value in dataset.tags().items()}
    return Scene(
        id=path.stem,
        href=str(path),
        grid=grid,
        bands=sources,
        acquired=_acquired(tags, path.name),
        platform=_platform(tags, path.name),
        level=_level(tags, path.name, sources),
        tile=_tile(path.name),
        files=(path,),
    )


def open_band_folder(path: Path) -> Scene:
    """The scene in a folder with one raster a band, named like `T33UUU_20170216T102101_B02.jp2`.

    Other files may lie beside them. The 10 m grid is that of the finest of B02, B03, B04, B08. A DN of 0 is
    nodata where a file doesn't say. Tags and names are used as in `open_geotiff`.

    Raises
    ------
    NotAProductError
        If there is no band file, or those of two scenes.
    MissingBandError
        If there is no 10 m band to take the grid from.
    CorruptImageError, GeoreferenceError, MetadataError
        If a band file can't be opened, lies in another CRS, or has 8 bits and no scale.
    """
    files = _band_files(path)
    sources: dict[str, BandSource] = {}
    tags: dict[str, str] = {}
    grid: GeoBox | None = None
    crs, wkt = None, ""
    for name, file in files.items():
        with open_raster(str(file), f"Band {name}") as dataset:
            check_georeference(dataset)
            if crs is not None and dataset.crs != crs:
                raise GeoreferenceError(
                    f"All bands of a scene lie in one CRS; {file.name} is in {dataset.crs}, others in {crs}."
                )
            crs, wkt = dataset.crs, str(dataset.crs.to_wkt())
            sources[name] = _source(dataset, name, str(file), 1)
            tags |= {key.lower(): value for key, value in dataset.tags().items()}
            if name in BANDS_10M and grid is None and has_pixels_of_10m(dataset):
                grid = scene_grid(dataset)
    if grid is None:
        raise MissingBandError(
            f"The 10 m grid needs one of {', '.join(BANDS_10M)} at 10 m; {path} has: {', '.join(sources)}."
        )
    stem = _BAND_IN_STEM.sub("", next(iter(files.values())).stem)
    return Scene(
        id=stem or path.resolve().name,
        href=str(path),
        grid=grid,
        bands={name: on_grid(source, wkt, grid) for name, source in sources.items()},
        acquired=_acquired(tags, stem),
        platform=_platform(tags, stem),
        level=_level(tags, stem, sources),
        tile=_tile(stem),
        files=tuple(files.values()),
    )


def is_band_folder(path: Path) -> bool:
    """Whether a folder holds files that are named as bands."""
    return any(_band_of_file(file) for file in path.iterdir())


def _band_of_file(file: Path) -> tuple[str, re.Match[str]] | None:
    """The band that a file's name tells, and where; None of other files."""
    match = _BAND_IN_STEM.search(file.stem)
    if file.suffix.lower() not in _RASTER_SUFFIXES or not match:
        return None
    name = band_name(match[1])
    return (name, match) if name else None


def _band_files(path: Path) -> dict[str, Path]:
    """The finest file of every band, in the order of BAND_NAMES."""
    found: dict[str, tuple[int, Path]] = {}
    prefixes: set[str] = set()
    for file in sorted(path.iterdir()):
        told = _band_of_file(file)
        if told is None:
            continue
        name, match = told
        prefixes.add(file.stem[: match.start()])
        gsd = int(match[2] or native_gsd(name))
        if name not in found or gsd < found[name][0]:
            found[name] = (gsd, file)
    if not found:
        raise NotAProductError(
            f"No Sentinel-2 band file (like T33UUU_20170216T102101_B02.jp2) in the folder {path}"
        )
    if len(prefixes) > 1:
        raise NotAProductError(
            f"A folder of band files holds one scene; {path} holds {len(prefixes)}: "
            f"{', '.join(sorted(prefixes)[:3])}"
        )
    return {name: found[name][1] for name in BAND_NAMES if name in found}


def _band_names(dataset: DatasetReader, given: Sequence[str] | None) -> list[str | None]:
    if given is None:
        names = [band_name(description) for description in dataset.descriptions]
        if not any(names):
            raise NotAProductError(
                f"No band of {dataset.name} is described as a Sentinel-2 band (B02, B03...); if you know "
                f"which they are, name all {dataset.count}: --bands B04,B03,..."
            )
    else:
        names = [band_name(text) for text in given]
        if None in names or len(names) != dataset.count:
            raise ConfigError(
                f"--bands names each of the {dataset.count} bands of {dataset.name} as one of "
                f"{', '.join(BAND_NAMES)}. Received: {','.join(given)}"
            )
    known = [name for name in names if name]
    if len(set(known)) < len(known):
        raise (ConfigError if given else NotAProductError)(
            f"A band is named twice in {dataset.name}: {', '.join(known)}"
        )
    return names


def _source(dataset: DatasetReader, name: str, href: str, index: int) -> BandSource:
    dtype = np.dtype(dataset.dtypes[index - 1])
    scale, offset, nodata = (
        float(dataset.scales[index - 1]),
        float(dataset.offsets[index - 1]),
        dataset.nodatavals[index - 1],
    )
    if (scale, offset) == (1.0, 0.0) and dtype.kind in "iu":
        if dtype.itemsize == 1:
            raise MetadataError(
                f"{href} has 8 bits and no scale, so its reflectance is unknown; set it, "
                "e.g. gdal_edit.py -scale 0.00392157 FILE."
            )
        scale = DEFAULT_SCALE
    if nodata is not None and not math.isfinite(nodata):
        nodata = None  # what is not finite is never valid
    if nodata is None and dtype.kind in "iu" and dtype.itemsize > 1:
        nodata = 0.0
    return BandSource(name, href, index, scale, offset, nodata, gsd=round(float(dataset.transform.a), 3))


def _acquired(tags: Mapping[str, str], name: str) -> datetime | None:
    if "acquired" in tags:
        return parse_time(tags["acquired"])
    match = _DATE_IN_NAME.search(name)
    if not match:
        return None
    try:
        return datetime(*(int(part or 0) for part in match.groups()), tzinfo=UTC)  # type: ignore[arg-type, misc]
    except ValueError:
        return None


def parse_time(text: str) -> datetime:
    """An ISO 8601 time or bare date in UTC. Raises MetadataError."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise MetadataError(f"Not an ISO 8601 time of acquisition: {text!r}") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _platform(tags: Mapping[str, str], name: str) -> str | None:
    if "platform" in tags:
        return tags["platform"].lower()
    match = _PLATFORM_IN_NAME.search(name)
    return f"sentinel-2{match[1].lower()}" if match else None


def _tile(name: str) -> str | None:
    match = _TILE_IN_NAME.search(name)
    return match[1] if match else None


def _level(
    tags: Mapping[str, str], name: str, bands: Mapping[str, BandSource]
) -> Literal["L1C", "L2A"] | None:
    text = f"{tags.get('level', '')} {tags.get('processing_level', '')} {name}".upper()
    if "L2A" in text:
        return "L2A"
    # The cirrus band is in L1C only: L2A has no surface reflectance for it.
    return "L1C" if "L1C" in text or "B10" in bands else None
