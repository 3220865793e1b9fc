"""Geometries as well-known binary (WKB) from untrusted files, before GEOS reads them."""

from __future__ import annotations

import struct
from typing import Any

SAFE_BYTES = 8192
"""A level takes 9 bytes. GEOS reads each within the one before, and ends the process at some 30,000."""
_DEEPEST = 32
"""As GDAL reads."""
_HAS_Z, _HAS_M, _HAS_SRID = 0x80000000, 0x40000000, 0x20000000
_POINT, _LINE, _POLYGON, _CIRCULAR = 1, 2, 3, 8


def is_nested(wkb: Any) -> bool:
    """Return True for WKB (any buffer) with geometries in each other more than 32 deep, or that is damaged.

    Short ones, which can't harm, are not read. Takes a microsecond for each part of others.
    """
    size = len(wkb)
    if size <= SAFE_BYTES:
        return False
    view, at, left = memoryview(wkb), 0, [1]
    try:
        while left:
            if not left[-1]:
                left.pop()
                continue
            left[-1] -= 1
            order = "<" if view[at] else ">"
            (code,) = struct.unpack_from(f"{order}I", view, at + 1)
            at += 9 if code & _HAS_SRID else 5
            kind, other = (code & 0xFFFF) % 1000, (code & 0xFFFF) // 1000
            values = 2 + bool(code & _HAS_Z or other in (1, 3)) + bool(code & _HAS_M or other in (2, 3))
            if kind == _POINT:
                at += 8 * values
                continue
            (count,) = struct.unpack_from(f"{order}I", view, at)
            at += 4
            if kind in (_LINE, _CIRCULAR):
                at += 8 * values * count
            elif kind == _POLYGON:
                for _ in range(count):
                    (vertices,) = struct.unpack_from(f"{order}I", view, at)
                    at += 4 + 8 * values * vertices
            else:
                left.append(count)
                if len(left) > _DEEPEST:
                    return True
    except (struct.error, IndexError):
        return True
    return False
