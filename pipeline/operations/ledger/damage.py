"""Rows that truckscape can't have written: a damaged file, another program, a hand that slipped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Any

from sqlalchemy import Column, Float, Integer
from sqlalchemy.types import TypeEngine

from pipeline.operations.ledger.database import LenientJson
from pipeline.operations.ledger.schema import SCENES, STATES

_LARGEST = 2**62
"""Room for additions: SQLite makes a float of a number from 2**63 on, and nobody counts so far."""


def damage_of(row: Mapping[Any, Any]) -> str | None:
    """Return the first column of a row of scenes with an impossible value, and that; None for a good row."""
    for column in SCENES.columns:
        value = row[column.name]
        if value is None and column.nullable:
            continue
        if not _is_possible(column, value):
            return f"{column.name} is {str(value)[:60]!r}"
    return None


def is_date(text: str | None) -> bool:
    """Return whether a text is a date or a time in ISO 8601."""
    try:
        datetime.fromisoformat(text or "")
    except ValueError:
        return False
    return True


def is_moment(value: Any) -> bool:
    """Return whether a value is a time with its zone as text, which can be compared with others."""
    return isinstance(value, str) and is_date(value) and datetime.fromisoformat(value).tzinfo is not None


def _is_possible(column: Column[Any], value: Any) -> bool:
    further = _FURTHER.get(column.name)
    return _has_type(column.type, value) and (further is None or further(value))


def _has_type(kind: TypeEngine[Any], value: Any) -> bool:
    if isinstance(kind, Integer):
        return isinstance(value, int) and 0 <= value < _LARGEST
    if isinstance(kind, Float):
        return isinstance(value, int | float) and math.isfinite(value) and value >= 0
    if isinstance(kind, LenientJson):
        return isinstance(value, dict) and all(isinstance(one, str | None) for one in value.values())
    return isinstance(value, str | bool)  # text that is no UTF-8 is read as bytes


def _is_inside(path: str) -> bool:
    parts = PurePath(path)
    return bool(parts.parts) and not parts.is_absolute() and ".." not in parts.parts


_FURTHER: Mapping[str, Callable[[Any], bool]] = {
    "state": STATES.__contains__,
    # Files that a batch reads, and those of duplicates that it deletes.
    "folder": _is_inside,
    "outputs": lambda paths: all(_is_inside(path or "") for path in paths.values()),
    "acquisition": lambda values: not values.get("acquired") or is_moment(values["acquired"]),
    **dict.fromkeys(("registered", "begun", "ended", "heartbeat_at", "acquired", "updated"), is_date),
}
