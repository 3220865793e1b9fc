"""Rendering of a world with ground, roads, buildings, vehicles, optics, sky and noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.ndimage import convolve1d
from shapely import Point, STRtree

from pipeline.simulation.rendering import PIXEL_M, Vehicle, add_vehicle, band_times, rectangle_coverage
from pipeline.simulation.world import atmosphere, buildings, landscape, network, spectra
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.objects import World
from pipeline.simulation.world.spectra import BANDS
from pipeline.simulation.world.traffic import Aircraft, Vehicles, contrast, is_inside, make_traffic

BLOCK_PX = 540
"""Side of the blocks of a rendered scene, a multiple of `GRID_PX`."""
GRID_PX = 6
"""Unit of sizes: they are rounded up to complete pixels of 60 m."""
FAINT_PX = 0.05
"""Minimum difference between a truck and the road to be visible, as reflectance times pixels."""
GLIMPSED_PX = 0.4 * FAINT_PX
"""Minimum difference of any other vehicle to be in the truth: it may look like a truck."""
SLOW_KMH = 35.0
"""Speed below which a truck's displacement between bands is hardly visible."""
VEILED = 0.8
"""Minimum share of its contrast under cloud, haze and shadow for a truck to be certain."""
HIDDEN = 0.1
"""Minimum share of the contrast of any object in the truth."""
TRUCK_HEIGHT_M = 3.8
_HALO = 8
_REACH = 30.0
"""Half of the maximum length, and the maximum displacement, of any object."""
_DRAWN_SIGMA = 0.4
"""Blur of drawn objects; with a smaller one their energy would depend on their sub-pixel position."""
PSF_SIGMA_PX = {"B02": 0.50, "B03": 0.51, "B04": 0.54, "B08": 0.56}
"""Blur of the 10 m bands, without the area of the pixel."""
_OTHER_SIGMA_PX = 0.8
MISREGISTERED_PX = 0.15
"""Maximum misregistration of a band."""


