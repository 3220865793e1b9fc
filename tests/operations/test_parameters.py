import math
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.errors import ConfigError, SceneNotFoundError
from pipeline.operations.parameters import BatchParameters, ScheduleParameters
from pipeline.operations.search import COLLECTION, StacSearch
from tests.conftest import only_on


def test_a_batch_finds_its_scenes_with_its_settings(tmp_path):
    (tmp_path / "a.tif").touch()
    given = BatchParameters(out=tmp_path, scenes=[str(tmp_path / "a.tif")], settings=["batch.attempts=1"])
    request = given.request()
    assert [scene.name for scene in request.scenes] == ["a"]
    assert (request.out, request.config.batch.attempts, request.retry_quarantined) == (tmp_path, 1, False)
    with pytest.raises(ConfigError, match="No scene was named"):
        BatchParameters(out=tmp_path).request()
    with pytest.raises(SceneNotFoundError):
        BatchParameters(out=tmp_path, folder=tmp_path / "none").request()


@only_on("linux", "darwin", why="named pipes")
def test_what_is_left_out_of_a_folder_is_in_the_request(tmp_path):
    (tmp_path / "a.tif").touch()
    (tmp_path / "b.tif").mkdir()
    os.mkfifo(tmp_path / "pipe.tif")
    (left_out,) = BatchParameters(out=tmp_path / "out", folder=tmp_path).request().left_out
    assert left_out == f"{tmp_path / 'pipe.tif'} is left out: it is a pipe, socket or device."


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        *((BatchParameters, {"most": most}) for most in (0, -1, 10**7, 2**70)),
        *((BatchParameters, {"cloud_cover": cover}) for cover in (-1, 101, math.nan, math.inf, "nan")),
        *((ScheduleParameters, {"overlap_days": days}) for days in (-1, 1e6, math.nan, -math.inf, 1e308)),
    ],
)
def test_numbers_have_the_bounds_of_the_options(kind, given):
    with pytest.raises(ValidationError, match=r"Input should be (less|greater) than or equal to"):
        kind(out="layers", **given)


def test_a_search_needs_an_api():
    given = ScheduleParameters(out="layers", stac="https://host", area="1,2,3,4", since="2023-06-01")
    watched = given.watched()
    assert watched.sources.search == StacSearch("https://host", (COLLECTION,), area="1,2,3,4")
    assert (watched.since, watched.overlap_days) == ("2023-06-01", 30.0)
    assert ScheduleParameters(out="layers", area="1,2,3,4").watched().sources.search is None


def test_paths_for_another_process_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "area.gpkg").touch()
    (tmp_path / "roads.gpkg").touch()
    given = ScheduleParameters(out="layers", folder="in", area="area.gpkg", roads="roads.gpkg")
    assert given.absolute().model_dump(mode="json", exclude_none=True) == {
        "out": str(tmp_path / "layers"),
        "folder": str(tmp_path / "in"),
        "area": str(tmp_path / "area.gpkg"),
        "roads": str(tmp_path / "roads.gpkg"),
        "overlap_days": 30.0,
    }
    chosen = ScheduleParameters(out="layers", area="area.gpkg:aoi", roads="roads.gpkg:a:b").absolute()
    assert (chosen.area, chosen.roads) == (f"{tmp_path}/area.gpkg:aoi", tmp_path / "roads.gpkg:a:b")
    fetched = ScheduleParameters(out="layers", area="1,2,3,4", roads="overpass").absolute()
    assert (fetched.area, fetched.roads) == ("1,2,3,4", Path("overpass"))


def test_an_unknown_parameter_is_refused():
    with pytest.raises(ValidationError, match="retry"):
        ScheduleParameters(out="layers", retry_quarantined=True)
