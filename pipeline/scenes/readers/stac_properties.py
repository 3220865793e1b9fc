"""Properties of STAC items, as the catalogues of Sentinel-2 name them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import shapely
from shapely.errors import ShapelyError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from pipeline.scenes.acquisition import Acquisition
from pipeline.scenes.readers.naming import datastrip_start, processed_in_name, time_or_none
from pipeline.scenes.scene import HARMONISED_OFFSET

Properties = Mapping[str, Any]


_BASELINES = ("s2:processing_baseline", "sentinel:processing_baseline", "processing_baseline")
_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_NAMES = (
    "s2:product_uri",
    "sentinel:product_id",
    "sentinel:product_name",
    "s2:granule_id",
    "s2:tile_id",
    "s2:datatake_id",
    "eopf:datatake_id",
)
"""Names of product, granule or datatake."""
_DATASTRIPS = ("s2:datastrip_id", "eopf:datastrip_id", "sentinel:datastrip_id")
_PROCESSED = ("s2:generation_time", "processing:datetime")
_TILES = ("s2:mgrs_tile", "grid:code", "odc:region_code", "s2:tile_id", *_NAMES)

_TOLERANCE_DEG = 0.001
"""100 m: footprints of cloud-optimised copies have a point for each corner of a pixel."""

_BASELINE = re.compile(r"N?(\d{1,2})(?:\.(\d{1,2})|(\d\d))?")
_BASELINE_IN_NAME = re.compile(r"_N(\d\d)\.?(\d\d)(?=_|\.SAFE|$)")
_BY_TOOLBOX = 90.0
"""Sen2Cor outside of ESA calls its baseline 99.99 or similar; it says nothing about the offset."""
_TILE = re.compile(r"(?:^|MGRS-|_T|S2[A-D]_)(\d\d?[C-X][A-Z]{2})(?=$|_)")
_PLATFORM = re.compile(r"(?:^|[^a-z])s(?:entinel)?[-_ ]?2[-_ ]?([a-d])(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class OffsetStatements:
    """All that an item says about the offset of reflectance, apart from its bands."""

    applied: bool | None
    """Whether its files are said to be without the offset of baseline 04.00."""
    baseline: str | None
    is_l2a: bool
    is_of_cogs: bool
    """Whether it is of the first Earth Search or of Digital Earth Africa: their files may lack the offset."""

    @property
    def says_something(self) -> bool:
        """Return False if nothing but the bands could tell the offset."""
        return self.applied is not None or self.baseline is not None

    def candidates(self, stated: float | None) -> tuple[float, float | None]:
        """Return the likelier offset of a band, and another one if statements disagree.

        `stated` is the offset that its asset states. Earth Search states that of the product also where its
        files are without it, so its flag counts more; but where it says that they have it, that was wrong
        for many items (Element84/earth-search#66 and #71). If nobody says anything, both are candidates.
        """
        expected = 0.0 if self.applied else self._of_product
        if expected is None:
            return (HARMONISED_OFFSET, 0.0) if stated is None else (stated, None)
        if stated is not None and abs(stated - expected) > 1e-6:
            return expected, stated
        doubtful = (self.applied is False and self.is_l2a) or (self.applied is None and self.is_of_cogs)
        return expected, 0.0 if expected and doubtful and stated != 0.0 else None

    @property
    def _of_product(self) -> float | None:
        number = float(self.baseline or "99")
        return None if number >= _BY_TOOLBOX else HARMONISED_OFFSET if number >= 4 else 0.0


def offset_statements(properties: Properties, item_id: str, level: str | None) -> OffsetStatements:
    """Return what an item says about the offset; texts count as the values that they spell."""
    applied = next((_truth(properties[key]) for key in _APPLIED if properties.get(key) is not None), None)
    is_of_cogs = any(key.startswith("sentinel:") for key in properties)
    return OffsetStatements(applied, baseline(properties, item_id), level != "L1C", is_of_cogs)


def baseline(properties: Properties, item_id: str) -> str | None:
    """Return the processing baseline, like 05.09, from its field or a name; None if no one says it."""
    for key in _BASELINES:
        text = properties.get(key)
        match = _BASELINE.fullmatch(str(text).strip()) if text is not None else None
        if match:  # the number 5.1 is 05.10
            return f"{match[1]:0>2}.{(match[2] or match[3] or '').ljust(2, '0')}"
    version = str(properties.get("processing:version"))  # elsewhere the version of some software
    if re.fullmatch(r"\d\d\.\d\d", version):
        return version
    found = (_BASELINE_IN_NAME.search(name) for name in _names(properties, item_id))
    match = next((match for match in found if match), None)
    return f"{match[1]}.{match[2]}" if match else None


def level(properties: Properties, *names: str | None) -> Literal["L1C", "L2A"] | None:
    """Return the processing level from fields or names; None where nothing says it."""
    hints = (
        properties.get("s2:product_type"),
        properties.get("processing:level"),
        properties.get("product:type"),
        *names,
    )
    for hint in map(str, hints):
        match = re.search(r"(?:MSI|L)(1C|2A)|^L([12])$", hint.upper())
        if match:
            return "L1C" if (match[1] or match[2]).startswith("1") else "L2A"
    return None


def tile(properties: Properties, item_id: str) -> str | None:
    """Return the MGRS tile, like 32UPD; None if the item doesn't say it."""
    for prefix in ("mgrs", "sentinel"):
        parts = [properties.get(f"{prefix}:{part}") for part in ("utm_zone", "latitude_band", "grid_square")]
        if all(parts):
            return "".join(map(str, parts)).zfill(5)
    texts = (*(str(properties.get(key) or "") for key in _TILES), item_id)
    match = next((match for text in texts if (match := _TILE.search(text))), None)
    return match[1].zfill(5) if match else None


def platform(properties: Properties, item_id: str) -> str | None:
    """Return the satellite, like sentinel-2a; other text as it is, in lower case."""
    text = str(properties.get("platform") or "")
    match = _PLATFORM.search(text) or (None if text else _PLATFORM.search(item_id))
    return f"sentinel-2{match[1].lower()}" if match else text.lower() or None


def datastrip(properties: Properties) -> str | None:
    """Return the start of the datastrip, like 20200401T175716."""
    return datastrip_start(*(str(properties.get(key)) for key in _DATASTRIPS))


def processed(properties: Properties, item_id: str) -> datetime | None:
    """Return the time of processing; None if the item doesn't say it."""
    times = (time_or_none(str(properties.get(key))) for key in _PROCESSED)
    stated = next((at for at in times if at), None)
    return stated or next(
        (at for name in _names(properties, item_id) if (at := processed_in_name(name))), None
    )


def footprint(geometry: Any) -> BaseGeometry | None:
    """Return the area with data, in degrees; None without an area."""
    try:
        area = shapely.make_valid(shape(geometry))
    except (ShapelyError, AttributeError, LookupError, TypeError, ValueError):
        return None
    return area.simplify(_TOLERANCE_DEG) if area.area > 0 else None


def acquisition(document: Mapping[str, Any]) -> Acquisition | None:
    """Return the acquisition of an item as a search found it; None without a time or a footprint."""
    properties, name = document["properties"], str(document["id"])
    moment = time_or_none(str(properties.get("datetime") or properties.get("start_datetime")))
    area = footprint(document.get("geometry"))
    if moment is None or area is None:
        return None
    return Acquisition(
        moment,
        tile(properties, name),
        platform(properties, name),
        level(properties, document.get("collection"), name),
        baseline(properties, name),
        processed(properties, name),
        datastrip(properties),
        area,
    )


def _names(properties: Properties, item_id: str) -> Iterator[str]:
    yield from (str(properties.get(key) or "") for key in _NAMES)
    yield item_id


def _truth(value: Any) -> bool:
    return value.strip().lower() in ("true", "yes", "1") if isinstance(value, str) else bool(value)
