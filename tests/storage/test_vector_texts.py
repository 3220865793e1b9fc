"""Texts in another encoding than a file says are read, with a warning."""

import sqlite3
from contextlib import closing
from functools import partial

import geopandas as gpd
import pytest
import shapely

from pipeline.errors import VectorFileError
from pipeline.input_warnings import collected_warnings
from pipeline.roads.read import read_roads
from pipeline.storage.untrusted_vectors import layer_names, read_extent, read_layer

LINE = shapely.LineString([(9, 50), (9.1, 50)])


def write(path, *names):
    """Write lines whose names have placeholders of the same length."""
    frame = gpd.GeoDataFrame({"name": names}, geometry=[LINE] * len(names), crs="EPSG:4326")
    frame.to_file(path, driver={"geojsonl": "GeoJSONSeq"}.get(path.suffix[1:]))
    return path.with_suffix(".dbf") if path.suffix == ".shp" else path


def replace(path, **texts):
    raw = path.read_bytes()
    for old, new in texts.items():
        raw = raw.replace(old.encode(), new)
    path.write_bytes(raw)


SUFFIXES = ["shp", "gpkg", "geojson", "geojsonl", "fgb"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("cpg", ["UTF-8", None, "nonsense"])
def test_western_names_are_read_with_a_warning(tmp_path, suffix, cpg):
    if suffix != "shp" and cpg != "UTF-8":
        pytest.skip("only Shapefiles have a .cpg")
    path = tmp_path / f"r.{suffix}"
    replace(write(path, "Strasse", "Wieeg"), Strasse=b"Stra\xdfe ", Wieeg="Wüg ".encode())
    if suffix == "shp":
        if cpg is None:
            path.with_suffix(".cpg").unlink()
        else:
            path.with_suffix(".cpg").write_text(cpg)
    with collected_warnings() as warned:
        names = read_layer(path, "Roads", "lines")["name"].str.strip().tolist()
    assert names[0] == "Straße"
    assert names[1] == "Wüg" or cpg != "UTF-8"
    if cpg == "UTF-8":
        assert [text for text in warned if "Windows-1252" in text and f"Roads: {path}" in text]


def test_texts_in_the_declared_encoding_need_no_warning(tmp_path):
    frame = gpd.GeoDataFrame({"name": ["Straße", "улица"]}, geometry=[LINE, LINE], crs="EPSG:4326")
    frame.to_file(tmp_path / "r.shp", encoding="utf-8")
    frame[:1].to_file(tmp_path / "w.shp", encoding="cp1252")
    with collected_warnings() as warned:
        assert read_layer(tmp_path / "r.shp", "Roads", "lines")["name"].tolist() == ["Straße", "улица"]
        assert read_layer(tmp_path / "w.shp", "Roads", "lines")["name"].tolist() == ["Straße"]
    assert not warned


def test_a_letter_cut_by_the_width_of_its_field(tmp_path):
    replace(write(tmp_path / "r.shp", "Strasse"), Strasse="Straß".encode() + b"\xc3")
    assert read_layer(tmp_path / "r.shp", "Roads", "lines")["name"].tolist() == ["Straß"]


@pytest.mark.parametrize("suffix", ["shp", "gpkg"])
def test_names_of_columns(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    frame = gpd.GeoDataFrame({"Strxe": ["a"]}, geometry=[LINE], crs="EPSG:4326")
    frame.to_file(path)
    replace(path.with_suffix(".dbf") if suffix == "shp" else path, Strxe=b"Str\xdfe")
    assert read_layer(path, "Roads", "lines")["Strße"].tolist() == ["a"]
    assert len(read_extent(path, "Roads", "lines")) == 1


def test_names_of_layers(tmp_path):
    write(tmp_path / "r.gpkg", "a")
    with closing(sqlite3.connect(tmp_path / "r.gpkg")) as base, base:
        base.execute("PRAGMA writable_schema = 1")
        base.execute("UPDATE gpkg_contents SET table_name = CAST(x'65DF' AS TEXT), identifier = table_name")
        base.execute("UPDATE gpkg_geometry_columns SET table_name = CAST(x'65DF' AS TEXT)")
        base.execute(
            "UPDATE sqlite_master SET name = CAST(x'65DF' AS TEXT), tbl_name = CAST(x'65DF' AS TEXT),"
            " sql = CAST(replace(CAST(sql AS BLOB), CAST('\"r\"' AS BLOB), x'2265DF22') AS TEXT)"
            " WHERE name = 'r'"
        )
    for read in (layer_names, partial(read_layer, kind="lines")):
        with pytest.raises(VectorFileError, match="Roads can't be read"):
            read(tmp_path / "r.gpkg", "Roads")


def test_openstreetmap(tmp_path):
    text = (
        '<?xml version="1.0" encoding="{}"?><osm version="0.6"><node id="1" lat="50" lon="9"/>'
        '<node id="2" lat="50" lon="9.1"/><way id="3"><nd ref="1"/><nd ref="2"/>'
        '<tag k="highway" v="primary"/><tag k="name" v="Straße"/></way></osm>'
    )
    for encoding in ("ISO-8859-1", "UTF-8"):
        (tmp_path / "a.osm").write_bytes(text.format(encoding).encode(encoding))
        assert read_roads(tmp_path / "a.osm", "EPSG:32632")["name"].tolist() == ["Straße"]
