"""A world put on stage and seen by the instrument: ground, roads, buildings, vehicles, optics, sky, noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.ndimage import convolve1d

from pipeline.training.rendering import PIXEL_M, Vehicle, add_vehicle, rectangle_coverage
from pipeline.training.world import atmosphere, buildings, landscape, network, spectra
from pipeline.training.world.layout import World, plan_world
from pipeline.training.world.spectra import BANDS
from pipeline.training.world.traffic import Traffic, make_traffic

BLOCK_PX = 540
"""Scenes are rendered by blocks of this side, a multiple of `GRID_PX`."""
GRID_PX = 6
"""What is rendered is rounded up to whole pixels of 60 m."""
FAINT_PX = 0.05
"""Reflectance times pixels by which a truck must differ from the road to be seen by eye."""
HIDDEN_OPACITY = 0.2
"""Under more cloud than this a truck is not in the truth."""
_HALO = 8
_REACH = 30.0
"""No object is longer than twice this, nor moves further."""
_DRAWN_SIGMA = 0.4
"""Blur with which things are drawn: with less, their energy would depend on where in a pixel they lie."""
PSF_SIGMA_PX = {"B02": 0.50, "B03": 0.51, "B04": 0.54, "B08": 0.56}
"""Blur of the 10 m bands; the pixel's own area comes on top."""
_OTHER_SIGMA_PX = 0.8


