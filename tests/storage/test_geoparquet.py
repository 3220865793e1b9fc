"""GeoParquet is read wherever a vector file is."""

import gzip
import json
import struct
import zipfile

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from shapely.geometry import LineString, Point, box

from pipeline.errors import VectorFileError
from pipeline.evaluation.labels import checked_predicted_trucks, read_truck_labels
from pipeline.evaluation.landcover.labels import read_landcover_labels
from pipeline.operations.area import search_place
from pipeline.roads.read import read_roads
from pipeline.storage import geoparquet
from pipeline.storage.untrusted_vectors import layer_names, read_extent, read_layer, vector_source
from tests.evaluation.landcover.test_labels import WHOLE
from tests.evaluation.test_labels import GRID, UTM, pixels


@pytest.fixture
def places(tmp_path):
    frame = gpd.GeoDataFrame(
        {"name": ["a", "b", "c"]}, geometry=[Point(10, 53), Point(11, 53), Point(12, 53)], crs="EPSG:4326"
    )
    frame.to_parquet(tmp_path / "p.parquet")
    return tmp_path / "p.parquet"


def with_geo(path, change):
    """Change the GeoParquet metadata of a file."""
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata)
    geo = json.loads(metadata.pop(b"geo"))
    geo = change(geo)
    if geo is not None:
        metadata[b"geo"] = geo if isinstance(geo, bytes) else json.dumps(geo).encode()
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


@pytest.mark.parametrize("covering", [False, True])
def test_primary_geometry_of_any_name(places, tmp_path, covering):
    frame = gpd.read_parquet(places)
    frame["geometry"], frame["geom"] = gpd.GeoSeries([box(0, 0, 1, 1)] * 3, crs="EPSG:3857"), frame.geometry
    path = tmp_path / "named.parquet"
    frame.set_geometry("geom").to_parquet(path, write_covering_bbox=covering)
    found = read_layer(path, "Places", "points", box_in=lambda _crs: (10.5, 52, 11.5, 54))
    assert (found["name"].tolist(), found.geometry.name, found.crs) == (["b"], "geometry", "EPSG:4326")
    assert found.geometry.tolist() == [Point(11, 53)]
    assert read_extent(path, "Places", "points").total_bounds.tolist() == [10, 53, 12, 53]


@pytest.mark.parametrize("pack", ["plain", "another name", "gzip", "zip", "parts"])
def test_files_archives_and_folders(places, tmp_path, pack):
    path = places
    if pack == "another name":
        path = places.rename(tmp_path / "p.dat")
    elif pack == "gzip":
        path = tmp_path / "p.parquet.gz"
        path.write_bytes(gzip.compress(places.read_bytes()))
    elif pack == "zip":
        path = tmp_path / "p.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(places, "data/p.parquet")
    elif pack == "parts":
        path = tmp_path / "parts"
        for number, rows in enumerate((slice(0, 1), slice(1, 1), slice(1, 3))):
            (path / f"part={number}").mkdir(parents=True)
            gpd.read_parquet(places)[rows].to_parquet(path / f"part={number}" / "0.parquet")
    frame = read_layer(path, "Places", "points")
    assert (frame["name"].tolist(), frame.crs) == (["a", "b", "c"], "EPSG:4326")
    assert layer_names(path, "Places") == [path.stem]
    assert read_extent(path, "Places", "points").total_bounds.tolist() == [10, 53, 12, 53]


@pytest.mark.parametrize("covering", [False, True])
@pytest.mark.parametrize("encoding", ["WKB", "geoarrow"])
def test_bounds(places, covering, encoding):
    gpd.read_parquet(places).to_parquet(
        places, write_covering_bbox=covering, geometry_encoding=encoding, schema_version="1.1.0"
    )
    asked = []

    def box_in(crs):
        asked.append(crs)
        return (10.5, 52, 12.5, 54)

    assert read_layer(places, "Places", "points", box_in=box_in)["name"].tolist() == ["b", "c"]
    assert all("WGS 84" in crs for crs in asked)


def test_a_layer_that_it_does_not_have(places):
    assert len(read_layer(f"{places}:p", "Places", "points")) == 3
    with pytest.raises(VectorFileError, match=r"p\.parquet has no layer 'x'\. It has: p\."):
        read_layer(f"{places}:x", "Places", "points")
    with pytest.raises(VectorFileError, match="is GeoParquet"), vector_source(places, "Roads"):
        pass


def test_without_a_crs_it_is_in_degrees_and_with_null_in_none(places):
    def drop(geo):
        geo["columns"]["geometry"].pop("crs")
        return geo

    assert read_layer(with_geo(places, drop), "Places", "points").crs == "OGC:CRS84"
    unknown = with_geo(
        places,
        lambda geo: geo | {"columns": {"geometry": {"encoding": "WKB", "crs": None, "geometry_types": []}}},
    )
    assert read_layer(unknown, "Places", "points", box_in=lambda crs: (0, 0, 1, 1)).crs is None


