"""`truckscape train`: one line for each mistake."""

import sys

import numpy as np
import pytest
import rasterio
import yaml

from pipeline.models.legend import DYNAMIC_WORLD
from tests.cli.test_app import refused
from tests.inference.test_teacher import onnx_model
from tests.training.segmenter.places import BANDS, SIDE, profile

NAMES = [item.name for item in DYNAMIC_WORLD]


def test_imagery_without_labels_is_refused_before_any_work(capsys, monkeypatch, tmp_path):
    line = ["train", "detector", "--imagery", "scene.tif", "--out", str(tmp_path / "out"), "--no-prefect"]
    assert "--labels" in refused(capsys, monkeypatch, *line)
    assert not (tmp_path / "out").exists()


def test_no_imagery_is_asked_for_before_any_work(capsys, monkeypatch, tmp_path):
    line = ["train", "detector", "--out", str(tmp_path / "out"), "--no-prefect"]
    assert "--from-scratch" in refused(capsys, monkeypatch, *line)
    assert not (tmp_path / "out").exists()


def test_without_its_extra_the_extra_is_named(capsys, monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.startswith("pipeline.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightning", None)
    message = refused(capsys, monkeypatch, "train", "screener", "--out", str(tmp_path))
    assert "truckscape[train]" in message


@pytest.fixture
def recipe(tmp_path) -> dict:
    """A recipe that fits: a scene of four bands, and a teacher of two of them."""
    with rasterio.open(tmp_path / "scene.tif", "w", **profile("uint16", 4), nodata=0) as target:
        target.write(np.full((4, SIDE, SIDE), 1500, np.uint16))
        target.descriptions, target.scales = BANDS, (0.0001,) * 4
    teacher = {
        "name": "Pixels",
        "model": onnx_model(tmp_path / "pixels.onnx", np.zeros((len(NAMES), 2), np.float32)),
        "bands": ["B02", "B03"],
        "classes": NAMES,
        "mean": [0, 0],
        "std": [1, 1],
    }
    return {
        "bands": list(BANDS),
        "optional_bands": [],
        "arguments": {"widths": [4, 8]},
        "teacher": teacher,
        "tiles": {"px": 32},
        "labelled": [{"imagery": str(tmp_path / "scene.tif"), "name": "lake", "share": [0, 0]}],
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bands": [*BANDS, "B11"], "optional_bands": ["B11"], "teacher": {"bands": ["B02", "B11"]}},
            "The teacher Pixels needs band B11, which lake lacks. It has: B02, B03, B04, B08.",
        ),
        (
            {"teacher": {"bands": ["B02", "B11"]}},
            "needs band B11. The network's bands are: B02, B03, B04, B08.",
        ),
        ({"bands": ["B03", "B02", "B04", "B08"]}, "needs B02 as the first band"),
        ({"classes": {"water": [0], "orchard": [1]}}, "The teacher Pixels does not know the class orchard"),
        ({"labelled": {"absent": ["snow"]}}, "The teacher Pixels does not know the class snow"),
        (
            {"teacher": {"bands": list(BANDS[:3]), "mean": [0] * 3, "std": [1] * 3}},
            "the settings name 3 channels",
        ),
        ({"teacher": {"classes": [*NAMES, "moss"]}}, "the settings name 10 channels"),
        ({"teacher": {"model": "gone.onnx"}}, "The teacher's model is not there: gone.onnx"),
        ({"teacher": {"painter": "gone.onnx"}}, "The painter of Pixels does not draw band B04, B08"),
        ({"teacher": {"model": "data:atlantis/forward"}}, "No dataset is called 'atlantis'"),
        ({"labelled": {"imagery": "data:atlantis"}}, "No dataset is called 'atlantis'"),
        ({"labelled": {"imagery": "gone.tif"}}, "No such file or folder: gone.tif"),
        ({"tiles": {"px": 33}}, "tiles.px is 33; with this network it must be a multiple of 2"),
        ({"teacher": None}, "lake has no labels, and the settings name no teacher"),
    ],
)
def test_a_teacher_or_a_place_that_does_not_fit_is_one_line(
    capsys, monkeypatch, tmp_path, recipe, changes, message
):
    for name, change in changes.items():
        if name == "labelled":
            recipe["labelled"][0].update(change)
        elif isinstance(change, dict) and name != "classes":
            recipe[name].update(change)
        else:
            recipe[name] = change
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    out = tmp_path / "out"
    line = ["train", "segmenter", "--config", str(tmp_path / "recipe.yaml"), "--out", str(out)]
    assert message in refused(capsys, monkeypatch, *line, "--no-prefect")
    assert not out.exists()
