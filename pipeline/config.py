"""Every setting, as one tree; loaded from YAML, overridden by `--set a.b=c`; unknown keys are errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from pipeline.errors import ConfigError
from pipeline.safe_yaml import read_yaml

ExportFormat = Literal["parquet", "flatgeobuf", "geojson", "pmtiles"]


class Settings(BaseModel):
    """Base of all groups of settings: immutable, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Group = TypeVar("Group", bound=Settings)


class Tiling(Settings):
    """How a scene is cut; no result depends on it."""

    tile_px: int = Field(1024, ge=16, le=10980, description="side of a tile's core, in 10 m pixels")
    shards: int = Field(4, ge=1, description="units of work and of resuming; each is whole strips of tiles")


class Engine(Settings):
    """How the networks are run."""

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the processor computes it natively, else float32"
    )
    backend: Literal["auto", "openvino", "torch"] = Field(
        "auto", description="auto: the GPU by torch where there is one, else openvino where it is installed"
    )
    memory_mb: int = Field(2500, ge=512, description="peak memory to stay under; tile size follows from it")
    threads: int | None = Field(None, ge=1, description="threads of the networks; all cores when not set")


class Runner(Settings):
    """Where the shards run: a Prefect task runner."""

    kind: Literal["threads", "processes", "dask", "ray"] = "threads"
    workers: int = Field(1, ge=1, description="shards in flight at a time")
    address: str | None = Field(
        None,
        description="of a running Dask scheduler (tcp://host:8786) or Ray instance (ray://host:10001, auto); "
        "null: one on this machine for the time of the run",
    )
    store: str | None = Field(
        None,
        description="of shards: s3://bucket/prefix, or any address that fsspec knows; null: below --out",
    )

    @model_validator(mode="after")
    def _has_a_use_for_the_address(self) -> Runner:
        if self.address and self.kind not in ("dask", "ray"):
            raise ValueError("runner.address is of a Dask or Ray cluster, and needs runner.kind=dask or ray")
        return self


class Trucks(Settings):
    """Truck detection."""

    enabled: bool = True
    bundle: str = Field("trucks", description="name of a shipped bundle, or a path to one")
    score_threshold: float | None = Field(None, ge=0, le=1, description="the card's when not set")
    screener: str | None = Field(
        None, description="bundle of a screener: blocks that it rejects are not searched; none when not set"
    )
    road_buffer_m: float = Field(30.0, gt=0, description="a truck's centre lies at most this far from a road")
    cloud_buffer_m: float = Field(100.0, ge=0, description="trucks nearer to a cloud are flagged near_cloud")
    min_speed_kmh: float = Field(0.0, ge=0, description="slower detections are dropped")


class Traffic(Settings):
    """Traffic on the segments of roads, where roads are given."""

    enabled: bool = True
    segment_km: float = Field(2.0, gt=0, description="longest segment; they end at junctions, too")
    driving_side: Literal["auto", "right", "left"] = Field(
        "auto", description="auto: that of the country; near borders where it changes it is left open"
    )
    position_sigma_m: float = Field(
        5.0, gt=0, description="standard deviation of trucks' places against the lines of roads, across them"
    )
    recall: float | None = Field(
        None, gt=0, le=1, description="share of trucks that the detector finds; the card's when not set"
    )
    overpass_url: str = Field(
        "https://overpass-api.de/api/interpreter", description="server that --roads overpass asks for roads"
    )


class Landcover(Settings):
    """Land-cover segmentation and its polygons."""

    enabled: bool = True
    bundle: str | None = Field(
        None,
        description="name of a shipped bundle, or a path to one; null: landcover, or landcover-10m where "
        "a scene has no 20 m bands",
    )
    min_area_m2: float = Field(500.0, ge=0, description="smaller areas go to their largest neighbour")
    simplify_m: float = Field(
        0.0, ge=0, description="tolerance of the simplification, areas are kept; 0 keeps pixel edges"
    )


class Panoptic(Settings):
    """Land cover and trucks as one raster of segments."""

    enabled: bool = Field(False, description="write panoptic.tif and panoptic.json; needs both models")


