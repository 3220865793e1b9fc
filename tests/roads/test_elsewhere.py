"""Roads that are not on the scene."""

import geopandas as gpd
import pytest
import shapely
from shapely.geometry import LineString

from pipeline.input_warnings import collected_warnings
from pipeline.roads.elsewhere import warn_without_roads
from pipeline.roads.read import read_roads
from tests.roads.test_read import OSM

CRS = "EPSG:32632"
SCENE = (600_000.0, 5_800_000.0, 603_000.0, 5_803_000.0)


def said(path, scene=SCENE):
    wide = shapely.box(*scene).buffer(5000, join_style="mitre").bounds
    with collected_warnings() as warnings:
        roads = read_roads(path, CRS, wide)
        warn_without_roads(roads, path, CRS, scene, buffer_m=30.0, margin_m=5000.0)
    return warnings


def written(tmp_path, x, y, crs=CRS, **columns):
    line = LineString([(600_000 + x, 5_800_000 + y), (600_500 + x, 5_800_000 + y)])
    table = gpd.GeoDataFrame({name: [value] for name, value in columns.items()}, geometry=[line], crs=CRS)
    path = tmp_path / "r.gpkg"
    table.to_crs(crs).to_file(path)
    return path


@pytest.mark.parametrize(("x", "y"), [(0, 0), (1000, 1500), (0, -25), (3020, 0), (-500, 3029)])
def test_roads_on_the_scene_or_in_its_buffer_are_no_warning(tmp_path, x, y):
    assert said(written(tmp_path, x, y)) == []


@pytest.mark.parametrize(
    ("x", "y", "crs", "distance"),
    [
        (0, 3130, CRS, "the nearest is 0.1 km to the north"),
        (0, 7030, "EPSG:4326", "the nearest is 4.0 km to the north"),
        (80_030, 0, CRS, "the nearest is 77 km to the east"),
        (-80_530, 0, "EPSG:3857", "the nearest is 80 km to the west"),
    ],
)
def test_the_distance_of_roads_elsewhere(tmp_path, x, y, crs, distance):
    (warning,) = said(written(tmp_path, x, y, crs))
    assert distance in warning
    assert "so no truck is searched" in warning


def test_roads_that_cannot_be_seen(tmp_path):
    (warning,) = said(written(tmp_path, 0, 0, tunnel="yes"))
    assert "no road on the scene can be seen from above (1 tunnel), so no truck is searched" in warning


def test_a_file_without_lines(tmp_path):
    gpd.GeoDataFrame({"id": []}, geometry=[], crs=CRS).to_file(
        tmp_path / "none.gpkg", geometry_type="LineString"
    )
    (warning,) = said(tmp_path / "none.gpkg")
    assert "has no road, so no truck is searched" in warning


def test_a_file_with_a_hole_at_the_scene(tmp_path):
    lines = [LineString([(5e5, 58e5), (5e5, 59e5)]), LineString([(7e5, 57e5), (7e5, 59e5)])]
    gpd.GeoDataFrame(geometry=lines, crs=CRS).to_file(tmp_path / "around.gpkg")
    (warning,) = said(tmp_path / "around.gpkg")
    assert "no road in use within 5 km of the scene" in warning


@pytest.mark.parametrize("elsewhere", [False, True])
def test_openstreetmap_without_roads_for_trucks(tmp_path, elsewhere):
    text = OSM
    for kind in () if elsewhere else ("motorway", "primary", "trunk"):
        text = text.replace(f'k="highway" v="{kind}"', 'k="highway" v="residential"')
    (tmp_path / "r.osm").write_text(text)
    scene = (601_000.0, 5_794_000.0, 604_000.0, 5_797_000.0)
    (warning,) = said(tmp_path / "r.osm", tuple(value + 90_000 for value in scene) if elsewhere else scene)
    if elsewhere:
        assert "km to the south-west, so no truck is searched" in warning
    else:
        assert (
            "has no motorway, trunk, primary or secondary road near the scene, but 3 residential" in warning
        )
