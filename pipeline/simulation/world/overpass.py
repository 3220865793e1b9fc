"""Overpass of a simulated place on a date: sun, fields, weather and local time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import numpy as np

from pipeline.scenes.readers.naming import FIRST_LIGHT
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
        season=Season(acquired, *sun_angles(acquired), fields(day)),
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


def sun_angles(
    moment: datetime, latitude_deg: float = LATITUDE_DEG, longitude_deg: float = LONGITUDE_DEG
) -> tuple[float, float]:
    """Return zenith and azimuth of the sun in degrees, the azimuth clockwise from north.

    Low-precision formulas of the Astronomical Almanac (Michalsky 1988, Solar Energy 40(3)): 0.01 degrees from
    1950 to 2050, without refraction.
    """
    days = (moment - datetime(2000, 1, 1, 12, tzinfo=UTC)).total_seconds() / 86400
    anomaly = np.deg2rad(357.528 + 0.9856003 * days)
    mean_longitude = 280.460 + 0.9856474 * days
    ecliptic = np.deg2rad(mean_longitude + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    obliquity = np.deg2rad(23.439 - 4e-7 * days)
    ascension = np.arctan2(np.cos(obliquity) * np.sin(ecliptic), np.cos(ecliptic))
    declination = np.arcsin(np.sin(obliquity) * np.sin(ecliptic))
    sidereal_deg = 15 * (18.697374558 + 24.06570982441908 * days)
    hour = np.deg2rad(sidereal_deg + longitude_deg) - ascension
    north = np.deg2rad(latitude_deg)
    height = np.sin(north) * np.sin(declination) + np.cos(north) * np.cos(declination) * np.cos(hour)
    azimuth = np.arctan2(
        -np.cos(declination) * np.sin(hour),
        np.sin(declination) * np.cos(north) - np.cos(declination) * np.sin(north) * np.cos(hour),
    )
    return float(np.rad2deg(np.arccos(height))), float(np.rad2deg(azimuth) % 360)
