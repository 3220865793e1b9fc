"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option("--config", help="Settings as YAML; see configs/default.yaml.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, e.g. tiling.tile_px=256; may be repeated.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder for the results; created if it is missing.")]
Roads = Annotated[
    Path | None,
    typer.Option(
        "--roads",
        help="Restrict detection to a buffer around these roads: lines (GeoPackage, GeoJSON, Shapefile, "
        ".osm.pbf, .osm), or `overpass` to fetch those of OpenStreetMap. FILE:LAYER chooses a layer.",
    ),
]
Bands = Annotated[
    str | None, typer.Option("--bands", help="Bands of a GeoTIFF without band descriptions: B04,B03,...")
]
BandsOfAll = Annotated[
    str | None, typer.Option("--bands", help="Bands of all GeoTIFFs without band descriptions: B04,B03,...")
]
Prefect = Annotated[
    bool, typer.Option("--prefect/--no-prefect", help="Run as a Prefect flow, or directly in this process.")
]


def band_list(bands: str | None) -> tuple[str, ...] | None:
    """Split the value of --bands."""
    return tuple(part.strip() for part in bands.split(",")) if bands else None
