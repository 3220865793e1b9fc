"""Counts of stations are those of the flows that draw the traffic of a scene."""

from datetime import date, timedelta

import pandas as pd
import pytest
from pyproj import Transformer
from shapely import Point, box

from pipeline.simulation.counters import hours, stations, write_counters
from pipeline.simulation.world.demand import Demand
from pipeline.simulation.world.layout import plan_world
from pipeline.simulation.world.overpass import on_date
from pipeline.simulation.world.traffic import make_traffic

WORLD = plan_world(256, 7)
DAYS = [date(2023, 6, 1), date(2023, 6, 4)]  # Thursday, Sunday


def counts(path, days=DAYS, demand=None):
    write_counters(path, WORLD, demand or Demand(), days)
    return pd.read_csv(path)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return counts(tmp_path_factory.mktemp("counters") / "counters.csv")


def test_each_hour_of_each_date_is_there_in_both_directions(table):
    assert list(table.columns) == [
        *("station", "lon", "lat", "road", "direction", "start", "minutes", "vehicles", "heavy")
    ]
    assert len(table) == 2 * 2 * 2 * 24
    assert not table.duplicated(["station", "direction", "start"]).any()
    assert table["start"].iloc[0] == "2023-06-01T00:00:00+02:00"
    assert (table["minutes"] == 60).all()
    assert (table["heavy"] <= table["vehicles"]).all()


def test_stations_are_on_their_roads(table):
    to_map = Transformer.from_crs(4326, 32632, always_xy=True)
    for (_, lon, lat, ref), rows in table.groupby(["station", "lon", "lat", "road"]):
        x, y = to_map.transform(lon, lat)
        place = Point((x - 600000) / 10, (5900040 - y) / 10)
        assert min(road.line.distance(place) for road in WORLD.roads if road.ref == ref) < 0.05
        assert set(rows["direction"]) in ({"N", "S"}, {"E", "W"})
    assert table["station"].nunique() == 2


def test_directions_are_those_of_the_carriageways():
    for station in stations(WORLD):
        line = WORLD.roads[station.road].line
        at = line.project(Point(station.x, station.y))
        before, after = line.interpolate(at - 1), line.interpolate(at + 1)
        east, north = after.x - before.x, before.y - after.y
        way = {"N": north, "S": -north, "E": east, "W": -east}
        assert way[station.directions[0]] > 0 > way[station.directions[1]]
        assert way[station.directions[0]] == max(way.values())


def test_lorries_rest_on_sundays(table):
    by_day = table.groupby(table["start"].str[:10])["heavy"].sum()
    assert by_day["2023-06-04"] < 0.4 * by_day["2023-06-01"]


def test_hours_of_a_date_when_clocks_change():
    assert len(list(hours(date(2023, 3, 26)))) == 23
    autumn = [start.isoformat() for start in hours(date(2023, 10, 29))]
    assert autumn[2:4] == ["2023-10-29T02:00:00+02:00", "2023-10-29T02:00:00+01:00"]
    assert len(autumn) == 25


def test_a_planted_change_begins_on_its_date(tmp_path):
    days = [date(2023, 6, 6) + timedelta(days=n) for n in range(3)]
    plain = counts(tmp_path / "a.csv", days)
    changed = counts(tmp_path / "b.csv", days, Demand(heavy_from=(days[1], 0.5)))
    heavy = [each.groupby(each["start"].str[:10])["heavy"].sum().to_numpy() for each in (plain, changed)]
    assert heavy[0][0] == heavy[1][0]
    assert heavy[1][1:] / heavy[0][1:] == pytest.approx(0.5, abs=0.06)


def test_heavy_traffic_in_the_images_is_a_sample_of_what_the_counter_counts(tmp_path):
    # vehicles times their speed over the length of the road are vehicles an hour (Edie's definition of flow)
    days = [date(2023, 5, 2) + timedelta(days=2 * number) for number in range(20)]
    demand = Demand(heavy=2.0)
    station = stations(WORLD)[0]
    line = WORLD.roads[station.road].line
    length_km = line.intersection(box(0, 0, WORLD.size, WORLD.size)).length / 100
    seen = counted = 0.0
    table = counts(tmp_path / "counters.csv", days, demand).query("station == 'S1'")
    for day in days:
        world = on_date(WORLD, day)
        inside = [
            one
            for one in make_traffic(world, demand).heavy
            if 0 <= one.x < world.size and 0 <= one.y < world.size
        ]
        vehicles = [one for one in inside if line.distance(Point(one.x, one.y)) < 3]
        if any(one.speed_kmh < 40 for one in vehicles):  # a jam
            continue
        seen += sum(one.speed_kmh for one in vehicles) / length_km
        counted += table.loc[table["start"] == f"{world.local_time:%Y-%m-%dT%H}:00:00+02:00", "heavy"].sum()
    assert counted > 1000
    assert seen / counted == pytest.approx(1, abs=0.12)
