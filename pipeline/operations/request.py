"""A batch as it is requested, and the hash of all but the scenes that its layers depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import RoadsError
from pipeline.layers.formats.export import check_formats
from pipeline.models.bundle import open_bundle
from pipeline.operations.scene_list import ListedScene, digest, file_versions
from pipeline.run import OVERPASS
from pipeline.run.keys import code_versions
from pipeline.run.prepare import check_stores
from pipeline.scenes.raster.installation import check_installation
from pipeline.storage.untrusted_vectors import file_of

_NO_RESULT_DEPENDS_ON: dict[str, Any] = {
    "batch": True,
    "tiling": True,
    "runner": True,
    "engine": {"memory_mb", "threads"},
    "traffic": {"overpass_wait_s", "count_recurring"},
}


@dataclass(frozen=True)
class BatchRequest:
    """The scenes of a batch, and how to run them."""

    scenes: tuple[ListedScene, ...]
    out: Path
    config: Config = field(default_factory=Config)
    bands: tuple[str, ...] | None = None
    roads: Path | None = None
    retry_quarantined: bool = False
    """Also retry scenes that are quarantined for an error that is not transient."""
    left_out: tuple[str, ...] = ()
    """Neighbours of the scenes that can't be read, each with the reason."""

    def check(self) -> None:
        """Raise now what every scene would raise.

        InstallationError, ConfigError, RoadsError, MissingExtraError.
        """
        check_installation()
        check_formats(self.config.export.formats)
        check_stores(self.config)
        if self.roads and str(self.roads) != OVERPASS and not file_of(self.roads).exists():
            raise RoadsError(f"Roads not found: {self.roads}; give a file of lines, or `overpass`.")


def config_hash(request: BatchRequest) -> str:
    """Hash all but the scenes that the layers depend on: settings, models, roads, code.

    Raises BundleError if a model can't be opened.
    """
    config = request.config
    names: Sequence[str | None] = (
        *((config.trucks.bundle, config.trucks.screener) if config.trucks.enabled else ()),
        *((config.landcover.bundle,) if config.landcover.enabled else ()),
    )
    roads = request.roads
    versions = file_versions(file_of(roads)) if roads else None
    return digest(
        [
            code_versions(),
            config.model_dump(mode="json", exclude=_NO_RESULT_DEPENDS_ON),
            [open_bundle(name).card.model_dump(mode="json") for name in names if name],
            [str(roads), versions] if roads else None,
            request.bands,
        ]
    )
