"""Files of others: read in the formats that hold their own features, in archives too; all else is refused."""

import gzip
import sqlite3
import zipfile
from contextlib import closing
from functools import partial

import geopandas as gpd
import pytest
import shapely

from pipeline.errors import VectorFileError
from pipeline.storage.untrusted_vectors import layer_names, read_layer, split_layer

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
    assert read_layer(path, "Labels", "points")["name"].tolist() == ["x", "y"]


@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
def test_openstreetmap_xml_is_read(tmp_path, pack):
    (tmp_path / "a.osm").write_bytes(pack(f'\n<?xml version="1.0"?>{OSM}'[1:]))
    assert read_layer(tmp_path / "a.osm", "Places", "points")["name"].tolist() == ["n"]


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
        read_layer(path, "Labels", "points")


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
        read_layer(f"{path}:a", "Labels", "points")


def test_several_shapefiles_are_layers(tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    for name in ("first", "second"):
        points(name).to_file(folder / f"{name}.shp")
    for path in (folder, zipped(tmp_path / "a.zip", folder), zipped(tmp_path / "b.zip", tmp_path / "given")):
        assert set(layer_names(path, "Labels")) == {"first", "second"}
        assert read_layer(f"{path}:second", "Labels", "points")["name"].tolist() == ["second"]
    points("x").to_file(folder / "third.gpkg")
    with pytest.raises(VectorFileError, match=r"holds 3 vector files\. Unpack it"):
        read_layer(zipped(tmp_path / "c.zip", folder), "Labels", "points")


LINE, AREA = shapely.LineString([(0, 0), (3, 1)]), shapely.box(0, 0, 2, 1)


def layers(path, **geometries):
    for name, shapes in geometries.items():
        frame = gpd.GeoDataFrame({"name": [name] * len(shapes)}, geometry=list(shapes), crs="EPSG:4326")
        frame.to_file(path, layer=name, geometry_type=None if shapes else "Polygon")
    return path


@pytest.mark.parametrize(
    ("kind", "names", "expected"),
    [
        ("lines", (), "street"),  # the only one
        ("polygons", ("absent", "fields"), "Fields"),  # its name is one of those that are preferred
        ("points", ("street",), "street"),  # the name decides; its reader reports what it holds
    ],
)
def test_of_several_layers_the_one_that_fits(tmp_path, kind, names, expected):
    path = layers(tmp_path / "a.gpkg", sites=[AREA], Fields=[AREA], street=[LINE], none=[])
    assert read_layer(path, "Labels", kind, names)["name"].tolist() == [expected]


def test_an_empty_layer_does_not_count_beside_a_filled_one(tmp_path):
    path = layers(tmp_path / "a.gpkg", old=[], new=[AREA, AREA])
    assert read_layer(path, "Labels", "polygons")["name"].tolist() == ["new", "new"]


def test_of_several_kinds_the_first_that_a_file_has(tmp_path):
    either = partial(read_layer, what="Labels", kind=("polygons", "points"))
    dot = shapely.Point(0, 0)
    path = layers(tmp_path / "a.gpkg", street=[LINE], sites=[dot])
    assert either(path)["name"].tolist() == ["sites"]
    assert either(layers(path, empty=[]))["name"].tolist() == ["sites"]
    assert either(layers(path, fields=[AREA]))["name"].tolist() == ["fields"]
    with pytest.raises(VectorFileError, match=r"has no layer of polygons or points\. It has: a"):
        either(layers(tmp_path / "b.gpkg", a=[LINE], b=[LINE]))
    with pytest.raises(VectorFileError, match=r"has 2 layers of polygons or points\. It has: a"):
        either(layers(tmp_path / "c.gpkg", a=[dot], b=[dot]))


def test_a_layer_of_any_geometry_is_taken_for_what_it_holds(tmp_path):
    path = layers(tmp_path / "a.gpkg", mixed=[shapely.Point(1, 1), AREA], more=[shapely.Point(0, 0), LINE])
    assert len(read_layer(path, "Roads", "lines")) == len(read_layer(path, "Labels", "polygons")) == 2
    assert read_layer(path, "Roads", "lines")["name"][0] == "more"


def test_several_layers_that_fit_are_listed_in_one_line(tmp_path):
    path = layers(
        tmp_path / "a.gpkg", **{"aoi\nnote": [AREA], "boxes": [AREA], "sites": [shapely.Point(0, 0)]}
    )
    with pytest.raises(
        VectorFileError,
        match=r"^Labels: \S+a\.gpkg has 2 layers of polygons\. It has: aoi note \(Polygon\), "
        r"boxes \(Polygon\), sites \(Point\)\. Choose one with \S+a\.gpkg:LAYER$",
    ):
        read_layer(path, "Labels", "polygons")
    with pytest.raises(VectorFileError, match=r"has no layer of lines\. It has: aoi note"):
        read_layer(path, "Roads", "lines")
    with pytest.raises(VectorFileError, match=r"has no layer 'trucks'\. It has: aoi note"):
        read_layer(f"{path}:trucks", "Labels", "polygons")


@pytest.mark.parametrize("layer", ["boxes", "BOXES"])
def test_file_and_layer_by_name(tmp_path, layer):
    path = layers(tmp_path / "a.gpkg", aoi=[AREA], boxes=[AREA])
    assert read_layer(f"{path}:{layer}", "Labels", "polygons")["name"].tolist() == ["boxes"]


def test_what_exists_is_a_file_whatever_its_colons(tmp_path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    path = layers(folder / "c:d.gpkg", **{"x:y": [AREA], "z": [LINE]})
    assert split_layer(path) == (path, None)
    assert split_layer(f"{path}:x:y") == (path, "x:y")
    assert read_layer(path, "Roads", "lines")["name"].tolist() == ["z"]
    assert read_layer(f"{path}:x:y", "Labels", "polygons")["name"].tolist() == ["x:y"]
    for absent in (tmp_path / "none.gpkg:x", tmp_path / "a:c" / "none.gpkg", "overpass", "C:/none.gpkg"):
        assert split_layer(absent)[1] is None
    (tmp_path / "a").mkdir()
    assert split_layer(tmp_path / "a:c" / "none.gpkg")[1] is None
    assert split_layer(tmp_path / "a:roads") == (tmp_path / "a", "roads")


def test_a_view_and_a_table_beside_layers(tmp_path):
    path = layers(tmp_path / "a.gpkg", base=[LINE], base2=[shapely.Point(0, 0)])
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("CREATE VIEW fields AS SELECT fid AS OGC_FID, name, geom FROM base2")
        base.execute(
            "INSERT INTO gpkg_contents (table_name, identifier, data_type, srs_id)"
            " VALUES ('fields', 'fields', 'features', 4326)"
        )
        base.execute("INSERT INTO gpkg_geometry_columns VALUES ('fields', 'geom', 'POLYGON', 4326, 0, 0)")
        base.execute("CREATE TABLE layer_styles (id INTEGER PRIMARY KEY, note TEXT)")
    assert read_layer(path, "Labels", "polygons")["name"].tolist() == ["base2"]


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
            read_layer(tmp_path / name, "Labels", "points")
        assert "\n" not in str(caught.value)
    with pytest.raises(VectorFileError, match="Labels not found"):
        read_layer(tmp_path / "none.gpkg", "Labels", "points")


@pytest.mark.parametrize("folder", ["#1 50% ?x&y", "{a};[b]'!"])
def test_geopackages_in_folders_of_odd_names(tmp_path, folder):
    """The folder of a run has the name of its scene."""
    path = tmp_path / folder / "t.gpkg"
    path.parent.mkdir()
    points("x").to_file(tmp_path / "new.gpkg", layer="trucks")
    (tmp_path / "new.gpkg").rename(path)
    points("y", "z").to_file(tmp_path / "t.gpkg", layer="trucks")
    assert read_layer(f"{path}:trucks", "Trucks", "points")["name"].tolist() == ["x"]
    assert layer_names(path, "Trucks") == ["trucks"]
