"""Arguments of Python as settings."""

from datetime import UTC, date, datetime

import pytest

from pipeline.api.options import run_config, scene_settings
from pipeline.errors import ConfigError


def test_values_of_a_scene():
    found = scene_settings(1e-4, -0.1, "none", datetime(2024, 6, 1, 10, 20, tzinfo=UTC))
    assert (found.scale, found.offset, found.nodata) == (1e-4, -0.1, "none")
    assert found.acquired == "2024-06-01T10:20:00+00:00"
    assert scene_settings(None, None, None, date(2024, 6, 1)).acquired == "2024-06-01"
    with pytest.raises(ConfigError, match=r"1 / 10000 = 0.0001"):
        scene_settings(10000, None, None, None)


def test_settings_by_name():
    scene = scene_settings(1e-10, None, None, None)
    options = {"export.formats": ("parquet", "geojson"), "trucks.bundle": "C: a, b", "engine.threads": None}
    config = run_config(scene, {**options, "landcover.enabled": False})
    assert config.scene.scale == 1e-10
    assert config.export.formats == ("parquet", "geojson")
    assert (config.trucks.bundle, config.engine.threads) == ("C: a, b", None)
    assert not config.landcover.enabled
    with pytest.raises(ConfigError, match=r"landcover"):
        run_config(scene, {"landcovr.enabled": False})
