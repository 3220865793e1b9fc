"""Settings: where they come from, and what is said about a wrong one."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.config import Config, load_config
from pipeline.errors import ConfigError
from pipeline.settings import load_settings, setting_names

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.fixture
def settings_file(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_text(text)
        return path

    return write


def message(path: Path | None = None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_nothing_given_means_the_defaults():
    assert load_config() == Config()


def test_a_file_sets_what_it_names_and_leaves_the_rest(settings_file):
    config = load_config(settings_file("tiling:\n  tile_px: 256\ntrucks:\n  enabled: false\n"))
    assert config.tiling.tile_px == 256
    assert config.tiling.shards == Config().tiling.shards
    assert not config.trucks.enabled


@pytest.mark.parametrize("text", ["", "# nothing\n", "tiling:\n", "tiling:\n  # tile_px: 256\nexport: {}\n"])
def test_empty_files_and_groups_mean_the_defaults(settings_file, text):
    assert load_config(settings_file(text)) == Config()


def test_overrides_win_over_the_file_and_the_last_one_wins(settings_file):
    path = settings_file("tiling:\n  tile_px: 256\n")
    assert load_config(path, ["tiling.tile_px=64", "tiling.tile_px=128"]).tiling.tile_px == 128


class Lens(BaseModel):
    model_config = ConfigDict(extra="forbid")
    focal_mm: float = 50.0


class Camera(BaseModel):
    model_config = ConfigDict(extra="forbid")
    lens: Lens = Lens()
    formats: int = 3


def test_the_loader_knows_no_model_by_name(settings_file):
    """Groups may be empty, names are searched in groups, and `formats` is a name like any other."""
    assert load_settings(Camera, settings_file("lens:\nformats: 4\n"), ["lens.focal_mm=35"]) == Camera(
        lens=Lens(focal_mm=35), formats=4
    )
    assert setting_names(Camera) == ["lens.focal_mm", "formats"]
    with pytest.raises(ConfigError, match="Did you mean lens"):
        load_settings(Camera, None, ["lens.focal=35"])
    with pytest.raises(ConfigError, match=r"Setting formats: .* Received: 'a'"):
        load_settings(Camera, None, ["formats=a"])


@pytest.mark.parametrize(
    ("override", "group", "key", "value"),
    [
        ("tiling.tile_px=64", "tiling", "tile_px", 64),
        ("trucks.enabled=false", "trucks", "enabled", False),
        ("trucks.score_threshold=0.25", "trucks", "score_threshold", 0.25),
        ("trucks.score_threshold=null", "trucks", "score_threshold", None),
        ("trucks.bundle=/models/a=b", "trucks", "bundle", "/models/a=b"),
        ("landcover.min_area_m2=0", "landcover", "min_area_m2", 0.0),
        ("runner.kind=processes", "runner", "kind", "processes"),
        ("engine.precision=bfloat16", "engine", "precision", "bfloat16"),
        ("export.formats=parquet", "export", "formats", ("parquet",)),
        ("export.formats=parquet, geojson", "export", "formats", ("parquet", "geojson")),
        ("export.formats=[flatgeobuf]", "export", "formats", ("flatgeobuf",)),
        ("export.formats=", "export", "formats", ()),
    ],
)
def test_an_override_is_read_as_yaml(override, group, key, value):
    found = getattr(getattr(load_config(overrides=[override]), group), key)
    assert found == value
    assert type(found) is type(value)


def test_every_contracted_setting_can_be_set():
    assert {
        "tiling.tile_px",
        "tiling.shards",
        "engine.precision",
        "engine.memory_mb",
        "runner.kind",
        "runner.workers",
        "trucks.score_threshold",
        "landcover.min_area_m2",
        "landcover.simplify_m",
        "export.formats",
    } <= set(setting_names(Config))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tiling.tile_pix=3", "Unknown setting tiling.tile_pix. Did you mean tiling.tile_px?"),
        ("tile_px=3", "Unknown setting tile_px. Did you mean tiling.tile_px?"),
        ("truck.enabled=1", "Unknown setting truck. Did you mean trucks?"),
        ("runner.worker=2", "Unknown setting runner.worker. Did you mean runner.workers?"),
        ("landcover.min_area=2", "Unknown setting landcover.min_area. Did you mean landcover.min_area_m2?"),
        (
            "tiling.tile_px=8",
            "Setting tiling.tile_px: an integer from 16 to 10980 is expected. Received: 8",
        ),
        (
            "trucks.score_threshold=1.5",
            "Setting trucks.score_threshold: a number from 0 to 1, or null, is expected. Received: 1.5",
        ),
        (
            "tiling.shards=many",
            "Setting tiling.shards: an integer from 1 to 1000 is expected. Received: 'many'",
        ),
        (
            "engine.precision=float16",
            "Setting engine.precision: Input should be 'auto', 'float32' or 'bfloat16'. Received: 'float16'",
        ),
        (
            "export.formats=parquet,shp",
            "Setting export.formats.1: Input should be 'parquet', 'flatgeobuf', 'geojson' or 'pmtiles'. "
            "Received: 'shp'",
        ),
        ("tiling", "A setting must be group.key=value, e.g. tiling.tile_px=512. Received: tiling"),
        ("=3", "A setting must be group.key=value, e.g. tiling.tile_px=512. Received: =3"),
        (
            "tiling.tile_px=[1",
            "The value of tiling.tile_px is not valid YAML: line 2, column 1: did not find expected ',' or "
            "']'. Received: '[1'",
        ),
    ],
)
def test_a_wrong_override_is_explained(override, said):
    assert message(None, override) == said


def test_a_name_like_no_other_gets_the_list_of_all():
    said = message(None, "zzzzzz.qq=1")
    assert said.startswith("Unknown setting zzzzzz. Known: scene.scale, ")
    assert all(name in said for name in setting_names(Config))


def test_an_override_can_not_lead_through_a_value(settings_file):
    said = message(settings_file("tiling: 5\n"), "tiling.tile_px=64")
    assert said == "Setting tiling.tile_px: tiling already has a value, so it can't be a group of settings."


def test_what_is_wrong_in_a_file_is_said_with_its_name(settings_file):
    path = settings_file("trucks:\n  roads_buffer_m: 5\n")
    assert message(path) == (
        f"Unknown setting trucks.roads_buffer_m (in {path}). Did you mean trucks.road_buffer_m?"
    )
    path = settings_file("tilings:\n")
    assert message(path) == f"Unknown setting tilings (in {path}). Did you mean tiling?"


def test_files_that_hold_no_settings(settings_file, tmp_path):
    path = settings_file("- tiling\n- trucks\n")
    assert message(path) == f"Settings file must hold `group: {{key: value}}`: {path} holds a list."
    path = settings_file("tiling: [1")
    assert message(path).startswith(f"Settings file is not valid YAML: {path}: ")
    missing = tmp_path / "missing.yaml"
    assert message(missing) == f"Settings file can't be read: {missing} (No such file or directory)."
    assert message(tmp_path) == f"Settings file is not valid YAML: {tmp_path}: it is no file but a folder."
    path.write_bytes(b"\xff\xfetiling")
    assert message(path) == f"Settings file is not UTF-8 text: {path}."


def test_yaml_can_not_build_objects(settings_file):
    path = settings_file("tiling: !!python/object/apply:os.getcwd []\n")
    assert message(path).startswith("Settings file is not valid YAML")


def test_settings_do_not_change_under_way():
    with pytest.raises(ValidationError, match="frozen"):
        load_config().tiling.tile_px = 64


def test_default_yaml_has_the_defaults_and_the_descriptions_of_all_settings():
    path = CONFIGS / "default.yaml"
    assert load_config(path) == Config()
    tree = yaml.safe_load(path.read_text())
    assert [f"{group}.{key}" for group, keys in tree.items() for key in keys] == setting_names(Config)
    comments = [line.partition("  # ")[2] for line in path.read_text().splitlines() if line.startswith("  ")]
    groups = [field.annotation.model_fields for field in Config.model_fields.values()]
    assert comments == [field.description for group in groups for field in group.values()]


RUN_SETTINGS = [
    path for path in sorted(CONFIGS.glob("*.yaml")) if path.stem.partition("-")[0] not in ("train", "measure")
]


@pytest.mark.parametrize("path", RUN_SETTINGS, ids=lambda path: path.stem)
def test_settings_files_of_runs_load(path):
    load_config(path)


@pytest.mark.parametrize(
    "override",
    [
        "traffic.overpass_url=ftp://host/api",
        "traffic.overpass_url=http://[",
        "traffic.overpass_url=http://host:99999/api",
        "runner.address=tcp://host:port",
        "runner.address=ray://",
    ],
)
def test_addresses_that_are_none_are_refused_with_the_settings(override):
    assert " is expected; it" in message(None, override)
