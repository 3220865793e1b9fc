"""Recipes are YAML: data, licences and weights are in configs/, never in library code."""

from pathlib import Path

import pytest

from pipeline.settings import load_settings
from pipeline.training.detector.settings import DetectorTraining
from pipeline.training.screener import ScreenerTraining
from pipeline.training.segmenter.settings import SegmenterTraining

ROOT = Path(__file__).parents[2]
RECIPES = {"detector": DetectorTraining, "screener": ScreenerTraining, "segmenter": SegmenterTraining}


@pytest.mark.parametrize("kind", RECIPES)
def test_a_recipe_is_read_and_states_its_licences(kind):
    recipe = load_settings(RECIPES[kind], ROOT / "configs" / f"train-{kind}.yaml")
    licences = [one.licence for one in getattr(recipe, "labelled", ())]
    licences += [one["licence"] for one in getattr(recipe, "sources", ())]
    assert licences and "not stated" not in licences


@pytest.mark.parametrize("name", ["brandenburg", "virginia", "pseudolabel.tif", "shared/data"])
def test_library_code_names_no_data_set(name):
    assert [path for path in (ROOT / "pipeline").rglob("*.py") if name in path.read_text().lower()] == []


def test_the_earlier_name_of_ambiguous_boxes_is_accepted(tmp_path):
    (tmp_path / "t.yaml").write_text("scenes: [{path: a.tif, doubtful: [[1, 1, 4, 4]]}]")
    (scene,) = load_settings(DetectorTraining, tmp_path / "t.yaml").scenes
    assert scene.ambiguous == ((1, 1, 4, 4),)
