"""Settings from the arguments of the API's functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import Config, SceneSettings

Options = Mapping[str, Any]
"""Settings by name, such as `{"trucks.score_threshold": 0.4}`; `configs/default.yaml` has all."""


def scene_settings(scale: Any, offset: Any, nodata: Any, acquired: str | date | None) -> SceneSettings:
    """Return the values that replace a scene's own. Raises ConfigError if one is out of range."""
    from pipeline.config import SceneSettings
    from pipeline.settings import validated

    when = acquired.isoformat() if isinstance(acquired, date) else acquired
    return validated(SceneSettings, {"scale": scale, "offset": offset, "nodata": nodata, "acquired": when})


def run_config(scene: SceneSettings, options: Options | None, file: str | Path | None = None) -> Config:
    """Return the settings of a run: those of a YAML file, replaced by `options`, then by those of the scene.

    Raises ConfigError if one is unknown, of the wrong type or out of range.
    """
    from pipeline.config import load_config

    given = {f"scene.{name}": getattr(scene, name) for name in scene.given}
    overrides = [f"{name}={_yaml(value)}" for name, value in {**(options or {}), **given}.items()]
    return load_config(None if file is None else Path(file), overrides)


def _yaml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple | set) else value, default=str)
