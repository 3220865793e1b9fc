"""A file is read by any name, from archives within limits, and never another one."""

import gzip
import zipfile

import geopandas as gpd
import pytest
import shapely

from pipeline.errors import VectorFileError
from pipeline.roads.read import read_roads
from pipeline.storage import vector_sources
from pipeline.storage.untrusted_vectors import read_extent, read_layer
from tests.servers import file_server

LINE = shapely.LineString([(9, 50), (9.1, 50)])
NAMES = [
    *("a!b", "b;a", "a{b}", "{a", "b}", 'a"b', "a'b", "a?b", "a?", "#a", "50%", "%20", "a b", "a\nb", "a:b"),
    *("a|b", "a\\b", "*", "-a", "--out", "ü ñ", "道路", "[a]", "$HOME", "~", "a.zip", "&b", "http:", "."),
]


def lines(path, name="x"):
    frame = gpd.GeoDataFrame({"name": [name], "highway": ["primary"]}, geometry=[LINE], crs="EPSG:4326")
    frame.to_file(path)
    return path


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "fgb", "shp", "zip", "geojson.gz"])
def test_any_name_is_read(tmp_path, suffix):
    plain = tmp_path / "plain"
    plain.mkdir()
    lines(plain / ("r.shp" if suffix == "zip" else f"r.{suffix.removesuffix('.gz')}"))
    parts = {part.suffix: part.read_bytes() for part in plain.iterdir()}
    for number, name in enumerate(NAMES):
        folder = tmp_path / str(number) / (name if name != "." else "a")
        folder.mkdir(parents=True)
        target = folder / f"{name}.{suffix}"
        if suffix == "zip":
            with zipfile.ZipFile(target, "w") as archive:
                for ending, content in parts.items():
                    archive.writestr(f"a!{number}/r{ending}", content)
        elif suffix == "geojson.gz":
            target.write_bytes(gzip.compress(parts[".geojson"]))
        else:
            for ending, content in parts.items():
                target.with_name(name + ending).write_bytes(content)
        before = sorted(folder.iterdir())
        assert read_layer(target, "Roads", "lines")["name"].tolist() == ["x"], name
        assert len(read_extent(target, "Roads", "lines")) == 1
        assert sorted(folder.iterdir()) == before


def test_a_name_that_is_no_utf8(tmp_path):
    path = tmp_path / "a\udcdf.gpkg"
    lines(tmp_path / "r.gpkg").rename(path)
    assert read_roads(path, "EPSG:32632")["name"].tolist() == ["x"]


@pytest.mark.parametrize("stem", ["ROADS", "a!b", "x y"])
def test_a_shapefile_without_its_indexes(tmp_path, stem):
    """An index that is older than the file, as after an export with another tool, hid features."""
    lines(tmp_path / "r.shp")
    for part in list(tmp_path.iterdir()):
        part.rename(tmp_path / f"{stem}{part.suffix.upper() if stem == 'ROADS' else part.suffix}")
    (tmp_path / f"{stem}.qix").write_bytes(b"SQT\1\1\0\0\0" + bytes(64))
    path = next(path for path in tmp_path.iterdir() if path.suffix.lower() == ".shp")
    read = read_layer(path, "Roads", "lines", box_in=lambda _: (8, 49, 10, 51))
    assert read["name"].tolist() == ["x"] and read.crs == "EPSG:4326"
    if stem != "a!b":
        assert len(read_layer(f"{path}:{stem}", "Roads", "lines")) == 1


@pytest.mark.parametrize(
    "address",
    [
        "/vsicurl/{url}/a.geojson",
        "{url}/a.geojson",
        "/vsizip//vsicurl/{url}/a.zip",
        "zip+{url}/a.zip!a.geojson",
        "/vsigzip//vsicurl/{url}/a.geojson.gz",
        "/vsicurl_streaming/{url}/a.geojson",
        "WFS:{url}",
        "GeoJSON:{url}/a.geojson",
        "OAPIF:{url}",
        "CSV:{url}/a.csv",
    ],
)
def test_an_address_is_no_file_and_no_server_is_asked(tmp_path, address):
    lines(tmp_path / "a.geojson")
    with file_server(tmp_path) as server:
        for read in (read_layer, read_extent):
            with pytest.raises(VectorFileError, match="Roads not found: "):
                read(address.format(url=server.url), "Roads", "lines")
        assert not server.asked


LAYER = '<OGRVRTLayer name="r"><SrcDataSource>{}</SrcDataSource></OGRVRTLayer>'
RECIPE = f"<OGRVRTDataSource>{LAYER}</OGRVRTDataSource>"


