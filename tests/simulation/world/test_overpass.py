"""On another date a place has another sun, other fields, weather and traffic; nothing else changes."""

from dataclasses import fields as fields_of
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.simulation.world.buildings import make_roofs
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.objects import LATITUDE_DEG, SEASONS
from pipeline.simulation.world.overpass import fields, on_date, sun_angles

SUMMER, WINTER = date(2023, 6, 21), date(2023, 12, 21)
CHANGES = {
    "day",
    "zone",
    "season",
    "flights",
    "contrails",
    "cloud_cover",
    "cloud_height_m",
    "wind_ms",
    "haze",
}


def test_only_sun_fields_weather_and_aircraft_change():
    place = plan_world(256, 7)
    other = on_date(place, SUMMER)
    changed = {
        one.name for one in fields_of(place) if getattr(place, one.name) is not getattr(other, one.name)
    }
    assert {"day", "season", "haze"} <= changed <= CHANGES
    assert other.sky_seed != place.sky_seed
    assert other.season.acquired.date() == SUMMER


def test_what_stands_keeps_place_and_colour():
    place = plan_world(256, 7)
    standing = [
        [
            (roof.x, roof.y, roof.heading_deg, roof.length, roof.width, roof.reflectance)
            for roof in make_roofs(world)
        ]
        for world in (place, on_date(place, SUMMER), on_date(place, WINTER))
    ]
    assert len(standing[0]) > 50
    assert standing[0] == standing[1] == standing[2]


def test_local_time_has_summer_time():
    place = plan_world(64, 0)
    assert on_date(place, SUMMER).local_time.isoformat() == "2023-06-21T12:20:31+02:00"
    assert on_date(place, WINTER).local_time.isoformat() == "2023-12-21T11:20:31+01:00"


def test_sun_at_the_solstices():
    # at noon the zenith distance is the latitude minus the declination of 23.44 degrees
    for day, declination in ((SUMMER, 23.44), (WINTER, -23.44)):
        angles = (sun_angles(datetime(day.year, day.month, day.day, hour, tzinfo=UTC)) for hour in range(24))
        assert min(zenith for zenith, _ in angles) == pytest.approx(LATITUDE_DEG - declination, abs=0.7)


def test_sun_of_a_real_product():
    # Mean_Sun_Angle in the metadata of a product of baseline 05.09 in Indonesia, at the middle of its tile
    zenith, azimuth = sun_angles(datetime(2023, 8, 4, 2, 19, 23, tzinfo=UTC), -5.92423, 121.69008)
    assert zenith == pytest.approx(33.933, abs=0.01)
    assert azimuth == pytest.approx(46.301, abs=0.01)


@given(st.dates(date(2015, 6, 23), date(2099, 12, 31)))
def test_fields_are_shares(day):
    shares = fields(day)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= 0


def test_fields_of_the_seasons():
    for season in SEASONS:
        shares = fields(season.acquired.date())
        assert {name: share for name, share in shares.items() if share > 1e-9} == pytest.approx(season.crops)
    assert fields(date(2023, 5, 18))["cereal"] == pytest.approx((0.34 + 0.28) / 2, abs=0.01)