@pytest.mark.parametrize(
    "change",
    [
        lambda geo: b"{",
        lambda geo: b"[]",
        lambda geo: {},
        lambda geo: geo | {"primary_column": "absent"},
        lambda geo: geo | {"columns": {"geometry": {"encoding": "WKB", "crs": "EPSG:0"}}},
        lambda geo: geo | {"columns": {"geometry": {"encoding": "other"}}},
        lambda geo: {"version": "1.0.0", "primary_column": "name", "columns": {"name": {"encoding": "WKB"}}},
    ],
)
def test_wrong_metadata_is_an_error_in_one_line(places, change):
    with pytest.raises(
        VectorFileError, match=r"p\.parquet can't be read: it is damaged or no GeoParquet"
    ) as caught:
        read_layer(with_geo(places, change), "Places", "points", box_in=lambda crs: (0, 0, 1, 1))
    assert "\n" not in str(caught.value)


def test_plain_parquet_and_damage_are_errors_in_one_line(places, tmp_path):
    pd.DataFrame({"x": [1.0]}).to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(
        VectorFileError, match=r"Places: .*plain.parquet can't be read: .*without GeoParquet meta"
    ):
        read_layer(tmp_path / "plain.parquet", "Places", "points")
    whole = places.read_bytes()
    for size in (4, 100, len(whole) - 20):
        (tmp_path / "cut.parquet").write_bytes(whole[:size])
        with pytest.raises(VectorFileError, match="can't be read"):
            read_layer(tmp_path / "cut.parquet", "Places", "points")
    (tmp_path / "parts").mkdir()
    for crs in (4326, 32632):
        gpd.read_parquet(places).to_crs(crs).to_parquet(tmp_path / "parts" / f"{crs}.parquet")
    with pytest.raises(VectorFileError, match="its parts differ in CRS"):
        read_layer(tmp_path / "parts", "Places", "points")


def test_labels_predictions_roads_land_cover_and_areas(tmp_path):
    path = tmp_path / "a.parquet"
    trucks = gpd.GeoDataFrame({"score": [0.9], "confidence": ["low"]}, geometry=[pixels(1, 1)], crs=UTM)
    trucks.to_parquet(path)
    assert read_truck_labels(path, UTM)["confidence"].tolist() == ["low"]
    assert len(checked_predicted_trucks(path)[0]) == 1
    trucks.assign(name="water").to_parquet(path)
    assert (read_landcover_labels(path, GRID).read(WHOLE) == 0).sum() == 1
    assert search_place(str(path))["intersects"]["type"] == "Polygon"
    line = LineString([(600_000, 5_800_000), (600_100, 5_800_000)])
    gpd.GeoDataFrame({"highway": ["motorway"]}, geometry=[line], crs=UTM).to_crs(4326).to_parquet(path)
    near = read_roads(path, UTM, (600_000, 5_799_900, 600_050, 5_800_100))
    assert near["oneway"].tolist() == [1]
    assert len(read_roads(path, UTM, (700_000, 5_799_900, 700_050, 5_800_100))) == 0
    gpd.GeoDataFrame(geometry=[box(6e5, 5.8e6, 6.1e5, 5.9e6)], crs=UTM).set_crs(
        4326, allow_override=True
    ).to_parquet(path)
    with pytest.raises(VectorFileError, match="outside of its CRS"):
        search_place(str(path))


def write_shapes(path, wkb, **options):
    """Write GeoParquet of geometries that nothing checks."""
    geo = {"version": "1.1.0", "primary_column": "geometry"}
    geo["columns"] = {"geometry": {"encoding": "WKB", "geometry_types": []}}
    table = pa.table({"geometry": pa.array(wkb, pa.binary())})
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path, **options)
    return path


def test_geometries_nested_in_each_other_are_refused_before_they_are_read(tmp_path):
    point = shapely.to_wkb(Point(0, 0))
    deep = struct.pack("<BII", 1, 7, 1) * 100_000 + point  # reading it would end the process
    path = write_shapes(tmp_path / "deep.parquet", [point, None, deep])
    with pytest.raises(VectorFileError, match="has geometries in each other"):
        read_layer(path, "Places", "points")


def test_values_that_a_few_bytes_stand_for_are_counted_before_all_are_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(geoparquet, "MOST_BYTES", 2**20)
    line = shapely.to_wkb(LineString([(0, 0)] * 6000))
    path = write_shapes(tmp_path / "many.parquet", [line] * 2000, compression="zstd")
    assert path.stat().st_size < 10_000
    with pytest.raises(VectorFileError, match="its values have more than 1 MB"):
        read_layer(path, "Roads", "lines")
    path = write_shapes(tmp_path / "few.parquet", [line] * 5, compression="zstd")
    assert len(read_layer(path, "Roads", "lines")) == 5


@pytest.mark.parametrize(
    "geo", [b"[" * 100_000, b"{", b"\xff", b"[]", b'{"columns": {}, "primary_column": {}}', b"1e999"]
)
def test_metadata_that_are_no_description_are_one_line(places, geo):
    with_geo(places, lambda _: geo)
    with pytest.raises(VectorFileError, match="damaged or no GeoParquet") as caught:
        read_layer(places, "Places", "points")
    assert "\n" not in str(caught.value)


def test_texts_that_are_no_utf8_are_one_line(places):
    table = pq.read_table(places)
    table = table.set_column(0, "name", pa.array([b"a\xff", b"b", b"c"]).view(pa.string()))
    pq.write_table(table, places)
    with pytest.raises(VectorFileError, match="damaged or no GeoParquet"):
        read_layer(places, "Places", "points")
