"""One door to every kind of scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ConfigError, NotAProductError, SceneNotFoundError
from pipeline.redaction import is_url
from pipeline.scenes.raster import open_band_folder, open_geotiff
from pipeline.scenes.safe import is_safe_folder, open_safe
from pipeline.scenes.scene import Scene
from pipeline.scenes.stac import open_stac_item

ACCEPTED = (
    "a .SAFE folder or its zip, a folder of band files, a GeoTIFF with band descriptions, "
    "or a STAC item (.json file or URL)"
)


def open_scene(href: str, bands: Sequence[str] | None = None) -> Scene:
    """The scene at a path or URL, whatever its layout; `bands` names the bands of a GeoTIFF, in order.

    Reads metadata and headers, no pixels.

    Raises
    ------
    SceneNotFoundError
        If nothing is there.
    NotAProductError
        If it is not one of the layouts in `ACCEPTED`.
    ConfigError
        If `bands` is given for anything but a GeoTIFF.
    MissingBandError, CorruptImageError, GeoreferenceError, MetadataError
        From the opener of the layout.
    """
    if is_url(href):
        _refuse_bands(bands, href)
        return open_stac_item(href)
    path = Path(href).expanduser()
    if not path.exists():
        raise SceneNotFoundError(f"No such file or folder: {href}. A scene is {ACCEPTED}.")
    if path.is_file() and path.suffix.lower() in (".tif", ".tiff"):
        return open_geotiff(path, bands)
    _refuse_bands(bands, href)
    if path.is_dir():
        is_safe = is_safe_folder(path) or path.suffix.upper() == ".SAFE"
        return open_safe(path) if is_safe else open_band_folder(path)
    if path.suffix.lower() == ".zip":
        return open_safe(path)
    if path.suffix.lower() in (".json", ".geojson"):
        return open_stac_item(href)
    raise NotAProductError(f"Not a Sentinel-2 scene: {href}. A scene is {ACCEPTED}.")


def _refuse_bands(bands: Sequence[str] | None, href: str) -> None:
    if bands is not None:
        raise ConfigError(f"--bands is for GeoTIFFs only; the bands of {href} have their names.")
