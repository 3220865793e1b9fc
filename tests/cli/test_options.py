"""Values of options that several commands share."""

from pathlib import Path

import pytest

from pipeline.cli.batch import _Batch, _Schedule
from pipeline.cli.options import band_list, scene_settings
from pipeline.config import load_config


def test_bands_are_split_at_commas():
    assert band_list("B04, B03,B02") == ("B04", "B03", "B02")
    assert band_list(None) is None


def test_values_of_scenes_are_settings_after_those_of_set():
    own = scene_settings(["scene.scale=0.01"], scale=1e-4, offset=-0.1, nodata="-9999", acquired="2023-06-13")
    scene = load_config(None, own).scene
    assert (scene.scale, scene.offset, scene.nodata, scene.acquired) == (1e-4, -0.1, -9999, "2023-06-13")
    assert scene.given == ("scale", "offset", "nodata", "acquired")
    assert load_config(None, scene_settings(None, scale=None)).scene.given == ()
    assert load_config(None, scene_settings(None, nodata="nan")).scene.nodata == "none"


@pytest.mark.parametrize("kind", [_Batch, _Schedule])
def test_batches_and_schedules_take_them_too(kind):
    parameters = kind(out=Path("x"), offset=-0.1, nodata="0", settings=["batch.name=b"]).parameters()
    assert parameters["settings"] == ("batch.name=b", 'scene.offset="-0.1"', 'scene.nodata="0"')
    assert not {"scale", "offset", "nodata"} & parameters.keys()
