"""The 10 m grid of a scene: the grid of its rasters, or a UTM grid to which they are warped."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer
from rasterio.dtypes import in_dtype_range
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from pipeline.errors import GeoreferenceError
from pipeline.redaction import without_secrets
from pipeline.scenes.scene import BandSource, Warp

log = logging.getLogger(__name__)

_MOST_PX = 10**11
"""Ten million square kilometres. A file of a few kilobytes can claim more."""
_PIXEL_M = (9.5, 10.5)
_SHORTER_SIDE_M, _LONGER_SIDE_M = 11.5, (9.5, 16.0)
"""Of pixels in degrees, as GDAL makes them of 10 m up to 60 degrees north, and Earth Engine anywhere."""
_HALF_EQUATOR_M = math.pi * 6_378_137
"""Half the extent of web mercator."""
_WEB_MERCATOR_METHOD = "1024"
"""EPSG's code of Popular Visualisation Pseudo Mercator."""
_DEGREES_FROM_180 = "+proj=longlat +datum=WGS84 +pm=180"
_MERCATOR_FROM_180 = "+proj=merc +a=6378137 +b=6378137 +lon_0=180 +units=m +nadgrids=@null +wktext"
_FARTHEST_LATITUDE = 85.5
"""Granules at the end of UTM, at 84 degrees, are 110 km wide."""
_FROM_MERIDIAN_DEG = 30.0
"""Longitude from the middle of a UTM zone beyond which coordinates are none of that zone."""
_FULL_TURN, _SAME_DEG = 360.0, 1e-9
_PLACE_STEPS = 4
_TOLERANCE_PX = 0.01
"""Largest error of GDAL's approximate transformation."""
_MARGIN_PX = 2
"""Pixels that a blend needs beside those of its place."""


def check_georeference(dataset: DatasetReader) -> None:
    """Raise GeoreferenceError unless a raster is north up, and has a CRS and a place that Sentinel-2 sees."""
    name, transform, crs = dataset.name, dataset.transform, dataset.crs
    if not crs:
        raise GeoreferenceError(_without_crs(dataset))
    if not (crs.is_projected or crs.is_geographic):
        raise GeoreferenceError(f"A CRS with a place on Earth is needed; {name} is in {crs.to_string()}.")
    if not all(map(math.isfinite, transform[:6])):
        raise GeoreferenceError(
            f"A geotransform of finite numbers is needed; write it again, e.g. gdal_edit.py -a_ullr: {name} "
            f"has {tuple(transform[:6])}."
        )
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise GeoreferenceError(
            f"A north-up raster without rotation is needed; warp it first: {name} has {tuple(transform[:6])}."
        )
    _check_place(dataset)


def _without_crs(dataset: DatasetReader) -> str:
    name = dataset.name
    if dataset.gcps[0] or dataset.rpcs:
        return (
            f"{name} has ground control points or RPCs only, and no geotransform; warp it first, e.g. "
            "gdalwarp -t_srs EPSG:326xx -tr 10 10 FILE NEW.tif."
        )
    beside = " That of its .aux.xml is not read." if Path(f"{name}.aux.xml").is_file() else ""
    return (
        f"No coordinate reference system in {name}; set it, e.g. gdal_edit.py -a_srs EPSG:326xx FILE.{beside}"
    )


def _check_place(dataset: DatasetReader) -> None:
    """Raise GeoreferenceError if a raster is at a pole, or its coordinates are outside of their CRS."""
    transform, crs = dataset.transform, CRS.from_wkt(dataset.crs.to_wkt())
    shares = [step / _PLACE_STEPS for step in range(_PLACE_STEPS + 1)]
    points = [(dataset.width * x, dataset.height * y) for x in shares for y in shares]
    xs, ys = zip(*(transform * point for point in points), strict=True)
    to_degrees = _to_degrees(dataset)
    lons, lats = to_degrees.transform(xs, ys)
    is_far = max(map(abs, lons)) > _FULL_TURN or (
        crs.utm_zone and any(_turn(lon, _meridian(crs.utm_zone)) > _FROM_MERIDIAN_DEG for lon in lons)
    )
    if not all(map(math.isfinite, (*lons, *lats))) or is_far or max(map(abs, lats)) > 90 + _SAME_DEG:
        raise GeoreferenceError(
            f"{dataset.name} has coordinates outside of its CRS {dataset.crs.to_string()}: x {min(xs):.9g} "
            f"to {max(xs):.9g}, y {min(ys):.9g} to {max(ys):.9g}. Set the right one: gdal_edit.py -a_srs."
        )
    poles = zip(*to_degrees.transform((0.0, 0.0), (90.0, -90.0), direction="INVERSE"), strict=True)
    has_pole = any(min(xs) <= x <= max(xs) and min(ys) <= y <= max(ys) for x, y in poles)
    if has_pole or max(map(abs, lats)) > _FARTHEST_LATITUDE:
        raise GeoreferenceError(
            f"{dataset.name} is at latitude {max(lats, key=abs):.4g}; Sentinel-2 sees from 84 degrees north "
            "to 84 degrees south. Check its CRS and geotransform, or cut it: gdal_translate -projwin."
        )


