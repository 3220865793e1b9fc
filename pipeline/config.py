"""Tree of all settings, from YAML and `--set a.b=c` overrides; unknown keys are errors."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipeline.errors import ConfigError
from pipeline.safe_yaml import read_yaml

log = logging.getLogger(__name__)

ExportFormat = Literal["parquet", "flatgeobuf", "geojson", "pmtiles"]


class Settings(BaseModel):
    """Base of all groups of settings: immutable, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    renamed: ClassVar[Mapping[str, str]] = {}
    """New names of settings by their old ones, which are accepted with a warning."""

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        for old in cls.renamed.keys() & given.keys():
            log.warning("Setting %s is now called %s.", old, cls.renamed[old])
        return {cls.renamed.get(name, name): value for name, value in given.items()}


Model = TypeVar("Model", bound=BaseModel)


USUAL_SCALE = 1e-4
"""Reflectance of one digital number in Sentinel-2 products."""


def check_scale(scale: float) -> None:
    """Raise ValueError unless a scale can be one of reflectance: above 0, at most 1."""
    if not 0 < scale <= 1:
        divisor = scale > 1 and math.isfinite(scale)
        hint = f"; 1 / {scale:g} = {1 / scale:g}" if divisor else ""
        raise ValueError(
            "reflectance = DN * scale + offset, so a scale is above 0 and at most 1: 0.0001 for Sentinel-2's "
            f"digital numbers, 0.01 for per cent, 1 for reflectance 0-1{hint}"
        )


def check_offset(offset: float, scale: float) -> None:
    """Raise ValueError unless an offset can be one of reflectance: between -1 and 1."""
    if not -1 <= offset <= 1:
        scale = USUAL_SCALE if scale == 1 else scale
        hint = f", not in DN: {offset:g} * {scale:g} = {offset * scale:g}" if math.isfinite(offset) else ""
        raise ValueError(f"an offset is in reflectance, from -1 to 1{hint}")


class SceneSettings(Settings):
    """Values and time of a scene, where its files do not state them or state them wrongly."""

    scale: float | None = Field(
        None, description="reflectance = DN * scale + offset, for all bands; null: from the scene"
    )
    offset: float | None = Field(
        None, description="in reflectance, e.g. -0.1 since baseline 04.00; null: from the scene"
    )
    nodata: float | Literal["none"] | None = Field(
        None,
        description="DN without data; none: there is no such DN (NaN never has data); null: from the scene",
    )
    acquired: str | None = Field(
        None, description="time of acquisition, e.g. 2023-06-13T10:20:31Z, or its date; null: from the scene"
    )

    @property
    def given(self) -> tuple[str, ...]:
        """Return the names of the values that are set."""
        return tuple(name for name, value in self if value is not None)

    @field_validator("scale")
    @classmethod
    def _is_a_scale(cls, scale: float | None) -> float | None:
        if scale is not None:
            check_scale(scale)
        return scale

    @field_validator("offset")
    @classmethod
    def _is_an_offset(cls, offset: float | None, others: ValidationInfo) -> float | None:
        if offset is not None:
            check_offset(offset, others.data.get("scale") or USUAL_SCALE)
        return offset

    @field_validator("nodata", mode="before")
    @classmethod
    def _is_a_value(cls, nodata: object) -> object:
        try:
            number = float(nodata) if isinstance(nodata, str | int | float) else None
        except ValueError as error:
            if str(nodata).lower() != "none":
                raise ValueError("a number, nan or none is expected") from error
            return "none"
        # Values that are not finite never have data, so they need no setting.
        return nodata if number is None else number if math.isfinite(number) else "none"

    @field_validator("acquired", mode="before")
    @classmethod
    def _is_a_time(cls, acquired: object) -> object:
        if isinstance(acquired, date):  # YAML reads dates
            return acquired.isoformat()
        if isinstance(acquired, str | int):
            acquired = str(acquired)
            try:
                datetime.fromisoformat(acquired)
            except ValueError as error:
                raise ValueError(
                    "a time by ISO 8601 is expected, e.g. 2023-06-13T10:20:31Z, or a date"
                ) from error
        return acquired


