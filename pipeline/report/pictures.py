"""Pictures of a scene for people: quicklook, chips, and their way into a page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image, ImageDraw
from rasterio.enums import Resampling
from rasterio.transform import array_bounds
from rasterio.warp import calculate_default_transform, reproject
from rasterio.windows import from_bounds

from pipeline.inference.predictions import CLOUD
from pipeline.layers.styles import rgb
from pipeline.models.legend import LegendClass
from pipeline.scenes.raster.datasets import is_remote, open_raster, remote_options
from pipeline.scenes.raster.radiometry import has_number, to_reflectance
from pipeline.scenes.scene import Scene

TRUE_COLOUR = ("B04", "B03", "B02")
QUICKLOOK_PX = 1600
WEB_MERCATOR = "EPSG:3857"
WGS84 = "EPSG:4326"
_SHARP_PX = 800
_DOT = "#e11d48"
_PERCENTILES_OF = 100_000
"""Pixels, about: all of a granule's quicklook would take a third of a second, and give the same colours."""
_TONES = (255 * np.linspace(0, 1, 4096) ** 0.8).astype(np.uint8)


@dataclass(frozen=True)
class Picture:
    """Colours with their place: (H, W, 4) uint8, red green blue alpha, on `grid`."""

    rgba: NDArray[np.uint8]
    grid: GeoBox


@dataclass(frozen=True)
class MapImage:
    """A picture as a web map wants it: a data URI in Web Mercator and its corners in degrees."""

    uri: str
    south_west: tuple[float, float]
    """Latitude, longitude."""
    north_east: tuple[float, float]
    sharp: bool
    """Whether pixels stay visible when enlarged."""


def quicklook(scene: Scene, max_px: int = QUICKLOOK_PX, status: Path | None = None) -> Picture | None:
    """Return a true-colour picture of the whole scene, at most `max_px` a side; None without B02, B03, B04.

    Thinned by a power of two, as the rasters' overviews (JPEG 2000 resolution levels), so that little is
    decoded: 1 s for a granule. Pixels without data are transparent. Colours are stretched over the pixels
    that are no cloud by `status`, a raster of codes of `pipeline.inference.predictions` on the scene's grid;
    over all of them without it.
    """
    if any(band not in scene.bands for band in TRUE_COLOUR):
        return None
    shape = thinned(scene.shape, max_px)
    bands = [_overview(scene, band, shape) for band in TRUE_COLOUR]
    reflectance = np.stack([band for band, _ in bands])
    valid = np.logical_and.reduce([mask for _, mask in bands])
    for number in scene.blanks:
        sources = (scene.bands[band] for band in TRUE_COLOUR)
        valid &= ~np.logical_and.reduce(
            [has_number(band, number, source) for band, source in zip(reflectance, sources, strict=True)]
        )
    clear = valid if status is None else valid & (_thinned_classes(status, shape) != CLOUD)
    return Picture(true_colour(reflectance, valid, clear=clear), scene.grid.zoom_to(shape))


def thinned(shape: tuple[int, int], max_px: int = QUICKLOOK_PX) -> tuple[int, int]:
    """Return the shape divided by the least power of two that makes it at most `max_px` wide and high."""
    step = 2 ** max(0, math.ceil(math.log2(max(shape) / max_px)))
    return max(1, round(shape[0] / step)), max(1, round(shape[1] / step))