def _meridian(zone: str) -> float:
    return int(zone[:-1]) * 6.0 - 183.0


def _turn(lon: float, other: float) -> float:
    """Return the angle between two meridians, in degrees."""
    return abs((lon - other + 180) % 360 - 180)


def has_pixels_of_10m(dataset: DatasetReader) -> bool:
    """Return whether a raster's pixels are about 10 m on the ground.

    Pixels in degrees are longer to the north than to the east: 10 m must be between their sides, or nearly.
    """
    shorter, longer = sorted(_sides_on_ground(dataset))
    if dataset.crs.is_geographic:
        return shorter <= _SHORTER_SIDE_M and _LONGER_SIDE_M[0] <= longer <= _LONGER_SIDE_M[1]
    return _PIXEL_M[0] <= shorter <= longer <= _PIXEL_M[1]


def scene_grid(dataset: DatasetReader) -> GeoBox:
    """Return the grid of a scene whose finest raster is `dataset`.

    It is the raster's own if a unit of its CRS is a metre on the ground (UTM, most national grids). Otherwise
    (degrees, web mercator, feet) it is a north-up grid of 10 m in the UTM zone of its centre, at multiples of
    10 m, that contains the raster.

    Raises
    ------
    GeoreferenceError
        If it has no CRS, is rotated or not north up, its pixels are not about 10 m on the ground, or it is
        larger than a continent; or if it must be warped and a band is marked as opacity, which GDAL would
        apply.
    """
    if dataset.width * dataset.height > _MOST_PX:
        raise GeoreferenceError(
            f"A scene has at most {_MOST_PX:.0e} pixels of 10 m; cut it, e.g. gdal_translate -projwin. "
            f"Received: {dataset.name} of {dataset.width} x {dataset.height}"
        )
    check_georeference(dataset)
    if not has_pixels_of_10m(dataset):
        width, height = _sides_on_ground(dataset)
        raise GeoreferenceError(
            f"Sentinel-2's finest bands have pixels of 10 m, these have {width:.3g} x {height:.3g} m on the "
            f"ground: {dataset.name}"
        )
    # rasterio's Affine and odc-geo's are the same class; a GeoBox keeps no tie to the open file.
    own = GeoBox(dataset.shape, Affine(*dataset.transform[:6]), str(dataset.crs.to_wkt()))
    if _in_metres(dataset) and all(_PIXEL_M[0] <= abs(side) <= _PIXEL_M[1] for side in own.resolution.xy):
        return own
    lon, lat = _to_degrees(dataset).transform(*(own.affine * (own.shape.x / 2, own.shape.y / 2)))
    zone = int((lon + 180) % 360 // 6) + 1
    utm = f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"
    name = without_secrets(dataset.name)
    if ColorInterp.alpha in dataset.colorinterp:
        number = dataset.colorinterp.index(ColorInterp.alpha) + 1
        raise GeoreferenceError(
            f"{name} has to be warped to UTM, but its band {number} is marked as opacity; undo it with "
            f"gdal_edit.py -colorinterp_{number} undefined FILE, and describe opacity as dataMask."
        )
    log.warning("%s is in %s: warped to a 10 m grid in %s", name, dataset.crs.to_string(), utm)
    return own.to_crs(utm, resolution=10)  # type: ignore[arg-type]  # it takes a number, too


def on_grid(source: BandSource, crs: str, grid: GeoBox, is_classes: bool = False) -> BandSource:
    """Return the source of a raster in `crs`, warped at reading if the scene's grid has another CRS."""
    if grid.crs is None or grid.crs == crs:
        return source
    nodata = source.nodata if source.nodata is not None and math.isfinite(source.nodata) else None
    shape = (int(grid.shape.y), int(grid.shape.x))
    warp = Warp(grid.crs.to_wkt(), Affine(*grid.affine[:6]), shape, nodata, is_classes)
    return replace(source, warp=warp, nodata=nodata if is_classes else None, gsd=10.0)


def warped(dataset: DatasetReader, warp: Warp) -> WarpedVRT:
    """Open a raster on another grid. Blends are float32, NaN outside of the raster and without data.

    A raster that crosses 180 degrees is warped without a gap.
    """
    crs, transform = _turned(dataset)
    nodata = warp.nodata
    if nodata is not None and not all(in_dtype_range(nodata, dtype) for dtype in dataset.dtypes):
        nodata = math.nan  # a number that no pixel can have
    blended = {"nodata": math.nan, "dtype": "float32", "resampling": Resampling.bilinear}
    classes = {"nodata": 0 if warp.nodata is None else warp.nodata, "resampling": Resampling.nearest}
    return WarpedVRT(
        dataset,
        src_crs=crs,
        src_transform=transform,
        src_nodata=nodata,
        crs=warp.crs,
        transform=warp.transform,
        height=warp.shape[0],
        width=warp.shape[1],
        tolerance=_TOLERANCE_PX,
        UNIFIED_SRC_NODATA="NO",  # else a pixel without data in some bands only is blended there
        **(classes if warp.is_classes else blended),
    )


def source_extent(rows: slice, cols: slice, warp: WarpedVRT) -> tuple[slice, slice] | None:
    """Return the rows and columns of its source that a rectangle of a warped raster needs; None if none."""
    (width, height), onto = (cols.stop - cols.start, rows.stop - rows.start), warp.transform
    left, top = onto * (cols.start, rows.start)
    right, bottom = onto * (cols.start + width, rows.start + height)
    try:
        box = transform_bounds(warp.crs, warp.src_crs, left, bottom, right, top)
    except RasterioError:
        return None
    if not all(map(math.isfinite, box)):
        return None
    corners = [~warp.src_transform * point for point in ((box[0], box[3]), (box[2], box[1]))]
    found = []
    for axis, size in ((1, warp.src_dataset.height), (0, warp.src_dataset.width)):
        ends = sorted(corner[axis] for corner in corners)
        first = max(0, math.floor(ends[0]) - _MARGIN_PX)
        found.append(slice(first, min(size, math.ceil(ends[1]) + _MARGIN_PX)))
    return None if any(part.start >= part.stop for part in found) else (found[0], found[1])


def _in_metres(dataset: DatasetReader) -> bool:
    return bool(dataset.crs.is_projected) and math.isclose(dataset.crs.linear_units_factor[1], 1.0)


def _to_degrees(dataset: DatasetReader) -> Transformer:
    return Transformer.from_crs(CRS.from_wkt(dataset.crs.to_wkt()), "EPSG:4326", always_xy=True)


def _sides_on_ground(dataset: DatasetReader) -> tuple[float, float]:
    """Return width and height in metres of a raster's middle pixel.

    In UTM, and in a CRS in metres that can't be transformed, they are the pixel size.
    """
    transform, crs = dataset.transform, CRS.from_wkt(dataset.crs.to_wkt())
    in_map = float(transform.a), float(-transform.e)
    if crs.utm_zone:
        return in_map
    x, y = transform * (dataset.width / 2, dataset.height / 2)
    lon, lat = _to_degrees(dataset).transform([x, x + transform.a, x], [y, y, y + transform.e])
    if not all(map(math.isfinite, (*lon, *lat))):
        return in_map
    earth = Geod(ellps="WGS84")
    width = earth.inv(lon[0], lat[0], lon[1], lat[1])[2]
    height = earth.inv(lon[0], lat[0], lon[2], lat[2])[2]
    return float(width), float(height)


def _turned(dataset: DatasetReader) -> tuple[str, Affine]:
    """Return CRS and geotransform of a raster, with the antimeridian in the middle if it crosses it.

    Otherwise GDAL, whose longitudes end at 180 degrees, would place half of it at the other end of the map.
    """
    crs, transform = CRS.from_wkt(dataset.crs.to_wkt()), dataset.transform
    edges = transform.c, transform.c + transform.a * dataset.width
    half_turn = 180.0 if crs.is_geographic else _HALF_EQUATOR_M
    projection = crs.coordinate_operation  # None for degrees and local axes
    is_mercator = projection is not None and projection.method_code == _WEB_MERCATOR_METHOD
    if not (crs.is_geographic or is_mercator) or max(map(abs, edges)) <= half_turn:
        return crs.to_wkt(), transform
    turned = CRS.from_proj4(_MERCATOR_FROM_180 if is_mercator else _DEGREES_FROM_180)
    return turned.to_wkt(), Affine.translation(-math.copysign(half_turn, sum(edges)), 0.0) * transform
