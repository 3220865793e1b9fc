import gzip

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from shapely.geometry import GeometryCollection, LineString, MultiLineString, Point, box

from pipeline.errors import RoadsError, VectorFileError
from pipeline.input_warnings import collected_warnings
from pipeline.roads.read import ROAD_COLUMNS, read_roads
from pipeline.roads.tags import TRUCK_HIGHWAYS

CRS = "EPSG:32632"


X, Y = 600000.0, 5800000.0
BOUNDS = (X - 5000, Y - 5000, X + 5000, Y + 5000)


def roads(*lines, **columns) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=list(lines), crs=CRS)


STREET = LineString([(X, Y - 100), (X + 500, Y - 100)])


def streets(number: int) -> list[LineString]:
    """Return parallel streets, 20 m apart."""
    return [shapely.affinity.translate(STREET, yoff=-20 * each) for each in range(number)]


@pytest.mark.parametrize("name", ["roads.gpkg", "roads.geojson", "roads.shp"])
def test_formats_and_reprojection(tmp_path, name):
    table = roads(*streets(2), osm_id=["17", "18"], highway=["motorway", None]).to_crs("EPSG:4326")
    table.to_file(tmp_path / name)
    found = read_roads(tmp_path / name, CRS)
    assert tuple(found.columns) == ROAD_COLUMNS
    assert found["road_id"].tolist() == ["17", "18"]
    assert found["road_class"].tolist() == ["motorway", None]
    assert found.crs == CRS
    assert found.geometry[0].hausdorff_distance(STREET) < 0.1


def test_of_two_layers_of_lines_the_one_called_roads_or_chosen(tmp_path):
    """Rivers are no roads."""
    path = tmp_path / "r.gpkg"
    roads(LineString([(X, Y), (X + 90, Y + 5)])).to_file(path, layer="a_rivers")
    roads(STREET).to_file(path, layer="b_streets")
    with pytest.raises(VectorFileError, match=r"2 layers of lines\. It has: a_rivers \(LineString\), b_st"):
        read_roads(path, CRS)
    near = (X, Y - 200, X + 9, Y + 9)
    assert read_roads(tmp_path / "r.gpkg:b_streets", CRS, near).geometry.tolist() == [STREET]
    roads(*streets(2)).to_file(path, layer="Roads")
    assert len(read_roads(path, CRS, near)) == 2


@pytest.mark.parametrize("name", ["roads.geojson", "roads.gpkg", "roads.pbf", "roads.osm"])
def test_a_file_that_names_another_is_not_followed(tmp_path, name):
    """GDAL goes by the content, not by the name."""
    private = tmp_path / "private.gpkg"
    roads(STREET).to_file(private, layer="lines")
    (tmp_path / name).write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="lines"><SrcDataSource>{private}</SrcDataSource></OGRVRTLayer>'
        "</OGRVRTDataSource>"
    )
    with pytest.raises(VectorFileError, match="Roads can't be read"):
        read_roads(tmp_path / name, CRS)


@pytest.mark.parametrize("column", ["road_class", "highway", "fclass"])
def test_names_of_the_class(tmp_path, column):
    roads(STREET, **{column: ["trunk"]}).to_file(tmp_path / "r.gpkg")
    found = read_roads(tmp_path / "r.gpkg", CRS)
    assert found["road_class"].tolist() == ["trunk"]


def test_a_line_without_an_id_is_named_by_its_geometry(tmp_path):
    far = shapely.affinity.translate(STREET, yoff=9000)
    roads(STREET, far).to_file(tmp_path / "two.gpkg")
    roads(far).to_file(tmp_path / "one.gpkg")
    one, two = (read_roads(tmp_path / f"{name}.gpkg", CRS)["road_id"].tolist() for name in ("one", "two"))
    assert one == two[1:]
    assert two[0] != two[1]


def test_rules_of_traffic(tmp_path):
    """Names and values as in OpenStreetMap; what is no number of lanes is unknown."""
    given = ["yes", "-1", "no", None, "reversible"]
    table = roads(*streets(5), highway=["motorway"] * 5, oneway=given, lanes=["3", "2;3", None, "0", "2"])
    table.assign(ref="A 2", maxspeed="80").to_file(tmp_path / "r.gpkg")
    found = read_roads(tmp_path / "r.gpkg", CRS)
    assert found["oneway"].tolist() == [1, -1, 0, 1, 0]  # a motorway is one-way unless it says otherwise
    assert found["lanes"].fillna(-9).tolist() == [3, -9, -9, -9, 2]
    assert found["name"].tolist() == [None] * 5
    assert (found["ref"][0], found["maxspeed"][0]) == ("A 2", "80")


