"""Land cover and trucks as one raster in which every pixel belongs to one segment (COCO's panoptic format).

A segment is a class of land cover (stuff: one segment of it in a scene) or a truck (a thing). The raster's
three bands are its id, R + 256 G + 256^2 B, as in COCO's PNGs (Kirillov et al., "Panoptic Segmentation", CVPR
2019; cocodataset.org, format of panoptic data); 0 is void. The id of a class is its colour, so that the
raster looks like the land cover, with trucks in bright colours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import rasterio.shutil
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window
from scipy.ndimage import find_objects

from pipeline.inference.predictions import MOTION_BANDS
from pipeline.layers.landcover import NODATA
from pipeline.layers.polygonise.regions import read_strips
from pipeline.layers.styles import rgb
from pipeline.models.legend import LegendClass
from pipeline.scenes.msi import BAND_DELAYS_S
from pipeline.scenes.scene import Scene
from pipeline.storage.atomic import replacing

RASTER, SEGMENTS = "panoptic.tif", "panoptic.json"
TRUCK_CATEGORY = 256
"""Category of trucks. That of a class is its value + 1, as many readers take 0 for background."""
_TRUCK_COLOUR = "#FF0000"
_VOID_ID = 0

_LENGTH, _WIDTH, _MARGIN = 1.3, 0.26, 0.25
"""Of a truck's body, 13 m x 2.6 m, and the margin of boxes around it, in pixels of 10 m."""
_BLUR2 = 0.55**2 + 1 / 12
"""Variance of the optics' blur and of the pixel's own area, as in `pipeline.inference.motion`."""
_HALF_ALONG = np.sqrt(2 * np.log(2) * (_BLUR2 + _LENGTH**2 / 12))
_HALF_ACROSS = np.sqrt(2 * np.log(2) * (_BLUR2 + _WIDTH**2 / 12))
"""Half axes of the ellipse in which a band shows at least half of a truck's peak: 0.85 and 0.74 pixels."""
_LAG = np.array([BAND_DELAYS_S[band] for band in MOTION_BANDS]) / BAND_DELAYS_S["B04"] - 0.5

_FASTEST_KMH = 100.0
"""Upper limit for tracks known only from their box: boxes drawn by eye have a margin."""

_STRIP_ROWS = 512
_COG_CACHE_MB = 64


@dataclass(frozen=True)
class Masks:
    """The P pixels of N trucks, ordered by row, then column; each pixel belongs to one truck."""

    count: int
    """N. A truck that is covered by better ones has no pixel."""
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    trucks: NDArray[np.int64]
    """(P,) each: pixel, and number of its truck."""

    def burn(self, strip: NDArray[np.int32], top: int, values: NDArray[np.integer]) -> None:
        """Put each truck's value (N,) on its pixels of `strip`, (H, W), whose first row is `top`."""
        part = slice(*np.searchsorted(self.rows, (top, top + len(strip))))
        strip[self.rows[part] - top, self.cols[part]] = values[self.trucks[part]]

    def boxes(self) -> NDArray[np.int64]:
        """Return boxes (N, 4) as x, y, width, height of each truck's pixels; 0 without pixels."""
        boxes = np.zeros((self.count, 4), np.int64)
        order = np.argsort(self.trucks, kind="stable")
        seen, first = np.unique(self.trucks[order], return_index=True)
        if len(seen):
            for axis, places in enumerate((self.cols[order], self.rows[order])):
                low, high = np.minimum.reduceat(places, first), np.maximum.reduceat(places, first)
                boxes[seen, axis], boxes[seen, axis + 2] = low, high - low + 1
        return boxes


