"""On another date a place has another sun, other fields, weather and traffic; nothing else changes."""

from dataclasses import fields as fields_of
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.simulation.world.buildings import make_roofs
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.objects import SEASONS
from pipeline.simulation.world.overpass import fields, on_date

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
