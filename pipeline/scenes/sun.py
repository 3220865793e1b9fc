"""Position of the sun over a scene, from its time and place."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import numpy as np

from pipeline.scenes.scene import Scene

_LOCAL_TIME = time(10, 30)
"""Mean solar time at which Sentinel-2 crosses the equator southwards, for scenes of which only the date is
known."""
_NIGHT_DEG = 90.0
_LOWEST_DEG = 79.0
"""Zenith distance from which shadows count as at this one: detectors are measured up to it."""
_SHORT_SHADOW = 1.0
"""Length of a shadow, over the height of what casts it, up to which it changes nothing: a sun at 45 degrees.
A longer one falls on more of the road beside a bright vehicle, whose contrast it cancels."""


def sun_angles(moment: datetime, latitude_deg: float, longitude_deg: float) -> tuple[float, float]:
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


def shadow_length(scene: Scene) -> float | None:
    """Return the length of a shadow at the middle of a scene, over the height of what casts it.

    It is the tangent of the sun's zenith distance, of `_LOWEST_DEG` at most; None without a date or a CRS. A
    time at which it is night there is wrong, so the usual one counts, as where only the date is known.
    """
    if scene.acquired is None or scene.grid.crs is None:
        return None
    longitude, latitude = scene.grid.geographic_extent.centroid.coords[0]
    moment, zenith = scene.acquired, _NIGHT_DEG
    if isinstance(moment, datetime):
        zenith, _ = sun_angles(moment, latitude, longitude)
        moment = moment.date()
    if zenith >= _NIGHT_DEG:
        usual = datetime.combine(moment, _LOCAL_TIME, UTC) - timedelta(hours=longitude / 15)
        zenith, _ = sun_angles(usual, latitude, longitude)
    return float(np.tan(np.deg2rad(min(zenith, _LOWEST_DEG))))


def long_shadow(length: float | None) -> float:
    """Return by how much a `shadow_length` exceeds that of short shadows; 0 for those, and if unknown."""
    return max(0.0, (length or 0.0) - _SHORT_SHADOW)
