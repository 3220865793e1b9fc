"""Names: bands, dates, tiles, platforms and levels, as files, folders and tags write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from pipeline.errors import (
    MetadataError,
)
from pipeline.scenes.scene import (
    BANDS_20M,
    BANDS_60M,
    BandSource,
)

_NUMBER = re.compile(r"^b(?:and)?[ _-]?0?(1[0-2]|[1-9]|8a)(?:[ _-](?:10|20|60)m)?$", re.IGNORECASE)
_DATE_IN_NAME = re.compile(r"(?<!\d)(20\d\d)(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d))?(?!\d)")
_TILE_IN_NAME = re.compile(r"(?:^|_)T(\d\d[A-Z]{3})(?=[_.]|$)")
_PLATFORM_IN_NAME = re.compile(r"(?:^|_)S2([A-D])(?=[_.]|$)")


def band_name(text: str | None) -> str | None:
    """Return the name of a band written as B2, B02, b8a, band 4 or B04_10m; None for other text."""
    match = _NUMBER.match(text.strip()) if text else None
    return f"B{match[1].upper().zfill(2)}" if match else None


def native_gsd(band: str) -> float:
    """Return the pixel size of a band in Sentinel-2 products, in metres."""
    return 20.0 if band in BANDS_20M else 60.0 if band in BANDS_60M else 10.0


def acquired_in_name(tags: Mapping[str, str], name: str) -> datetime | None:
    """Return the time in the tag `acquired`, else in a file's name; None without either."""
    if "acquired" in tags:
        return parse_time(tags["acquired"])
    match = _DATE_IN_NAME.search(name)
    if not match:
        return None
    try:
        return datetime(*(int(part or 0) for part in match.groups()), tzinfo=UTC)  # type: ignore[arg-type, misc]
    except ValueError:
        return None


def parse_time(text: str) -> datetime:
    """Parse an ISO 8601 time or date as UTC. Raises MetadataError."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise MetadataError(f"Not an ISO 8601 time of acquisition: {text!r}") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def platform_in_name(tags: Mapping[str, str], name: str) -> str | None:
    """Return the satellite in the tag `platform`, else in a file's name; None without either."""
    if "platform" in tags:
        return tags["platform"].lower()
    match = _PLATFORM_IN_NAME.search(name)
    return f"sentinel-2{match[1].lower()}" if match else None


def tile_in_name(name: str) -> str | None:
    """Return the MGRS tile in a file's name; None without one."""
    match = _TILE_IN_NAME.search(name)
    return match[1] if match else None


def level_in_name(
    tags: Mapping[str, str], name: str, bands: Mapping[str, BandSource]
) -> Literal["L1C", "L2A"] | None:
    """Return the level in tags or a file's name, else as the bands suggest; None where nothing does."""
    text = f"{tags.get('level', '')} {tags.get('processing_level', '')} {name}".upper()
    if "L2A" in text:
        return "L2A"
    # The cirrus band is in L1C only: L2A has no surface reflectance for it.
    return "L1C" if "L1C" in text or "B10" in bands else None
