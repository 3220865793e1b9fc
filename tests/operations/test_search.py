"""Searches at a real STAC API on this machine."""

import gzip
import json
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from pystac_client.item_search import ItemSearch

from pipeline.errors import ConfigError, NotAProductError, UnreachableError, VectorFileError
from pipeline.operations import search as search_module
from pipeline.operations.search import StacSearch, search_scenes, search_with_retries
from tests.operations.servers import stac_api, stac_item
from tests.servers import SLOW, file_server, slow_server

COUNT = 120
"""More than a page."""


def item(number: int) -> dict:
    moment = f"2023-{1 + number // 28:02d}-{1 + number % 28:02d}T10:20:31Z"
    reported = {"eo:cloud_cover": float(number % 100), "updated": moment.replace("2023", "2024")}
    return stac_item(f"S2A_{number:03d}", datetime=moment, place=(10.0 + number / 100, 52.0), **reported)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    items = [item(number) for number in range(COUNT)]
    del items[7]["properties"]["eo:cloud_cover"]
    with stac_api(tmp_path_factory.mktemp("api"), items) as url:
        yield url


def names(search: StacSearch) -> list[str]:
    return [scene.name for scene in search_scenes(search)]


def test_all_pages_are_read_oldest_first(api):
    assert names(StacSearch(api)) == [f"S2A_{number:03d}" for number in range(COUNT)]


def test_what_is_known_of_a_scene(api):
    scene = search_scenes(StacSearch(api, most=1))[0]
    assert scene.href == f"{api}/collections/sentinel-2-l2a/items/S2A_119"
    assert scene.acquired == "2023-05-08T10:20:31.000Z"
    assert scene.updated == "2024-05-08T10:20:31.000Z"


def test_by_time(api):
    assert names(StacSearch(api, time="2023-01-05/2023-01-07")) == ["S2A_004", "S2A_005", "S2A_006"]
    assert len(names(StacSearch(api, time="2023-02"))) == 28
    assert names(StacSearch(api, time="2023-05-07/..")) == ["S2A_118", "S2A_119"]


def test_by_box_and_by_polygon(api, tmp_path):
    assert names(StacSearch(api, area="11.105,52.02,11.5,52.04")) == [f"S2A_{n:03d}" for n in range(101, 120)]
    area = gpd.GeoDataFrame(geometry=[shapely.box(9.0, 52.0, 10.005, 52.2)], crs="EPSG:4326")
    area.to_crs("EPSG:32632").to_file(tmp_path / "area.gpkg")
    assert names(StacSearch(api, area=str(tmp_path / "area.gpkg"))) == ["S2A_000"]


def test_by_cloud_cover_where_it_is_told(api):
    assert names(StacSearch(api, cloud_cover=1)) == ["S2A_000", "S2A_001", "S2A_007", "S2A_100", "S2A_101"]


def test_by_collection(api):
    assert names(StacSearch(api, collections=("landsat",))) == []


def test_the_latest(api):
    assert names(StacSearch(api, most=2)) == ["S2A_118", "S2A_119"]


def test_an_input_version_is_of_the_item_and_not_of_signatures(tmp_path, api):
    first = search_scenes(StacSearch(api, area="9,52,10.005,53"))[0].input_version
    signed = item(0)
    for asset in signed["assets"].values():
        asset["href"] += "?signature=abc"
    with stac_api(tmp_path, [signed]) as other:
        assert search_scenes(StacSearch(other))[0].input_version == first
    processed_again = item(0)
    processed_again["properties"]["updated"] = "2025-01-01T00:00:00Z"
    with stac_api(tmp_path, [processed_again]) as other:
        assert search_scenes(StacSearch(other))[0].input_version != first


@pytest.mark.parametrize("area", ["1,2,3", "a,b,c,d", "10,53,11,52", "10,52,190,53"])
def test_an_area_is_four_degrees(api, area):
    with pytest.raises(ConfigError, match=r"west,south,east,north"):
        search_scenes(StacSearch(api, area=area))


def test_times_and_files_that_are_none(api, tmp_path):
    with pytest.raises(ConfigError, match="Received: 'last week'"):
        search_scenes(StacSearch(api, time="last week"))
    (tmp_path / "area.geojson").write_text("nothing")
    with pytest.raises(VectorFileError, match="area can't be read"):
        search_scenes(StacSearch(api, area=str(tmp_path / "area.geojson")))


def test_what_is_no_api(tmp_path):
    (tmp_path / "index.html").write_text("<html>welcome</html>")
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "static", "description": "-", "links": []}
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    with file_server(tmp_path) as server:
        for path in ("", "/catalog.json"):
            with pytest.raises(NotAProductError, match="Not a STAC API"):
                search_scenes(StacSearch(server.url + path))
        with pytest.raises(NotAProductError, match="HTTP status 404"):
            search_scenes(StacSearch(f"{server.url}/nothing"))


