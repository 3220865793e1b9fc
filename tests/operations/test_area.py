"""Areas of a search: boxes and polygons that are wrong are repaired and reported, or refused in one line."""

import geopandas as gpd
import pytest
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box, shape

from pipeline.errors import AreaError, ConfigError, TruckscapeError, VectorFileError
from pipeline.input_warnings import collected_warnings
from pipeline.operations.area import search_place

BOW_TIE = Polygon([(10, 53), (11, 54), (11, 53), (10, 54)])


def place(tmp_path, *shapes, crs="EPSG:4326", name="a.gpkg"):
    gpd.GeoDataFrame(geometry=list(shapes), crs=crs).to_file(tmp_path / name)
    with collected_warnings() as warnings:
        found = shape(search_place(str(tmp_path / name))["intersects"])
    assert found.is_valid
    return found, warnings


def test_a_polygon_that_crosses_itself_is_repaired_and_said(tmp_path):
    """A bow tie of two triangles, a quarter of the square each, beside a box."""
    found, warnings = place(tmp_path, BOW_TIE, box(12, 53, 13, 54))
    assert found.area == pytest.approx(0.5 + 1)
    assert [text.split(": ", 1)[1] for text in warnings] == [
        "The area: 1 repaired, their outlines crossed themselves.",
        "The area: the repaired outlines cover 3,693 km2 (0 km2 as drawn).",
    ]
    beside, _ = place(tmp_path, BOW_TIE, box(10.2, 53.2, 10.9, 53.8), name="b.gpkg")
    assert beside.area == pytest.approx(0.5 + 0.42 - 0.09 - 0.15)


def test_good_polygons_are_no_cause_for_warnings(tmp_path):
    doubled = Polygon([(10, 53), (10, 53), (11, 53), (11, 54), (11, 54), (10, 54)])
    found, warnings = place(tmp_path, doubled, MultiPolygon([box(12, 53, 13, 54), box(14, 53, 15, 54)]))
    assert (found.area, warnings) == (pytest.approx(3), [])
    found, warnings = place(tmp_path, box(-180, -90, 180, 90), name="world.gpkg")
    assert (found.area, warnings) == (360 * 180, [])


def test_an_unclosed_ring_is_closed(tmp_path):
    (tmp_path / "a.geojson").write_text(
        '{"type": "Polygon", "coordinates": [[[10, 53], [11, 53], [11, 54], [10, 54]]]}'
    )
    assert shape(search_place(str(tmp_path / "a.geojson"))["intersects"]).area == pytest.approx(1)


@pytest.mark.parametrize(
    ("shapes", "crs", "message"),
    [
        ([Point(10, 53)], "EPSG:4326", "The area must be polygons; .* holds 1 Point"),
        ([LineString([(10, 53), (11, 54)])], "EPSG:4326", "The area must be polygons"),
        ([Polygon([(10, 53), (11, 54), (12, 55)])], "EPSG:4326", "can be used: 1 without area"),
        ([None, Polygon()], "EPSG:4326", "can be used: 2 without geometry"),
        ([BOW_TIE], None, "has no CRS"),
        ([box(600_000, 5_800_000, 610_000, 5_810_000)], "EPSG:4326", "outside of its CRS, EPSG:4326"),
        ([box(53, 130, 54, 131)], "EPSG:4326", "seem to be swapped"),
    ],
)
def test_what_is_no_area_is_refused_in_one_line(tmp_path, shapes, crs, message):
    with pytest.raises(VectorFileError, match=message) as caught:
        place(tmp_path, *shapes, crs=crs)
    assert "\n" not in str(caught.value)


def test_a_file_without_features(tmp_path):
    (tmp_path / "a.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(AreaError, match="no polygon with an area"):
        search_place(str(tmp_path / "a.geojson"))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32660", "EPSG:3832"])
def test_an_area_across_the_antimeridian_is_cut_there(tmp_path, crs):
    """From 178 to 182 degrees east, drawn on so or in metres."""
    given = gpd.GeoSeries([box(178, 50, 182, 52)], crs="EPSG:4326").to_crs(crs)
    if crs != "EPSG:4326":
        xy = gpd.GeoSeries(
            gpd.points_from_xy([178, -178, -178, 178], [50, 50, 52, 52]), crs="EPSG:4326"
        ).to_crs(crs)
        given = gpd.GeoSeries([Polygon(list(zip(xy.x, xy.y, strict=True)))], crs=crs)
    found, warnings = place(tmp_path, given[0], crs=crs)
    assert (found.bounds, warnings) == (pytest.approx((-180, 50, 180, 52)), [])
    assert found.area == pytest.approx(8, rel=0.01)
    assert (
        found.intersects(Point(179, 51))
        and found.intersects(Point(-179, 51))
        and not found.intersects(Point(0, 51))
    )


def test_a_polygon_around_the_world_is_reported(tmp_path):
    found, warnings = place(tmp_path, box(-178, 50, 178, 52))
    assert found.area == 356 * 2
    assert "reaches over 356 degrees of longitude" in warnings[0]


def test_a_layer_or_a_folder(tmp_path):
    for name, east in (("west", 11), ("east", 12)):
        gpd.GeoDataFrame(geometry=[box(10, 53, east, 54)], crs=4326).to_file(tmp_path / "a.gpkg", layer=name)
    assert shape(search_place(f"{tmp_path}/a.gpkg:east")["intersects"]).area == pytest.approx(2)
    with pytest.raises(VectorFileError, match=r"The area: .* has 2 layers of polygons"):
        search_place(f"{tmp_path}/a.gpkg")
    (tmp_path / "folder").mkdir()
    gpd.GeoDataFrame(geometry=[box(10, 53, 11, 54)], crs=4326).to_file(tmp_path / "folder" / "a.shp")
    assert shape(search_place(f"{tmp_path}/folder")["intersects"]).area == pytest.approx(1)


@pytest.mark.parametrize(
    ("area", "message"),
    [
        ("10,53,10,54", "Received: 10,53,10,54"),
        ("10,53,11,53", "south first"),
        ("10,54,11,53", "south first"),
        ("nan,53,11,54", "in degrees"),
        ("600000,5800000,610000,5810000", "longitude -180 to 180"),
        ("11,53,10,54", "has its west, 11, east of its east, 10. Write west,south,east,north: 10,53,11,54"),
        ("aoi.gpkg", r"FILE:LAYER\). Received: aoi\.gpkg, which is no file"),
        ("10,53,11", "which is no file"),
    ],
)
def test_boxes_that_are_none(area, message):
    with pytest.raises(ConfigError, match=message):
        search_place(area)


def test_boxes():
    assert search_place("10.2,52.2,10.8,52.4") == {"bbox": [10.2, 52.2, 10.8, 52.4]}
    assert search_place("178,-20,-178,-10") == {"bbox": [178, -20, -178, -10]}
    assert search_place("-180,-90,180,90") == {"bbox": [-180, -90, 180, 90]}
    assert issubclass(AreaError, TruckscapeError)
