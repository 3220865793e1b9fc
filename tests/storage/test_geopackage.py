"""Views that multiply rows or never end are refused in time, and virtual tables at once: other files."""

import shutil
import sqlite3
import time
from contextlib import closing

import geopandas as gpd
import pytest
import shapely

from pipeline.errors import VectorFileError
from pipeline.storage import geopackage
from pipeline.storage.beside import deciding_files
from pipeline.storage.untrusted_vectors import layer_names, read_extent, read_layer

LINE = shapely.LineString([(0, 0), (3, 1)])


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "a.gpkg"
    gpd.GeoDataFrame({"name": ["x", "y", "z"]}, geometry=[LINE] * 3, crs="EPSG:4326").to_file(
        path, layer="base"
    )
    return path


def with_sql(path, *statements, layer=None):
    """Run statements; make a table or view a layer of lines."""
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("PRAGMA writable_schema = 1")
        for statement in statements:
            base.execute(statement)
        if layer:
            base.execute(
                "INSERT INTO gpkg_contents (table_name, identifier, data_type, srs_id)"
                " VALUES (?, ?, 'features', 4326)",
                [layer, layer],
            )
            base.execute(
                "INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'LINESTRING', 4326, 0, 0)", [layer]
            )


def numbers(rest: str, limit: str = "") -> str:
    return f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n {limit}) " + rest  # noqa: S608


ENDLESS = {
    "recursive": numbers("SELECT i AS OGC_FID, name, geom FROM n, base"),
    "no row ever": numbers("SELECT i AS OGC_FID, name, geom FROM n, base WHERE i < 0"),
    "cross join": numbers(
        "SELECT a.i AS OGC_FID, name, geom FROM n a, n b, n c, base WHERE a.i + b.i + c.i < 0", "LIMIT 4000"
    ),
    "many rows": numbers("SELECT a.i AS OGC_FID, name, geom FROM n a, n b, base", "LIMIT 3000"),
    "large values": numbers("SELECT i AS OGC_FID, zeroblob(9000000) AS name, geom FROM n, base", "LIMIT 50"),
    "one larger": "SELECT fid AS OGC_FID, zeroblob(900000000) AS name, geom FROM base",
    "asks a server": "SELECT fid AS OGC_FID, ogr_geocode('Paris') AS name, geom FROM base",
    "reads a file": "SELECT fid AS OGC_FID, BlobFromFile('/etc/hostname') AS name, geom FROM base",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_view_without_an_end_is_refused(lines, kind, monkeypatch):
    monkeypatch.setattr(geopackage, "MOST_SECONDS", 0.5)
    monkeypatch.setattr(geopackage, "MOST_ROWS", 100_000)
    monkeypatch.setattr(geopackage, "MOST_BYTES", 2**25)
    with_sql(lines, f"CREATE VIEW v AS {ENDLESS[kind]}", layer="v")
    began = time.monotonic()
    for read in (read_layer, read_extent):
        with pytest.raises(VectorFileError, match=r"Roads can't be read: \S+a\.gpkg") as caught:
            read(f"{lines}:v", "Roads", "lines")
        assert "\n" not in str(caught.value)
        with pytest.raises(VectorFileError):  # two layers of lines: which one is filled?
            read(lines, "Roads", "lines")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "view",
    [
        "SELECT fid AS OGC_FID, name, geom FROM base",
        "SELECT 10 * a.fid + b.fid AS OGC_FID, a.name, a.geom FROM base a, base b WHERE a.fid = b.fid",
        "SELECT fid AS OGC_FID, upper(name) AS name, geom FROM base WHERE ST_MaxX(geom) >= 0",
    ],
)
def test_a_view_of_gis_users_is_read(lines, view):
    with_sql(lines, f"CREATE VIEW v AS {view}", layer="v")
    assert read_layer(f"{lines}:v", "Roads", "lines")["name"].str.lower().tolist() == ["x", "y", "z"]


