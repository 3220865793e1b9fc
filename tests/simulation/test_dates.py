"""Dates of one place share ground, roads and what stands; each has its product and truth, once."""

from datetime import date

import geopandas as gpd
import pandas as pd
import pytest

from pipeline.errors import ConfigError, OutputError
from pipeline.roads.read import read_roads
from pipeline.scenes.readers.safe import open_safe
from pipeline.simulation import dates as module
from pipeline.simulation.dates import parse_change, parse_dates, simulate_dates
from pipeline.simulation.simulate import simulate
from pipeline.simulation.world.demand import Demand
from tests.simulation.test_simulate import digests

DAYS = [date(2023, 6, 1), date(2023, 12, 20)]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dates") / "place"
    simulate_dates(folder, DAYS, 64, 3)
    return folder


def test_each_date_has_a_product_and_truth(out):
    scenes = [open_safe(path) for path in sorted(out.glob("*.SAFE"))]
    assert [scene.acquired.date() for scene in scenes] == DAYS
    for day in DAYS:
        trucks = gpd.read_file(out / "truth" / str(day) / "trucks.gpkg")
        assert trucks["id"].str.startswith(f"sim-3-{day:%Y%m%d}-").all()
        assert (out / "truth" / str(day) / "landcover.tif").is_file()
    names = {path.name for path in (out / "truth").iterdir()}
    assert names == {"2023-06-01", "2023-12-20", "place.json", "roads.gpkg", "look_alikes.gpkg"}
    counted = pd.read_csv(out / "counters.csv")
    assert set(counted["start"].str[:10]) == {str(day) for day in DAYS}


def test_roads_are_as_in_openstreetmap(out):
    roads = gpd.read_file(out / "truth" / "roads.gpkg")
    motorway = roads[roads["highway"] == "motorway"]
    assert set(motorway["ref"]) == {"A 2"} and set(motorway["name"]) == {"Motorway A 2"}
    assert set(motorway["oneway"]) == {"yes"} and len(motorway) == 2
    assert set(read_roads(out / "truth" / "roads.gpkg", "EPSG:32632")["ref"]) >= {"A 2"}


def test_a_second_call_renders_new_dates_only(out, monkeypatch):
    before, said = digests(out), []
    monkeypatch.setattr(module, "write_product", lambda *_: pytest.fail("rendered again"))
    simulate_dates(out, DAYS[:1], 64, 3, progress=said.append)
    assert said == ["2023-06-01 (1 of 1)", "2023-06-01 (1 of 1): complete already"]
    assert digests(out) == before


def test_truth_that_a_killed_process_left_is_made_again(tmp_path):
    (made,) = simulate_dates(tmp_path, DAYS[:1], 64, 3)
    before = digests(tmp_path)
    for path in sorted(made.safe.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    made.safe.rmdir()
    made.trucks.write_text("half")
    simulate_dates(tmp_path, DAYS[:1], 64, 3)
    assert digests(tmp_path) == before


@pytest.mark.parametrize(
    ("size", "seed", "demand", "reason"),
    [
        (66, 3, None, "size 64 there, 66 wanted"),
        (64, 4, None, "seed 3 there, 4 wanted"),
        (64, 3, Demand(heavy=2), "heavy 1.0 there, 2 wanted"),
        (64, 3, Demand(heavy_from=(DAYS[1], 0.5)), r"heavy_from None there, \['2023-12-20', 0.5\] wanted"),
    ],
)
def test_a_folder_of_another_simulation_is_refused(out, size, seed, demand, reason):
    before = digests(out)
    with pytest.raises(OutputError, match=reason):
        simulate_dates(out, [date(2023, 7, 1)], size, seed, demand)
    assert digests(out) == before


def test_a_folder_with_a_single_scene_is_refused(tmp_path):
    simulate(tmp_path, 64, 3)
    with pytest.raises(OutputError, match="truth exists already"):
        simulate_dates(tmp_path, DAYS, 64, 3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2023-06-01,2023-6-6", "Dates are like 2023-06-01,2023-06-06. Received: 2023-6-6"),
        ("2023-06-31", "Received: 2023-06-31"),
        ("2023-06-01,", "Received: an empty date"),
        ("2023-06-01,2023-06-06,2023-06-01", "2023-06-01 is given 2 times"),
        ("2014-06-01", "Dates are from 2015-06-23, .* to 2099-12-31. Received: 2014-06-01"),
        ("2100-01-01", "Received: 2100-01-01"),
    ],
)
def test_bad_dates_are_refused(text, reason):
    with pytest.raises(ConfigError, match=reason):
        parse_dates(text)


def test_dates_are_sorted():
    assert parse_dates("2023-06-06, 2023-06-01") == [date(2023, 6, 1), date(2023, 6, 6)]


@pytest.mark.parametrize("text", ["0.5", "2023-07-01", "2023-07-01:nan", "2023-07-01:-1", "2023-07-01:x"])
def test_bad_changes_are_refused(text):
    with pytest.raises(ConfigError, match="A change is like 2023-07-01:0"):
        parse_change(text)


def test_change():
    assert parse_change("2023-07-01:0.5") == (date(2023, 7, 1), 0.5)
