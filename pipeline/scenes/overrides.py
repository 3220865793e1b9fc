"""The user's scale, offset, nodata value and time in place of those that a scene states."""

from __future__ import annotations

import math
from dataclasses import replace

from pipeline.config import SceneSettings, check_offset, check_scale
from pipeline.errors import MetadataError
from pipeline.redaction import without_secrets
from pipeline.scenes.readers.naming import parse_time
from pipeline.scenes.scene import BandSource, Scene


def with_overrides(scene: Scene, settings: SceneSettings) -> Scene:
    """Return the scene with what the user set; SCL and masks keep their values.

    Raises MetadataError if scale or offset of a band can't be those of reflectance.
    """
    bands = {name: _overridden(source, settings) for name, source in scene.bands.items()}
    for source in bands.values():
        _check(source)
    scene = replace(scene, bands=bands)
    if settings.scale is not None or settings.offset is not None:
        scene = replace(scene, radiometry="options")
    if settings.offset is not None:
        scene = replace(scene, other_offset=None)
    if settings.nodata is not None:
        scene = replace(scene, blanks=())
    if settings.acquired is not None:
        scene = replace(scene, acquired=parse_time(settings.acquired))
    return scene


def _overridden(source: BandSource, settings: SceneSettings) -> BandSource:
    if settings.scale is not None:
        source = replace(source, scale=settings.scale)
    if settings.offset is not None:
        source = replace(source, offset=settings.offset)
    if settings.nodata is None:
        return source
    nodata = None if settings.nodata == "none" else settings.nodata
    if source.warp is None:
        return replace(source, nodata=nodata)
    # GDAL masks before it warps. Without a value it takes that of the file, unless it is given another.
    given = math.nan if nodata is None else nodata
    return replace(source, warp=replace(source.warp, nodata=given))


def _check(source: BandSource) -> None:
    """Raise MetadataError if scale or offset can't be those of reflectance."""
    band = f"Band {source.name} of {without_secrets(source.href)}"
    if math.isnan(source.scale):
        raise MetadataError(
            f"{band} has 8 bits and no scale, or a scale of NaN, so its reflectance is unknown; set it, e.g. "
            "--scale 0.00392157 if 255 is a reflectance of 1."
        )
    try:
        check_scale(source.scale)
    except ValueError as error:
        raise MetadataError(f"{band} has the scale {source.scale:g}: {error}. Set it: --scale.") from error
    try:
        check_offset(source.offset, source.scale)
    except ValueError as error:
        raise MetadataError(f"{band} has the offset {source.offset:g}: {error}. Set it: --offset.") from error
