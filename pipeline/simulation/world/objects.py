"""Objects of a simulated world: season, towns, water, industry, roads and MSI detectors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.simulation.world.network import Road

DETECTOR_TILT = 0.2
"""Columns by which a detector's edge moves west for each row southwards (descending orbit)."""
LATITUDE_DEG, LONGITUDE_DEG = 53.0, 10.9
"""Place of the tile that simulated products are on."""
SOLAR_TIME = timezone(timedelta(hours=LONGITUDE_DEG / 15))
"""Mean solar time there."""
REPEAT_DAYS = 10
"""Days from one overpass of a satellite on the same orbit to the next."""


@dataclass(frozen=True)
class Season:
    """Season of a scene: its time, and the state of its fields."""

    acquired: datetime
    sun_zenith_deg: float
    sun_azimuth_deg: float
    crops: dict[str, float]
    """Share of each material among the parcels."""


SEASONS = (
    Season(
        datetime(2023, 8, 24, 10, 20, 31, tzinfo=UTC), 42.0, 161.0,
        {"stubble": 0.22, "soil": 0.12, "light_soil": 0.06, "lush": 0.24, "meadow": 0.24, "ripe": 0.04,
         "fallow": 0.08},
    ),
    Season(
        datetime(2023, 6, 13, 10, 20, 31, tzinfo=UTC), 30.5, 157.0,
        {"cereal": 0.28, "ripe": 0.12, "lush": 0.18, "soil": 0.12, "dark_soil": 0.04, "meadow": 0.20,
         "fallow": 0.06},
    ),
    Season(
        datetime(2023, 4, 21, 10, 20, 31, tzinfo=UTC), 41.5, 162.0,
        {"cereal": 0.34, "soil": 0.26, "dark_soil": 0.10, "light_soil": 0.08, "meadow": 0.18, "lush": 0.04},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Town:
    """Built-up area with a street grid."""

    x: float
    y: float
    radius: float
    angle: float
    """Direction of its streets, radians."""
    lobes: tuple[tuple[float, float], ...] = ()
    """Amplitude and phase of the outline's first harmonics."""

    def outwards(self, u: ArrayLike, v: ArrayLike) -> NDArray[np.float32]:
        """Return 0 at the centre and 1 on the outline, from coordinates along and across its streets."""
        around = np.arctan2(v, u)
        outline = 1 + sum(
            size * np.cos((k + 2) * around + phase) for k, (size, phase) in enumerate(self.lobes)
        )
        return np.asarray(np.hypot(u, v) / (self.radius * np.maximum(outline, 0.25)), np.float32)


@dataclass(frozen=True)
class Zone:
    """Rectangle of industry, quarry, greenhouses or a rest area; half sides in pixels."""

    x: float
    y: float
    half_length: float
    half_width: float
    angle: float
    kind: str


@dataclass(frozen=True)
class River:
    """River with its middle line, (N, 2) in pixels, and its mean width."""

    points: NDArray[np.float64]
    width: float


@dataclass(frozen=True)
class Lake:
    """Lake with an irregular shore."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Flight:
    """Aircraft: x, y in pixels in B02, heading in degrees clockwise from north."""

    x: float
    y: float
    heading_deg: float
    speed_kmh: float
    height_m: float
    length_m: float


@dataclass(frozen=True)
class Contrail:
    """Straight streak of thin high cloud; lengths in pixels, its middle in B02."""

    x: float
    y: float
    heading_deg: float
    length: float
    width: float
    opacity: float
    height_m: float


@dataclass(frozen=True)
class World:
    """Objects with a place; the land between is a function of `seed`. Lengths in 10 m pixels."""

    size: int
    seed: int
    season: Season
    towns: tuple[Town, ...]
    zones: tuple[Zone, ...]
    rivers: tuple[River, ...]
    lakes: tuple[Lake, ...]
    roads: tuple[Road, ...]
    first_detector: int
    detector_width: float
    detector_start: float
    cloud_cover: float
    cloud_height_m: float
    cloud_scale: float
    """Size of the clouds, pixels."""
    cloud_gain: float
    """Amplitude of each octave of their detail, relative to the previous one."""
    cloud_softness: float
    """Width of their edges, in standard deviations of the cloud field."""
    wind_ms: tuple[float, float]
    """Drift of the clouds: east and south, metres per second."""
    haze: float
    """Mean path reflectance that the atmospheric correction leaves in B02."""
    railways: tuple[Road, ...]
    flights: tuple[Flight, ...]
    contrails: tuple[Contrail, ...]
    driving_side: int
    """+1 if traffic keeps right, -1 if it keeps left."""
    day: int = 0
    """Number of a date, which `overpass.on_date` sets: the same place with other traffic and weather."""
    zone: tzinfo = SOLAR_TIME

    @property
    def local_time(self) -> datetime:
        """Return the local time of the overpass, which traffic follows."""
        return self.season.acquired.astimezone(self.zone)

    @property
    def sky_seed(self) -> int:
        """Return the seed of the random fields of clouds and haze, as `field_seed`."""
        return self.field_seed + 1_000_003 * self.day

    @property
    def field_seed(self) -> int:
        """Return the seed of the random fields, far from other worlds' seeds; each field adds its number."""
        return self.seed * 1000

    def detector(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return the number of the MSI detector of each place; B02 is first in odd ones, B04 in even ones."""
        stripe = np.floor((x + DETECTOR_TILT * y - self.detector_start) / self.detector_width)
        return np.clip(stripe + self.first_detector, 1, 12).astype(np.uint8)

    def order(self, x: float, y: float) -> int:
        """Return +1 where B02 is first, -1 where B04 is."""
        return 1 if int(self.detector(np.array(x), np.array(y))) % 2 else -1
