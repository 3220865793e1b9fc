"""Files of others: read in the formats that hold their own features, in archives too; all else is refused."""

import gzip
import sqlite3
import zipfile
from contextlib import closing

import geopandas as gpd
import pytest
import shapely

from pipeline.errors import VectorFileError
from pipeline.storage.untrusted_vectors import layer_names, read_layer, vector_source

OSM = '<osm version="0.6"><node id="1" lat="1" lon="2"><tag k="name" v="n"/></node></osm>'
RECIPES = {
    "vrt": '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>{}</SrcDataSource></OGRVRTLayer>'
    "</OGRVRTDataSource>",
    "wfs": "<OGRWFSDataSource><URL>http://127.0.0.1:9/{}</URL></OGRWFSDataSource>",
    "gdalg": '{{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read {}"}}',
    "gml": '<gml:FeatureCollection xmlns:gml="http://www.opengis.net/gml" schemaLocation="x http://127.0.0.1:9"/>',
    "entities": '<!DOCTYPE osm [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>' + OSM,
    "two roots": '<osm/><OGRVRTDataSource><OGRVRTLayer name="a"/></OGRVRTDataSource>',
    "text": "hello",
    "empty": "",
}


def points(*names: str) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"name": names}, geometry=[shapely.Point(2, 1)] * len(names), crs="EPSG:4326")


def zipped(path, folder):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "geojsons", "fgb", "shp"])
@pytest.mark.parametrize("place", ["plain", "zip", "folder in a zip", "gzip"])
def test_features_come_from_files_and_archives(tmp_path, suffix, place):
    folder = tmp_path / "given" / ("data" if place.startswith("folder") else "")
    folder.mkdir(parents=True)
    path = folder / f"a b.{suffix}"
    points("x", "y").to_file(path, driver="GeoJSONSeq" if suffix == "geojsons" else None)
    if "zip" in place and place != "gzip":
        (folder / "read.me").write_text("hello")
        path = zipped(tmp_path / "a.zip", tmp_path / "given")
    elif place == "gzip":
        if suffix in ("shp", "gpkg"):
            pytest.skip("never packed so: GDAL reads neither from gzip")
        path = tmp_path / f"a.{suffix}.gz"
        path.write_bytes(gzip.compress((folder / f"a b.{suffix}").read_bytes()))
    assert read_layer(path, "Labels")["name"].tolist() == ["x", "y"]


@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
def test_openstreetmap_xml_is_read(tmp_path, pack):
    (tmp_path / "a.osm").write_bytes(pack(f'\n<?xml version="1.0"?>{OSM}'[1:]))
    assert read_layer(tmp_path / "a.osm", "Roads", "points")["name"].tolist() == ["n"]


@pytest.mark.parametrize("kind", RECIPES)
@pytest.mark.parametrize(
    "name", ["a.gpkg", "a.geojson", "a.gdalg.json", "a.pbf", "a.osm", "a.gml", "a.osm.gz", "a.zip"]
)
def test_what_holds_no_features_is_refused(tmp_path, kind, name):
    """GDAL goes by the content, not by the name, and would follow it: what is private has a layer `a`."""
    points("secret").to_file(tmp_path / "private.gpkg", layer="a")
    text = RECIPES[kind].format(tmp_path / "private.gpkg").encode()
    path = tmp_path / name
    if name.endswith("gz"):
        path.write_bytes(gzip.compress(text))
    elif name.endswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.gpkg", text)
    else:
        path.write_bytes(text)
    with pytest.raises(VectorFileError, match="Labels can't be read"):
        read_layer(path, "Labels")


def test_a_table_that_reads_another_file_is_not_followed(tmp_path):
    """VirtualOGR is known to GDAL's SQLite driver, which would take over where the file is no GeoPackage."""
    points("secret").to_file(tmp_path / "private.geojson")
    path = tmp_path / "a.gpkg"
    points("x").to_file(path, driver="SQLite", layer="b")
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("PRAGMA writable_schema = 1")
        table = f"CREATE VIRTUAL TABLE a USING VirtualOGR('{tmp_path / 'private.geojson'}')"
        base.execute("INSERT INTO sqlite_master VALUES ('table', 'a', 'a', 0, ?)", [table])
        base.execute("PRAGMA application_id = 0x47504B47")
    with pytest.raises(VectorFileError, match="Labels can't be read"):
        read_layer(path, "Labels", "a")


def test_several_shapefiles_are_layers(tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    for name in ("first", "second"):
        points(name).to_file(folder / f"{name}.shp")
    for path in (folder, zipped(tmp_path / "a.zip", folder), zipped(tmp_path / "b.zip", tmp_path / "given")):
        assert set(layer_names(path, "Labels")) == {"first", "second"}
        assert read_layer(path, "Labels", "second")["name"].tolist() == ["second"]
    points("x").to_file(folder / "third.gpkg")
    with pytest.raises(VectorFileError, match=r"holds 3 vector files\. Unpack it"):
        read_layer(zipped(tmp_path / "c.zip", folder), "Labels")


def test_a_layer_by_name_or_the_first(tmp_path):
    path = tmp_path / "a.gpkg"
    points("x").to_file(path, layer="one")
    points("y").to_file(path, layer="two")
    assert [read_layer(path, "Labels", name)["name"][0] for name in ("two", "three", None)] == ["y", "x", "x"]


def test_damage_is_an_error_in_one_line(tmp_path):
    points(*"abc" * 1000).to_file(tmp_path / "a.gpkg")
    whole = (tmp_path / "a.gpkg").read_bytes()
    (tmp_path / "b.gpkg").write_bytes(whole[:5000])
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c.gpkg", whole)
    (tmp_path / "c.zip").write_bytes((tmp_path / "c.zip").read_bytes()[:-30])
    (tmp_path / "d.osm.gz").write_bytes(gzip.compress(OSM.encode())[:30])
    for name in ("b.gpkg", "c.zip", "d.osm.gz"):
        with pytest.raises(VectorFileError, match="Labels can't be read") as caught:
            read_layer(tmp_path / name, "Labels")
        assert "\n" not in str(caught.value)
    with pytest.raises(VectorFileError, match="Labels not found"):
        read_layer(tmp_path / "none.gpkg", "Labels")


@pytest.mark.parametrize("name", ["a!b.geojson", "b;a.geojson", "a{b}.geojson"])
def test_a_name_that_means_another_file_is_refused(tmp_path, name):
    (tmp_path / name).write_text(points("x").to_json())
    with pytest.raises(VectorFileError, match="Rename it"), vector_source(tmp_path / name, "Labels"):
        pass
