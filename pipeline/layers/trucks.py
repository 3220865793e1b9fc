"""Trucks as map features: position, heading, speed, and attributes of their surroundings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray

from pipeline.config import Trucks
from pipeline.errors import RoadsError
from pipeline.inference.predictions import Detections, MinScores
from pipeline.layers.columns import TRUCKS, TRUCKS_AMONG_VEHICLES
from pipeline.layers.search_area import where_seen
from pipeline.layers.surroundings import near_cloud, touches_nodata, values_at
from pipeline.models.legend import LegendClass
from pipeline.scenes.detectors import detectors_at
from pipeline.scenes.msi import BAND_DELAYS_S
from pipeline.scenes.scene import Scene, date_text

MOVING_SIGMAS = 2.0
"""Minimum displacement, in standard deviations, for a heading or an axis."""

DELAY_SIGMA = 0.02
"""Relative uncertainty of the delay between B02 and B04: that of the handbook's value. The delay from the
viewing angles is more precise, but uses the orbit's mean height (1 % off at the poles)."""

_PIECES_AT_ONCE = 50_000

WEAKEST_SCORE = 0.2
"""Lowest score of detections that are kept, also below the threshold."""

Lookup = Callable[[NDArray[np.float64], NDArray[np.float64]], Sequence[str | None]]
"""Function from places, as x and y in the scene's CRS, to names of classes; None where there is no class."""


def found_trucks(
    detections: Detections,
    scene: Scene,
    status: Path,
    settings: Trucks,
    thresholds: MinScores,
    *,
    model: str,
    landcover: Path | None = None,
    legend: Sequence[LegendClass] = (),
    roads: gpd.GeoDataFrame | None = None,
) -> gpd.GeoDataFrame:
    """Return the detections of a scene as `truck_layer` does: above a threshold, searched, fast enough.

    `status` and `landcover` are rasters of the scene's grid as in `pipeline.inference.predictions`; `legend`
    has the classes of the land cover.

    Raises
    ------
    CorruptImageError
        If a raster of the scene (detector footprints, scene classification) can't be decoded.
    """
    good = where_seen(detections.take(_reached(detections, thresholds)), status)
    trucks = truck_layer(
        good,
        scene,
        model=model,
        landcover=None if landcover is None else _class_names(landcover, legend),
        roads=roads,
        road_buffer_m=settings.road_buffer_m,
        touches_nodata=touches_nodata(good.boxes, status),
        near_cloud=near_cloud(scene, good.centres, settings.cloud_buffer_m, status),
    )
    if settings.min_speed_kmh > 0:
        slow = trucks["speed_kmh"].astype(float) < settings.min_speed_kmh
        trucks = trucks[~slow.fillna(False)].reset_index(drop=True)
    return trucks