def truck_masks(trucks: gpd.GeoDataFrame, grid: GeoBox) -> Masks:
    """Return the pixels of the grid that show N trucks, given as polygons in its CRS.

    A box with a known direction: the union of the blobs in B02, B08, B03 and B04. A blob is the pixels in
    which the blurred body of 13 m x 2.6 m has at least half its peak, at the band's place along the
    displacement. The direction is `heading_deg` or `travel_deg` (by the column `band_order`, if present, B02
    or B04 is in front), else `axis_deg`, degrees clockwise from grid north. The displacement is `speed_kmh`
    times the bands' delay; without a speed, the longest that fits into the box, up to 100 km/h. Pixels
    outside of the box are left out.

    Other boxes, and MultiPolygons: the pixels whose centre is inside, or the one in the middle. A pixel of
    two trucks belongs to the higher `score`, or the first of equal ones.

    Takes 6 us a truck.
    """
    inverse = ~grid.affine
    linear = np.array([[inverse.a, inverse.b], [inverse.d, inverse.e]])
    shift = np.array([inverse.c, inverse.f])
    polygons = shapely.transform(trucks.geometry.to_numpy(), lambda places: places @ linear.T + shift)
    bounds = shapely.bounds(polygons).reshape(-1, 4)
    low, high = np.floor(bounds[:, :2]).astype(np.int64), np.ceil(bounds[:, 2:]).astype(np.int64)
    high = np.maximum(high, low + 1)
    truck, cols, rows = _pixels(low, high)
    centre, direction, displacement = _tracks(trucks, bounds, linear)
    has_track = np.isfinite(displacement) & (shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON)

    inside = np.zeros(len(truck), bool)
    tracked, other = np.flatnonzero(has_track[truck]), np.flatnonzero(~has_track[truck])
    inside[other] = shapely.intersects_xy(polygons[truck[other]], cols[other] + 0.5, rows[other] + 0.5)
    of = truck[tracked]
    off = np.stack([cols[tracked], rows[tracked]], axis=1) + 0.5 - centre[of]
    along = (off * direction[of]).sum(axis=1)
    across = off[:, 0] * direction[of, 1] - off[:, 1] * direction[of, 0]
    nearest = np.abs(along[:, None] - displacement[of, None] * _LAG).min(axis=1)
    inside[tracked] = (nearest / _HALF_ALONG) ** 2 + (across / _HALF_ACROSS) ** 2 <= 1
    empty = np.bincount(truck[inside], minlength=len(trucks)) == 0
    middle = np.floor(centre).astype(np.int64)
    inside |= empty[truck] & (cols == middle[truck, 0]) & (rows == middle[truck, 1])

    height, width = (int(side) for side in grid.shape)
    inside &= (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    score = trucks["score"].to_numpy(np.float64) if "score" in trucks else np.zeros(len(trucks))
    truck, place = truck[inside], rows[inside] * width + cols[inside]
    order = np.lexsort((truck, -score[truck], place))
    place, first = np.unique(place[order], return_index=True)
    return Masks(len(trucks), place // width, place % width, truck[order][first])


def write_panoptic(
    folder: Path, scene: Scene, landcover: Path, trucks: gpd.GeoDataFrame, legend: Sequence[LegendClass]
) -> dict[str, Path]:
    """Write the segments of a scene as `RASTER`, a COG, and `SEGMENTS`; return both by name.

    `landcover` is a class raster on the scene's grid (255: void), `trucks` a layer of `truck_layer`; trucks
    are on top. Reads and writes strips of 512 rows: 80 MB for a granule with 19,000 trucks, and 12 s, most of
    them in GDAL.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    masks = truck_masks(trucks, scene.grid)
    ids = _segment_ids(legend, masks.count)
    colours = np.stack([ids & 255, ids >> 8 & 255, ids >> 16]).astype(np.uint8)
    values = np.arange(masks.count) + TRUCK_CATEGORY
    areas, corners = np.zeros(NODATA, np.int64), np.tile((2**31, 2**31, 0, 0), (NODATA, 1))
    with replacing(folder / RASTER) as part, TemporaryDirectory() as scratch:
        draft = Path(scratch) / RASTER
        with (
            rasterio.Env(GDAL_CACHEMAX=_COG_CACHE_MB),
            rasterio.open(landcover) as source,
            rasterio.open(draft, "w", **_profile(source)) as target,
        ):
            top = 0
            for classes in read_strips(source, _STRIP_ROWS):
                strip = classes.astype(np.int32)
                masks.burn(strip, top, values)
                _measure(strip, top, areas, corners)
                window = Window(0, top, source.width, len(strip))
                for band, channel in enumerate(colours, start=1):
                    target.write(channel[strip], band, window=window)
                top += len(strip)
        with rasterio.Env(GDAL_CACHEMAX=_COG_CACHE_MB):
            rasterio.shutil.copy(
                draft,
                part,
                driver="COG",
                compress="DEFLATE",
                blocksize=512,
                overview_resampling="NEAREST",  # no id is between two others
                bigtiff="IF_SAFER",
            )
    described = _description(
        scene, legend, [*_stuff(areas, corners, ids, legend), *_things(masks, ids, trucks)]
    )
    with replacing(folder / SEGMENTS) as part:
        part.write_text(json.dumps(described, allow_nan=False) + "\n", encoding="utf-8")
    return {name: folder / name for name in (RASTER, SEGMENTS)}


def _pixels(
    low: NDArray[np.int64], high: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return box number, column and row of every pixel from `low` up to `high`, (N, 2) x, y."""
    width, height = (high - low).T
    count = width * height
    box = np.repeat(np.arange(len(low)), count)
    nth = np.arange(len(box)) - np.repeat(np.cumsum(count) - count, count)
    return box, low[box, 0] + nth % width[box], low[box, 1] + nth // width[box]


def _tracks(
    trucks: gpd.GeoDataFrame, bounds: NDArray[np.float64], linear: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return centre (N, 2), unit vector of motion (N, 2) and displacement from B02 to B04 (N,), in pixels.

    The displacement is NaN if the direction is unknown.
    """

    def column(name: str) -> NDArray[np.float64]:
        empty = pd.Series(np.nan, index=trucks.index)
        return np.asarray(pd.to_numeric(trucks.get(name, empty), errors="coerce"), dtype=np.float64)

    heading = np.where(np.isnan(column("heading_deg")), column("travel_deg"), column("heading_deg"))
    if "band_order" in trucks:
        heading = heading + np.where(trucks["band_order"].to_numpy(object) == "red_first", 180.0, 0.0)
    azimuth = np.deg2rad(np.where(np.isnan(heading), column("axis_deg"), heading))
    on_map = np.stack([np.sin(azimuth), np.cos(azimuth)], axis=1) @ linear.T
    pixels_per_metre = np.linalg.norm(on_map, axis=1)
    direction = on_map / pixels_per_metre[:, None]
    per_kmh = BAND_DELAYS_S["B04"] / 3.6 * pixels_per_metre
    displacement = column("speed_kmh") * per_kmh

    reach = np.abs(direction)
    body = _LENGTH * reach + _WIDTH * reach[:, ::-1] + 2 * _MARGIN
    room = np.maximum(bounds[:, 2:] - bounds[:, :2] - body, 0)
    longest = np.divide(room, reach, out=np.full_like(room, np.inf), where=reach > 1e-9).min(axis=1)
    longest = np.minimum(longest, _FASTEST_KMH * per_kmh)
    displacement = np.where(
        np.isnan(displacement), np.where(np.isnan(azimuth), np.nan, longest), displacement
    )
    return (bounds[:, :2] + bounds[:, 2:]) / 2, direction, displacement


def _segment_ids(legend: Sequence[LegendClass], trucks: int) -> NDArray[np.int64]:
    """Return the ids (256 + N,) of each class value (0 without a class) and of each truck; all different."""
    ids = np.full(TRUCK_CATEGORY, _VOID_ID, np.int64)
    taken = {_VOID_ID}
    for entry in legend:
        red, green, blue = rgb(entry.colour)
        wanted = red + 256 * green + 65536 * blue
        while wanted in taken:
            wanted = (wanted + 1) % 2**24
        ids[entry.value] = wanted
        taken.add(wanted)
    # full red first; an odd factor visits all 65536 pairs of green and blue, with distant neighbours
    number = np.arange(trucks + len(taken))
    bright = 255 - (number >> 16) + 256 * (number * 40503 % 65536)
    return np.concatenate([ids, bright[~np.isin(bright, list(taken))][:trucks]])


def _profile(source: rasterio.DatasetReader) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "height": source.height,
        "width": source.width,
        "count": 3,
        "dtype": "uint8",
        "crs": source.crs,
        "transform": source.transform,
        "photometric": "RGB",
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
        "zlevel": 1,
        "bigtiff": "if_safer",
    }


def _measure(
    strip: NDArray[np.int32], top: int, areas: NDArray[np.int64], corners: NDArray[np.int64]
) -> None:
    """Add a strip's pixels to the area of each class, and to its corners: left, top, right, bottom."""
    stuff = np.where(strip < NODATA, strip + 1, 0)
    areas += np.bincount(stuff.ravel(), minlength=NODATA + 1)[1:]
    for value, found in enumerate(find_objects(stuff, NODATA)):
        if found is not None:
            rows, cols = found
            corners[value, :2] = np.minimum(corners[value, :2], (cols.start, top + rows.start))
            corners[value, 2:] = np.maximum(corners[value, 2:], (cols.stop, top + rows.stop))


def _stuff(
    areas: NDArray[np.int64],
    corners: NDArray[np.int64],
    ids: NDArray[np.int64],
    legend: Sequence[LegendClass],
) -> list[dict[str, Any]]:
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return [
        _segment(ids[entry.value], entry.value + 1, areas[entry.value], boxes[entry.value])
        for entry in legend
        if areas[entry.value]
    ]


def _things(masks: Masks, ids: NDArray[np.int64], trucks: gpd.GeoDataFrame) -> list[dict[str, Any]]:
    areas = np.bincount(masks.trucks, minlength=masks.count)
    columns = [trucks["id"].astype(str), trucks["score"].astype(float)]
    return [
        {**_segment(number, TRUCK_CATEGORY, area, box), "truck_id": name, "score": score}
        for number, area, box, name, score in zip(
            ids[TRUCK_CATEGORY:], areas, masks.boxes(), *columns, strict=True
        )
        if area
    ]


def _segment(number: int, category: int, area: int, box: NDArray[np.int64]) -> dict[str, Any]:
    return {
        "id": int(number),
        "category_id": category,
        "area": int(area),
        "bbox": box.tolist(),
        "iscrowd": 0,
    }


def _description(
    scene: Scene, legend: Sequence[LegendClass], segments: list[dict[str, Any]]
) -> Mapping[str, Any]:
    """Build COCO's annotation of a set of images; here of one."""
    rows, cols = scene.shape
    acquired = scene.acquired.isoformat() if scene.acquired else None
    return {
        "info": {"description": f"Land cover and trucks of {scene.id}"},
        "images": [
            {"id": 1, "file_name": scene.id, "width": cols, "height": rows, "date_captured": acquired}
        ],
        "annotations": [{"image_id": 1, "file_name": RASTER, "segments_info": segments}],
        "categories": [
            *(
                _category(entry.value + 1, entry.name, "land cover", False, entry.colour)
                | {"value": entry.value}
                for entry in legend
            ),
            _category(TRUCK_CATEGORY, "truck", "vehicle", True, _TRUCK_COLOUR),
        ],
    }


def _category(number: int, name: str, kind: str, is_thing: bool, colour: str) -> dict[str, Any]:
    return {
        "id": number,
        "name": name,
        "supercategory": kind,
        "isthing": int(is_thing),
        "color": list(rgb(colour)),
    }
