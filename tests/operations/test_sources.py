"""Scenes of a batch from names, a list and a folder."""

import numpy as np
import pytest

from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.operations.sources import Sources, find_scenes
from tests.conftest import write_geotiff

BATCH = load_config().batch


def test_scenes_of_all_sources_together_each_once(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        write_geotiff(tmp_path / "in" / f"{name}.tif", np.ones((4, 2, 2), np.uint16))
    (tmp_path / "list.txt").write_text("in/b.tif\n")
    a = str(tmp_path / "in" / "a.tif")
    found = find_scenes(Sources(scenes=(a,), scene_list=tmp_path / "list.txt"), BATCH)
    assert [scene.name for scene in found] == ["a", "b"]
    found = find_scenes(Sources((a,), tmp_path / "list.txt", tmp_path / "in"), BATCH)
    assert sorted(scene.name for scene in found) == ["a", "b", "c"]


def test_without_a_source_the_options_are_named():
    with pytest.raises(ConfigError, match="--folder"):
        find_scenes(Sources(), BATCH)
