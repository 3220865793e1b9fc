"""Planted lorries stand beside the motorway, and detections are compared with them and with what passes."""

import geopandas as gpd
import numpy as np
import pytest
from shapely import box

from benchmarks.planted import DAYS, Flagged, PlantedPlace


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    found = PlantedPlace(tmp_path_factory.mktemp("planted"), 11, 192, DAYS[:4])
    found.make()
    return found


def test_lorries_stand_at_one_place_on_most_dates(place):
    roads, stands = gpd.read_file(place.roads), place.stands()
    assert len(stands) >= 1
    motorway = roads[roads["highway"] == "motorway"].union_all()
    assert (gpd.GeoSeries.from_xy(*stands.T).distance(motorway) < 40).all()
    seen = 0
    for day in place.days:
        away = gpd.read_file(place.trucks(day)).centroid.distance(gpd.GeoSeries.from_xy(*stands[:1].T)[0])
        seen += (away < 15).any()
    assert seen >= 3
    assert place.counters.exists()


def test_dates_that_are_complete_are_not_simulated_again(place):
    before = [path.stat().st_mtime_ns for path in place.make()]
    assert [path.stat().st_mtime_ns for path in place.make()] == before


def test_detections_are_of_what_stands_or_of_what_passes(place):
    stand = place.stands()[0]
    day = place.days[0]
    vehicles = gpd.read_file(place.trucks(day)).centroid
    passes = vehicles[vehicles.distance(gpd.GeoSeries.from_xy(*stand[:, None])[0]) > 50].iloc[0]
    middles = [stand, stand, stand, (passes.x, passes.y), stand + 5000]
    trucks = gpd.GeoDataFrame(
        {
            "acquired_date": [each.isoformat() for each in (*place.days[:3], day, day)],
            "recurring": [True, True, False, False, False],
        },
        geometry=[box(x - 10, y - 10, x + 10, y + 10) for x, y in middles],
        crs=vehicles.crs,
    )
    found = Flagged.of(trucks, place)
    np.testing.assert_array_equal(found.often, [True, True, True, False, False])
    np.testing.assert_array_equal(found.passes, [False, False, False, True, False])
    assert found.recurring[found.often].mean() == pytest.approx(2 / 3)
