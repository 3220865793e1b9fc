"""Rendering of a world with ground, roads, buildings, vehicles, optics, sky and noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.ndimage import convolve1d
from shapely import STRtree, points

from pipeline.simulation.rendering import Vehicle
from pipeline.simulation.world import atmosphere, buildings, fleet, landscape, network, painting, spectra
from pipeline.simulation.world.demand import Demand
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.objects import World
from pipeline.simulation.world.overpass import on_date
from pipeline.simulation.world.spectra import BANDS
from pipeline.simulation.world.traffic import Vehicles, make_traffic

BLOCK_PX = 540
"""Side of the blocks of a rendered scene, a multiple of `GRID_PX`."""
GRID_PX = 6
"""Unit of sizes: they are rounded up to complete pixels of 60 m."""
FAINT_PX = 0.05
"""Minimum difference between a vehicle and the road to be easily visible, as reflectance times pixels."""
GLIMPSED_PX = 0.016
"""Minimum difference of a light vehicle to be in the truth: three deviations of the noise of one band.

Through the blur a matched filter adds the noise of some 3.6 pixels, 0.003 each on asphalt.
"""
SLOW_KMH = 35.0
"""Speed below which a vehicle's displacement between bands is hardly visible: less than a pixel."""
STANDING_KMH = 12.0
"""Speed below which no displacement is visible."""
VEILED = 0.5
"""Minimum share of its contrast through cloud and haze for a vehicle to be judged."""
HIDDEN = 0.1
"""Minimum share of the contrast of any object in the truth."""
BORDER_PX = 2.0
"""Minimum distance of a complete box from the scene's edge."""
_HALO = 8
_DRAWN_SIGMA = 0.4
"""Blur of drawn objects; with a smaller one their energy would depend on their sub-pixel position."""
PSF_SIGMA_PX = {"B02": 0.50, "B03": 0.51, "B04": 0.54, "B08": 0.56}
"""Blur of the 10 m bands, without the area of the pixel."""
_OTHER_SIGMA_PX = 0.8
MISREGISTERED_PX = 0.15
"""Maximum misregistration of a band."""