def test_a_large_view_beside_a_layer_costs_nothing(lines):
    with_sql(lines, f"CREATE VIEW v AS {ENDLESS['many rows']}")
    began = time.monotonic()
    assert "v" in layer_names(lines, "Roads")
    assert len(read_layer(f"{lines}:base", "Roads", "lines")) == 3
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "condition", ["ST_MinX(geom) > 5", "ST_MinX(geom) IS NULL", "NOT ST_IsEmpty(geom) = 0"]
)
def test_a_condition_that_only_gdal_knows_is_no_way_around(lines, condition, monkeypatch):
    monkeypatch.setattr(geopackage, "MOST_SECONDS", 0.5)
    with_sql(lines, f"CREATE VIEW v AS {ENDLESS['recursive']} WHERE {condition}", layer="v")
    with pytest.raises(VectorFileError, match="view v: it does not end"):
        read_layer(f"{lines}:base", "Roads", "lines")


def test_generated_columns_count_with_their_size(lines, monkeypatch):
    monkeypatch.setattr(geopackage, "MOST_BYTES", 2**20)
    with_sql(
        lines,
        "CREATE TABLE g (fid INTEGER PRIMARY KEY, geom LINESTRING, t TEXT AS (printf('%.*c', 1000000, 'x')))",
        "INSERT INTO g (fid, geom) SELECT fid, geom FROM base",
        layer="g",
    )
    with pytest.raises(VectorFileError, match="has more than 2,000,000 rows or 1 MB"):
        read_layer(f"{lines}:g", "Roads", "lines")


@pytest.mark.parametrize(
    "module",
    [
        "VirtualText('{}', 'UTF-8', 1, POINT, DOUBLEQUOTE, ',')",
        "VirtualShape('{}', 'UTF-8', 4326)",
        "VirtualDbf('{}', 'UTF-8')",
        "VirtualGeoJSON('{}', 4326)",
        "VirtualOGR('{}')",
    ],
)
@pytest.mark.parametrize("name", ["v", 'a" USING rtree("'])
def test_a_virtual_table_is_refused(lines, tmp_path, module, name):
    quoted = '"' + name.replace('"', '""') + '"'
    sql = f"CREATE VIRTUAL TABLE {quoted} USING " + module.format(tmp_path / "secret")
    with closing(sqlite3.connect(lines)) as base, base:
        base.execute("PRAGMA writable_schema = 1")
        base.execute("INSERT INTO sqlite_master VALUES ('table', ?, ?, 0, ?)", [name, name, sql])
    for path in (lines, f"{lines}:{name}", f"{lines}:base"):
        with pytest.raises(VectorFileError, match="has a virtual table") as caught:
            read_layer(path, "Roads", "lines")
        assert "\n" not in str(caught.value)


def test_a_name_that_is_no_utf8(lines):
    with_sql(
        lines,
        "INSERT INTO sqlite_master VALUES ('table', CAST(x'DF' AS TEXT), CAST(x'DF' AS TEXT), 0,"
        " CAST(x'435245415445205649525455414C205441424C452022DF22205553494E47206462737461742829' AS TEXT))",
    )
    with pytest.raises(VectorFileError, match="Roads can't be read"):
        read_layer(lines, "Roads", "lines")


def test_a_log_that_is_not_in_the_file_yet_is_read(lines):
    with closing(sqlite3.connect(lines)) as base:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("CREATE TABLE added (a)")
        base.commit()
        assert layer_names(lines, "Roads") == ["base", "added"]


def test_a_log_that_another_program_left_is_read_and_stays(lines, tmp_path):
    with closing(sqlite3.connect(lines)) as base:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("CREATE TABLE added (a)")
        base.commit()
        left = shutil.copy(lines, tmp_path / "left.gpkg")
        shutil.copy(f"{lines}-wal", f"{left}-wal")
    before = {path: path.read_bytes() for path in deciding_files(left)}
    assert len(before) == 2
    assert layer_names(left, "Roads") == ["base", "added"]
    assert len(read_layer(f"{left}:base", "Roads", "lines"))
    assert {path: path.read_bytes() for path in deciding_files(left)} == before
