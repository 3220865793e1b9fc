"""Overpass of a simulated place on a date: sun, fields, weather and local time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import numpy as np

from pipeline.scenes.readers.naming import FIRST_LIGHT
from pipeline.scenes.sun import sun_angles
from pipeline.simulation.world.layout import air, wind
from pipeline.simulation.world.objects import LATITUDE_DEG, LONGITUDE_DEG, SEASONS, Season, World

ZONE = ZoneInfo("Europe/Berlin")
"""Legal time of the tile that simulated products are on."""
OVERPASS = time(10, 20, 31, tzinfo=UTC)
"""Sentinel-2's time over that tile."""
_LATE_SUMMER, _EARLY_SUMMER, _SPRING = (season.crops for season in SEASONS)
_WINTER = {"cereal": 0.28, "meadow": 0.22, "fallow": 0.10, "soil": 0.24, "dark_soil": 0.16}
_FIELDS = {20: _WINTER, 111: _SPRING, 164: _EARLY_SUMMER, 236: _LATE_SUMMER, 319: _WINTER}
"""Materials of the parcels by day of the year."""
_MATERIALS = ("cereal", "ripe", "stubble", "lush", "meadow", "fallow", "light_soil", "soil", "dark_soil")
"""In an order in which a parcel ripens, so that few parcels change from one date to the next."""


def on_date(world: World, day: date) -> World:
    """Return the same place on a date: other traffic, aircraft, clouds, haze, sun and fields.

    Towns, roads, buildings and what stands are as they are. `day` is not before Sentinel-2's first image.
    """
    number = (day - FIRST_LIGHT).days + 1
    rng = np.random.default_rng([world.seed, 131, number])
    flights, contrails = air(world.size, rng)
    acquired = datetime.combine(day, OVERPASS)
    return replace(
        world,
        day=number,
        zone=ZONE,
        season=Season(acquired, *sun_angles(acquired, LATITUDE_DEG, LONGITUDE_DEG), fields(day)),
        flights=flights,
        contrails=contrails,
        cloud_cover=float(rng.uniform(0.01, 0.05)) * (5 if rng.random() < 0.15 else 1),
        cloud_height_m=float(rng.uniform(900, 1800)),
        wind_ms=wind(rng),
        haze=float(rng.uniform(0.002, 0.012)),
    )


def fields(day: date) -> dict[str, float]:
    """Return the share of each material among the parcels on a date, interpolated over the year."""
    return {
        name: float(
            np.interp(
                day.timetuple().tm_yday,
                list(_FIELDS),
                [crops.get(name, 0.0) for crops in _FIELDS.values()],
                period=365.25,
            )
        )
        for name in _MATERIALS
    }
