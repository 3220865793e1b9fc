"""Types of the layers' columns, whatever a scene holds, and their documentation."""

import re
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely

from pipeline.layers.columns import (
    BOOLEAN,
    INTEGER,
    LANDCOVER_WITH_CONFIDENCE,
    LAYERS,
    NUMBER,
    TEXT,
    TIME,
    TRUCKS_AMONG_VEHICLES,
)
from pipeline.layers.formats.export import write_formats
from pipeline.layers.formats.geopackage import write_gpkg

DOCS = Path(__file__).resolve().parents[2] / "docs" / "layers.md"
VALUES = {
    TEXT: "x",
    NUMBER: 1.5,
    INTEGER: 3,
    BOOLEAN: True,
    TIME: datetime(2023, 6, 13, 10, 20, 31, 123000, tzinfo=UTC),
}
ARROW = {
    TEXT: "string",
    NUMBER: "double",
    INTEGER: "int64",
    BOOLEAN: "bool",
    TIME: "timestamp[ms, tz=UTC]",
}
OGR = {
    TEXT: ("OFTString", "OFSTNone"),
    NUMBER: ("OFTReal", "OFSTNone"),
    INTEGER: ("OFTInteger64", "OFSTNone"),
    BOOLEAN: ("OFTInteger", "OFSTBoolean"),
    TIME: ("OFTDateTime", "OFSTNone"),
}
SHAPES = {"Polygon": shapely.box(0, 0, 10, 10), "LineString": shapely.LineString([(0, 0), (10, 10)])}


def frame(name, rows, filled, crs="EPSG:32632"):
    """A layer of `rows` rows whose columns have a value in the last `filled` of them."""
    layer = LAYERS[name]
    columns = {
        column: pd.Series([None] * (rows - filled) + [VALUES[kind]] * filled, dtype=object)
        for column, kind in layer.columns.items()
    }
    shapes = gpd.GeoSeries([SHAPES[layer.geometry]] * rows, crs=crs)
    return layer.conform(gpd.GeoDataFrame(columns, geometry=shapes))


CASES = {"all": (3, 3), "some": (3, 1), "without values": (3, 0), "empty": (0, 0)}


@pytest.mark.parametrize("name", LAYERS)
def test_geoparquet_has_one_schema_and_many_scenes_are_one_table(tmp_path, name):
    expected = {column: ARROW[kind] for column, kind in LAYERS[name].columns.items()}
    paths = []
    for scene, case in CASES.items():
        folder = tmp_path / scene.replace(" ", "-")
        folder.mkdir()
        paths += write_formats({name: frame(name, *case)}, folder, ["parquet"]).values()
        kinds = {field.name: str(field.type) for field in pq.read_schema(paths[-1])}
        assert {column: kinds[column] for column in expected} == expected
        assert kinds["geometry"] == "binary"
        assert gpd.read_parquet(paths[-1]).crs.to_epsg() == 32632
    some = next(iter(expected))
    for order in (paths, paths[::-1]):
        files = [str(path) for path in order]
        assert len(pd.read_parquet(files)) == 9
        assert pyarrow.dataset.dataset(files).to_table().num_rows == 9
        sql = f'select count(*), count("{some}"), min(geometry is null) from read_parquet({files})'  # noqa: S608
        assert duckdb.sql(sql).fetchall() == [(9, 4, False)]
    assert gpd.pd.concat([gpd.read_parquet(path) for path in paths])[some].notna().sum() == 4


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kind", ["gpkg", "fgb"])
def test_geopackage_and_flatgeobuf_have_one_schema(tmp_path, name, kind):
    layer = LAYERS[name]
    for scene, case in CASES.items():
        if kind == "gpkg":
            path = tmp_path / f"{scene}.gpkg"
            write_gpkg(path, {"first": frame("seen", 1, 1), name: frame(name, *case)}, {})
        else:
            (folder := tmp_path / scene).mkdir()
            path = write_formats({name: frame(name, *case)}, folder, ["flatgeobuf"])[f"{name}.fgb"]
        found = pyogrio.read_info(path, layer=name)
        types = zip(found["ogr_types"], found["ogr_subtypes"], strict=True)
        assert dict(zip(found["fields"], types, strict=True)) == {
            column: OGR[kind] for column, kind in layer.columns.items()
        }
        assert found["geometry_type"] == layer.geometry