def shown(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores as layers have them, to four decimals; thresholds are compared with these."""
    return np.round(scores, 4)


def _reached(detections: Detections, thresholds: MinScores) -> NDArray[np.bool_]:
    vehicles = detections.vehicle_scores
    return thresholds.reached(shown(detections.scores), None if vehicles is None else shown(vehicles))


def below_threshold(
    detections: Detections, scene: Scene, status: Path, thresholds: MinScores
) -> gpd.GeoDataFrame:
    """Return searched detections below the thresholds: `score`, `vehicle_score` if there is one, the box.

    Those have a `vehicle_score` of at least `WEAKEST_SCORE` where `thresholds` has one of vehicles, else such
    a `score`.
    """
    scores = detections.scores
    if thresholds.vehicle is not None and detections.vehicle_scores is not None:
        scores = detections.vehicle_scores
    below = ~_reached(detections, thresholds) & (shown(scores) >= WEAKEST_SCORE)
    weak = where_seen(detections.take(below), status)
    boxes = _box_polygons(weak.boxes, scene.grid.affine)
    scored = {"score": weak.scores, "vehicle_score": weak.vehicle_scores}
    columns = {name: shown(values) for name, values in scored.items() if values is not None}
    return gpd.GeoDataFrame({**columns, "geometry": boxes}, crs=_crs(scene))


def truck_layer(
    detections: Detections,
    scene: Scene,
    *,
    model: str,
    landcover: Lookup | None = None,
    roads: gpd.GeoDataFrame | None = None,
    road_buffer_m: float = 30.0,
    near_cloud: NDArray[np.bool_] | None = None,
    touches_nodata: NDArray[np.bool_] | None = None,
) -> gpd.GeoDataFrame:
    """Return the trucks of a scene as `columns.TRUCKS`, in its CRS, from north to south, then west to east.

    They have `vehicle_score`, too, if the detector scores vehicles of any kind.

    Headings and axes are degrees clockwise from the grid north of the scene's CRS (off true north by the
    meridian convergence, less than 3 degrees on a UTM tile), null unless the truck moved by at least
    `MOVING_SIGMAS`. A heading also needs the band order; `heading_source` is then `band_order`
    (`layers.traffic` adds other sources, and `segment_id`). Speeds are km/h over the ground, from the
    delay of the MSI detector that saw the truck (the handbook's if it is unknown). Their standard deviation
    includes that of the displacement and of the delay. `roads` has `road_id` and `road_class`; a truck gets
    those of the nearest road within `road_buffer_m`. `near_cloud` and `touches_nodata` are flags (N,).
    Without `near_cloud` the column is null. A box on the border of the scene always touches the edge.
    `acquired` is a time in UTC, null if unknown; `acquired_date` is its date as text, also without a time.
    Scores are rounded to four decimals, degrees and km/h to one; further digits are noise.
    """
    order = detections.north_to_south()
    detections = detections.take(order)
    boxes = detections.boxes
    affine = scene.grid.affine
    xs, ys = _to_map(affine, *detections.centres.T)
    detectors = np.zeros(len(boxes), np.int64) if scene.msi is None else detectors_at(scene.msi, xs, ys)
    band_order = [None if scene.msi is None or not d else scene.msi.band_order(int(d)) for d in detectors]
    motion = _motion(detections, scene, detectors, band_order)
    road_id, road_class = _nearest_road(xs, ys, scene, roads, road_buffer_m)
    on_edge = _on_border(boxes, scene.shape)
    if touches_nodata is not None:
        on_edge |= touches_nodata[order]
    cloudy: list[bool | None] = [None] * len(boxes) if near_cloud is None else near_cloud[order].tolist()
    columns: dict[str, Any] = {
        "id": _text(_ids(boxes, scene.id, model)),
        "score": shown(detections.scores),
        "scene_id": _text([scene.id] * len(boxes)),
        "acquired": _moments(scene.acquired, len(boxes)),
        "acquired_date": _text([date_text(scene.acquired)] * len(boxes)),
        **{name: np.round(column, 1) for name, column in motion.items()},
        "heading_source": _text(
            "band_order" if known else None for known in np.isfinite(motion["heading_deg"])
        ),
        "msi_detector": pd.array([int(d) or None for d in detectors], dtype="Int64"),
        "band_order": _text(band_order),
        "landcover": _text([None] * len(boxes) if landcover is None else landcover(xs, ys)),
        "road_id": _text(road_id),
        "road_class": _text(road_class),
        "segment_id": _text([None] * len(boxes)),
        "near_cloud": pd.Series(cloudy, dtype="boolean"),
        "touches_edge": on_edge,
        "model": _text([model] * len(boxes)),
        "geometry": _box_polygons(boxes, affine),
    }
    layer = TRUCKS
    if detections.vehicle_scores is not None:
        layer, columns["vehicle_score"] = TRUCKS_AMONG_VEHICLES, shown(detections.vehicle_scores)
    return layer.conform(gpd.GeoDataFrame(columns, crs=_crs(scene)))


def _class_names(raster: Path, legend: Sequence[LegendClass]) -> Lookup:
    names = {entry.value: entry.name for entry in legend}
    return lambda xs, ys: [names.get(value) for value in values_at(raster, xs, ys).tolist()]


def _to_map(
    affine: Affine, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def _crs(scene: Scene) -> Any:
    return None if scene.grid.crs is None else scene.grid.crs.proj


def _text(values: Iterable[str | None]) -> pd.Series:
    """Return a text column whose missing values are None, even if all are missing."""
    return pd.Series(list(values), dtype=object)


def _moments(moment: date | None, count: int) -> pd.Series:
    """Return a column of one time, in UTC and to the millisecond, the precision of all formats.

    A date is not a time.
    """
    if not isinstance(moment, datetime):
        return pd.Series([pd.NaT] * count, dtype="datetime64[ms, UTC]")
    utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return pd.Series([utc] * count, dtype="datetime64[us, UTC]").astype("datetime64[ms, UTC]")


def _ids(boxes: NDArray[np.float64], scene_id: str, model: str) -> list[str]:
    """Return hashes of scene, model and box (to a tenth of a pixel); equal boxes get a number."""
    seen: Counter[str] = Counter()
    ids = []
    for sides in (np.round(boxes, 1) + 0.0).tolist():
        name = "|".join([scene_id, model, *(f"{side:.1f}" for side in sides)])
        text = f"{name}|{seen[name]}"
        seen[name] += 1
        ids.append(hashlib.sha256(text.encode()).hexdigest()[:16])
    return ids


def _motion(
    detections: Detections, scene: Scene, detectors: NDArray[np.int64], band_order: Sequence[str | None]
) -> dict[str, NDArray[np.float64]]:
    """Compute heading, axis, speed and its standard deviation from the displacement between B02 and B04."""
    affine = scene.grid.affine
    dx, dy = detections.displacement.T
    east, north = affine.a * dx + affine.b * dy, affine.d * dx + affine.e * dy
    metres = np.hypot(east, north)
    pixels = np.hypot(dx, dy)
    sigma = detections.displacement_sigma
    metres_per_pixel = np.divide(
        metres, pixels, out=np.full(len(pixels), abs(affine.determinant) ** 0.5), where=pixels > 0
    )
    known = {int(d): scene.msi.delay_s(int(d)) for d in set(detectors.tolist()) if d} if scene.msi else {}
    delay_s = np.array([abs(known.get(int(d)) or BAND_DELAYS_S["B04"]) for d in detectors])
    speed = metres / delay_s * 3.6
    speed_sigma = np.hypot(sigma * metres_per_pixel / delay_s * 3.6, DELAY_SIGMA * speed)

    towards_b04 = np.degrees(np.arctan2(east, north)) % 360
    moves = pixels >= MOVING_SIGMAS * sigma
    turn = np.array(
        [{"blue_first": 0.0, "red_first": 180.0}.get(order or "", np.nan) for order in band_order]
    )
    return {
        "heading_deg": np.where(moves, (towards_b04 + turn) % 360, np.nan),
        "axis_deg": np.where(moves, towards_b04 % 180, np.nan),
        "speed_kmh": speed,
        "speed_kmh_sigma": np.where(np.isfinite(speed), speed_sigma, np.nan),
    }


def _nearest_road(
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    scene: Scene,
    roads: gpd.GeoDataFrame | None,
    buffer_m: float,
) -> tuple[list[str | None], list[str | None]]:
    """Return `road_id` and `road_class` of the nearest road of each place; the first of equally near ones."""
    none: list[str | None] = [None] * len(xs)
    if roads is None or roads.empty or not len(xs):
        return none, none
    if roads.crs is None:
        raise RoadsError("the roads have no CRS; save them with one")
    roads = roads.to_crs(_crs(scene)).reset_index(drop=True)
    places = np.asarray(shapely.points(xs, ys), dtype=object)
    truck, road, metres = _roads_within(places, roads.geometry.to_numpy(), buffer_m)
    order = np.lexsort((road, metres, truck))
    near, first = np.unique(truck[order], return_index=True)
    nearest = road[order][first]

    def names(column: str) -> list[str | None]:
        values = roads[column].to_numpy(dtype=object)[nearest].tolist()
        found = none.copy()
        for index, value in zip(near.tolist(), values, strict=True):
            found[index] = None if pd.isna(value) else str(value)
        return found

    return names("road_id"), names("road_class")


def _roads_within(
    places: NDArray[np.object_], roads: NDArray[np.object_], metres: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return place, road and distance of all pairs that are near.

    Roads are split into straight pieces, as the rectangle around a long road contains half of all trucks.
    """
    parts, road_of_part = shapely.get_parts(roads, return_index=True)
    corners, part_of = shapely.get_coordinates(parts, return_index=True)
    begins = np.flatnonzero(part_of[1:] == part_of[:-1])
    tree = shapely.STRtree(places)
    found = []
    for start in range(0, max(1, len(begins)), _PIECES_AT_ONCE):
        begin = begins[start : start + _PIECES_AT_ONCE]
        pieces = np.asarray(
            shapely.linestrings(np.stack([corners[begin], corners[begin + 1]], axis=1)), dtype=object
        )
        piece, place = tree.query(pieces, predicate="dwithin", distance=metres)
        apart = np.asarray(shapely.distance(pieces[piece], places[place]))
        found.append((place, road_of_part[part_of[begin[piece]]], apart))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))  # type: ignore[return-value]


def _on_border(boxes: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows, cols = shape
    x_min, y_min, x_max, y_max = boxes.T
    return np.asarray((x_min <= 0) | (y_min <= 0) | (x_max >= cols) | (y_max >= rows))


def _box_polygons(boxes: NDArray[np.float64], affine: Affine) -> NDArray[np.object_]:
    """Return the boxes as polygons on the map, counter-clockwise on a north-up grid."""
    x_min, y_min, x_max, y_max = boxes.T
    x, y = np.stack([x_min, x_min, x_max, x_max], axis=1), np.stack([y_min, y_max, y_max, y_min], axis=1)
    return np.asarray(shapely.polygons(np.stack(_to_map(affine, x, y), axis=-1)), dtype=object)