def true_colour(
    reflectance: NDArray[np.float32],
    valid: NDArray[np.bool_],
    brightest: float = 99.0,
    clear: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Return (H, W, 4) uint8 from red, green, blue reflectance, (3, H, W); invalid pixels are transparent.

    The darkest percent of each band becomes black, which takes the haze off. The range from there up to the
    percentile `brightest` is the widest of the three bands', so hues are kept. Percentiles are those of the
    `clear` pixels (H, W), or of all valid ones if none is clear.
    """
    rgba = np.zeros((*valid.shape, 4), dtype=np.uint8)
    if valid.any():
        shown = valid if clear is None or not clear.any() else clear
        thinned = max(1, int(shown.sum()) // _PERCENTILES_OF)
        low, high = np.percentile(reflectance[:, shown][:, ::thinned], [1, brightest], axis=1)
        span = max(float((high - low).max()), 0.02)
        for band in range(3):
            share = np.clip((np.where(valid, reflectance[band], low[band]) - low[band]) / span, 0, 1)
            rgba[..., band] = _TONES[(share * (len(_TONES) - 1)).astype(np.uint16)]
        rgba[..., 3] = 255
        rgba[~valid] = 0
    return rgba


def class_picture(raster: Path, legend: Sequence[LegendClass], max_px: int = QUICKLOOK_PX) -> Picture:
    """Return a class raster in its legend's colours, thinned to at most `max_px`; transparent without a
    class."""
    with open_raster(str(raster), "The land cover") as source:
        step = max(1.0, max(source.shape) / max_px)
        shape = max(1, round(source.height / step)), max(1, round(source.width / step))
        values = source.read(1, out_shape=shape, resampling=Resampling.mode)
        grid = GeoBox.from_rio(source).zoom_to(shape)
    colours = np.zeros((256, 4), dtype=np.uint8)
    for item in legend:
        colours[item.value] = (*rgb(item.colour), 255)
    return Picture(colours[values], grid)


def map_image(picture: Picture, max_px: int = QUICKLOOK_PX, lossless: bool = False) -> MapImage:
    """Warp the picture to Web Mercator, to be placed below the map's features.

    Across the antimeridian its longitudes exceed 180 degrees.
    """
    rows, cols = picture.rgba.shape[:2]
    west, south, east, north = array_bounds(rows, cols, picture.grid.affine)
    crs = picture.grid.crs.to_wkt() if picture.grid.crs else None
    sharp = max(rows, cols) <= _SHARP_PX
    mercator, turned = _mercator(crs, (west, south, east, north))
    # Small pictures are enlarged first: nearest neighbours move a pixel's edge by up to half a new pixel.
    zoom = max(1, min(8, max_px // max(rows, cols)))
    transform, width, height = calculate_default_transform(
        crs, mercator, cols, rows, west, south, east, north, dst_width=cols * zoom, dst_height=rows * zoom
    )
    warped = np.zeros((4, height, width), dtype=np.uint8)
    reproject(
        np.ascontiguousarray(picture.rgba.transpose(2, 0, 1)),
        warped,
        src_transform=picture.grid.affine,
        src_crs=crs,
        dst_transform=transform,
        dst_crs=mercator,
        resampling=Resampling.nearest,
    )
    corners = array_bounds(height, width, transform)
    lon, lat = rasterio.warp.transform(WEB_MERCATOR, WGS84, corners[::2], corners[1::2])
    return MapImage(
        uri=data_uri(warped.transpose(1, 2, 0), lossless=lossless or sharp),
        south_west=(lat[0], lon[0] + turned),
        north_east=(lat[1], lon[1] + turned),
        sharp=sharp,
    )


def marked(picture: Picture, places: gpd.GeoSeries | None = None, max_px: int = 640) -> NDArray[np.uint8]:
    """Return a picture (H, W, 4) uint8 of at most `max_px` a side, with a dot at the middle of each place."""
    image = Image.fromarray(np.ascontiguousarray(picture.rgba))
    image.thumbnail((max_px, max_px))
    if places is not None and len(places):
        here = places.to_crs(picture.grid.crs.to_wkt()) if picture.grid.crs else places
        to_pixels = Affine.scale(image.width / picture.rgba.shape[1], image.height / picture.rgba.shape[0])
        to_pixels *= ~picture.grid.affine
        draw = ImageDraw.Draw(image)
        for x, y in (to_pixels * place.centroid.coords[0] for place in here):
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_DOT, outline="white")
    return np.asarray(image)


def _mercator(crs: str | None, bounds: tuple[float, float, float, float]) -> tuple[str, float]:
    """Web Mercator, and its turn eastwards in degrees: the antimeridian must not cut what is in `bounds`."""
    if crs is None:
        return WEB_MERCATOR, 0.0
    west, south, east, north = bounds
    lon, _ = rasterio.warp.transform(crs, WGS84, [west, west, east, east], [south, north, south, north])
    if max(lon) - min(lon) < 180:
        return WEB_MERCATOR, 0.0
    return "+proj=merc +a=6378137 +b=6378137 +lon_0=180 +units=m +nadgrids=@null +wktext +no_defs", 180.0


def data_uri(rgba: NDArray[np.uint8], lossless: bool = True) -> str:
    """Return the picture as a WebP in a `data:` URI."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgba)).save(
        buffer, format="WEBP", lossless=lossless, quality=20 if lossless else 80, method=0 if lossless else 1
    )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _thinned_classes(raster: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    with open_raster(str(raster), "The status of the search") as source:
        classes: NDArray[np.uint8] = source.read(1, out_shape=shape, resampling=Resampling.nearest)
    return classes


def _overview(
    scene: Scene, band: str, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Reflectance and validity of one band of the whole scene, thinned to `shape`."""
    source = scene.bands[band]
    options = remote_options() if is_remote(source.href) else {}
    with rasterio.Env(**options), open_raster(source.href, f"Band {band}", source.warp) as dataset:
        window = from_bounds(*scene.grid.boundingbox.bbox, dataset.transform)
        numbers = dataset.read(source.index, window=window, out_shape=shape, resampling=Resampling.average)
        masks = [dataset.read(mask.index, window=window, out_shape=shape) > 0 for mask in source.masks]
    reflectance, valid = to_reflectance(numbers, source)
    return reflectance, np.logical_and.reduce([valid, *masks])