def test_a_server_that_is_busy_is_asked_again_and_it_is_said(tmp_path, caplog):
    catalog = {"type": "Catalog", "stac_version": "1.0.0", "id": "static", "description": "-", "links": []}
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    with file_server(tmp_path) as server:
        server.faults["/catalog.json"] = ["503"] * 6  # more than one patient request takes
        with pytest.raises(NotAProductError):  # it answers in the end, and has no search
            search_with_retries(StacSearch(f"{server.url}/catalog.json"), attempts=2, backoff_s=0)
        assert server.asked["/catalog.json"] == 7
    assert [
        line.endswith("Search again in 0 s (batch.attempts, batch.backoff_s).") for line in caplog.messages
    ] == [True]


def test_a_server_that_is_not_there():
    search = StacSearch("http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="does not answer"):
        search_with_retries(replace(search), attempts=1, backoff_s=0)


@pytest.mark.parametrize("kind", SLOW)
def test_a_search_without_progress_ends_within_its_total_time(kind, monkeypatch):
    monkeypatch.setattr(search_module, "PATIENCE_S", 0.5)
    begun = time.monotonic()
    with slow_server(kind) as url, pytest.raises(UnreachableError):
        search_with_retries(StacSearch(url), attempts=50, backoff_s=0.1)
    assert time.monotonic() - begun < 3


def test_pauses_are_part_of_the_total_time():
    begun = time.monotonic()
    with pytest.raises(UnreachableError):
        search_with_retries(StacSearch("http://127.0.0.1:9"), attempts=3, backoff_s=100)
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("url", ["api", "ftp://host", "file:///a", "http://[", "http://host:port"])
def test_an_api_has_the_url_of_a_web_server(url):
    with pytest.raises(ConfigError, match=r"--stac is the URL of a STAC API, e.g\. .*Received: '"):
        search_scenes(StacSearch(url))


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("2023-06", "2023-06-01T00:00:00Z/2023-06-30T23:59:59Z"),
        ("20230613", "2023-06-13T00:00:00Z/2023-06-13T23:59:59Z"),
        ("2023-06-13 12:00+02:00/..", "2023-06-13T10:00:00Z/.."),
        ("2023-W24-2/20230613T240000", "2023-06-13T00:00:00Z/2023-06-14T00:00:00Z"),
        ("2023-06-13T10:59:60Z", "2023-06-13T11:00:00Z"),
    ],
)
def test_a_time_in_any_spelling_is_asked_for_in_that_of_stac(given, asked):
    assert (
        ItemSearch("http://host", datetime=search_module._interval(given)).get_parameters()["datetime"]
        == asked
    )


