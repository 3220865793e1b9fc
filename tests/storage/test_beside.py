"""Files beside a file that decide what is read."""

import sqlite3
from contextlib import closing

import geopandas as gpd
import pytest
import shapely

from pipeline.storage.beside import deciding_files, part_name


def parts(path):
    return [part_name(file, path) for file in deciding_files(path)]


def test_a_shapefile_has_its_parts_and_no_others(tmp_path):
    line = gpd.GeoDataFrame({"name": ["A"]}, geometry=[shapely.LineString([(0, 0), (9, 9)])], crs=32632)
    line.to_file(tmp_path / "A road #1.shp")
    line.to_file(tmp_path / "A road #12.shp")
    (tmp_path / "A road #1.QIX").write_text("index")
    (tmp_path / "A road #1.txt").write_text("a note")
    (tmp_path / "A road #1.sbn").write_text("")
    path = tmp_path / "A road #1.shp"
    assert parts(path) == ["", ".qix", ".cpg", ".dbf", ".prj", ".shx"]
    assert deciding_files(path)[0] == path
    assert parts(tmp_path) == sorted(file.name for file in tmp_path.iterdir() if file.suffix != ".txt")


@pytest.mark.parametrize(
    ("name", "beside"),
    [("a.gpkg", "a.gpkg-wal"), ("a.gpkg", "a.gpkg-journal"), ("a.tif", "a.tif.msk"),
     ("a.jp2", "a.jp2.aux.xml")],
)  # fmt: skip
def test_a_file_has_what_is_beside_it_unless_that_is_empty(tmp_path, name, beside):
    path, other = tmp_path / name, tmp_path / beside
    assert deciding_files(path) == []
    path.write_text("content")
    (tmp_path / f"b{beside[1:]}").write_text("of another file")
    assert deciding_files(path) == [path]
    other.touch()
    assert deciding_files(path) == [path]
    other.write_text("content")
    assert deciding_files(path) == [path, other]
    assert part_name(other, path) == beside.removeprefix(name)


def test_a_folder_without_shapefiles_has_all_its_files(tmp_path):
    (tmp_path / "roads.gdb" / "deep").mkdir(parents=True)
    for name in ("a0001.gdbtable", "deep/a.gdbtablx"):
        (tmp_path / "roads.gdb" / name).write_text(name)
    assert parts(tmp_path / "roads.gdb") == ["a0001.gdbtable", "deep/a.gdbtablx"]


def test_transactions_that_another_process_has_not_merged_are_part_of_a_geopackage(tmp_path):
    path = tmp_path / "roads.gpkg"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE roads (id)")
        database.commit()
        assert parts(path) == ["", "-wal"]
    assert parts(path) == [""]
