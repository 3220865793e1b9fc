"""Pairs of lines that are near each other."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

_MOST_PAIRS, _MOST_PAIRS_A_LINE = 1_000_000, 20
"""Pairs of near lines, and for each line, of which one must hold. Real networks have 3 to 8 for each."""
_PAIRS_AT_ONCE = 1_000_000
_SAMPLED_LINES, _SAMPLED_BOXES, _SAMPLED_PAIRS = 50, 5_000_000, 10_000


class TooManyError(Exception):
    """Pairs of lines that would take hours to compare."""


def near_lines(
    lines: NDArray[np.object_],
    metres: float,
    *kinds: NDArray[np.str_],
    places: NDArray[np.object_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of the same kinds: a line (or its place), and a line within some metres.

    Raises
    ------
    TooManyError
        If there are many times more than any network of roads has. Memory: 16 bytes each, in parts.
    """
    tree, codes = shapely.STRtree(lines), [np.unique(kind, return_inverse=True)[1] for kind in kinds]
    asked = lines if places is None else places
    left, step = max(_MOST_PAIRS, _MOST_PAIRS_A_LINE * len(lines)), max(_PAIRS_AT_ONCE // len(lines), 16)
    if _estimated_pairs(tree, asked, lines, metres) > 2 * left:
        raise TooManyError
    found = []
    for start in range(0, len(lines), step):
        one, other = tree.query(asked[start : start + step], predicate="dwithin", distance=metres)
        left -= len(one)
        if left < 0:
            raise TooManyError
        one += start
        same = np.logical_and.reduce([code[one] == code[other] for code in codes])
        found.append(np.stack([one[same], other[same]]))
    first, second = np.concatenate(found, axis=1)
    return first, second


def _estimated_pairs(
    tree: shapely.STRtree, asked: NDArray[np.object_], lines: NDArray[np.object_], metres: float
) -> float:
    """Estimate the pairs within some metres from a sample: exact distances take microseconds each."""
    rows = np.unique(
        np.linspace(0, len(asked) - 1, max(min(_SAMPLED_LINES, _SAMPLED_BOXES // len(lines)), 1)).astype(
            np.int64
        )
    )
    one, other = tree.query(asked[rows])
    if not len(one):
        return 0.0
    some = np.unique(np.linspace(0, len(one) - 1, _SAMPLED_PAIRS).astype(np.int64))
    near = shapely.dwithin(asked[rows[one[some]]], lines[other[some]], metres).mean()
    return float(near) * len(one) * len(asked) / len(rows)
