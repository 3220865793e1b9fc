"""GeoPackage with layers and styles."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely

from pipeline.layers.formats.geopackage import write_gpkg
from pipeline.layers.styles import seen_style, truck_style
from tests.layers.formats.test_geojson import trucks


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