def test_only_in_openstreetmap_does_a_motorway_mean_one_way(tmp_path):
    roads(STREET, road_class=["motorway"]).to_file(tmp_path / "own.gpkg")
    roads(*streets(2), fclass=["motorway", "motorway"], oneway=["B", "T"]).to_file(tmp_path / "g.shp")
    assert read_roads(tmp_path / "own.gpkg", CRS)["oneway"].tolist() == [0]
    assert read_roads(tmp_path / "g.shp", CRS)["oneway"].tolist() == [0, -1]


def test_only_roads_near_the_bounds(tmp_path):
    far = shapely.affinity.translate(STREET, yoff=9000)
    roads(
        far,
        STREET,
        MultiLineString([streets(2)[1], shapely.affinity.translate(far, yoff=50)]),
        osm_id=[1, 2, 3],
    ).to_file(tmp_path / "r.gpkg")
    found = read_roads(tmp_path / "r.gpkg", CRS, bounds=(X, Y - 400, X + 500, Y))
    assert found["road_id"].tolist() == ["2", "3"]
    assert found.index.tolist() == [0, 1]


def test_lines_with_a_vertex_that_is_no_number_are_left_out(tmp_path):
    with np.errstate(invalid="ignore"):
        roads(STREET, LineString([(X, Y), (np.nan, np.nan), (X + 9, Y)])).to_file(tmp_path / "r.gpkg")
    with collected_warnings() as said:
        assert read_roads(tmp_path / "r.gpkg", CRS).geometry.tolist() == [STREET]
    assert len(said) == 1 and said[0].startswith("Roads: 1 of 2 features of ")
    assert "not finite, or outside of their CRS; left out. The first: x 600000 to 600009" in said[0]


FAR = {
    "infinite": (np.inf, Y),
    "NaN in y": (X, np.nan),
    "1e308": (1e308, -1e308),
    "1e20": (1e20, Y),
    "1e12": (X, 1e12),
    "-1e9": (-1e9, Y),
}


@pytest.mark.parametrize("end", FAR.values(), ids=FAR)
@pytest.mark.parametrize("suffix", [".gpkg", ".parquet"])
def test_one_line_with_an_absurd_place_is_left_out_and_alone_an_error(tmp_path, end, suffix):
    with np.errstate(invalid="ignore"):
        broken = LineString([(X, Y), end])
    for name, lines in (("one", [broken]), ("many", [STREET, broken])):
        write = roads(*lines, osm_id=[str(n) for n in range(len(lines))])
        (write.to_file if suffix == ".gpkg" else write.to_parquet)(tmp_path / f"{name}{suffix}")
    with pytest.raises(VectorFileError, match=r"can't be placed: .*one\.(gpkg|parquet)"):
        read_roads(tmp_path / f"one{suffix}", CRS, BOUNDS)
    with collected_warnings() as said:
        assert read_roads(tmp_path / f"many{suffix}", CRS).geometry.tolist() == [STREET]
    assert len(said) == 1 and "1 of 2 features" in said[0] and "id 1" in said[0]


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e308, 5e-324])
def test_heights_of_any_number_do_not_move_a_road(tmp_path, odd):
    def high(line):
        return shapely.linestrings([(x, y, odd) for x, y in line.coords])

    roads(high(STREET)).to_file(tmp_path / "r.gpkg")
    lonlat = gpd.GeoSeries([STREET], crs=CRS).to_crs(4326).iloc[0]
    gpd.GeoDataFrame(geometry=[high(lonlat)], crs="EPSG:4979").to_file(tmp_path / "d.gpkg")
    assert read_roads(tmp_path / "r.gpkg", CRS, BOUNDS).geometry.tolist() == [STREET]
    assert read_roads(tmp_path / "d.gpkg", CRS, BOUNDS).geometry.iloc[0].equals_exact(STREET, 1e-3)


def test_roads_where_the_crs_of_the_scene_ends_are_no_roads_here(tmp_path):
    lonlat = gpd.GeoSeries([STREET], crs=CRS).to_crs(4326).iloc[0]
    far = LineString([(-171, -50), (-171, -51)]), LineString([(10, 50), (-171, -50)])
    gpd.GeoDataFrame(geometry=[*far, lonlat], crs=4326).to_file(tmp_path / "r.gpkg")
    half = "+proj=ortho +lat_0=52 +lon_0=10"
    assert len(read_roads(tmp_path / "r.gpkg", half)) == 1
    assert len(read_roads(tmp_path / "r.gpkg", half, (-1e5, -1e5, 1e5, 1e5))) == 1