@dataclass(frozen=True)
class SimulatedTruck:
    """Vehicle of the truth: a moving truck, or a vehicle that looks like one."""

    vehicle: Vehicle
    detector: int
    order: int
    """+1 if its detector sees B02 first, -1 if B04."""
    kind: str
    """`truck`, `bus`, `van` or `car`."""
    contrast: float
    """Difference from its road as in `traffic.contrast`, reflectance times pixels."""
    light: float
    """Share of the contrast that cloud, haze and cloud shadow leave, 0-1."""

    @property
    def confidence(self) -> str:
        """Return `high`, or `low` if a person could not recognise it, or would take it for a truck.

        `low` are trucks with little contrast to their road, under haze or in cloud shadow, or in a slow jam,
        and all visible buses, vans and cars. The score of a detector ignores these.
        """
        seen = self.contrast * self.light > FAINT_PX and self.light > VEILED
        return "high" if self.kind == "truck" and seen and self.vehicle.speed_kmh >= SLOW_KMH else "low"

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Return (x_min, y_min, x_max, y_max) in pixels."""
        return self.vehicle.box(self.order)


@dataclass(frozen=True)
class RenderedBlock:
    """Window of a simulated scene."""

    window: Window
    reflectance: NDArray[np.float32]
    """(C, H, W) in the order of the requested bands; 20 m and 60 m bands on the 10 m grid."""
    landcover: NDArray[np.uint8]
    """(H, W), legend of Dynamic World: the class of the ground, also under cloud."""
    detector: NDArray[np.uint8]
    """(H, W), number of the MSI detector."""
    sky: atmosphere.Sky


@dataclass(frozen=True)
class Stage:
    """World with its traffic and buildings, rendered window by window."""

    world: World
    traffic: Vehicles
    roofs: tuple[buildings.Roof, ...]
    centres: NDArray[np.float64]
    """(N, 2): x, y of the roofs."""

    @classmethod
    def of(cls, size: int, seed: int, traffic: bool = True) -> Stage:
        """Build the stage of a size and seed."""
        world = plan_world(size, seed)
        moving = make_traffic(world) if traffic else Vehicles()
        roofs = buildings.make_roofs(world)
        return cls(world, moving, roofs, np.array([(one.x, one.y) for one in roofs]).reshape(-1, 2))

    def trucks(self) -> tuple[SimulatedTruck, ...]:
        """Return trucks, and other road vehicles that look like one, that are not hidden by cloud."""
        roads = [road for road in self.world.roads if not road.oneway]
        surfaces = [road.surface(_materials(range(len(BANDS)))).tolist() for road in roads]
        lines = STRtree([road.line for road in roads])
        found = []
        for kind, vehicles, least in (
            ("truck", self.traffic.trucks, 0.0),
            ("bus", self.traffic.buses, GLIMPSED_PX),
            ("van", self.traffic.vans, GLIMPSED_PX),
            ("car", self.traffic.cars, GLIMPSED_PX),
        ):
            for vehicle in vehicles:
                shows = contrast(vehicle, surfaces[int(lines.nearest(Point(vehicle.x, vehicle.y)))])
                if shows < least or not is_inside(self.world, vehicle):
                    continue
                light = self._light(vehicle)
                if light > HIDDEN:
                    detector = int(self.world.detector(np.array(vehicle.x), np.array(vehicle.y)))
                    order = self.world.order(vehicle.x, vehicle.y)
                    found.append(SimulatedTruck(vehicle, detector, order, kind, shows, light))
        return tuple(found)

    def _light(self, vehicle: Vehicle) -> float:
        xs, ys = vehicle.x + np.arange(-3.0, 4.0), vehicle.y + np.arange(-3.0, 4.0)
        return float(atmosphere.light_left(self.world, xs, ys).min())

    def render(self, bands: tuple[str, ...]) -> Iterator[RenderedBlock]:
        """Yield the scene block by block, row by row, its sides rounded up to a multiple of `GRID_PX`."""
        side = -(-self.world.size // GRID_PX) * GRID_PX
        for row in range(0, side, BLOCK_PX):
            for col in range(0, side, BLOCK_PX):
                window = Window(col, row, min(BLOCK_PX, side - col), min(BLOCK_PX, side - row))
                yield self.render_window(window, bands)

    def render_window(self, window: Window, bands: tuple[str, ...]) -> RenderedBlock:
        """Return one window of the scene as imaged."""
        world = self.world
        xs = np.arange(window.col_off - _HALO, window.col_off + window.width + _HALO) + 0.5
        ys = np.arange(window.row_off - _HALO, window.row_off + window.height + _HALO) + 0.5
        ground = landscape.render_ground(world, xs, ys, bands)
        image = ground.reflectance
        for channel in range(len(bands)):
            image[channel] = blurred(image[channel], _DRAWN_SIGMA**2, (0.0, 0.0))
        covered = np.zeros(image.shape[1:], np.float32)
        surfaces = _materials([BANDS.index(band) for band in bands])
        for road in self._painting_order():
            network.paint_road(image, covered, road, xs, ys, surfaces, _DRAWN_SIGMA)
        ground.landcover[covered >= 0.5] = spectra.BUILT
        self._add_roofs(image, ground.landcover, bands, xs[0] - 0.5, ys[0] - 0.5)
        self._add_vehicles(image, bands, xs[0] - 0.5, ys[0] - 0.5)
        for channel, band in enumerate(bands):
            rng = np.random.default_rng([world.seed, 505, BANDS.index(band)])
            image[channel] = _through_optics(image[channel], band, rng)
        above = atmosphere.sky(world, xs, ys)
        atmosphere.add_sky(image, bands, world, xs, ys, above)
        inner = (slice(_HALO, -_HALO), slice(_HALO, -_HALO))
        image = np.ascontiguousarray(image[:, *inner])
        for channel, band in enumerate(bands):
            place = [int(window.row_off), int(window.col_off), BANDS.index(band)]
            rng = np.random.default_rng([world.seed, 606, *place])
            sigma = 0.0012 + 0.006 * np.sqrt(np.maximum(image[channel], 0))
            image[channel] += sigma * rng.standard_normal(sigma.shape, np.float32)
        detector = world.detector(xs[None, _HALO:-_HALO], ys[_HALO:-_HALO, None])
        return RenderedBlock(
            window,
            image,
            np.ascontiguousarray(ground.landcover[inner]),
            detector,
            atmosphere.Sky(above.cloud[inner], above.cirrus[inner], above.shadow[inner]),
        )

    def _painting_order(self) -> list[network.Road]:
        rank = {"railway": 0, "motorway_link": 1, "motorway": 2, "tertiary": 3, "secondary": 4}
        return sorted((*self.world.railways, *self.world.roads), key=lambda road: rank[road.road_class])

    def _add_roofs(
        self,
        image: NDArray[np.float32],
        landcover: NDArray[np.uint8],
        bands: tuple[str, ...],
        left: float,
        top: float,
    ) -> None:
        picked = [BANDS.index(band) for band in bands]
        height, width = image.shape[1:]
        azimuth = np.deg2rad(self.world.season.sun_azimuth_deg)
        near = self.centres - [left + width / 2, top + height / 2]
        near = np.abs(near) < [width / 2 + _REACH, height / 2 + _REACH]
        for index in np.flatnonzero(near.all(axis=1)):
            roof = self.roofs[index]
            x, y = roof.x - left, roof.y - top
            colour = np.asarray(roof.reflectance, np.float32)[picked]
            if roof.shadow:
                away = -roof.shadow / 2 * np.sin(azimuth), roof.shadow / 2 * np.cos(azimuth)
                part, share = rectangle_coverage(
                    (height, width),
                    x + away[0],
                    y + away[1],
                    roof.heading_deg,
                    roof.length,
                    roof.width,
                    _DRAWN_SIGMA,
                )
                image[:, *part] *= 1 - np.float32(0.6) * share
            part, share = rectangle_coverage(
                (height, width), x, y, roof.heading_deg, roof.length, roof.width, _DRAWN_SIGMA
            )
            image[:, *part] += share * (colour[:, None, None] - image[:, *part])
            landcover[part][share >= 0.5] = spectra.BUILT

    def _add_vehicles(
        self, image: NDArray[np.float32], bands: tuple[str, ...], left: float, top: float
    ) -> None:
        height, width = image.shape[1:]
        sigma = dict.fromkeys(bands, _DRAWN_SIGMA)
        traffic = self.traffic
        for vehicles, tall in (
            ((*traffic.cars, *traffic.vans), False),
            ((*traffic.buses, *traffic.trucks), True),
            ((*traffic.details, *traffic.wagons), False),
        ):
            for vehicle in vehicles:
                x, y = vehicle.x - left, vehicle.y - top
                if -_REACH < x < width + _REACH and -_REACH < y < height + _REACH:
                    here, order = replace(vehicle, x=x, y=y), self.world.order(vehicle.x, vehicle.y)
                    if tall:
                        self._shade(image, bands, here, order)
                    add_vehicle(image, bands, here, order, sigma)
        for aircraft in traffic.aircraft:
            self._add_aircraft(image, bands, aircraft, left, top)

    def _shade(
        self, image: NDArray[np.float32], bands: tuple[str, ...], vehicle: Vehicle, order: int
    ) -> None:
        """Darken the ground beside a vehicle by its shadow, which moves with it."""
        season, times = self.world.season, band_times(order)
        length = TRUCK_HEIGHT_M * np.tan(np.deg2rad(season.sun_zenith_deg)) / PIXEL_M
        azimuth = np.deg2rad(season.sun_azimuth_deg)
        across = abs(np.sin(azimuth - np.deg2rad(vehicle.heading_deg))) * length
        for channel, band in enumerate(bands):
            if band in times:
                x, y = vehicle.position(times[band])
                x, y = x - length / 2 * np.sin(azimuth), y + length / 2 * np.cos(azimuth)
                part, share = rectangle_coverage(
                    image[channel].shape,
                    x,
                    y,
                    vehicle.heading_deg,
                    vehicle.length_m / PIXEL_M,
                    across,
                    _DRAWN_SIGMA,
                )
                image[channel, *part] *= 1 - np.float32(0.6) * share

    def _add_aircraft(
        self, image: NDArray[np.float32], bands: tuple[str, ...], aircraft: Aircraft, left: float, top: float
    ) -> None:
        """Draw an aircraft at its position in each band, which depends on its speed and height."""
        for part in aircraft.parts:
            order = self.world.order(part.x, part.y)
            for channel, band in enumerate(bands):
                right, down = atmosphere.parallax(band, order, aircraft.height_m)
                here = replace(part, x=part.x - left + right, y=part.y - top + down)
                add_vehicle(image[channel : channel + 1], (band,), here, order, {band: _DRAWN_SIGMA})


def _materials(picked: Sequence[int]) -> dict[str, NDArray[np.float32]]:
    """Return the materials of roads: (C,) reflectance in the bands at the indices `picked` of `BANDS`."""
    kept = list(picked)
    spectrum: dict[str, NDArray[np.float32]] = {
        name: np.asarray(spectra.MATERIALS[name].spectrum, np.float32)[kept]
        for name in ("asphalt", "verge", "concrete", "gravel")
    }
    half = np.float32(0.5)
    spectrum["median"] = half * (spectrum["asphalt"] + spectrum["verge"])
    spectrum["worn"] = half * (spectrum["asphalt"] + spectrum["concrete"])
    spectrum["ballast"] = half * (spectrum["asphalt"] + spectrum["gravel"])
    return spectrum


def misregistration(rng: np.random.Generator) -> tuple[float, float]:
    """Return a band's shift down and right in pixels, at most 0.15 px in length."""
    shift = rng.normal(0, 0.06, 2)
    down, right = (shift * min(1.0, MISREGISTERED_PX / max(float(np.hypot(*shift)), 1e-9))).tolist()
    return down, right


def _through_optics(image: NDArray[np.float32], band: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return one band with the rest of its blur, misregistered: any two bands by up to 0.3 px."""
    down, right = misregistration(rng)
    return blurred(image, PSF_SIGMA_PX.get(band, _OTHER_SIGMA_PX) ** 2 - _DRAWN_SIGMA**2, (down, right))


def blurred(image: NDArray[np.float32], variance: float, shift: tuple[float, float]) -> NDArray[np.float32]:
    """Return an image (H, W) through three taps a side with exactly this variance and shift."""
    for axis, move in enumerate(shift):
        second = variance + move**2
        taps = np.array([(second - move) / 2, 1 - second, (second + move) / 2])
        # convolve1d reverses the taps, so the last one moves towards higher indices
        image = convolve1d(image, taps, axis=axis, mode="nearest")
    return image
