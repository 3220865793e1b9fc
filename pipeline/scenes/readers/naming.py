"""Names: bands, dates, tiles, platforms and levels, as files, folders and tags write them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from pipeline.errors import (
    MetadataError,
)
from pipeline.input_warnings import warn
from pipeline.scenes.scene import (
    BANDS_20M,
    BANDS_60M,
    BandSource,
)

_NUMBER = re.compile(
    r"^(?:\d\w*_)?b(?:and)?[ _-]?0?(1[0-2]|[1-9]|8a)(?:[ _-](?:10|20|60)m)?(?: *[,(:].*)?$", re.IGNORECASE
)
"""After a prefix that Earth Engine makes of images' ids, and before a comment such as GDAL's `B4, central
wavelength 665 nm`."""
_MASK = re.compile(
    r"(?:data[ _-]?mask|alpha|opacity|valid(?:ity)?(?:[ _-]?(?:mask|data|pixels))?)$", re.IGNORECASE
)
_NO_REFLECTANCE = re.compile(
    r"(?:.*mask|valid.*|.*alpha|opacity|scl|qa\d*|msk_.*|.*prob.*|.*cloud.*|.*cld.*|.*snw.*|aot|wvp|tci.*)$",
    re.IGNORECASE,
)
"""Descriptions that products and services give to other bands of a stack."""
_DATE_IN_NAME = re.compile(
    r"(?<!\d)(20\d\d)([-_]?)([01]\d)\2([0-3]\d)(?:T([0-2]\d)[-:]?([0-5]\d)[-:]?([0-5]\d))?(?!\d)"
)
_TIME_TAGS = (
    "acquired",
    "acquisitiondatetime",  # of GDAL's domain IMAGERY
    "datatake_1_datatake_sensing_start",  # of GDAL's driver of products
    "product_start_time",
    "sensing_time",
    "acquisition_time",
    "acquisition_date",
)
FIRST_LIGHT = date(2015, 6, 23)
"""Launch of Sentinel-2A."""
_YEARS = range(1900, 2200)
_LEAP_SECOND = re.compile(r"(.{8,10}[T ]\d\d:?59:?)60((?:[.,]\d+)?(?:Z|[+-].*)?)")
_END_OF_DAY = re.compile(r"(.{8,10}[T ])24((?::?00){0,2}(?:[.,]0+)?(?:Z|[+-].*)?)")
_BASELINE_IN_NAME = re.compile(r"_N(\d\d)(\d\d)(?=[_.]|$)")
_TILE_IN_NAME = re.compile(r"(?:^|_)T(\d\d[A-Z]{3})(?=[_.]|$)")
_PROCESSED_IN_NAME = re.compile(r"_T\d\d[A-Z]{3}_(\d{8}T\d{6})(?:\.SAFE)?$")
_DATASTRIP_START = re.compile(r"_S(\d{8}T\d{6})(?=_|$)")
_PLATFORM_IN_NAME = re.compile(r"(?:^|_)S2([A-D])(?=[_.]|$)")


def band_name(text: str | None) -> str | None:
    """Return the name of a band written as B2, B02, b8a, band 4 or B04_10m; None for other text."""
    match = _NUMBER.match(text.strip()) if text else None
    return f"B{match[1].upper().zfill(2)}" if match else None


def native_gsd(band: str) -> float:
    """Return the pixel size of a band in Sentinel-2 products, in metres."""
    return 20.0 if band in BANDS_20M else 60.0 if band in BANDS_60M else 10.0


def is_mask(text: str | None) -> bool:
    """Return whether text describes a data mask: a band that is 0 where the others have no data."""
    return bool(text and _MASK.match(text.strip()))


def is_no_reflectance(text: str | None) -> bool:
    """Return whether text describes a mask, a quality band or another product beside bands of reflectance."""
    return bool(text and _NO_REFLECTANCE.match(text.strip()))


def acquired_in_name(tags: Mapping[str, str], name: str) -> date | None:
    """Return the time in tags, else in a file's name; only the date where there is no time; None without.

    A name with two dates without a time, such as those of a mosaic, has none. Warns of a tag `acquired` that
    is no time.
    """
    for tag in _TIME_TAGS:
        try:
            if tag in tags:
                return parse_time(tags[tag])
        except MetadataError as error:
            if tag == "acquired":
                warn(f"{name}: the tag {tag} is ignored. {error}. Give the time with --acquired.")
    found = [moment for match in _DATE_IN_NAME.finditer(name) if (moment := _in_name(match))]
    if len(set(found)) > 1 and not isinstance(found[0], datetime):
        return None
    return found[0] if found else None


def _in_name(match: re.Match[str]) -> date | None:
    year, _, month, day, *clock = match.groups()
    try:
        of_day = date(int(year), int(month), int(day))
        if of_day < FIRST_LIGHT:
            return None
        if clock[0] is None:
            return of_day
        hour, minute, second = map(int, clock)
        return datetime(of_day.year, of_day.month, of_day.day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def parse_time(text: object) -> date:
    """Parse an ISO 8601 time as UTC, or a date as a date.

    Midnight may be 24:00 and a leap second :60; both are the second that follows. Raises MetadataError, also
    for years in which no satellite photographs: arithmetic with times near the calendar's ends fails.
    """
    try:
        moment = _parsed(text.strip().upper()) if isinstance(text, str) else None
        if moment is not None and moment.year in _YEARS:
            return moment
    except (ValueError, OverflowError) as error:
        raise MetadataError(_not_a_time(text)) from error
    raise MetadataError(_not_a_time(text))


def _not_a_time(text: object) -> str:
    return f"Not an ISO 8601 time of acquisition from {_YEARS[0]} to {_YEARS[-1]}: {str(text)[:60]!r}"


def _parsed(text: str) -> date:
    with contextlib.suppress(ValueError):
        return date.fromisoformat(text)
    added = timedelta()
    if match := _LEAP_SECOND.fullmatch(text):
        text, added = f"{match[1]}59{match[2]}", timedelta(seconds=1)
    elif match := _END_OF_DAY.fullmatch(text):
        text, added = f"{match[1]}00{match[2]}", timedelta(days=1)
    moment = datetime.fromisoformat(text) + added
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def platform_in_name(tags: Mapping[str, str], name: str) -> str | None:
    """Return the satellite in the tag `platform`, else in a file's name; None without either."""
    if "platform" in tags:
        return tags["platform"].lower()
    match = _PLATFORM_IN_NAME.search(name)
    return f"sentinel-2{match[1].lower()}" if match else None