def test_lines_longer_than_roads_can_be(tmp_path):
    zigzag = LineString([(X + 5e6 * (n % 2), Y + n) for n in range(10)])
    roads(zigzag, STREET).to_file(tmp_path / "one.gpkg")
    with collected_warnings() as said:
        assert read_roads(tmp_path / "one.gpkg", CRS, BOUNDS).geometry.tolist() == [STREET]
    assert (
        len(said) == 1
        and "1 of 2 features" in said[0]
        and "a line longer than the equator, as no road" in said[0]
    )
    each = [LineString([(X + 5e6 * (n % 2), Y + n + m / 1000) for n in range(8)]) for m in range(60)]
    roads(*each).to_file(tmp_path / "many.gpkg")
    with pytest.raises(RoadsError, match=r"many\.gpkg near the scene are 2,100,000 km long together"):
        read_roads(tmp_path / "many.gpkg", CRS, BOUNDS)


def test_a_road_that_crosses_itself_half_a_million_times_is_left_out(tmp_path):
    tangle = LineString([X, Y] + 1000 * np.random.default_rng(1).random((3000, 2)))
    roads(tangle, STREET).to_file(tmp_path / "r.gpkg")
    with collected_warnings() as said:
        assert read_roads(tmp_path / "r.gpkg", CRS, BOUNDS).geometry.tolist() == [STREET]
    assert len(said) == 1 and "1 of 2 features" in said[0] and "crosses itself hundreds" in said[0]


def test_a_road_of_millions_of_vertices_is_left_out(tmp_path):
    long = LineString(np.c_[X + np.arange(500_001) / 1000, np.full(500_001, Y)])
    roads(long, STREET).to_parquet(tmp_path / "r.parquet")
    with collected_warnings() as said:
        assert read_roads(tmp_path / "r.parquet", CRS, BOUNDS).geometry.tolist() == [STREET]
    assert len(said) == 1 and "a line of more than 500,000 vertices" in said[0]


def test_lines_of_collections_are_roads_and_others_are_counted(tmp_path):
    nested = GeometryCollection([GeometryCollection([STREET]), MultiLineString([streets(2)[1]])])
    mixed = GeometryCollection([Point(X, Y), STREET])
    roads(nested, mixed, Point(X, Y), streets(3)[2]).to_file(tmp_path / "r.gpkg")
    with collected_warnings() as said:
        found = read_roads(tmp_path / "r.gpkg", CRS)
    assert [len(shapely.get_parts(line)) for line in found.geometry] == [2, 1]
    assert len(said) == 1 and said[0].endswith("are no lines (1 GeometryCollection, 1 Point); left out.")


def test_what_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(VectorFileError, match="not found"):
        read_roads(tmp_path / "none.gpkg", CRS)
    (tmp_path / "text.gpkg").write_text("hello")
    with pytest.raises(VectorFileError, match="can't be read"):
        read_roads(tmp_path / "text.gpkg", CRS)
    roads(Point(X, Y), box(X, Y, X + 1, Y + 1)).to_file(tmp_path / "others.gpkg")
    with pytest.raises(RoadsError, match="holds: 1 Point, 1 Polygon"):
        read_roads(tmp_path / "others.gpkg", CRS)
    gpd.GeoDataFrame(geometry=[STREET]).to_file(tmp_path / "nocrs.gpkg")
    with pytest.raises(RoadsError, match="coordinate reference system"):
        read_roads(tmp_path / "nocrs.gpkg", CRS)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(VectorFileError, match="is not a GeoPackage"):
        read_roads(tmp_path / "table.csv", CRS)
    pyogrio.write_dataframe(pd.DataFrame({"a": [1]}), tmp_path / "table.gpkg")
    with pytest.raises(RoadsError, match="no geometry"):
        read_roads(tmp_path / "table.gpkg", CRS)


