"""Tags of roads from columns of any type: direction, lanes, speed limit, cover, use."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.input_warnings import warn

TRUCK_HIGHWAYS = tuple(
    kind + link for kind in ("motorway", "trunk", "primary", "secondary") for link in ("", "_link")
)
"""Values of OpenStreetMap's `highway` that are read. Lower classes have few trucks, and narrow roads between
fields look like them."""

ID_COLUMNS = ("road_id", "osm_id", "osm_way_id", "osmid", "id", "@id")
CLASS_COLUMNS = ("road_class", "highway", "fclass")
OSM_CLASS_COLUMNS = ("highway", "fclass")
_MAYBE_CLASSES = ("class", "type", "road_type")
"""Columns that are `highway` if they have its values, as in extracts of BBBike."""
TAGS = (
    *("ref", "oneway", "lanes", "maxspeed", "junction", "tunnel", "covered", "hidden", "area", "route"),
    *("railway", "waterway", "aeroway"),
)
"""OpenStreetMap's keys that are read, beside `name` and the class."""

MOST_LANES, MOST_SPEED = 100, 1000
"""Toll plazas have some dozens of lanes; a limit in km/h or mph has three digits."""
_LONGEST = 1000
"""Letters of a text that are read; OpenStreetMap's values have 255 at most."""

Texts = list[str | None]

_NULL = {"", "nan", "NaN", "NAN", "None", "NULL", "Null", "null", "<NA>", "<Null>", "NaT"}
"""Null as text. `none` is not among them: as a speed limit it means that there is no limit."""
_LISTED = re.compile(r"""'([^']*)'|"([^"]*)"|([^\s,;'"\[\]]+)""")
_HSTORE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*=>\s*"((?:[^"\\]|\\.)*)"')

_YES, _NO = ("yes", "true", "1", "t", "y"), ("no", "false", "0", "f", "n")
_ONEWAY = {
    **dict.fromkeys(("yes", "true", "1", "y", "forward", "ft"), 1),
    **dict.fromkeys(("-1", "reverse", "backward", "tf"), -1),
    **dict.fromkeys(("no", "false", "0", "n", "b", "both", "reversible", "alternating"), 0),
}
"""Values of `oneway`: OpenStreetMap's, booleans, and those of routing networks (FT, TF)."""
_GEOFABRIK = {"f": 1, "t": -1}
_BOOLEAN = {"t": 1, "f": 0}
_HIDDEN = {
    "tunnel": ("building_passage", "avalanche_protector", "passage", "gallery", "covered", "underpass"),
    "covered": ("arcade", "colonnade", "partial", "roof"),
}
"""Further values that mean a road can't be seen from above."""
_NOT_HIDDEN = (*_NO, "culvert")
"""A culvert is under the road."""
_NOT_IN_USE = {
    *("construction", "proposed", "planned", "abandoned", "disused", "razed", "dismantled", "removed"),
    *("platform", "ferry"),
}


def columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a file that are read as text, by names in lower case.

    Tags in one column (`other_tags` of GDAL or `tags`, as HSTORE, JSON or a mapping) become columns.
    """
    wanted = (*ID_COLUMNS, *CLASS_COLUMNS, "name", *TAGS)
    names = {str(name).lower(): name for name in reversed(table.columns)}
    found = {key: [text_of(value) for value in table[names[key]]] for key in wanted if key in names}
    for packed in ("other_tags", "tags"):
        if packed not in names:
            continue
        tags = [_tags(value) for value in table[names[packed]]]
        for key in (*CLASS_COLUMNS, "name", *TAGS):
            own = found.get(key, [None] * len(tags))
            filled = [value or text_of(tag.get(key)) for value, tag in zip(own, tags, strict=True)]
            if any(filled):
                found[key] = filled
    if not set(CLASS_COLUMNS) & set(found):
        others = ([text_of(value) for value in table[names[key]]] for key in _MAYBE_CLASSES if key in names)
        found["highway"] = next((each for each in others if set(TRUCK_HIGHWAYS) & set(each)), [])
        found = {key: values for key, values in found.items() if values}
    return pd.DataFrame(found, index=table.index, dtype=object)


def text_of(value: Any) -> str | None:
    """Return a value as text: whole numbers without a point, lists with semicolons, None if it is null.

    Longer texts are cut to `_LONGEST` letters; lists in lists are no values.
    """
    if isinstance(value, list | tuple | set | np.ndarray):
        items = (
            each for each in islice(np.ravel(value) if isinstance(value, np.ndarray) else value, _LONGEST)
        )
        texts = (text_of(each) for each in items if not isinstance(each, list | tuple | set | np.ndarray))
        return ";".join(dict.fromkeys(text for text in texts if text))[:_LONGEST] or None
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or pd.isna(value):
        return None
    if isinstance(value, float | np.floating):
        return str(int(value)) if float(value).is_integer() else f"{value:g}"
    text = str(value)[:_LONGEST].strip()
    if text.startswith("[") and text.endswith("]") and ("'" in text or '"' in text or text[1:2].isdigit()):
        return text_of([next(filter(None, each), None) for each in _LISTED.findall(text)])
    return None if text in _NULL else text


def classes(tags: pd.DataFrame) -> Texts:
    """Return the class of each road; of several, the first of `TRUCK_HIGHWAYS`."""
    values = next((of(tags, name) for name in CLASS_COLUMNS if name in tags), [None] * len(tags))

    def highest(value: str | None) -> str | None:
        several = (value or "").split(";")
        return next((kind for kind in TRUCK_HIGHWAYS if kind in several), value)

    return [highest(value) for value in values]


def of(tags: pd.DataFrame, name: str) -> Texts:
    """Return a column of `columns`; None where a value, or the column, is missing."""
    return list(tags[name]) if name in tags else [None] * len(tags)


def oneways(tags: pd.DataFrame) -> list[int]:
    """Return 1 along the line, -1 against it, 0 both ways (OpenStreetMap wiki, Key:oneway).

    F is along and T against the line in Geofabrik's files, which have a column `fclass`, or B for both ways.
    Elsewhere T and F are true and false.
    """
    given = [value and value.lower() for value in of(tags, "oneway")]
    letters = {value for value in given if value in ("t", "f", "b")}
    geofabrik = "fclass" in tags or "b" in letters
    if letters and not geofabrik:
        warn(
            "Roads: oneway has T or F without B, and there is no column fclass; T is taken as true and F as "
            "false. For F along and T against the line, as Geofabrik has it, name the class fclass."
        )
    known = {**_ONEWAY, **(_GEOFABRIK if geofabrik else _BOOLEAN)}
    osm = any(name in tags for name in OSM_CLASS_COLUMNS)
    rings = [osm and value in ("roundabout", "circular") for value in of(tags, "junction")]
    implied = [
        int(ring or (osm and kind == "motorway"))
        for ring, kind in zip(rings, _osm_classes(tags), strict=True)
    ]
    found = [None if value is None else _one(known, value) for value in given]
    _name_unknown("oneway", given, found, "yes, no, -1, true, false, 1, 0, or F, T and B")
    return [default if value is None else value for value, default in zip(found, implied, strict=True)]


def lanes(values: Sequence[str | None]) -> list[int | None]:
    """Return whole numbers of lanes; None for 0, parts of lanes, and several numbers."""
    numbers = [[_lane_number(part) for part in (value or "").split(";")] for value in values]
    understood = [value is None or None not in parts for value, parts in zip(values, numbers, strict=True)]
    _name_unknown("lanes", values, [one or None for one in understood], f"a number up to {MOST_LANES}")
    return [
        int(parts[0]) if len(parts) == 1 and parts[0] and parts[0] > 0 and parts[0].is_integer() else None
        for parts in numbers
    ]


def _lane_number(text: str) -> float | None:
    number = _number(text)
    return number if number is not None and 0 <= number <= MOST_LANES else None


def speed_limits(values: Sequence[str | None]) -> Texts:
    """Return speed limits as tagged; whole numbers without a point, None for 0 and less."""

    def strange(value: str) -> bool:
        try:
            return float(value) > MOST_SPEED
        except ValueError:
            return value in ("yes", "no")

    def limit(value: str) -> str | None:
        number = _number(value)
        if number is None:
            return value
        return text_of(number) if number > 0 else None

    unknown = [value if value is not None and strange(value) else None for value in values]
    _name_unknown("maxspeed", unknown, [None] * len(unknown), f"a speed up to {MOST_SPEED}")
    return [
        None if value is None or bad is not None else limit(value)
        for value, bad in zip(values, unknown, strict=True)
    ]


def hidden(tags: pd.DataFrame) -> Texts:
    """Return `tunnel` or `covered` for roads that can't be seen from above, else None.

    A column `hidden` has these values in the layer `road_segments` of a run.
    """
    found: Texts = [value if value in _HIDDEN else None for value in of(tags, "hidden")]
    for name, further in _HIDDEN.items():
        known = {**dict.fromkeys(_NOT_HIDDEN, 0), **dict.fromkeys((*_YES, *further), 1)}
        given = [value and value.lower() for value in of(tags, name)]
        parsed = [None if value is None else _one(known, value, several=max) for value in given]
        _name_unknown(name, given, parsed, "yes or no")
        found = [before or (name if value else None) for before, value in zip(found, parsed, strict=True)]
    return found


def in_use(tags: pd.DataFrame) -> NDArray[np.bool_]:
    """Return a mask (N,) of roads in use: no ferries, areas, railways, rivers, or roads to be built."""
    others = [of(tags, key) for key in ("railway", "waterway", "aeroway")]

    def reason(kind: str | None, route: str | None, area: str | None, *other: str | None) -> str | None:
        if kind in _NOT_IN_USE:
            return kind
        if route == "ferry":
            return route
        if (area or "").lower() in ("yes", "true"):
            return "area"
        named = any(value and value.lower() not in _NO for value in other)
        return "another kind of line" if kind is None and named else None

    reasons = list(map(reason, classes(tags), of(tags, "route"), of(tags, "area"), *others))
    left_out = Counter(one for one in reasons if one)
    if left_out:
        named = ", ".join(f"{count} {one}" for one, count in left_out.most_common())
        warn(f"Roads: {left_out.total()} of {len(reasons)} lines are no roads in use: {named}. Left out.")
    return np.array([one is None for one in reasons], bool)


def _osm_classes(tags: pd.DataFrame) -> Texts:
    names = [name for name in OSM_CLASS_COLUMNS if name in tags]
    return classes(tags[names]) if names else [None] * len(tags)


def _one(
    known: Mapping[str, int], value: str, several: Callable[[Iterable[int]], int] | None = None
) -> int | None:
    """Return the meaning of a value, or of a list if its values agree; None if unknown.

    `several` chooses among known values that differ.
    """
    parts = [(part.strip(), _number(part)) for part in value.split(";")]
    meanings = {known.get(text if number is None else str(text_of(number))) for text, number in parts}
    if len(meanings) == 1:
        return meanings.pop()
    agreed = [meaning for meaning in meanings if meaning is not None]
    return several(agreed) if several and len(agreed) == len(meanings) else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _name_unknown(name: str, given: Sequence[str | None], found: Sequence[Any], expected: str) -> None:
    """Warn of given values for which nothing was found."""
    unknown = Counter(
        value for value, meaning in zip(given, found, strict=True) if value is not None and meaning is None
    )
    if unknown:
        named = ", ".join(f"'{value[:40]}' ({count})" for value, count in unknown.most_common(5))
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        warn(
            f"Roads: {name} of {unknown.total()} of {len(given)} roads is not understood and taken as not "
            f"given: {named}{more}. Expected {expected}."
        )


def _tags(value: Any) -> Mapping[str, Any]:
    """Parse the tags of a line: a mapping, its text as JSON or HSTORE, or nothing."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, str):
        return {}
    if value.lstrip().startswith("{"):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            return {}
        return parsed if isinstance(parsed, Mapping) else {}
    return {key: _unescaped(text) for key, text in _HSTORE.findall(value)}


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def ids(tags: pd.DataFrame) -> Texts:
    """Return the first column of ids without a null, else the first with any value; None if unknown."""
    known = [row for row in (of(tags, name) for name in ID_COLUMNS) if any(row)]
    return next((row for row in known if None not in row), known[0] if known else [None] * len(tags))
