"""The list of scene formats, and the function that opens any of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pystac

from pipeline.config import SceneSettings
from pipeline.errors import (
    ConfigError,
    NotAProductError,
    SceneNotFoundError,
    UnreachableError,
    is_transient,
)
from pipeline.plugins import READER_PLUGINS, Registry
from pipeline.redaction import is_url
from pipeline.scenes.existing import existing
from pipeline.scenes.overrides import with_overrides
from pipeline.scenes.raster.auxiliary import warn_of_auxiliary
from pipeline.scenes.raster.installation import check_installation
from pipeline.scenes.readers import band_folder, geotiff, safe, stac
from pipeline.scenes.readers.band_folder import is_band_folder
from pipeline.scenes.readers.product_files import product_folders, root_of
from pipeline.scenes.readers.reader import Reader
from pipeline.scenes.scene import Scene

READERS = Registry(
    READER_PLUGINS, Reader, "format", [safe.READER, band_folder.READER, geotiff.READER, stac.READER]
)
"""All scene formats; the first that accepts a path or URL opens it."""


def formats() -> str:
    """Return the scene formats as one phrase for messages and help texts."""
    *first, last = (reader.format for reader in READERS)
    return f"{', '.join(first)}, or {last}"


def open_scene(href: str, bands: Sequence[str] | None = None, settings: SceneSettings | None = None) -> Scene:
    """Open the scene at a path or URL, whatever its format; `bands` names the bands of a GeoTIFF, in order.

    `settings` override what the scene states about its values and time. Reads metadata and headers, no
    pixels.

    Raises
    ------
    InstallationError
        If GDAL or PROJ can't be used.
    SceneNotFoundError
        If nothing is there, or it can't be read; UnreachableError where that may pass.
    NotAProductError
        If no reader accepts it.
    ConfigError
        If `bands` is given for a format that names its own.
    MetadataError
        If scale or offset can't be those of reflectance, or from the reader.
    MissingBandError, CorruptImageError, GeoreferenceError
        From the reader.
    """
    check_installation()
    if is_url(href):
        return _open(href, href, bands, settings)
    try:
        return _open(existing(href, formats()), href, bands, settings)
    except OSError as error:
        kind = UnreachableError if is_transient(error) else SceneNotFoundError
        raise kind(f"The scene can't be read: {href[:500]} ({error.strerror or error}).") from error


def _open(path: str, href: str, bands: Sequence[str] | None, settings: SceneSettings | None) -> Scene:
    reader = next((reader for reader in READERS if reader.accepts(path)), None)
    if bands is not None and not (reader and reader.names_bands):
        raise ConfigError(f"--bands is for GeoTIFFs only; the bands of {href} have their names.")
    if reader is None:
        raise NotAProductError(f"Not a Sentinel-2 scene: {href}. A scene is {formats()}.")
    scene = with_overrides(reader.open(path, bands), settings or SceneSettings())
    warn_of_auxiliary(scene.bands.values())
    return scene


def open_item(item: pystac.Item, settings: SceneSettings | None = None) -> Scene:
    """Open the scene of a STAC item in memory; `settings` and errors as `open_scene`."""
    check_installation()
    scene = with_overrides(stac.scene_of_item(item), settings or SceneSettings())
    warn_of_auxiliary(scene.bands.values())
    return scene


def is_scene(path: Path) -> bool:
    """Return whether a file or folder among others is a scene; may look inside."""
    return any(reader.is_scene(path) for reader in READERS)


def scenes_at(path: Path) -> list[Path]:
    """Return the scenes that a file or folder is, stands for or holds, without opening them."""
    if path.is_dir() and is_band_folder(path) and not root_of(path):
        return [path]
    return product_folders(path) or ([path] if is_scene(path) else [])
