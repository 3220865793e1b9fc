"""Numbers of all settings: each has bounds, and messages name them."""

import importlib
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, Field, ValidationError

from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.settings import Settings, load_settings

for module in (
    "pipeline.training.detector.settings",
    "pipeline.training.segmenter.settings",
    "pipeline.training.screener",
):
    importlib.import_module(module)


def kinds_of(kind: type[Settings]) -> list[type[Settings]]:
    below = [part for child in kind.__subclasses__() for part in kinds_of(child)]
    return [kind, *below] if kind.__module__.startswith(("pipeline.", "flows.")) else []


def with_number(annotation: Any, number: object) -> list[Any]:
    """Values of a setting of this type in which one number is `number`; none for one without numbers."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in (int, float):
        return [number]
    found = [value for part in parts for value in with_number(part, number)]
    if origin is tuple:
        return [[found[0]] * (1 if parts[-1] is Ellipsis else len(parts))] if found else []
    if origin in (Union, UnionType):
        return [] if isinstance(number, str) and str in parts else found
    return found if origin is Annotated else [{"a": value} for value in found]


NUMBERS = [
    (kind, name)
    for kind in kinds_of(Settings)
    for name, field in kind.model_fields.items()
    if with_number(field.annotation, 1) and (kind.__name__, name) != ("SceneSettings", "nodata")
]


def test_there_are_numbers_to_check():
    assert len(NUMBERS) > 100
    assert {"Tiling", "Batch", "FitSettings", "GroundScene", "LandcoverSource", "Seed"} <= {
        kind.__name__ for kind, _ in NUMBERS
    }


@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=[f"{kind.__name__}.{name}" for kind, name in NUMBERS])
def test_each_number_has_finite_bounds_and_is_no_boolean(kind, name):
    far = 10**400
    for wrong in (float("inf"), -float("inf"), float("nan"), 1e308, -1e308, far, -far, str(far), True):
        for value in with_number(kind.model_fields[name].annotation, wrong):
            with pytest.raises(ValidationError) as caught:
                kind.model_validate({name: value})
            assert name in {error["loc"][0] for error in caught.value.errors()}, (wrong, value)


def message(override: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=[override])
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tiling.tile_px=1", "tiling.tile_px: an integer from 16 to 10980 is expected. Received: 1"),
        ("tiling.tile_px=true", "tiling.tile_px: an integer from 16 to 10980 is expected, not true or false"),
        ("tiling.tile_px=64.5", "tiling.tile_px: an integer from 16 to 10980 is expected. Received: 64.5"),
        ("traffic.segment_km=.inf", "segment_km: a number from 0.05 to 1000 is expected. Received: inf"),
        ("traffic.segment_km=1e-9", "segment_km: a number from 0.05 to 1000 is expected. Received: 1e-09"),
        ("traffic.segment_km=5e-324", "a number from 0.05 to 1000 is expected. Received: 5e-324"),
        ("landcover.simplify_m=1e308", "a number from 0 to 1000 is expected. Received: 1e+308"),
        ("trucks.score_threshold=-1", "a number from 0 to 1, or null, is expected. Received: -1"),
        ("engine.threads=100000000000", "an integer from 1 to 1024, or null, is expected. Received: 1000000"),
        ("engine.threads=" + "9" * 399, "9... (399 characters)"),
        ("engine.threads=0x" + "f" * 390, "an integer from 1 to 1024, or null, is expected."),
        ("batch.lease_s=1e308", "batch.lease_s: a number from 1 to 604800 is expected."),
        ("scene.scale=.nan", "Setting scene.scale: reflectance = DN * scale + offset"),
        ("scene.offset=.inf", "an offset is in reflectance, from -1 to 1."),
        ("scene.nodata=1e999", "The value of scene.nodata is not valid YAML: line 1, column 1: 1e999 is"),
        ("scene.nodata=" + "9" * 399, "a number of 64 bits, nan or none is expected"),
        ("trucks.enabled=2", "Setting trucks.enabled: Input should be a valid boolean"),
    ],
)
def test_a_number_out_of_range_is_named_with_its_range(override, said):
    assert said in message(override)


def test_a_setting_in_a_list_is_named_without_the_parts_of_types():
    with pytest.raises(ConfigError, match=r"Setting numbers\.1: an integer from 0 to 5 is expected"):
        load_settings(Listed, None, ["numbers=[1, 9]"])


class Listed(Settings):
    numbers: tuple[Annotated[int, Field(ge=0, le=5)], ...] = ()
    label: str | None = None
    path: Path | None = None
    flag: bool | None = None


def test_negative_zero_is_zero():
    assert str(load_config(overrides=["landcover.simplify_m=-0.0"]).landcover.simplify_m) == "0.0"


@pytest.mark.parametrize("text", ["010", "1e3", "2001-01-01", "true", "12:30", "0x10", "2001-99-99", "no"])
def test_text_stays_as_it_is_written(text):
    assert load_settings(Listed, None, [f"label={text}"]).label == text
    assert load_settings(Listed, None, [f"path={text}"]).path == Path(text)


@pytest.mark.parametrize(
    "override", ['batch.name="a\\0"', 'trucks.bundle="\\e[2J"', "batch.name=" + "a" * 10_001]
)
def test_text_that_no_name_can_be_is_refused(override):
    assert "control characters" in message(override) or "10001 characters is too long" in message(override)


def test_null_is_null_and_words_for_booleans_are_booleans():
    assert load_settings(Listed, None, ["label=null"]).label is None
    assert [load_settings(Listed, None, [f"flag={word}"]).flag for word in ("yes", "off", "True")] == [
        True,
        False,
        True,
    ]


class Lens(BaseModel):
    focal_mm: float = 50.0


class Camera(BaseModel):
    lens: Lens = Lens()


def test_any_model_can_be_loaded():
    assert load_settings(Camera, None, ["lens.focal_mm=35"]).lens.focal_mm == 35
