"""Tree of all settings, from YAML and `--set a.b=c` overrides; unknown keys are errors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from pipeline.addresses import address_fault, web_fault
from pipeline.settings import MOST_PX, MOST_THREADS, Settings, load_settings

ExportFormat = Literal["parquet", "flatgeobuf", "geojson", "pmtiles"]


USUAL_SCALE = 1e-4
"""Reflectance of one digital number in Sentinel-2 products."""


def check_scale(scale: float) -> None:
    """Raise ValueError unless a scale can be one of reflectance: at least 1e-10, which is less than one of 32
    bits, and at most 1.
    """
    if not 1e-10 <= scale <= 1:
        divisor = scale > 1 and math.isfinite(scale)
        hint = f"; 1 / {scale:g} = {1 / scale:g}" if divisor else ""
        raise ValueError(
            "reflectance = DN * scale + offset, so a scale is at least 1e-10 and at most 1: 0.0001 for "
            f"Sentinel-2's digital numbers, 0.01 for per cent, 1 for reflectance 0-1{hint}"
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
        None,
        allow_inf_nan=True,
        description="reflectance = DN * scale + offset, for all bands; null: from the scene",
    )
    offset: float | None = Field(
        None,
        allow_inf_nan=True,
        description="in reflectance, e.g. -0.1 since baseline 04.00; null: from the scene",
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
        if str(nodata).strip().lower() == "none" and nodata is not None:
            return "none"
        try:
            number = float(nodata) if isinstance(nodata, str | int | float) else None
        except (ValueError, OverflowError) as error:
            raise ValueError("a number of 64 bits, nan or none is expected") from error
        # Values that are not finite never have data, so they need no setting.
        return nodata if number is None else number if math.isfinite(number) else "none"

    @field_validator("acquired", mode="before")
    @classmethod
    def _is_a_time(cls, acquired: object) -> object:
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

    tile_px: int = Field(1024, ge=16, le=MOST_PX, description="side of a tile's core, in 10 m pixels")
    shards: int = Field(
        4, ge=1, le=1000, description="number of shards of a scene; a shard has complete strips of tiles"
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
    memory_mb: int = Field(
        2500, ge=512, le=16_000_000, description="limit of the peak memory; it determines the tile size"
    )
    threads: int | None = Field(
        None, ge=1, le=MOST_THREADS, description="threads of the networks; null: all cores"
    )


class Runner(Settings):
    """Prefect task runner of the shards."""

    kind: Literal["threads", "processes", "dask", "ray"] = Field(
        "threads", description="threads, processes, dask (extra dask), ray (extra ray)"
    )
    workers: int = Field(1, ge=1, le=1024, description="shards in flight at a time")
    address: str | None = Field(
        None, description="Dask: tcp://host:8786; Ray: ray://host:10001, auto; null: started for the run"
    )
    store: str | None = Field(None, description="of shards: s3://bucket/prefix (extra remote); null: --out")

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, address: str | None) -> str | None:
        fault = address_fault(address) if address and "://" in address else None
        if fault:
            raise ValueError(f"tcp://host:8786 (Dask) or ray://host:10001 (Ray) is expected; {fault}")
        return address

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
    vehicle_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="minimum vehicle_score of the layer vehicles, 0-1; null: from the card",
    )
    screener: str | None = Field(
        None, description="bundle that rejects blocks before the detector; null: no screener"
    )
    road_buffer_m: float = Field(
        30.0, ge=0.1, le=10_000, description="maximum distance of a truck's centre from a road"
    )
    cloud_buffer_m: float = Field(
        100.0, ge=0, le=10_000, description="flag trucks within this distance of cloud as near_cloud"
    )
    min_speed_kmh: float = Field(0.0, ge=0, le=1000, description="drop trucks below this speed")


class TrafficSettings(Settings):
    """Traffic on road segments, if roads are given."""

    enabled: bool = Field(True, description="compute trucks, speed and flow by road segment")
    segment_km: float = Field(
        2.0, ge=0.05, le=1000, description="maximum length; segments also end at junctions"
    )
    driving_side: Literal["auto", "right", "left"] = Field(
        "auto", description="auto (from the country; unknown near borders where it changes), right, left"
    )
    position_sigma_m: float = Field(
        5.0, ge=0.1, le=1000, description="standard deviation of positions across roads"
    )
    recall: float | None = Field(None, ge=0.01, le=1, description="of the detector, 0-1; null: from the card")
    overpass_url: str = Field(
        "https://overpass-api.de/api/interpreter", description="server for --roads overpass"
    )
    overpass_wait_s: float = Field(
        30.0, ge=1, le=3600, description="seconds for that server to begin its answer; more for large scenes"
    )

    count_recurring: bool = Field(
        False, description="of a batch: count detections that recur at one place on many dates, too"
    )

    @field_validator("overpass_url")
    @classmethod
    def _is_a_web_server(cls, url: str) -> str:
        fault = web_fault(url)
        if fault:
            raise ValueError(f"the URL of an Overpass API is expected; {fault}")
        return url


class Landcover(Settings):
    """Land-cover segmentation and its polygons."""

    enabled: bool = Field(True, description="map land cover")
    bundle: str = Field("landcover", description="name or path of a bundle")
    min_area_m2: float = Field(
        500.0, ge=0, le=1e9, description="merge smaller polygons into their largest neighbour"
    )
    simplify_m: float = Field(
        0.0, ge=0, le=1000, description="tolerance of the simplification; 0: keep pixel edges"
    )
    probabilities: bool = Field(
        False, description="write landcover_probability.tif and the confidence of polygons"
    )


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
        1, ge=1, le=1000, description="scenes at a time, each with engine.memory_mb and all cores"
    )
    attempts: int = Field(3, ge=1, le=100, description="attempts at a scene with transient errors")
    backoff_s: float = Field(
        30.0, ge=0, le=86_400, description="pause before the second attempt; it doubles each time"
    )
    ledger: SecretStr | None = Field(
        None, description="SQLAlchemy URL, e.g. postgresql+psycopg://host/db; null: ledger.sqlite in --out"
    )
    name: str = Field("batch", description="distinguishes batches that share a ledger")
    lease_s: float = Field(
        60.0, ge=1, le=604_800, description="seconds without a heartbeat that end a claim of another machine"
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
