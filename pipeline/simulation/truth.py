"""Truth of a simulated place as vector files: vehicles, roads, and what stands there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
from affine import Affine
from shapely import box, clip_by_rect, polygons, transform

from pipeline.simulation.product_metadata import EPSG, Granule
from pipeline.simulation.rendering import PIXEL_M
from pipeline.simulation.world.buildings import Roof
from pipeline.simulation.world.network import Road
from pipeline.simulation.world.spectra import BANDS
from pipeline.simulation.world.stage import Stage
from pipeline.storage.vector_sources import writable_name


def write_vehicles(path: Path, stage: Stage, granule: Granule) -> None:
    """Write layer `trucks`: the heavy vehicles, and the light ones that can be seen."""
    vehicles = stage.vehicles()
    to_map = granule.affine(10)
    world = stage.world
    name = f"sim-{world.seed}-{world.season.acquired:%Y%m%d}-" if world.day else f"sim-{world.seed}-"
    table = gpd.GeoDataFrame(
        {
            "id": [f"{name}{number:04d}" for number in range(1, len(vehicles) + 1)],
            "kind": [one.kind for one in vehicles],
            "vehicle": [one.weight for one in vehicles],
            "confidence": [one.confidence for one in vehicles],
            "travel_deg": [one.vehicle.heading_deg for one in vehicles],
            "speed_kmh": [one.vehicle.speed_kmh for one in vehicles],
            "length_m": [one.vehicle.length_m for one in vehicles],
            "width_m": [one.vehicle.width_m for one in vehicles],
            "msi_detector": np.array([one.detector for one in vehicles], np.int32),
            "band_order": ["blue_first" if one.order > 0 else "red_first" for one in vehicles],
        },
        geometry=[box(*_bounds(to_map, one.box)) for one in vehicles],
        crs=EPSG,
    )
    _write(path, table, granule, layer="trucks", geometry_type="Polygon")


def write_roads(path: Path, granule: Granule) -> None:
    """Write layer `roads`: a line for each carriageway, in its direction of travel."""
    to_map = granule.affine(10)
    lines, attributes = [], []
    for road in granule.world.roads:
        divided = bool(road.median_m) or road.oneway
        for line in road.carriageways():
            inside = clip_by_rect(line, 0, 0, granule.size, granule.size)
            if not inside.is_empty:
                lines.append(transform(inside, lambda xy: xy * [to_map.a, to_map.e] + [to_map.c, to_map.f]))
                attributes.append(
                    {
                        "road_class": road.road_class,
                        "highway": road.road_class,
                        "ref": road.ref,
                        "name": _name(road),
                        "lanes": np.int32(road.lanes if divided else 2 * road.lanes),
                        "oneway": "yes" if divided else "no",
                        "driving_side": "right" if granule.world.driving_side > 0 else "left",
                    }
                )
    table = gpd.GeoDataFrame(attributes, geometry=lines, crs=EPSG).explode(ignore_index=True)
    _write(path, table, granule, layer="roads", geometry_type="LineString")


def _name(road: Road) -> str:
    """Return the name that both carriageways of a road have; ramps have that of the road they leave."""
    kind = {"motorway": "Motorway", "motorway_link": "Ramp of motorway"}.get(road.road_class, "Road")
    return f"{kind} {road.ref}"


def write_look_alikes(path: Path, standing: Sequence[Roof], granule: Granule) -> None:
    """Write layer `look_alikes`: what stands, which is the same on all dates.

    Those are roofs, bridges, gantries, works and parked vehicles. B02, B03 and B04 are reflectance.
    """
    roofs = [one for one in standing if 0 <= one.x < granule.size and 0 <= one.y < granule.size]
    table = gpd.GeoDataFrame(
        {
            "id": [f"sim-{granule.world.seed}-s{number:05d}" for number in range(1, len(roofs) + 1)],
            "length_m": [one.length * PIXEL_M for one in roofs],
            "width_m": [one.width * PIXEL_M for one in roofs],
            "heading_deg": [one.heading_deg for one in roofs],
        }
        | {band: [one.reflectance[BANDS.index(band)] for one in roofs] for band in ("B02", "B03", "B04")},
        geometry=_outlines(roofs, granule.affine(10)),
        crs=EPSG,
    )
    _write(path, table, granule, layer="look_alikes", geometry_type="Polygon")


def _outlines(roofs: Sequence[Roof], to_map: Affine) -> list[Any]:
    """Return the rectangles of roofs on the map."""
    angle = np.deg2rad([one.heading_deg for one in roofs])
    ahead = np.stack([np.sin(angle), -np.cos(angle)], axis=1)[:, None]
    right = np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None]
    half = np.array([(one.length / 2, one.width / 2) for one in roofs]).reshape(-1, 2)
    corners = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)])
    steps = half[:, None] * corners
    pixels = np.array([(one.x, one.y) for one in roofs]).reshape(-1, 1, 2)
    pixels = pixels + steps[..., :1] * ahead + steps[..., 1:] * right
    return list(polygons(pixels * [to_map.a, to_map.e] + [to_map.c, to_map.f]))


def _write(path: Path, table: gpd.GeoDataFrame, granule: Granule, **options: str) -> None:
    # GeoPackages hold the time of writing unless it is set; the same seed gives the same file
    pyogrio.set_gdal_config_options(
        {"OGR_CURRENT_DATE": f"{granule.world.season.acquired:%Y-%m-%dT%H:%M:%S.000Z}"}
    )
    try:
        with writable_name(path) as name:
            table.to_file(name, **options)
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def _bounds(to_map: Affine, pixels: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = pixels
    return (
        to_map.c + to_map.a * x0,
        to_map.f + to_map.e * y1,
        to_map.c + to_map.a * x1,
        to_map.f + to_map.e * y0,
    )
