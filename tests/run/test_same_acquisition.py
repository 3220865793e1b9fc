import json
from dataclasses import replace
from datetime import UTC, datetime

from odc.geo.geobox import GeoBox

from pipeline.input_warnings import collected_warnings
from pipeline.run.same_acquisition import warn_of_same_acquisition
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
