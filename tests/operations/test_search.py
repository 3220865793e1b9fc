"""Searches at a real STAC API on this machine."""

import json
from dataclasses import replace

import geopandas as gpd
import pytest
import shapely

from pipeline.errors import ConfigError, LabelsError, NotAProductError, UnreachableError
from pipeline.operations.search import Search, search_patiently, search_scenes
from tests.operations.servers import stac_api, stac_item
from tests.servers import file_server

COUNT = 120
"""More than a page."""


def item(number: int) -> dict:
    moment = f"2023-{1 + number // 28:02d}-{1 + number % 28:02d}T10:20:31Z"
    told = {"eo:cloud_cover": float(number % 100), "updated": moment.replace("2023", "2024")}
    return stac_item(f"S2A_{number:03d}", datetime=moment, place=(10.0 + number / 100, 52.0), **told)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    items = [item(number) for number in range(COUNT)]
    del items[7]["properties"]["eo:cloud_cover"]
    with stac_api(tmp_path_factory.mktemp("api"), items) as url:
        yield url


def names(search: Search) -> list[str]:
    return [scene.name for scene in search_scenes(search)]


def test_all_pages_are_read_oldest_first(api):
    assert names(Search(api)) == [f"S2A_{number:03d}" for number in range(COUNT)]


def test_what_is_known_of_a_scene(api):
    scene = search_scenes(Search(api, most=1))[0]
    assert scene.href == f"{api}/collections/sentinel-2-l2a/items/S2A_119"
    assert scene.acquired == "2023-05-08T10:20:31.000Z"
    assert scene.updated == "2024-05-08T10:20:31.000Z"


def test_by_time(api):
    assert names(Search(api, time="2023-01-05/2023-01-07")) == ["S2A_004", "S2A_005", "S2A_006"]
    assert len(names(Search(api, time="2023-02"))) == 28
    assert names(Search(api, time="2023-05-07/..")) == ["S2A_118", "S2A_119"]


def test_by_box_and_by_polygon(api, tmp_path):
    assert names(Search(api, area="11.105,52.02,11.5,52.04")) == [f"S2A_{n:03d}" for n in range(101, 120)]
    area = gpd.GeoDataFrame(geometry=[shapely.box(9.0, 52.0, 10.005, 52.2)], crs="EPSG:4326")
    area.to_crs("EPSG:32632").to_file(tmp_path / "area.gpkg")
    assert names(Search(api, area=str(tmp_path / "area.gpkg"))) == ["S2A_000"]


def test_by_cloud_cover_where_it_is_told(api):
    assert names(Search(api, cloud_cover=1)) == ["S2A_000", "S2A_001", "S2A_007", "S2A_100", "S2A_101"]


def test_by_collection(api):
    assert names(Search(api, collections=("landsat",))) == []


def test_the_latest(api):
    assert names(Search(api, most=2)) == ["S2A_118", "S2A_119"]


def test_a_stamp_is_of_the_item_and_not_of_signatures(tmp_path, api):
    first = search_scenes(Search(api, area="9,52,10.005,53"))[0].stamp
    signed = item(0)
    for asset in signed["assets"].values():
        asset["href"] += "?signature=abc"
    with stac_api(tmp_path, [signed]) as other:
        assert search_scenes(Search(other))[0].stamp == first
    processed_again = item(0)
    processed_again["properties"]["updated"] = "2025-01-01T00:00:00Z"
    with stac_api(tmp_path, [processed_again]) as other:
        assert search_scenes(Search(other))[0].stamp != first


@pytest.mark.parametrize("area", ["1,2,3", "a,b,c,d", "10,53,11,52", "10,52,190,53"])
def test_an_area_is_four_degrees(api, area):
    with pytest.raises(ConfigError, match=r"west,south,east,north"):
        search_scenes(Search(api, area=area))


def test_times_and_files_that_are_none(api, tmp_path):
    with pytest.raises(ConfigError, match="Received: last week"):
        search_scenes(Search(api, time="last week"))
    (tmp_path / "area.geojson").write_text("nothing")
    with pytest.raises(LabelsError, match="area can't be read"):
        search_scenes(Search(api, area=str(tmp_path / "area.geojson")))


def test_what_is_no_api(tmp_path):
    (tmp_path / "index.html").write_text("<html>welcome</html>")
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "static", "description": "-", "links": []}
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    with file_server(tmp_path) as server:
        for path in ("", "/catalog.json"):
            with pytest.raises(NotAProductError, match="Not a STAC API"):
                search_scenes(Search(server.url + path))
        with pytest.raises(NotAProductError, match="HTTP status 404"):
            search_scenes(Search(f"{server.url}/nothing"))


def test_a_server_that_is_busy_is_asked_again(tmp_path):
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "static", "description": "-", "links": []}
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    with file_server(tmp_path) as server:
        server.faults["/catalog.json"] = ["503"] * 6  # more than one patient request takes
        with pytest.raises(NotAProductError):  # it answers in the end, and has no search
            search_patiently(Search(f"{server.url}/catalog.json"), attempts=2, backoff_s=0)
        assert server.asked["/catalog.json"] == 7


def test_a_server_that_is_not_there():
    search = Search("http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="does not answer"):
        search_patiently(replace(search), attempts=1, backoff_s=0)