def baseline_in_name(tags: Mapping[str, str], name: str) -> str | None:
    """Return the processing baseline, as 05.09, in tags, else in a file's name; None without either."""
    if re.fullmatch(r"\d\d\.\d\d", tags.get("processing_baseline", "")):
        return tags["processing_baseline"]
    match = _BASELINE_IN_NAME.search(name)
    return f"{match[1]}.{match[2]}" if match else None


def tile_in_name(name: str) -> str | None:
    """Return the MGRS tile in a file's name; None without one."""
    match = _TILE_IN_NAME.search(name)
    return match[1] if match else None


def processed_in_name(name: str) -> datetime | None:
    """Return the time of processing at the end of a product's name; None without one."""
    match = _PROCESSED_IN_NAME.search(name)
    return time_or_none(match[1]) if match else None


def time_or_none(text: object) -> datetime | None:
    """Return the time that a text says; None for a date alone, or other text."""
    try:
        moment = parse_time(text)
    except MetadataError:
        return None
    return moment if isinstance(moment, datetime) else None


def datastrip_start(*names: str) -> str | None:
    """Return the start of a datastrip from its name, like 20200401T175716; reprocessed ones have the same."""
    return next((match[1] for name in names if (match := _DATASTRIP_START.search(name))), None)


def level_in_name(
    tags: Mapping[str, str], name: str, bands: Mapping[str, BandSource]
) -> Literal["L1C", "L2A"] | None:
    """Return the level in tags or a file's name, else as the bands suggest; None where nothing does."""
    text = f"{tags.get('level', '')} {tags.get('processing_level', '')} {name}".upper()
    if "L2A" in text:
        return "L2A"
    # The cirrus band is in L1C only: L2A has no surface reflectance for it.
    return "L1C" if "L1C" in text or "B10" in bands else None