@dataclass(frozen=True)
class SimulatedVehicle:
    """Moving vehicle of the truth."""

    vehicle: Vehicle
    detector: int
    order: int
    """+1 if its detector sees B02 first, -1 if B04."""
    contrast: float
    """Difference from its road as in `fleet.contrast`, reflectance times pixels."""
    light: float
    """Share of the contrast that cloud, haze and cloud shadow leave, 0-1."""
    clear: float = 1.0
    """Share of it that cloud and haze leave."""
    cut: bool = False
    """True if the scene's edge cuts its box."""

    @property
    def kind(self) -> str:
        """Return its kind, as in `fleet.KINDS`."""
        return self.vehicle.kind

    @property
    def weight(self) -> str:
        """Return `heavy` if it is at least 8 m long, and `light` if not."""
        return "heavy" if fleet.is_heavy(self.vehicle) else "light"

    @property
    def confidence(self) -> str:
        """Return `ignore` if no observer could judge it, `low` if it is hardly visible, and `high` otherwise.

        Under the edge of a cloud, at the scene's edge, and without visible motion, no observer can judge a
        vehicle. Faint ones and slow ones are `low`.
        """
        if self.cut or self.clear < VEILED or self.vehicle.speed_kmh < STANDING_KMH:
            return "ignore"
        seen = self.contrast * self.light > FAINT_PX and self.vehicle.speed_kmh >= SLOW_KMH
        return "high" if seen else "low"

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
    def of(
        cls,
        size: int,
        seed: int,
        traffic: bool = True,
        demand: Demand | None = None,
        day: date | None = None,
    ) -> Stage:
        """Build the stage of a size and seed, on a date of the seed or on `day`."""
        world = plan_world(size, seed) if day is None else on_date(plan_world(size, seed), day)
        moving = make_traffic(world, demand) if traffic else Vehicles()
        roofs = buildings.make_roofs(world)
        return cls(world, moving, roofs, np.array([(one.x, one.y) for one in roofs]).reshape(-1, 2))

    def vehicles(self) -> tuple[SimulatedVehicle, ...]:
        """Return the heavy vehicles, and the light ones that can be seen, that are not hidden by cloud."""
        vehicles = [*self.traffic.heavy, *self.traffic.light]
        roads = [road for road in self.world.roads if not road.oneway]
        if not vehicles or not roads:
            return ()
        surfaces = [road.surface(materials(range(len(BANDS)))).tolist() for road in roads]
        places = np.array([(vehicle.x, vehicle.y) for vehicle in vehicles])
        nearest = np.asarray(STRtree([road.line for road in roads]).nearest(points(places)))
        detectors = self.world.detector(*places.T)
        found = []
        for vehicle, road, detector in zip(vehicles, nearest.tolist(), detectors.tolist(), strict=True):
            shows = fleet.contrast(vehicle, surfaces[road])
            inside = 0 <= vehicle.x < self.world.size and 0 <= vehicle.y < self.world.size
            if not inside or (shows < GLIMPSED_PX and not fleet.is_heavy(vehicle)):
                continue
            light, clear = self._light(vehicle)
            if clear > HIDDEN:
                order = 1 if detector % 2 else -1
                cut = not is_inside(self.world, vehicle, order)
                found.append(SimulatedVehicle(vehicle, detector, order, shows, light, clear, cut))
        return tuple(found)

    def _light(self, vehicle: Vehicle) -> tuple[float, float]:
        """Return the shares of a contrast that sky and shadow, and that the sky alone, leave around it."""
        xs, ys = vehicle.x + np.arange(-3.0, 4.0), vehicle.y + np.arange(-3.0, 4.0)
        above = atmosphere.sky(self.world, xs, ys)
        clear = (1 - above.cloud) * (1 - above.cirrus)
        return float((clear * (1 - atmosphere.SHADE * above.shadow)).min()), float(clear.min())

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
        surfaces = materials([BANDS.index(band) for band in bands])
        for road in self._painting_order():
            network.paint_road(image, covered, road, xs, ys, surfaces, _DRAWN_SIGMA)
        ground.landcover[covered >= 0.5] = spectra.BUILT
        drawn = dict.fromkeys(bands, _DRAWN_SIGMA)
        roofs = self._roofs_near(window)
        left, top = xs[0] - 0.5, ys[0] - 0.5
        built = painting.paint_roofs(image, bands, roofs, world.season.sun_azimuth_deg, drawn, (left, top))
        ground.landcover[built >= 0.5] = spectra.BUILT
        painting.paint_vehicles(image, bands, world, self.traffic, drawn, (left, top))
        for channel, band in enumerate(bands):
            rng = np.random.default_rng([world.seed, 505, BANDS.index(band), world.day])
            image[channel] = _through_optics(image[channel], band, rng)
        above = atmosphere.sky(world, xs, ys)
        atmosphere.add_sky(image, bands, world, xs, ys, above)
        inner = (slice(_HALO, -_HALO), slice(_HALO, -_HALO))
        image = np.ascontiguousarray(image[:, *inner])
        for channel, band in enumerate(bands):
            place = [int(window.row_off), int(window.col_off), BANDS.index(band)]
            rng = np.random.default_rng([world.seed, 606, *place, world.day])
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

    def _roofs_near(self, window: Window) -> list[buildings.Roof]:
        """Return the roofs that may reach into a window, in the order in which they are painted."""
        half = np.array([window.width, window.height]) / 2
        away = np.abs(self.centres - [window.col_off, window.row_off] - half)
        near = (away < half + _HALO + painting.REACH_PX).all(axis=1)
        return [self.roofs[index] for index in np.flatnonzero(near)]

    def _painting_order(self) -> list[network.Road]:
        rank = {"railway": 0, "motorway_link": 1, "motorway": 2, "tertiary": 3, "secondary": 4}
        return sorted((*self.world.railways, *self.world.roads), key=lambda road: rank[road.road_class])


def materials(picked: Sequence[int]) -> dict[str, NDArray[np.float32]]:
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


def is_inside(world: World, vehicle: Vehicle, order: int) -> bool:
    """Return True if the box of a vehicle is inside the scene, with some margin."""
    x0, y0, x1, y1 = vehicle.box(order)
    return min(x0, y0) >= BORDER_PX and max(x1, y1) <= world.size - BORDER_PX


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
