"""Parameters of a scene as plain values: for flows and deployments.

Apart from those of batches, whose imports take a second that a run of one scene would wait for.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.config import Config, load_config
from pipeline.run.request import Request


class SharedParameters(BaseModel):
    """Parameters that scenes, batches and schedules share; Prefect's pages show the texts below them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    out: Path
    """Folder of the layers; under Prefect also a block, as local-file-system/NAME."""
    config: Path | None = None
    """YAML file of settings."""
    settings: tuple[str, ...] | None = None
    """Settings as a.b=c, after those of the file, e.g. tiling.tile_px=256. No credentials."""
    roads: Path | None = None
    """File of road lines, or overpass to fetch OpenStreetMap's."""
    bands: tuple[str, ...] | None = None
    """Names of the bands of GeoTIFFs without descriptions, in order, e.g. B02, B03, B04, B08."""

    def load(self) -> Config:
        """Load the settings. Raises ConfigError."""
        return load_config(self.config, self.settings or ())


class SceneParameters(SharedParameters):
    """Parameters of one scene, for the flow `run-scene`."""

    scene: str
    """Path or URL of a Sentinel-2 scene: a .SAFE folder or zip, a GeoTIFF, a folder of bands, a STAC item."""
    truck_labels: Path | None = None
    """File of reference truck boxes, to evaluate the trucks."""
    landcover_labels: Path | None = None
    """Raster or file of reference classes, to evaluate the land cover."""

    def request(self) -> Request:
        """Return the request. Raises ConfigError."""
        return Request(
            scene=self.scene,
            out=self.out,
            config=self.load(),
            bands=self.bands or None,
            roads=self.roads,
            truck_labels=self.truck_labels,
            landcover_labels=self.landcover_labels,
        )