def test_a_large_layer_has_the_same_schema_though_its_first_values_are_missing(tmp_path):
    layer = frame("road_segments", 65_600, 1)
    write_gpkg(tmp_path / "large.gpkg", {"road_segments": layer}, {})
    found = pyogrio.read_info(tmp_path / "large.gpkg", layer="road_segments")
    assert (found["features"], found["geometry_type"]) == (65_600, "LineString")
    assert found["ogr_types"] == [OGR[kind][0] for kind in LAYERS["road_segments"].columns.values()]
    path = write_formats({"road_segments": layer}, tmp_path, ["parquet"])["road_segments.parquet"]
    table = pq.read_table(path)
    assert [str(kind) for kind in table.schema.types[:4]] == ["string"] * 4
    assert table["name"].to_pylist()[-2:] == [None, "x"]


def test_a_layer_that_is_not_declared_has_no_column_of_type_null(tmp_path):
    shapes = [SHAPES["Polygon"]] * 2
    columns = {"note": pd.Series([None, None], dtype=object), "flag": pd.Series([None, True], dtype=object)}
    other = gpd.GeoDataFrame(columns, geometry=shapes, crs="EPSG:32632")
    schema = pq.read_schema(write_formats({"other": other}, tmp_path, ["parquet"])["other.parquet"])
    assert [str(schema.field(name).type) for name in ("note", "flag")] == ["string", "bool"]
    assert b'"empty"' not in schema.metadata[b"pandas"]


def test_values_become_those_of_their_type():
    layer = frame("trucks", 2, 2)
    layer["segment_id"] = pd.Series([7, np.nan])
    layer["msi_detector"] = pd.Series([4.0, np.nan])
    layer["acquired"] = pd.Series([datetime(2023, 6, 13, 10, 20, 31, 123456, tzinfo=UTC), None])
    again = LAYERS["trucks"].conform(layer)
    assert again["segment_id"].tolist() == ["7.0", None]
    assert (again["msi_detector"][0], again["msi_detector"].isna().tolist()) == (4, [False, True])
    assert again["acquired"][0].isoformat() == "2023-06-13T10:20:31.123000+00:00"
    assert list(again.columns) == list(LAYERS["trucks"].names)
    with pytest.raises(TypeError, match="safely"):
        LAYERS["trucks"].conform(layer.assign(msi_detector=[4.5, 1.0]))
    with pytest.raises(KeyError, match="near_cloud"):
        LAYERS["trucks"].conform(layer.drop(columns="near_cloud"))


def documented(heading):
    """Return the types of the first table of a section of the documentation, by column."""
    text = DOCS.read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    types = {}
    for line in section.partition("| field | type")[2].partition("\n\n")[0].splitlines()[2:]:
        names, kind, _ = (cell.strip() for cell in line.strip("|").split("|"))
        types |= dict.fromkeys(re.findall(r"`(\w+)`", names), kind.partition(",")[0])
    return types


def test_the_documentation_names_every_column_with_its_type():
    declared = {
        name: {column: kind.name for column, kind in layer.columns.items()} for name, layer in LAYERS.items()
    }
    assert documented("Trucks") == declared["trucks"]
    assert documented("Look-alikes") == declared["look_alikes"]
    assert documented("Land cover") == declared["landcover"]
    confidence = set(LANDCOVER_WITH_CONFIDENCE.columns.items()) - set(LAYERS["landcover"].columns.items())
    assert documented("Land-cover probabilities") == {name: kind.name for name, kind in confidence}
    vehicles = set(TRUCKS_AMONG_VEHICLES.columns.items()) - set(LAYERS["trucks"].columns.items())
    assert documented("Vehicles of any kind") == {name: kind.name for name, kind in vehicles}
    assert documented("Road segments") == declared["road_segments"]
    assert documented("Search area") == declared["seen"] | declared["not_seen"]
