import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely

from pipeline.errors import GeoreferenceError, OutputError
from pipeline.layers.export import replacing, write_formats, write_gpkg, write_trucks_geojson
from pipeline.layers.styles import seen_style, truck_style


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


def test_geojson_is_rfc_7946(tmp_path):
    write_trucks_geojson(trucks(), tmp_path / "trucks.geojson")
    text = (tmp_path / "trucks.geojson").read_text(encoding="utf-8")
    collection = json.loads(text)
    assert set(collection) == {"type", "features"}
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
    (feature,) = json.loads((tmp_path / "trucks.geojson").read_text())["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    west, east = (shapely.Polygon(rings[0]).bounds for rings in feature["geometry"]["coordinates"])
    assert 179.999 < west[0] < west[2] == 180.0
    assert -180.0 == east[0] < east[2] < -179.999


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
def test_further_formats_hold_the_same_layer(tmp_path, layer):
    paths = write_formats({"trucks": layer}, tmp_path, ["parquet", "flatgeobuf", "geojson"])
    assert list(paths) == ["trucks.parquet", "trucks.fgb", "trucks.geojson"]
    columnar = gpd.read_parquet(paths["trucks.parquet"])
    assert columnar.crs == layer.crs
    assert columnar.geometry.equals(layer.geometry)
    assert columnar.isna().equals(layer.isna())
    binary = gpd.read_file(paths["trucks.fgb"])
    assert binary.crs == layer.crs
    assert sorted(binary["id"]) == layer["id"].tolist()
    assert len(json.loads(paths["trucks.geojson"].read_text())["features"]) == len(layer)


def test_neighbours_keep_their_shared_nodes_in_geojson(tmp_path):
    cover = gpd.GeoDataFrame(
        {"class": [1, 2]},
        geometry=[shapely.box(500_000, 0, 500_010, 10), shapely.box(500_010, 0, 500_020, 10)],
        crs="EPSG:32632",
    )
    paths = write_formats({"landcover": cover}, tmp_path, ["geojson"])
    assert shapely.coverage_is_valid(gpd.read_file(paths["landcover.geojson"]).geometry.values)