class Tiling(Settings):
    """Tiles and shards of a scene; results do not depend on them."""

    tile_px: int = Field(1024, ge=16, le=10980, description="side of a tile's core, in 10 m pixels")
    shards: int = Field(
        4, ge=1, description="number of shards of a scene; a shard has complete strips of tiles"
    )


class Engine(Settings):
    """Runtime of the networks."""

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="auto (bfloat16 if CPU or GPU support it natively, else float32), float32, bfloat16",
    )
    backend: Literal["auto", "openvino", "torch"] = Field(
        "auto", description="auto (torch on a GPU, else openvino if installed), openvino, torch"
    )
    memory_mb: int = Field(2500, ge=512, description="limit of the peak memory; it determines the tile size")
    threads: int | None = Field(None, ge=1, description="threads of the networks; null: all cores")


class Runner(Settings):
    """Prefect task runner of the shards."""

    kind: Literal["threads", "processes", "dask", "ray"] = Field(
        "threads", description="threads, processes, dask (extra dask), ray (extra ray)"
    )
    workers: int = Field(1, ge=1, description="shards in flight at a time")
    address: str | None = Field(
        None, description="Dask: tcp://host:8786; Ray: ray://host:10001, auto; null: started for the run"
    )
    store: str | None = Field(None, description="of shards: s3://bucket/prefix (extra remote); null: --out")

    @model_validator(mode="after")
    def _has_a_use_for_the_address(self) -> Runner:
        if self.address and self.kind not in ("dask", "ray"):
            raise ValueError("runner.address needs a Dask or Ray cluster: set runner.kind=dask or ray")
        return self


class Trucks(Settings):
    """Truck detection."""

    enabled: bool = Field(True, description="detect trucks")
    bundle: str = Field("trucks", description="name of a shipped bundle, or path of a bundle")
    score_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="minimum score of a truck, 0-1; null: from the card, with or without roads",
    )
    screener: str | None = Field(
        None, description="bundle that rejects blocks before the detector; null: no screener"
    )
    road_buffer_m: float = Field(30.0, gt=0, description="maximum distance of a truck's centre from a road")
    cloud_buffer_m: float = Field(
        100.0, ge=0, description="flag trucks within this distance of cloud as near_cloud"
    )
    min_speed_kmh: float = Field(0.0, ge=0, description="drop trucks below this speed")


class TrafficSettings(Settings):
    """Traffic on road segments, if roads are given."""

    enabled: bool = Field(True, description="compute trucks, speed and flow by road segment")
    segment_km: float = Field(2.0, gt=0, description="maximum length; segments also end at junctions")
    driving_side: Literal["auto", "right", "left"] = Field(
        "auto", description="auto (from the country; unknown near borders where it changes), right, left"
    )
    position_sigma_m: float = Field(5.0, gt=0, description="standard deviation of positions across roads")
    recall: float | None = Field(None, gt=0, le=1, description="of the detector, 0-1; null: from the card")
    overpass_url: str = Field(
        "https://overpass-api.de/api/interpreter", description="server for --roads overpass"
    )
    overpass_wait_s: float = Field(
        30.0, gt=0, description="seconds for that server to begin its answer; more for large scenes"
    )


class Landcover(Settings):
    """Land-cover segmentation and its polygons."""

    enabled: bool = Field(True, description="map land cover")
    bundle: str | None = Field(
        None, description="name or path of a bundle; null: landcover, or landcover-10m without 20 m bands"
    )
    min_area_m2: float = Field(500.0, ge=0, description="merge smaller polygons into their largest neighbour")
    simplify_m: float = Field(0.0, ge=0, description="tolerance of the simplification; 0: keep pixel edges")


class Panoptic(Settings):
    """Land cover and trucks as one raster of segments."""

    enabled: bool = Field(False, description="write panoptic.tif and panoptic.json; needs both models")


def _split(value: object) -> object:
    """Split text at its commas, as in `--set` of a list; empty text is an empty list."""
    if isinstance(value, str | None):
        return [part.strip() for part in (value or "").split(",") if part.strip()]
    return value


class Export(Settings):
    """Files beside the standard ones."""

    formats: Annotated[tuple[ExportFormat, ...], BeforeValidator(_split)] = Field(
        (), description="additional formats: parquet, flatgeobuf, geojson, pmtiles (extra pmtiles)"
    )


