import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from odc.geo.geobox import GeoBox

from pipeline.input_warnings import collected_warnings
from pipeline.run.same_acquisition import warn_of_another_scene, warn_of_same_acquisition
from pipeline.scenes.acquisition import acquisition_of
from pipeline.scenes.scene import Scene

SCENE = Scene(
    "new",
    "new.json",
    GeoBox.from_bbox((600000, 5790000, 610000, 5800000), "EPSG:32632", resolution=10),
    {},
    acquired=datetime(2023, 6, 15, 10, 20, 31, tzinfo=UTC),
    platform="sentinel-2a",
    tile="32UPD",
    baseline="05.10",
)


def warned(scene: Scene, out) -> list[str]:
    with collected_warnings() as warnings:
        warn_of_same_acquisition(scene, out)
    return warnings


def test_only_another_product_of_the_acquisition_is_warned_of(tmp_path):
    old = replace(SCENE, baseline="05.09")
    for name, content in (
        ("old", json.dumps({"acquisition": acquisition_of(old).as_json()})),
        ("new", json.dumps({"acquisition": acquisition_of(SCENE).as_json()})),
        ("undated", json.dumps({"acquisition": None})),
        ("of_another_version", "{}"),
        ("broken", "{"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(content)
    (warning,) = warned(SCENE, tmp_path)
    assert warning.startswith("new (baseline 05.10) is the same acquisition as old (baseline 05.09) in")
    assert warned(replace(SCENE, tile="32UPE"), tmp_path) == []
    assert warned(replace(SCENE, acquired=None), tmp_path) == []
    assert warned(SCENE, tmp_path / "empty") == []


def test_another_scene_of_the_same_id_is_warned_of(tmp_path):
    scene = replace(SCENE, id="x", href="b/x.tif", files=(Path("b/x.tif"),), acquired=None)
    inputs = {"b/x.tif": "1" * 64}

    def warnings_with(**record) -> list[str]:
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / "run.json").write_text(json.dumps({"scene": "x", **record}))
        with collected_warnings() as warnings:
            warn_of_another_scene(scene, tmp_path, inputs)
        return warnings

    (warning,) = warnings_with(source="a/x.tif", inputs={"a/x.tif": "2" * 64})
    assert "has layers of another scene of this id, from a/x.tif; they are replaced" in warning
    assert warnings_with(source="b/x.tif", inputs={"b/x.tif": "2" * 64}) == []  # the file has changed
    assert warnings_with(source="a/x.tif", inputs={"a/x.tif": "1" * 64}) == []  # it was moved
    for odd in (
        {"inputs": [1]},
        {"inputs": {"a": 5}},
        {"acquisition": [1]},
        {"acquisition": {"acquired": 5}},
    ):
        assert len(warnings_with(source=5, **odd)) == 1
    (tmp_path / "x" / "run.json").write_text("[" * 100_000)
    warn_of_another_scene(scene, tmp_path, inputs)
