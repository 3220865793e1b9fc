"""Options that several commands share."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option("--config", help="Settings as YAML; see configs/default.yaml.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, e.g. tiling.tile_px=256; may be repeated.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder for the results; created if it is missing.")]
KeepRecurring = Annotated[
    bool,
    typer.Option(
        "--keep-recurring",
        help="Count recurring detections, too: those at one place on more dates than traffic explains.",
    ),
]
Roads = Annotated[
    Path | None,
    typer.Option(
        "--roads",
        help="Restrict detection to a buffer around these roads: lines (GeoPackage, GeoJSON, GeoParquet, "
        "Shapefile, .osm.pbf, .osm; FILE or FILE:LAYER), or `overpass` to fetch those of OpenStreetMap.",
    ),
]
_BAND_NAMES = "B04,B03,...; - leaves a band out, mask is a data mask, SCL the scene classification."
Bands = Annotated[
    str | None,
    typer.Option("--bands", help=f"Bands of a GeoTIFF without band descriptions: {_BAND_NAMES}"),
]
BandsOfAll = Annotated[
    str | None,
    typer.Option("--bands", help=f"Bands of all GeoTIFFs without band descriptions: {_BAND_NAMES}"),
]
Scale = Annotated[
    float | None,
    typer.Option("--scale", help="Reflectance = DN * scale + offset, e.g. 0.0001. Default: from the scene."),
]
Offset = Annotated[
    float | None,
    typer.Option("--offset", help="Reflectance offset, -0.1 since baseline 04.00. Default: from the scene."),
]
Nodata = Annotated[
    str | None,
    typer.Option(
        "--nodata", help="DN without data, or none if there is no such DN. Default: from the scene."
    ),
]
Acquired = Annotated[
    str | None,
    typer.Option(
        "--acquired", help="Time of acquisition, e.g. 2023-06-13T10:20:31Z. Default: from the scene."
    ),
]
Prefect = Annotated[
    bool, typer.Option("--prefect/--no-prefect", help="Run as a Prefect flow, or directly in this process.")
]


def finite(value: float | None) -> float | None:
    """Refuse NaN, which is within any range of Typer's, and infinity; for `callback` of an option."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def scene_settings(settings: Iterable[str] | None, **given: object) -> tuple[str, ...]:
    """Return the overrides of `--set`, then those of options such as --scale, by their names."""
    own = (f"scene.{name}={json.dumps(str(value))}" for name, value in given.items() if value is not None)
    return *(settings or ()), *own


def band_list(bands: str | None) -> tuple[str, ...] | None:
    """Split the value of --bands."""
    return tuple(part.strip() for part in bands.split(",")) if bands else None
