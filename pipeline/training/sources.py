"""A labelled scene as settings name it: by paths, or names of open data."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from pipeline.config import SceneSettings
from pipeline.settings import Settings


class LabelledSource(Settings):
    """A scene and its labels."""

    imagery: str = Field(description="as for `truckscape run`, or open data: data:NAME, data:NAME/file")
    labels: Path
    bands: tuple[str, ...] | None = Field(None, description="names of a GeoTIFF's bands, where it has none")
    values: SceneSettings = SceneSettings()
    """Scale, offset and nodata value, where the imagery does not state them or states them wrongly."""
    name: str = Field("", description="for the card; the imagery's name when not set")
    licence: str = Field("not stated", description="of imagery and labels, for the card")

    @property
    def title(self) -> str:
        """Return its name in the card and in messages."""
        return self.name or Path(self.imagery).name

    @property
    def provenance(self) -> dict[str, str]:
        """Return its entry in the card."""
        return {"name": self.title, "licence": self.licence}
