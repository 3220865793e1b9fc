"""The sun over a scene, and how long shadows are."""

from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from pipeline.scenes.scene import Scene
from pipeline.scenes.sun import long_shadow, shadow_length, sun_angles

BERLIN = GeoBox.from_bbox((390000, 5810000, 400000, 5820000), "EPSG:32633", resolution=10)
"""At 52.5 N, 13.4 E."""


def test_sun_at_the_solstices():
    # at noon the zenith distance is the latitude minus the declination of 23.44 degrees
    for month, declination in ((6, 23.44), (12, -23.44)):
        angles = (sun_angles(datetime(2023, month, 21, hour, tzinfo=UTC), 52.0, 10.5) for hour in range(24))
        assert min(zenith for zenith, _ in angles) == pytest.approx(52.0 - declination, abs=0.7)


def test_sun_of_a_real_product():
    # Mean_Sun_Angle in the metadata of a product of baseline 05.09 in Indonesia, at the middle of its tile
    zenith, azimuth = sun_angles(datetime(2023, 8, 4, 2, 19, 23, tzinfo=UTC), -5.92423, 121.69008)
    assert zenith == pytest.approx(33.933, abs=0.01)
    assert azimuth == pytest.approx(46.301, abs=0.01)


def test_shadows_are_the_tangent_of_the_zenith_distance():
    scene = Scene("a", "a.tif", BERLIN, {}, datetime(2023, 12, 11, 10, 20, 31, tzinfo=UTC))
    zenith, _ = sun_angles(scene.acquired, 52.5, 13.4)
    assert shadow_length(scene) == pytest.approx(np.tan(np.deg2rad(zenith)), rel=0.01)


def test_shadows_at_night_are_those_of_the_usual_time():
    """A local time that is taken as UTC, say. Where the sun is lower than ever measured, shadows end."""
    scene = Scene("a", "a.tif", BERLIN, {}, date(2023, 3, 1))
    night = replace(scene, acquired=datetime(2023, 3, 1, 22, tzinfo=UTC))
    assert shadow_length(night) == shadow_length(scene)
    dawn = replace(scene, acquired=datetime(2023, 3, 1, 6, 20, tzinfo=UTC))
    assert shadow_length(dawn) == pytest.approx(np.tan(np.deg2rad(79)))


def test_shadows_are_long_from_a_sun_at_45_degrees():
    assert [long_shadow(length) for length in (None, 0.3, 1.0, 2.5)] == [0, 0, 0, 1.5]


def test_a_date_without_a_time_has_the_usual_one():
    """10:30 by the sun is 9:36 UTC at 13.4 degrees east."""
    known = Scene("a", "a.tif", BERLIN, {}, datetime(2023, 3, 1, 9, 36, 24, tzinfo=UTC))
    assert shadow_length(replace(known, acquired=date(2023, 3, 1))) == pytest.approx(
        shadow_length(known), rel=1e-3
    )
    assert shadow_length(replace(known, acquired=None)) is None