class Export(Settings):
    """Files beside the standard ones."""

    formats: tuple[ExportFormat, ...] = ()


class Publish(Settings):
    """Where finished results are copied to."""

    url: str | None = Field(
        None,
        description="s3://bucket/prefix, or any address that fsspec knows; credentials by the environment",
    )


class Batch(Settings):
    """Many scenes in one go."""

    concurrency: int = Field(
        1, ge=1, description="scenes in flight at a time; each takes engine.memory_mb, and all cores"
    )
    attempts: int = Field(3, ge=1, description="how often a scene is tried where the cause may pass")
    backoff_s: float = Field(
        30.0, ge=0, description="pause before the second attempt; it doubles with each further one"
    )
    ledger: SecretStr | None = Field(
        None, description="SQLAlchemy URL of the ledger; null: the SQLite file ledger.sqlite in --out"
    )
    name: str = Field("batch", description="tells batches apart that share a ledger")
    lease_s: float = Field(
        60.0, ge=1, description="how long a worker of another machine may be silent until its scene is free"
    )
    on_failure: tuple[str, ...] = Field(
        (), description="command and arguments, run for every scene that is quarantined"
    )


class Config(Settings):
    """All settings of a run."""

    tiling: Tiling = Tiling()
    engine: Engine = Engine()
    runner: Runner = Runner()
    trucks: Trucks = Trucks()
    traffic: Traffic = Traffic()
    landcover: Landcover = Landcover()
    panoptic: Panoptic = Panoptic()
    export: Export = Export()
    publish: Publish = Publish()
    batch: Batch = Batch()


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """The settings of a run from a YAML file (the defaults without one), then `a.b=c` overrides in order.

    Raises ConfigError as `load_settings`.
    """
    return load_settings(Config, path, overrides)


def load_settings(kind: type[Group], path: Path | None, overrides: Iterable[str] = ()) -> Group:
    """Settings of any kind from a YAML file (the defaults without one), then `a.b=c` overrides in order.

    Raises
    ------
    ConfigError
        If the file can't be read, a key is unknown (the message names the nearest valid one), or a value
        is of the wrong type or out of range.
    """
    tree: dict[str, Any] = _read_yaml(path) if path else {}
    for override in overrides:
        _apply(tree, override)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, kind, path)) from error


def _read_yaml(path: Path) -> dict[str, Any]:
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
    if tree is None:
        return {}
    if not isinstance(tree, Mapping):
        raise ConfigError(
            f"Settings file must hold `group: {{key: value}}`: {path} holds a {type(tree).__name__}."
        )
    # A group whose keys are all commented out reads as null, and means its defaults.
    return {
        group: settings
        for group, settings in tree.items()
        if settings is not None or group not in Config.model_fields
    }


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"A setting is given as group.key=value, e.g. tiling.tile_px=512. Received: {override}"
        )
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value of {key} is not valid YAML. Received: {text}") from error
    *groups, last = key.split(".")
    node = tree
    for group in groups:
        child = node.setdefault(group, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{key} leads through {group}, which holds a value, not settings.")
        node = child
    if last == "formats" and isinstance(value, str | None):
        value = [part.strip() for part in (value or "").split(",") if part.strip()]
    node[last] = value


def setting_names() -> list[str]:
    """Every valid `group.key`."""
    return [
        f"{group}.{key}"
        for group, field in Config.model_fields.items()
        for key in field.annotation.model_fields  # type: ignore[union-attr]
    ]


def _explain(error: ValidationError, kind: type[Settings], path: Path | None) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    where = f" (in {path})" if path else ""
    if first["type"] == "extra_forbidden":
        known = [*(setting_names() if kind is Config else ()), *kind.model_fields]
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
        hint = f" Did you mean {nearest[0]}?" if nearest else f" Known: {', '.join(known)}."
        return f"Unknown setting {name}{where}.{hint}"
    return f"Setting {name}{where}: {first['msg']}. Received: {first['input']!r}"