@pytest.mark.parametrize(
    ("moment", "kept"),
    [
        ("9999-12-31T23:59:59-23:59", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("2023-06-13T12:20:31.5+02:00", "2023-06-13T10:20:31.500Z"),
    ],
)
def test_a_time_of_an_item_at_which_no_satellite_took_images_is_none(moment, kept):
    document = {**item(0), "properties": {"datetime": moment, "updated": moment}}
    scene = search_module._listed(document, StacSearch("http://host"))
    assert (scene.acquired, scene.updated) == (kept, kept)


@pytest.mark.parametrize(
    "span",
    [
        *("2023-06/2023-05", "2023-01-01/2023-02-01/2023-03-01", "2023-99", "x", "2023-06-13/2023-06-12T10"),
        *("0001-01-01T00:00+23:59", "9999-12-31T24:00Z", "9999-12-31", "9" * 5000, "\ud800"),
    ],
)
def test_a_time_is_one_or_two_in_order(span):
    with pytest.raises(ConfigError, match="The time of a search is like 2023-06"):
        search_module._interval(span)


def test_an_item_is_no_api(tmp_path):
    (tmp_path / "item.json").write_text(json.dumps(item(0)))
    with file_server(tmp_path) as server, pytest.raises(NotAProductError, match="name it as a scene"):
        search_scenes(StacSearch(f"{server.url}/item.json"))


# --- a server that means harm ---------------------------------------------------------------------------

SEARCH = "https://api.stacspec.org/v1.0.0/item-search"


@pytest.fixture
def hostile(tmp_path):
    """A server of files; those of `serve` are its landing page and the pages of its search."""
    with file_server(tmp_path) as server:
        yield server


def serve(server, folder: Path, pages: list[dict], search: str = "/page0.json") -> StacSearch:
    landing = {"type": "Catalog", "stac_version": "1.0.0", "id": "hostile", "description": "-"}
    where = search if ":" in search else server.url + search
    links = [{"rel": "search", "href": where, "type": "application/geo+json"}]
    (folder / "api.json").write_text(json.dumps(landing | {"conformsTo": [SEARCH], "links": links}))
    for number, page in enumerate(pages):
        (folder / f"page{number}.json").write_text(json.dumps({"type": "FeatureCollection"} | page))
    return StacSearch(f"{server.url}/api.json", cloud_cover=50.0)


def leading_to(href: str, *items: dict, **reported) -> dict:
    return {"features": list(items), "links": [{"rel": "next", "href": href, **reported}]}


def test_pages_without_end_come_to_one(hostile, tmp_path, monkeypatch):
    more = [leading_to(f"{hostile.url}/page{n + 1}.json", item(2 * n), item(2 * n + 1)) for n in range(3)]
    search = serve(hostile, tmp_path, [*more[:2], leading_to(f"{hostile.url}/page1.json", item(9))])
    with pytest.raises(NotAProductError, match="form a loop"):
        search_scenes(search)
    monkeypatch.setattr(search_module, "_MOST_SCENES", 3)
    with pytest.raises(NotAProductError, match="finds more than 3 scenes; narrow it"):
        search_scenes(search)


@pytest.mark.parametrize("reported", [{}, {"method": "DELETE"}])
def test_links_lead_to_servers_only_and_only_to_be_read(hostile, tmp_path, reported):
    private = tmp_path / "private.json"
    private.write_text(json.dumps({"type": "FeatureCollection", "features": [item(1)]}))
    hrefs = (
        [f"{hostile.url}/page1.json"]
        if reported
        else [str(private), f"file://{private}", "ftp://127.0.0.1/a"]
    )
    for href in hrefs:
        search = serve(hostile, tmp_path, [leading_to(href, item(0), **reported)])
        with pytest.raises(NotAProductError, match="A link of the STAC API leads elsewhere than to"):
            search_scenes(search)
    with pytest.raises(NotAProductError, match="leads elsewhere"):
        search_scenes(serve(hostile, tmp_path, [], search=f"file://{private}"))


@pytest.mark.parametrize("which", ["/api.json", "/page0.json"])
def test_answers_that_burst_when_unpacked_are_not_unpacked_to_their_end(hostile, tmp_path, which):
    search = serve(hostile, tmp_path, [leading_to("", item(0))])
    (tmp_path / which[1:]).write_bytes(gzip.compress(b" " * 2**29, 1))
    hostile.headers[which] = {"Content-Encoding": "gzip"}
    tracemalloc.start()
    try:
        with pytest.raises(NotAProductError, match="answer of the STAC API is larger than 67 MB"):
            search_scenes(search)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_the_body_of_a_redirect_is_not_read(hostile, tmp_path):
    search = serve(hostile, tmp_path, [{"features": [item(0)]}])
    hostile.redirect_body = gzip.compress(b" " * 2**29, 1)
    hostile.faults["/api.json"] = [f"{hostile.url}/api.json"]
    tracemalloc.start()
    try:
        assert names(search) == ["S2A_000"]
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "reported",
    [
        {"properties": None}, {"assets": None}, {"assets": {"blue": None}}, {"assets": {"blue": {"href": 5}}},
        {"assets": {"blue": {"href": "http://[::1/a.tif"}}}, {"links": [5]}, {"collection": 5},
        {"properties": {"datetime": "0001-01-01T00:00:00+14:00"}},
        {"properties": {"datetime": None, "updated": "soon"}},
        {"properties": {"datetime": "2023-06-15T00:00:00Z", "eo:cloud_cover": "nan"}},
        {"properties": {"datetime": "2023-06-15T00:00:00Z", "eo:cloud_cover": [1]}},
        {"links": [{"rel": "self", "href": "file:///etc/passwd"}]},
    ],
)  # fmt: skip
def test_an_item_that_is_malformed_hides_no_other_and_is_found_itself(hostile, tmp_path, reported):
    odd = stac_item("../odd") | reported
    scenes = search_scenes(serve(hostile, tmp_path, [{"features": [item(0), odd, item(1)]}]))
    assert {scene.name for scene in scenes} == {"S2A_000", "S2A_001", "_odd"}
    (href,) = (scene.href for scene in scenes if scene.name == "_odd")
    assert href == f"{hostile.url}/api.json/collections/sentinel-2-l2a/items/..%2Fodd"


def test_nesting_that_breaks_parsers_hides_no_other_item(hostile, tmp_path):
    search = serve(hostile, tmp_path, [{"features": [item(0), item(1)]}])
    page = tmp_path / "page0.json"
    page.write_text(page.read_text().replace('"platform"', f'"x": {"[" * 900}{"]" * 900}, "platform"', 1))
    assert names(search) == ["S2A_000", "S2A_001"]


@pytest.mark.parametrize("features", [[None], ["x"], [{}], [{"id": 5}], "x", {"a": 1}])
def test_what_is_found_has_ids(hostile, tmp_path, features):
    with pytest.raises(NotAProductError, match="are no items with an id"):
        search_scenes(serve(hostile, tmp_path, [{"features": features}]))
