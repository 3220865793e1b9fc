"""The catalogue of a folder of runs."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pystac
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from pipeline.layers import stac_catalog
from pipeline.layers.formats.geojson import lonlat_bbox
from pipeline.layers.stac_catalog import write_catalog
from tests.conftest import only_on
from tests.layers.test_stac import BASE, run_of, validate_core


def test_a_batch_is_a_catalogue_that_can_be_moved(tmp_path):
    out = tmp_path / "layers"
    south = replace(BASE, grid=GeoBox((100, 100), Affine(10, 0, 300_000, 0, -10, 6_200_000), "EPSG:32733"))
    run_of(out, BASE, "north", counts={"trucks": 3})
    run_of(out, replace(south, acquired=datetime(2020, 1, 1, tzinfo=UTC)), "south", counts={"trucks": 7})
    (out / "other").mkdir()
    (out / "other" / "item.json").write_text('{"type": "Feature", "collection": "somebody-elses"}')
    (out / "broken").mkdir()
    (out / "broken" / "item.json").write_text("{")
    assert write_catalog(out) == out / "catalog.json"
    out = out.rename(tmp_path / "moved")
    root = pystac.Catalog.from_file(out / "catalog.json")
    (collection,) = root.get_children()
    items = list(root.get_items(recursive=True))
    assert [item.id for item in items] == ["north", "south"]
    for item in items:
        assert item.get_collection().id == collection.id
        assert item.get_parent().id == collection.id
        assert item.get_root().id == root.id
        assert Path(item.assets["run.txt"].get_absolute_href()).read_text(encoding="utf-8") == "layers"
    for path in (out / "catalog.json", out / "collection.json", *out.glob("*th/item.json")):
        content = json.loads(path.read_text())
        validate_core(content)
        for link in content["links"]:
            if link["rel"] not in ("derived_from", "license"):
                assert (path.parent / link["href"]).is_file()
    first, second = items
    west, low, east, high = collection.extent.spatial.bboxes[0]
    assert (west, east) == (min(first.bbox[0], second.bbox[0]), max(first.bbox[2], second.bbox[2]))
    assert (low, high) == (second.bbox[1], first.bbox[3])
    assert collection.extent.temporal.intervals == [[BASE.acquired, datetime(2020, 1, 1, tzinfo=UTC)]]
    assert collection.summaries.lists["proj:code"] == ["EPSG:32632", "EPSG:32733"]
    assert collection.summaries.to_dict()["truckscape:trucks"] == {"minimum": 3, "maximum": 7}
    assert collection.item_assets["run.txt"].roles == ["data"]
    assert [provider.name for provider in collection.providers] == [
        "European Union/ESA/Copernicus",
        "truckscape",
    ]
    # Made again of the same runs, it is the same.
    before = (out / "collection.json").read_bytes()
    write_catalog(out)
    assert (out / "collection.json").read_bytes() == before
    assert {path.name for path in out.iterdir()} == {
        "north",
        "south",
        "other",
        "broken",
        "catalog.json",
        "collection.json",
    }


@pytest.mark.parametrize(
    ("boxes", "around"),
    [
        ([[9, 50, 10, 51]], [9, 50, 10, 51]),
        ([[-1, 50, 10, 51], [2, 49, 11, 50]], [-1, 49, 11, 51]),
        ([[179, 0, 180, 1], [-180, 0, -178, 2]], [179, 0, -178, 2]),
        ([[179, 0, -178, 2], [170, 0, 171, 1]], [170, 0, -178, 2]),
        ([[-179, 0, -178, 2], [-170, 0, -169, 1]], [-179, 0, -169, 2]),
        ([[-180, -60, 0, 0], [0, 0, 180, 60]], [-180, -60, 180, 60]),
    ],
)
def test_a_box_around_boxes(boxes, around):
    assert lonlat_bbox(boxes) == around


def test_scenes_on_both_sides_of_the_antimeridian_make_a_narrow_catalogue(tmp_path):
    for name, lon in (("west", 178.0), ("across", 179.95), ("east", -179.0)):
        run_of(
            tmp_path,
            replace(BASE, grid=GeoBox((100, 100), Affine(0.001, 0, lon, 0, -0.001, 10), "EPSG:4326")),
            name,
        )
    write_catalog(tmp_path)
    collection = pystac.Collection.from_file(tmp_path / "collection.json")
    assert collection.extent.spatial.bboxes == [pytest.approx([178.0, 9.9, -178.9, 10.0])]


def test_simulated_scenes_are_nobodys_data(tmp_path):
    run_of(tmp_path, replace(BASE, simulated=True), "demo")
    write_catalog(tmp_path)
    collection = json.loads((tmp_path / "collection.json").read_text())
    assert "Simulated" in collection["description"]
    assert [provider["name"] for provider in collection["providers"]] == ["truckscape"]


HOSTILE = (
    *({"id": value} for value in (1, None, [], {"a": 1}, "\ud800")),
    *({"properties": value} for value in (None, 5, [], {"datetime": 5}, {"datetime": None}, {})),
    *({"bbox": value} for value in ("x", 5, None, [], [1, 2], ["a", "b", "c", "d"], [1, 2, 3, float("nan")])),
    *({"assets": value} for value in (None, 5, [1], {"a": 1}, {"a": {"href": 5, "title": 6}})),
    *({"links": value} for value in (None, 5, [5], {"a": 1})),
    *({"stac_version": value} for value in (None, 5, [])),
    {"type": 5},
    {"assets": {"a": {"href": "x", "roles": {"b": [float("inf")]}}}},
)
HOSTILE_PROPERTIES = (
    {"platform": {"a": 1}},
    {"platform": 5},
    {"instruments": [["msi"]]},
    {"gsd": "ten"},
    {"proj:code": [None, {}]},
    {"truckscape:trucks": "many"},
    {"truckscape:seen_fraction": [1]},
    {"datetime": "2023-06-13T10:20:31"},
    {"start_datetime": 5, "end_datetime": "x"},
)


def test_items_of_others_in_the_folder_leave_ours_in_the_catalogue(tmp_path, caplog):
    run_of(tmp_path, BASE, "ours")
    ours = json.loads((tmp_path / "ours" / "item.json").read_text())
    documents = [{**ours, **changes} for changes in HOSTILE]
    documents += [{**ours, "properties": ours["properties"] | changes} for changes in HOSTILE_PROPERTIES]
    texts = [*map(json.dumps, documents), "[" * 100_000, "5", "null", "[]", ""]
    for number, text in enumerate(texts):
        (tmp_path / f"x{number}").mkdir()
        (tmp_path / f"x{number}" / "item.json").write_text(text)
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "item.json").symlink_to("item.json")
    write_catalog(tmp_path)
    collection = json.loads((tmp_path / "collection.json").read_text())
    linked = {link["href"] for link in collection["links"] if link["rel"] == "item"}
    assert "./ours/item.json" in linked
    assert len(linked) < 6  # what differs in parts that no catalogue uses is an item, too
    assert len([line for line in caplog.messages if "left out of the catalogue" in line]) > 30
    validate_core(collection)


@only_on("linux", why="pipes, and names of any bytes")
def test_a_pipe_and_a_name_that_is_no_text_are_left_out_of_the_catalogue(tmp_path, caplog):
    run_of(tmp_path, BASE, "ours")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "item.json")
    (tmp_path / "ours").rename(tmp_path / os.fsdecode(b"M\xfc\x1b"))
    assert write_catalog(tmp_path) is None
    assert any("M\\xfc\\x1b/item.json is left out" in line for line in caplog.messages)


def test_without_runs_there_is_no_catalogue(tmp_path):
    assert write_catalog(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_runs_that_end_together_are_all_in_the_catalogue(tmp_path, monkeypatch):
    """A run that ends while another writes the catalogue is found by the other, which looks again."""
    run_of(tmp_path, BASE, "first")
    write_json = stac_catalog.write_json

    def slow(content, path):
        monkeypatch.undo()
        run_of(tmp_path, BASE, "late")
        write_catalog(tmp_path)  # which the slow one overwrites
        write_json(content, path)

    monkeypatch.setattr(stac_catalog, "write_json", slow)
    write_catalog(tmp_path)
    root = pystac.Catalog.from_file(tmp_path / "catalog.json")
    assert [item.id for item in root.get_items(recursive=True)] == ["first", "late"]
