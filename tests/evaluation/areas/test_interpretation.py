import sqlite3

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from defusedxml import ElementTree

from pipeline.errors import LabelsError, OutputError, VectorFileError
from pipeline.evaluation.areas.interpretation import (
    CANNOT_TELL,
    design_path,
    read_design,
    read_points,
    write_points,
)
from pipeline.evaluation.areas.sampling import draw_sample
from pipeline.models.legend import DYNAMIC_WORLD
from tests.evaluation.landcover.test_labels import write_raster
from tests.evaluation.test_labels import UTM


@pytest.fixture
def landcover(tmp_path):
    rng = np.random.default_rng(5)
    values = rng.choice([0, 1, 4, 255], size=(60, 70), p=[0.05, 0.45, 0.4, 0.1]).astype(np.uint8)
    return write_raster(tmp_path / "landcover.tif", values)


@pytest.fixture
def sample(landcover):
    return draw_sample(landcover, DYNAMIC_WORLD, size=60, at_least=10)


@pytest.fixture
def points(sample, landcover, tmp_path):
    return write_points(sample, landcover, tmp_path / "sent" / "points.gpkg")["points"]


def fill(points, sample, **changes):
    """Interpreters who always agree with the map, except for some ids."""
    frame = gpd.read_file(points, layer="points")
    names = [DYNAMIC_WORLD[i].name for i in sample.stratum]
    frame["reference"] = pd.Series(
        [changes.get(f"p{i}", name) for i, name in zip(frame["id"], names, strict=True)], dtype=object
    )
    return frame


def test_interpreters_see_nothing_of_the_map(points, sample):
    frame = gpd.read_file(points, layer="points")
    assert list(frame.columns) == ["id", "reference", "comment", "geometry"]
    assert frame["id"].tolist() == list(range(1, 61))
    assert frame["reference"].isna().all()
    assert frame.crs == UTM
    assert np.column_stack([frame.geometry.x, frame.geometry.y]).tolist() == sample.xy.tolist()
    outlines = gpd.read_file(points, layer="pixels")
    assert outlines.area.tolist() == pytest.approx([100] * 60)
    assert outlines.contains(frame.geometry).all()
    assert list(gpd.read_file(points.with_suffix(".geojson")).columns) == list(frame.columns)


def test_qgis_offers_the_classes(points):
    with sqlite3.connect(points) as database:
        rows = database.execute("SELECT f_table_name, styleQML FROM layer_styles").fetchall()
    style = ElementTree.fromstring(dict(rows)["points"])
    choices = style.findall(".//field[@name='reference']//Option[@name='map']/Option/Option")
    offered = {choice.get("name"): int(choice.get("value")) for choice in choices}
    assert offered == {item.name: item.value for item in DYNAMIC_WORLD} | {"cannot tell": 255}
    assert style.find(".//field[@name='reference']/editWidget").get("type") == "ValueMap"
    assert len(style.findall(".//category")) == 11
    assert set(dict(rows)) == {"points", "pixels"}


def test_the_design_has_strata_and_the_classes_mapped(points, sample):
    design = read_design(design_path(points))
    assert design.map == "landcover.tif"
    assert [stratum.points for stratum in design.strata] == sample.points.tolist()
    assert sum(stratum.weight for stratum in design.strata) == pytest.approx(1)
    assert [point.map_class for point in design.points] == sample.stratum.tolist()


@pytest.mark.parametrize("kind", ["gpkg", "geojson"])
def test_points_come_back_by_name_or_by_value(points, sample, tmp_path, kind):
    frame = fill(points, sample)
    values = {item.name: item.value for item in DYNAMIC_WORLD}
    if kind == "gpkg":
        frame["reference"] = frame["reference"].map(values).astype("Int16")
    else:
        frame = frame.to_crs(4326).sample(frac=1, random_state=1)
    frame.to_file(tmp_path / f"back.{kind}", layer="points")
    back = read_points(tmp_path / f"back.{kind}", design_path(points))
    assert back.reference.tolist() == sample.stratum.tolist()
    assert back.counts.tolist() == np.diag(sample.points).tolist()
    assert back.estimate().accuracy.value == pytest.approx(1)
    assert back.estimate().area_ha.value == pytest.approx(sample.hectares)


def test_what_cannot_be_told_counts_for_nothing(points, sample):
    frame = fill(points, sample, p1=CANNOT_TELL[1], p2="Snow and ice")
    frame.to_file(points, layer="points")
    back = read_points(points)
    assert back.counts.sum() == 59
    assert back.counts[:, 8].sum() == 1
    layer = back.layer()
    assert layer["agrees"].isna().tolist() == [True] + [False] * 59
    assert not layer["agrees"][1]
    assert layer["reference_class"][1] == "snow and ice"
    metrics = back.metrics()
    assert (metrics["points"], metrics["cannot_tell"], metrics["design"]["seed"]) == (59, 1, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.iloc[3:], "3 of 60 points of the sample are missing: 1, 2, 3"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "1 ids are in it more than once: 1"),
        (lambda f: f.assign(id=f["id"] + 1), "1 ids are not of this sample: 61"),
        (lambda f: f.assign(reference=f["reference"].where(f["id"] > 2)), "2 of 60 points have no reference"),
        (lambda f: f.assign(reference="lava"), r"60 points have an unknown class.*0 water.*: lava \(1\)"),
        (lambda f: f.assign(reference=12), r"unknown class.*: 12 \(1\), 12 \(2\)"),
        (lambda f: f.set_geometry(f.translate(0, 8)), "60 points lie outside of their pixel, by up to 8 m"),
        (lambda f: f.drop(columns="reference"), "has no reference"),
        (lambda f: f.set_geometry(f.buffer(1)), "must be points"),
    ],
)
def test_what_is_wrong_with_the_points_is_told_in_one_line(points, sample, tmp_path, change, message):
    change(fill(points, sample)).to_file(tmp_path / "back.gpkg", layer="points")
    with pytest.raises(LabelsError, match=message) as caught:
        read_points(tmp_path / "back.gpkg", design_path(points))
    assert "\n" not in str(caught.value)


def test_points_moved_within_their_pixel_are_welcome(points, sample):
    frame = fill(points, sample)
    frame.set_geometry(frame.translate(4, -4)).to_file(points, layer="points")
    assert read_points(points).counts.sum() == 60


def test_a_sample_without_its_design_is_refused(points, tmp_path):
    design_path(points).rename(tmp_path / "kept.json")
    with pytest.raises(LabelsError, match="--design tells where it is"):
        read_points(points)
    (tmp_path / "kept.json").write_text("{}")
    with pytest.raises(LabelsError, match="is not a design"):
        read_points(points, tmp_path / "kept.json")


def test_files_that_are_no_points_are_refused(points, tmp_path):
    with pytest.raises(VectorFileError, match="not found"):
        read_points(tmp_path / "none.gpkg", design_path(points))
    (tmp_path / "text.gpkg").write_text("no vector file")
    with pytest.raises(VectorFileError, match="can't be read"):
        read_points(tmp_path / "text.gpkg", design_path(points))


def test_what_was_filled_in_is_never_overwritten(points, sample, landcover, tmp_path):
    with pytest.raises(OutputError, match="would be overwritten"):
        write_points(sample, landcover, points)
    with pytest.raises(OutputError, match=r"ends in \.gpkg"):
        write_points(sample, landcover, tmp_path / "points.shp")