class Publish(Settings):
    """Store of finished results."""

    url: str | None = Field(None, description="store of finished results: s3://bucket/prefix (extra remote)")


class Batch(Settings):
    """Batches of scenes."""

    concurrency: int = Field(
        1, ge=1, description="scenes at a time, each with engine.memory_mb and all cores"
    )
    attempts: int = Field(3, ge=1, description="attempts at a scene with transient errors")
    backoff_s: float = Field(30.0, ge=0, description="pause before the second attempt; it doubles each time")
    ledger: SecretStr | None = Field(
        None, description="SQLAlchemy URL, e.g. postgresql+psycopg://host/db; null: ledger.sqlite in --out"
    )
    name: str = Field("batch", description="distinguishes batches that share a ledger")
    lease_s: float = Field(
        60.0, ge=1, description="seconds without a heartbeat that end a claim of another machine"
    )
    on_failure: tuple[str, ...] = Field((), description="command to run for each quarantined scene")


class Config(Settings):
    """All settings of a run."""

    scene: SceneSettings = SceneSettings()
    tiling: Tiling = Tiling()
    engine: Engine = Engine()
    runner: Runner = Runner()
    trucks: Trucks = Trucks()
    traffic: TrafficSettings = TrafficSettings()
    landcover: Landcover = Landcover()
    panoptic: Panoptic = Panoptic()
    export: Export = Export()
    publish: Publish = Publish()
    batch: Batch = Batch()


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Return the settings of a run. Arguments and errors as `load_settings`."""
    return load_settings(Config, path, overrides)


def load_settings(kind: type[Model], path: Path | None, overrides: Iterable[str] = ()) -> Model:
    """Return settings from a YAML file (the defaults without one), then `a.b=c` overrides in order.

    `kind` is any pydantic model; fields that are models are groups.

    Raises
    ------
    ConfigError
        If the file can't be read, a key is unknown (the message names the nearest valid one), or a value
        is of the wrong type or out of range.
    """
    tree = _without_empty_groups(_read_yaml(path), kind) if path else {}
    for override in overrides:
        _apply(tree, override)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, kind, path)) from error


def setting_names(kind: type[BaseModel]) -> list[str]:
    """Return every valid name of a setting: `key`, or `group.key`."""
    groups = _groups(kind)
    return [
        name if name == field else f"{field}.{name}"
        for field in kind.model_fields
        for name in (setting_names(groups[field]) if field in groups else [field])
    ]


def _groups(kind: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the fields that are models."""
    annotations = {name: field.annotation for name, field in kind.model_fields.items()}
    return {
        name: group
        for name, group in annotations.items()
        if isinstance(group, type) and issubclass(group, BaseModel)
    }


def _without_empty_groups(tree: Mapping[str, Any], kind: type[BaseModel]) -> dict[str, Any]:
    """Leave out groups that are null, such as a group with all keys commented out; they keep defaults."""
    groups = _groups(kind)
    return {name: value for name, value in tree.items() if value is not None or name not in groups}


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        tree = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Settings file can't be read: {path} ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"Settings file is not UTF-8 text: {path}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"Settings file is not valid YAML: {path}: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(tree, Mapping | None):
        raise ConfigError(
            f"Settings file must hold `group: {{key: value}}`: {path} holds a {type(tree).__name__}."
        )
    return tree or {}


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"A setting must be group.key=value, e.g. tiling.tile_px=512. Received: {override}")
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value of {key} is not valid YAML. Received: {text}") from error
    *groups, last = key.split(".")
    node = tree
    for group in groups:
        child = node.setdefault(group, {})
        if not isinstance(child, dict):
            raise ConfigError(
                f"Setting {key}: {group} already has a value, so it can't be a group of settings."
            )
        node = child
    node[last] = value


def _explain(error: ValidationError, kind: type[BaseModel], path: Path | None) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    where = f" (in {path})" if path else ""
    if first["type"] == "extra_forbidden":
        known = list(dict.fromkeys([*setting_names(kind), *kind.model_fields]))
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
        hint = f" Did you mean {nearest[0]}?" if nearest else f" Known: {', '.join(known)}."
        return f"Unknown setting {name}{where}.{hint}"
    message = first["msg"].removeprefix("Value error, ")
    return f"Setting {name}{where}: {message}. Received: {first['input']!r}"