@pytest.mark.parametrize("disguise", ["osm", "json", "late", "fgb", "osm pbf"])
@pytest.mark.parametrize("name", ["r.vrt", "r.geojson", "r.osm", "r.zip"])
def test_a_recipe_that_a_check_takes_for_features(tmp_path, disguise, name, monkeypatch):
    """Also without the check of content, which is not what protects: GDAL has no driver for recipes."""
    monkeypatch.setattr(vector_sources, "_RECIPES", ())
    secret = lines(tmp_path / "secret.geojson", "secret")
    recipe = RECIPE.format(secret)
    text = {
        "osm": f"<osm>{recipe}</osm>",
        "json": '{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read '
        + f'{secret}"}}',
        "late": f"<osm><!--{' ' * 900}-->{recipe}</osm>",
        "fgb": f"fgb\x03fgb\0{recipe}",
        "osm pbf": f"\0\0\0\x0dOSMHeader{recipe}",
    }[disguise]
    path = tmp_path / name
    path.write_text(text)
    if name == "r.zip":
        path.unlink()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("r.vrt", text)
    with pytest.raises(VectorFileError, match=r"Roads can't be read|Roads: .* has (no layer|. layers)"):
        read_layer(path, "Roads", "lines")


def test_archives_in_archives_are_not_opened(tmp_path):
    inner = lines(tmp_path / "a.geojson").read_bytes()
    (tmp_path / "zip in gzip.gz").write_bytes(gzip.compress(zipped(tmp_path / "i.zip", a=inner)))
    zipped(tmp_path / "gzip in zip.zip", a=gzip.compress(inner))
    zipped(tmp_path / "zip in zip.zip", a=(tmp_path / "i.zip").read_bytes())
    (tmp_path / "gzip twice.gz").write_bytes(gzip.compress(gzip.compress(inner)))
    for name in ("zip in gzip.gz", "gzip in zip.zip", "zip in zip.zip", "gzip twice.gz"):
        with pytest.raises(VectorFileError, match=r"Roads can't be read: .*(Unpack|not a GeoPackage)"):
            read_layer(tmp_path / name, "Roads", "lines")


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path.read_bytes()


def test_an_archive_that_unpacks_to_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_sources, "MOST_UNPACKED", 2**20)
    monkeypatch.setattr(vector_sources, "_CHUNK", 2**16)
    content = lines(tmp_path / "r.geojson").read_bytes() + b" " * 2**22
    (tmp_path / "r.geojson.gz").write_bytes(gzip.compress(content))
    zipped(tmp_path / "r.zip", **{"r.geojson": content})
    lines(tmp_path / "s.shp")
    parts = {part.name: part.read_bytes() for part in tmp_path.glob("s.*")}
    zipped(tmp_path / "s.zip", **parts | {"s.dbf": parts["s.dbf"] + bytes(2**22)})
    for name in ("r.geojson.gz", "r.zip", "s.zip"):
        with pytest.raises(VectorFileError, match="unpacks to more than 1 MB"):
            read_layer(tmp_path / name, "Roads", "lines")


def test_members_of_one_name_or_outside(tmp_path):
    lines(tmp_path / "s.shp")
    parts = [(part.name, part.read_bytes()) for part in tmp_path.glob("s.*")]
    for prefix, more in (("", [("S.DBF", b"other")]), ("../", []), ("/", [])):
        with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
            for name, content in parts + more:
                archive.writestr(prefix + name, content)
        with pytest.raises(VectorFileError, match="Pack it again"):
            read_layer(tmp_path / "s.zip", "Roads", "lines")


@pytest.mark.parametrize("part", [".shp", ".dbf"])
def test_a_changed_byte_of_a_part_in_a_zip_is_damage(tmp_path, part):
    lines(tmp_path / "s.shp")
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for each in sorted(tmp_path.glob("s.*")):
            if each.suffix != ".zip":
                archive.write(each, each.name)
    raw, inside = bytearray((tmp_path / "s.zip").read_bytes()), (tmp_path / f"s{part}").read_bytes()
    raw[raw.index(inside) + len(inside) - 3] ^= 1  # in the last coordinate, or the last text
    (tmp_path / "s.zip").write_bytes(raw)
    with pytest.raises(VectorFileError, match=r"damaged or incomplete .*CRC"):
        read_layer(tmp_path / "s.zip", "Roads", "lines")


def test_a_zip_of_windows(tmp_path):
    lines(tmp_path / "s.shp")
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for part in tmp_path.glob("s.*"):
            if part.suffix != ".zip":
                archive.writestr(f"data\\{part.name}", part.read_bytes())
    assert read_layer(tmp_path / "s.zip", "Roads", "lines")["name"].tolist() == ["x"]
