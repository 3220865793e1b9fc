"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option("--config", help="Settings as YAML; see configs/default.yaml.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, e.g. tiling.tile_px=256; may be repeated.")
]


Out = Annotated[Path, typer.Option("--out", help="Folder for the results; made where needed.")]
Roads = Annotated[
    Path | None,
    typer.Option(
        "--roads",
        help="Road lines (GeoPackage, GeoJSON, Shapefile, .osm.pbf, .osm), or `overpass` to fetch "
        "OpenStreetMap's; trucks are looked for near them only.",
    ),
]


Bands = Annotated[
    str | None, typer.Option(help="Names of a GeoTIFF's bands where it has no descriptions: B04,B03,...")
]


BandsOfAll = Annotated[
    str | None, typer.Option("--bands", help="Names of the GeoTIFFs' bands where they have no descriptions.")
]


Prefect = Annotated[bool, typer.Option("--prefect/--no-prefect", help="Run as a Prefect flow.")]


def absolute(path: Path | None) -> str | None:
    """Return a path as absolute text, for a process in another folder."""
    return str(path.expanduser().resolve()) if path else None


def band_list(bands: str | None) -> tuple[str, ...] | None:
    """Split the value of --bands."""
    return tuple(part.strip() for part in bands.split(",")) if bands else None
