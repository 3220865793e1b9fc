"""What the user asks for: one scene, where its results are to go, and how it is to be looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import Config

OVERPASS = "overpass"
"""Given for a file of roads: they are fetched."""


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    scene: str
    out: Path
    config: Config = field(default_factory=Config)
    bands: tuple[str, ...] | None = None
    """Names of the bands of a GeoTIFF without descriptions, in order."""
    roads: Path | None = None
    """A file of lines, or `overpass`."""
    truck_labels: Path | None = None
    landcover_labels: Path | None = None
    catalog: bool = True
    """Whether to bring the catalogue of `out` up to date: of many scenes, a batch does that once."""
