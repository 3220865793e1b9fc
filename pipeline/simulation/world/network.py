"""Roads of a simulated world: their lines, their cross sections and their painting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from shapely import LineString

from pipeline.simulation.rendering import PIXEL_M, strip_coverage
from pipeline.simulation.world.noise import uniform

LANE_M = 3.75


@dataclass(frozen=True)
class Road:
    """Middle line, cross section and surface of a road or railway."""

    points: NDArray[np.float64]
    """(N, 2): x, y in pixels of the 10 m grid."""
    road_class: str
    ref: str
    lanes: int
    """Lanes in each direction; links have one direction."""
    median_m: float = 0.0
    shoulder_m: float = 0.5
    driving_side: int = 1
    """+1 if traffic keeps right, -1 if it keeps left."""
    shade: float = 1.0
    """Brightness of its surface, relative to that of its material."""
    concrete: float = 0.0
    """Share of concrete in its surface."""
    verge_m: float = 1.0
    """Width of the mown or bare strip on each side."""

    @property
    def oneway(self) -> bool:
        """Return True if traffic runs only from the first point to the last."""
        return self.road_class.endswith("_link")

    @property
    def carriageway_m(self) -> float:
        """Return the width of the asphalt of one direction."""
        return self.lanes * LANE_M + self.shoulder_m

    @property
    def half_width_m(self) -> float:
        """Return the distance from the middle line to the outer edge of the asphalt."""
        return self.median_m / 2 + self.carriageway_m * (0.5 if self.oneway else 1.0)

    @property
    def line(self) -> LineString:
        """Return the middle line."""
        return LineString(self.points)

    def carriageways(self) -> list[LineString]:
        """Return the lines of a road map, in pixels: one for each carriageway, in its direction of travel."""
        if self.median_m == 0:
            return [self.line]
        side = self.driving_side * (self.median_m + self.carriageway_m) / 2 / PIXEL_M
        normals = np.gradient(self.points, axis=0)[:, ::-1] * [-1, 1]
        normals /= np.hypot(*normals.T)[:, None]
        return [LineString(self.points + side * normals), LineString((self.points - side * normals)[::-1])]

    def lane_offset_m(self, lane: int) -> float:
        """Return the distance of a lane's middle to the right of the middle line, in metres; 0 is the inner
        lane."""
        if self.oneway:
            return 0.0
        return self.driving_side * (self.median_m / 2 + (lane + 0.5) * LANE_M + self.shoulder_m * 0.2)

    def surface(self, materials: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the mean reflectance (C,) of its carriageways, from `asphalt`, `worn`, `ballast` and
        `concrete`."""
        own = {"motorway": "asphalt", "motorway_link": "asphalt", "railway": "ballast"}
        base = materials[own.get(self.road_class, "worn")]
        return np.float32(self.shade) * (base + np.float32(self.concrete) * (materials["concrete"] - base))

    def place(self, distance_px: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the point and unit tangent (dx, dy) at a distance along the middle line."""
        points, tangents = self.places(np.array([distance_px]))
        return points[0], tangents[0]

    def places(self, distances_px: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (N, 2) points and (N, 2) unit tangents at N distances along the middle line."""
        ways = np.diff(self.points, axis=0)
        lengths = np.hypot(*ways.T)
        ends = np.cumsum(lengths)
        segment = np.minimum(np.searchsorted(ends, distances_px), len(lengths) - 1)
        tangents = ways[segment] / lengths[segment, None]
        return self.points[segment + 1] - (ends[segment] - distances_px)[:, None] * tangents, tangents


@dataclass(frozen=True)
class NearLine:
    """Pixels near a line: their indices, and their distances from and along it, in pixels."""

    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    offset: NDArray[np.float32]
    """Signed distance, positive to the right of the line's direction (y points down)."""
    along: NDArray[np.float32]


def near_line(
    points: NDArray[np.float64], xs: NDArray[np.float64], ys: NDArray[np.float64], reach: float
) -> NearLine:
    """Return the pixels of the grid `ys` x `xs` within `reach` of the line, with their nearest segment."""
    (left, top), (right, bottom) = points.min(axis=0) - reach, points.max(axis=0) + reach
    if right < xs[0] or left > xs[-1] or bottom < ys[0] or top > ys[-1]:
        nowhere, nothing = np.zeros(0, np.intp), np.zeros(0, np.float32)
        return NearLine(nowhere, nowhere, nothing, nothing)
    step = xs[1] - xs[0]
    nearest = np.full((len(ys), len(xs)), np.inf, np.float32)
    along = np.zeros_like(nearest)
    start = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        length = float(np.hypot(x1 - x0, y1 - y0))
        west = max(0, int((min(x0, x1) - reach - xs[0]) / step))
        east = min(len(xs), int((max(x0, x1) + reach - xs[0]) / step) + 2)
        north = max(0, int((min(y0, y1) - reach - ys[0]) / step))
        south = min(len(ys), int((max(y0, y1) + reach - ys[0]) / step) + 2)
        if west < east and north < south and length > 0:
            tx, ty = (x1 - x0) / length, (y1 - y0) / length
            px, py = xs[None, west:east] - x0, ys[north:south, None] - y0
            t = np.clip(px * tx + py * ty, 0, length)
            ex, ey = px - t * tx, py - t * ty
            signed = (np.hypot(ex, ey) * np.where(tx * ey - ty * ex >= 0, 1, -1)).astype(np.float32)
            here = nearest[north:south, west:east]
            closer = np.abs(signed) < np.abs(here)
            here[closer] = signed[closer]
            along[north:south, west:east][closer] = (start + t)[closer]
        start += length
    rows, cols = np.nonzero(np.abs(nearest) < reach)
    return NearLine(rows, cols, nearest[rows, cols], along[rows, cols])


def paint_road(
    image: NDArray[np.float32],
    covered: NDArray[np.float32],
    road: Road,
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    surfaces: dict[str, NDArray[np.float32]],
    sigma_px: float,
) -> None:
    """Paint a road over (C, H, W) reflectance and add its share to `covered` (H, W), both in place.

    `surfaces` has the (C,) reflectance of the materials of `Road.surface`, and of `verge` and `median`.
    """
    near = near_line(road.points, xs, ys, (road.half_width_m + road.verge_m) / PIXEL_M + 2.0)
    if not len(near.rows):
        return
    distance = near.offset
    # wear and repairs: each half kilometre was paved in a different year
    years = uniform(int(1e4 * road.shade), np.floor(near.along / 47).astype(np.int64), distance > 0)
    wear = 1 + 0.07 * np.sin(near.along / 37.0) * np.sin(near.along / 11.3 + 1) + 0.16 * (years - 0.5)
    _blend(
        image,
        near,
        strip_coverage(distance, 2 * (road.half_width_m + road.verge_m) / PIXEL_M, sigma_px),
        surfaces["verge"],
    )
    asphalt = strip_coverage(distance, 2 * road.half_width_m / PIXEL_M, sigma_px)
    _blend(image, near, asphalt, road.surface(surfaces), wear.astype(np.float32))
    if road.median_m:
        _blend(image, near, strip_coverage(distance, road.median_m / PIXEL_M, sigma_px), surfaces["median"])
    covered[near.rows, near.cols] = np.maximum(covered[near.rows, near.cols], asphalt)


def _blend(
    image: NDArray[np.float32],
    near: NearLine,
    share: NDArray[np.float32],
    reflectance: NDArray[np.float32],
    factor: NDArray[np.float32] | float = 1.0,
) -> None:
    for channel in range(image.shape[0]):
        band = image[channel]
        here = band[near.rows, near.cols]
        band[near.rows, near.cols] = here + share * (reflectance[channel] * factor - here)


def bent_line(
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    rng: np.random.Generator,
    bend: float,
    step: float = 6.0,
) -> NDArray[np.float64]:
    """Return a road between two points, (N, 2): straight but for slow bends of up to `bend` of its length."""
    way = end - start
    length = max(float(np.hypot(*way)), step)
    t = np.linspace(0, 1, max(3, int(length / step) + 1))
    normal = np.array([-way[1], way[0]]) / length
    sway = sum(
        rng.normal(0, bend / n**1.6) * length * np.sin(np.pi * n * t) for n in range(1, 2 + int(length / 90))
    )
    return start + t[:, None] * way + np.asarray(sway)[:, None] * normal