@dataclass(frozen=True)
class SimulatedTruck:
    """A moving truck that can be seen."""

    vehicle: Vehicle
    detector: int
    order: int
    """+1 where its detector sees B02 first, -1 where B04."""

    @property
    def confidence(self) -> str:
        """`high`, or `low` where the roof hardly differs from asphalt in two of the visible bands.

        Labels drawn by eye would miss such a truck; the score of a detector leaves it out.
        """
        asphalt = dict(zip(BANDS, spectra.MATERIALS["asphalt"].spectrum, strict=True))
        contrasts = sorted(
            abs(self.vehicle.reflectance[band] - asphalt[band]) for band in ("B02", "B03", "B04")
        )
        area_px = self.vehicle.length_m * self.vehicle.width_m / PIXEL_M**2
        return "high" if contrasts[1] * area_px > FAINT_PX else "low"

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(x_min, y_min, x_max, y_max) in pixels."""
        return self.vehicle.box(self.order)


@dataclass(frozen=True)
class RenderedBlock:
    """A window of a simulated scene."""

    window: Window
    reflectance: NDArray[np.float32]
    """(C, H, W) in the order of the bands asked for; the 20 m and 60 m bands on the 10 m grid."""
    landcover: NDArray[np.uint8]
    """(H, W), Dynamic World's legend: the ground's class, also under cloud."""
    detector: NDArray[np.uint8]
    """(H, W), number of the MSI detector."""
    sky: atmosphere.Sky


@dataclass(frozen=True)
class Stage:
    """A world with its traffic and buildings, ready to be rendered window by window."""

    world: World
    traffic: Traffic
    blocks: tuple[buildings.Block, ...]
    centres: NDArray[np.float64]
    """(N, 2): x, y of the blocks."""

    @classmethod
    def of(cls, size: int, seed: int, traffic: bool = True) -> Stage:
        """The stage of a size and seed."""
        world = plan_world(size, seed)
        moving = make_traffic(world) if traffic else Traffic((), (), ())
        blocks = buildings.make_blocks(world)
        return cls(world, moving, blocks, np.array([(block.x, block.y) for block in blocks]).reshape(-1, 2))

    def trucks(self) -> tuple[SimulatedTruck, ...]:
        """The trucks that are not hidden by cloud."""
        return tuple(
            SimulatedTruck(vehicle, int(self._detector(vehicle)), self.world.order(vehicle.x, vehicle.y))
            for vehicle in self.traffic.trucks
            if self._is_seen(vehicle)
        )

    def _detector(self, vehicle: Vehicle) -> int:
        return int(self.world.detector(np.array(vehicle.x), np.array(vehicle.y)))

    def _is_seen(self, vehicle: Vehicle) -> bool:
        xs, ys = vehicle.x + np.arange(-3.0, 4.0), vehicle.y + np.arange(-3.0, 4.0)
        return bool(atmosphere.cloud_field(self.world, xs, ys).max() < HIDDEN_OPACITY)

    def render(self, bands: tuple[str, ...]) -> Iterator[RenderedBlock]:
        """The scene block by block, row by row, its sides rounded up to a multiple of `GRID_PX` pixels."""
        side = -(-self.world.size // GRID_PX) * GRID_PX
        for row in range(0, side, BLOCK_PX):
            for col in range(0, side, BLOCK_PX):
                window = Window(col, row, min(BLOCK_PX, side - col), min(BLOCK_PX, side - row))
                yield self.render_window(window, bands)

    def render_window(self, window: Window, bands: tuple[str, ...]) -> RenderedBlock:
        """One window, as the instrument sees it."""
        world = self.world
        xs = np.arange(window.col_off - _HALO, window.col_off + window.width + _HALO) + 0.5
        ys = np.arange(window.row_off - _HALO, window.row_off + window.height + _HALO) + 0.5
        ground = landscape.render_ground(world, xs, ys, bands)
        image = ground.reflectance
        for channel in range(len(bands)):
            image[channel] = _blurred(image[channel], _DRAWN_SIGMA**2, (0.0, 0.0))
        covered = np.zeros(image.shape[1:], np.float32)
        surfaces = self._surfaces(bands)
        for road in self._painting_order():
            network.paint_road(image, covered, road, xs, ys, surfaces, _DRAWN_SIGMA)
        ground.landcover[covered >= 0.5] = spectra.BUILT
        self._add_blocks(image, ground.landcover, bands, xs[0] - 0.5, ys[0] - 0.5)
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

    def _surfaces(self, bands: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        picked = [BANDS.index(band) for band in bands]
        spectrum: dict[str, NDArray[np.float32]] = {
            name: np.asarray(spectra.MATERIALS[name].spectrum, np.float32)[picked]
            for name in ("asphalt", "verge", "concrete")
        }
        spectrum["median"] = np.float32(0.5) * (spectrum["asphalt"] + spectrum["verge"])
        spectrum["worn"] = np.float32(0.5) * (spectrum["asphalt"] + spectrum["concrete"])
        return spectrum

    def _painting_order(self) -> list[network.Road]:
        rank = {"motorway_link": 0, "motorway": 1, "tertiary": 2, "secondary": 3}
        return sorted(self.world.roads, key=lambda road: rank[road.road_class])

    def _add_blocks(
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
            block = self.blocks[index]
            x, y = block.x - left, block.y - top
            roof = np.asarray(block.reflectance, np.float32)[picked]
            if block.shadow:
                away = -block.shadow / 2 * np.sin(azimuth), block.shadow / 2 * np.cos(azimuth)
                part, share = rectangle_coverage(
                    (height, width),
                    x + away[0],
                    y + away[1],
                    block.heading_deg,
                    block.length,
                    block.width,
                    _DRAWN_SIGMA,
                )
                image[:, *part] *= 1 - np.float32(0.6) * share
            part, share = rectangle_coverage(
                (height, width), x, y, block.heading_deg, block.length, block.width, _DRAWN_SIGMA
            )
            image[:, *part] += share * (roof[:, None, None] - image[:, *part])
            landcover[part][share >= 0.5] = spectra.BUILT

    def _add_vehicles(
        self, image: NDArray[np.float32], bands: tuple[str, ...], left: float, top: float
    ) -> None:
        height, width = image.shape[1:]
        sigma = dict.fromkeys(bands, _DRAWN_SIGMA)
        for vehicle in (*self.traffic.cars, *self.traffic.trucks, *self.traffic.aircraft):
            x, y = vehicle.x - left, vehicle.y - top
            if -_REACH < x < width + _REACH and -_REACH < y < height + _REACH:
                add_vehicle(
                    image, bands, _moved(vehicle, x, y), self.world.order(vehicle.x, vehicle.y), sigma
                )


def _moved(vehicle: Vehicle, x: float, y: float) -> Vehicle:
    return Vehicle(
        x, y, vehicle.heading_deg, vehicle.speed_kmh, vehicle.length_m, vehicle.width_m, vehicle.reflectance
    )


def _through_optics(image: NDArray[np.float32], band: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """One band with the rest of its blur, and misregistered by up to 0.15 px each way."""
    down, right = np.clip(rng.normal(0, 0.06, 2), -0.15, 0.15).tolist()
    return _blurred(image, PSF_SIGMA_PX.get(band, _OTHER_SIGMA_PX) ** 2 - _DRAWN_SIGMA**2, (down, right))


def _blurred(image: NDArray[np.float32], variance: float, shift: tuple[float, float]) -> NDArray[np.float32]:
    """An image (H, W) through three taps a side whose mean and variance are exactly those asked for."""
    for axis, move in enumerate(shift):
        second = variance + move**2
        taps = np.array([(second - move) / 2, 1 - second, (second + move) / 2])
        # convolve1d turns the taps round, so that the last one moves towards higher indices
        image = convolve1d(image, taps, axis=axis, mode="nearest")
    return image