OSM = """<osm version="0.6">
<node id="1" lat="52.3" lon="10.5"/><node id="2" lat="52.3001" lon="10.51"/>
<node id="3" lat="52.4" lon="10.6"/>
<way id="7"><nd ref="1"/><nd ref="2"/><tag k="highway" v="motorway"/><tag k="ref" v="A &quot;2&quot;"/></way>
<way id="8"><nd ref="2"/><nd ref="1"/><tag k="highway" v="primary"/><tag k="oneway" v="-1"/>
<tag k="lanes" v="2"/><tag k="maxspeed" v="signals"/><tag k="name" v="Hansestraße"/></way>
<way id="9"><nd ref="2"/><nd ref="3"/><tag k="highway" v="track"/></way>
<way id="10"><nd ref="1"/><nd ref="2"/><nd ref="1"/><tag k="junction" v="roundabout"/>
<tag k="highway" v="trunk"/></way>
<way id="11"><nd ref="3"/><nd ref="404"/><tag k="highway" v="trunk"/></way>
</osm>"""


@pytest.mark.parametrize("name", ["r.osm", "r.OSM", "r.osm.xml", "r.osm.gz", "r.osm.xml.gz"])
def test_openstreetmap_xml(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(OSM.encode()) if name.endswith("gz") else OSM.encode())
    found = read_roads(path, "EPSG:4326").set_index("road_id")
    assert found.index.tolist() == ["7", "8", "10"]  # the track is no road for trucks, 11 lacks a node
    assert found["road_class"].tolist() == ["motorway", "primary", "trunk"]
    assert found["oneway"].tolist() == [1, -1, 1]
    assert found.loc["7", "ref"] == 'A "2"'
    assert found.loc["8", ["name", "lanes", "maxspeed"]].tolist() == ["Hansestraße", 2, "signals"]
    assert shapely.get_coordinates(found.geometry["8"]).tolist() == [[10.51, 52.3001], [10.5, 52.3]]


def test_openstreetmap_files_that_are_refused(tmp_path):
    path = tmp_path / "r.osm"
    path.write_text('<!DOCTYPE osm [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>' + OSM)
    with pytest.raises(VectorFileError, match="document type"):
        read_roads(path, CRS)
    path.write_text(OSM[:-40])
    with pytest.raises(VectorFileError, match="damaged or incomplete"):
        read_roads(path, CRS)
    for text in ("", "hello", "<gpx></gpx>"):
        path.write_text(text)
        with pytest.raises(VectorFileError, match=r"is not a .* OpenStreetMap file"):
            read_roads(path, CRS)
    for name, content in (
        ("r.osm.gz", b"plain"),
        ("r.osm.pbf", b"plain"),
        ("s.osm.gz", gzip.compress(b"<osm>")),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VectorFileError, match="Roads can't be read"):
            read_roads(tmp_path / name, CRS)


@pytest.fixture(scope="module")
def lower_saxony(shared_data):
    return shared_data / "roads" / "niedersachsen_main_roads.osm.xml.gz"


@pytest.fixture(scope="module")
def around_braunschweig(lower_saxony):
    return read_roads(lower_saxony, CRS, bounds=(600_000, 5_790_000, 620_000, 5_800_000))


def test_a_real_extract_within_bounds(lower_saxony, around_braunschweig):
    """By an independent reader of the XML: 20,077 ways, of which 12 have fewer than two nodes."""
    whole = read_roads(lower_saxony, CRS)
    assert len(whole) == 20_065
    assert set(whole["road_class"]) == set(TRUCK_HIGHWAYS)
    near = whole[whole.intersects(box(600_000, 5_790_000, 620_000, 5_800_000))]
    assert len(near) > 500
    motorways = near[near["road_class"] == "motorway"]
    assert motorways["oneway"].eq(1).all()
    assert motorways["ref"].isin(["A 2", "A 39", "A 391", "A 392", "A 395", "A 36"]).mean() > 0.9
    pd.testing.assert_frame_equal(
        pd.DataFrame(near.reset_index(drop=True)), pd.DataFrame(around_braunschweig)
    )


def test_protocol_buffers_hold_the_same(tmp_path, lower_saxony, around_braunschweig):
    osmium = pytest.importorskip("osmium", reason="osmium writes the .osm.pbf")
    with osmium.SimpleWriter(str(tmp_path / "r.osm.pbf")) as writer:
        for entity in osmium.FileProcessor(str(lower_saxony)):
            writer.add(entity)
    found = read_roads(tmp_path / "r.osm.pbf", CRS, bounds=(600_000, 5_790_000, 620_000, 5_800_000))
    pd.testing.assert_frame_equal(pd.DataFrame(found), pd.DataFrame(around_braunschweig))
    (tmp_path / "cut.osm.pbf").write_bytes((tmp_path / "r.osm.pbf").read_bytes()[:-50_000])
    with pytest.raises(VectorFileError, match="damaged or incomplete"):
        read_roads(tmp_path / "cut.osm.pbf", CRS)
