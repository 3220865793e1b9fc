"""Names of open data in settings: what they become, and what people read when there is nothing."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import OpenDataError
from pipeline.open_data.resolve import cache_folder, check_fetched, located, names_in, resolved
from pipeline.settings import Settings
from pipeline.training.detector.chips import real_ground
from pipeline.training.detector.settings import GroundScene
from tests.conftest import write_geotiff
from tests.open_data.datasets import write


class Group(Settings):
    scene: str
    labels: Path | None = None
    threads: int = 1


class Recipe(Settings):
    groups: tuple[Group, ...]


def test_names_are_paths_in_the_cache(known):
    write(known.cache)
    assert resolved("data:town") == str(known.cache / "scenes" / "town.tif")  # the only file
    assert resolved("data:fields") == str(known.cache / "fields")  # all of the folder
    assert resolved(Path("data:fields/B02.tif")) == known.cache / "fields" / "B02.tif"
    assert resolved("data:port/port_2.tif") == str(known.cache / "scenes" / "port_2.tif")
    assert resolved("data:net/forward") == str(known.cache / "models" / "net" / "forward")


@pytest.mark.parametrize("text", ["a.tif", "/data:town", "https://host/data:town", "", "date:town"])
def test_anything_else_stays(known, text):
    assert resolved(text) == text
    assert resolved(Path(text)) == Path(text)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("data:twon", r"No dataset is called 'twon'\. Did you mean town\? List all: truckscape data list"),
        ("data:", r"No dataset is called ''"),
        ("data:town/a.tif", r"town has no file 'a\.tif'\. It has: town\.tif"),
        ("data:fields/../town.tif", r"fields has no file '\.\./town\.tif'"),
        ("data:town", r"1 of 1 files are missing\. Run: truckscape data fetch town$"),
        ("data:net/forward", r"2 of 2 files are missing\. Run: truckscape data fetch net/forward"),
    ],
)
def test_what_is_not_there_is_one_line(known, name, message):
    with pytest.raises(OpenDataError, match=message) as caught:
        resolved(name)
    assert "\n" not in str(caught.value)


def test_a_dataset_that_is_half_there_is_not_there(known):
    write(known.cache)
    (known.cache / "fields" / "B03.tif").unlink()
    assert resolved("data:fields/B02.tif")
    with pytest.raises(OpenDataError, match="1 of 2 files are missing"):
        resolved("data:fields")


def test_one_of_several_files_beside_those_of_others_must_be_named(known):
    write(known.cache)
    with pytest.raises(OpenDataError, match=r"Choose one: data:port/port_1\.tif, data:port/port_2\.tif"):
        resolved("data:port")


def test_settings_keep_names_until_they_are_located(known):
    write(known.cache)
    group = Group(scene="data:town", labels=Path("data:fields/B02.tif"), threads=2)
    found = located(group)
    assert found == Group(scene=resolved("data:town"), labels=known.cache / "fields" / "B02.tif", threads=2)
    assert group.scene == "data:town"


def test_all_names_of_a_recipe_are_checked(known):
    recipe = Recipe(
        groups=(Group(scene="a.tif"), Group(scene="data:town", labels=Path("data:fields/B02.tif")))
    )
    assert list(names_in(recipe)) == ["data:town", "data:fields/B02.tif"]
    assert list(names_in({"a": [{"b": "data:x"}], "c": 1, "d": None})) == ["data:x"]
    with pytest.raises(OpenDataError, match="truckscape data fetch town"):
        check_fetched(recipe)
    write(known.cache)
    check_fetched(recipe)


def test_the_cache_is_the_users_unless_said_otherwise(monkeypatch):
    monkeypatch.setenv("TRUCKSCAPE_DATA", "elsewhere")
    assert cache_folder() == Path("elsewhere")
    monkeypatch.delenv("TRUCKSCAPE_DATA")
    assert cache_folder().parts[-2:] == ("truckscape", "data")


def test_ground_of_a_training_by_its_name(known):
    (known.cache / "scenes").mkdir(parents=True)
    numbers = np.full((4, 64, 64), 1500, "uint16")
    write_geotiff(known.cache / "scenes" / "town.tif", numbers)
    assert real_ground(GroundScene(path="data:town")).reflectance.shape == (4, 64, 64)
