"""A request of a user: one scene, the folder of its results, and settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import Config
from pipeline.scenes.scene import Scene

OVERPASS = "overpass"
"""Value in place of a file of roads, to fetch them."""


@dataclass(frozen=True)
class Request:
    """A request of a user."""

    scene: str
    out: Path
    config: Config = field(default_factory=Config)
    bands: tuple[str, ...] | None = None
    """Names of the bands of a GeoTIFF without descriptions, in order."""
    roads: Path | None = None
    """A file of lines, or `overpass`."""
    truck_labels: Path | None = None
    landcover_labels: Path | None = None
    opened: Scene | None = None
    """The scene, if it is open already and can't be opened by its address."""
    catalog: bool = True
    """Whether to update the catalogue of `out`; a batch updates it once for all scenes."""

    @property
    def has_labels(self) -> bool:
        """Return whether the layers are to be evaluated."""
        return self.truck_labels is not None or self.landcover_labels is not None
