"""Values of options that several commands share."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.cli.batch import _Batch, _Schedule
from pipeline.cli.options import band_list, finite, scene_settings
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


def options_of(group: typer.Typer) -> Iterator[tuple[str, type, Any]]:
    """Yield name, type and description of each option of all commands."""
    for below in group.registered_groups:
        yield from options_of(below.typer_instance)
    for command in group.registered_commands:
        for name, parameter in inspect.signature(command.callback, eval_str=True).parameters.items():
            kind, option = get_args(parameter.annotation)[:2]
            yield name, next(iter(get_args(kind)), kind), option


def test_each_number_has_finite_bounds():
    """But for those that become settings, whose bounds are there."""
    numbers = [it for it in options_of(app) if it[1] in (int, float) and it[0] not in ("scale", "offset")]
    assert len(numbers) > 8
    for name, kind, option in numbers:
        assert option.min is not None, name
        assert option.max is not None, name
        assert kind is int or option.callback is finite, name
    with pytest.raises(typer.BadParameter):
        finite(float("nan"))


@pytest.mark.parametrize(
    "command",
    ["schedule --out x --every 0", "schedule --out x --every nan", "batch --out x --cloud-cover nan",
     "simulate --out x --seed -1", "simulate --out x --size 1e3", "sample x --out y --standard-error nan",
     "simulate --out x --seed " + "9" * 5000, "models anatomy trucks --side 0"],
)  # fmt: skip
def test_absurd_numbers_are_wrong_usage(command):
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 2, result.output
