"""Which scenes are one acquisition: pairs as catalogues have them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from shapely.geometry import box

from pipeline.scenes.acquisition import Acquisition, duplicates, is_same, near_in_time, preferred

NOON = datetime(2020, 4, 1, 18, 4, 4, 327000, tzinfo=UTC)
TILE = box(-106.1, 35.1, -104.9, 36.1)
OLD = Acquisition(
    NOON, "13SDV", "sentinel-2b", "L2A", "02.14", NOON + timedelta(hours=4), "20200401T175716", TILE, TILE
)
NEW = replace(OLD, baseline="05.00", processed=datetime(2023, 6, 24, tzinfo=UTC))
HALVES = (box(-106.1, 35.5, -104.9, 36.1), box(-106.1, 35.1, -104.9, 35.6))
"""Of a tile at the seam of two datastrips, which overlap."""


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"level": "L1C"},
        {"datastrip": "20200401T175700"},  # of another ground station, with the same footprint
        {"footprint": None},
        {"acquired": NOON - timedelta(minutes=15)},  # start of the datatake, as other catalogues have it
        {"footprint": TILE.buffer(-0.005)},
        {"extent": None},
        {"extent": None, "datastrip": None},
    ],
)
def test_versions_of_one_acquisition(change):
    assert is_same(OLD, replace(NEW, **change))
    assert is_same(replace(NEW, **change), OLD)
    assert preferred(replace(NEW, **change), OLD) and not preferred(OLD, replace(NEW, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"tile": "13SEV"},  # a neighbour, which overlaps by 10 km
        {"platform": "sentinel-2a"},
        {"platform": "sentinel-2c", "acquired": NOON + timedelta(seconds=30)},  # one behind the other
        {"acquired": NOON + timedelta(minutes=100)},  # the next orbit, far north
        {"acquired": NOON + timedelta(days=5)},
        {"platform": None, "acquired": NOON + timedelta(seconds=20)},
        {"footprint": None, "datastrip": "20200401T180000"},  # halves of a tile, whole grids
        {"footprint": None, "extent": box(-104.0, 35.1, -103.0, 36.1)},
        {"footprint": None, "extent": None},  # nothing says what it shows
    ],
)
def test_pairs_that_are_not_one_acquisition(change):
    assert not is_same(OLD, replace(NEW, **change))
    assert not is_same(replace(NEW, **change), OLD)


def test_a_part_shows_nothing_that_the_complete_scene_does_not():
    part = replace(NEW, extent=HALVES[0])
    assert is_same(OLD, part) and preferred(OLD, part) and not preferred(part, OLD)
    assert not is_same(part, replace(OLD, extent=HALVES[1]))  # cut out, with the geometry of the complete one


def test_halves_of_a_tile_both_count():
    upper, lower = (replace(OLD, footprint=half) for half in HALVES)
    assert not is_same(upper, lower)
    assert duplicates({"upper": upper, "lower": lower}) == {}
    chips = [replace(OLD, footprint=None, datastrip=None, extent=half) for half in HALVES]
    assert not is_same(*chips)


def test_the_newest_baseline_is_kept_whatever_the_order():
    newer = replace(NEW, baseline="05.11")
    third = replace(NEW, baseline="05.09", processed=None)
    for names in ("abc", "bca", "cab"):
        scenes = dict(zip(names, (OLD, newer, third), strict=True))
        best = names[1]
        assert duplicates(scenes) == dict.fromkeys(set(names) - {best}, best)
    again = replace(NEW, processed=NEW.processed + timedelta(days=1))
    assert duplicates({"_0_": NEW, "_1_": again}) == {"_0_": "_1_"}
    assert duplicates({"L1C": replace(NEW, level="L1C"), "L2A": NEW}) == {"L1C": "L2A"}
    assert duplicates({"_0_": NEW, "_1_": NEW}) == {"_0_": "_1_"}
    assert duplicates({"a": OLD, "b": replace(OLD, baseline="99.99")}) == {"b": "a"}


def test_the_complete_tile_is_kept_before_its_halves():
    halves = {name: replace(NEW, footprint=half) for name, half in zip("ul", HALVES, strict=True)}
    assert duplicates({**halves, "whole": OLD}) == {"u": "whole", "l": "whole"}


def test_as_json_and_back():
    for one in (OLD, NEW, Acquisition(NOON)):
        assert Acquisition.from_json(one.as_json()) == one
    for other in (
        {},
        {"acquired": "soon"},
        {"acquired": None},
        {"acquired": NOON.isoformat(), "extent": "x"},
    ):
        assert Acquisition.from_json(other) is None


def test_a_time_without_a_zone_is_utc_so_that_it_compares():
    naive = Acquisition.from_json({"acquired": NOON.replace(tzinfo=None).isoformat()})
    assert naive == Acquisition(NOON)


def test_groups_in_time():
    days = {str(day): replace(OLD, acquired=NOON + timedelta(days=day)) for day in (0, 5, 5.01, 3)}
    assert [list(group) for group in near_in_time(days)] == [["0"], ["3"], ["5", "5.01"]]
    assert list(near_in_time({})) == []
