"""Confidence intervals by drawing blocks of ground again: neighbours on the ground are not independent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
_DRAWS_AT_ONCE = 8_000_000

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Function from summed counts (R, ...) to figures for each of the R sums, (R,) or (R, S)."""


def block_bootstrap(
    counts: ArrayLike,
    statistic: Statistic,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    empty: int = 0,
) -> NDArray[np.float64]:
    """Percentile interval of a statistic of counts that were taken block by block: (2,) or (2, S), low, high.

    `counts` is (B, ...), those of each of B blocks, beside which there are `empty` ones that hold nothing.
    As many blocks are drawn with replacement `resamples` times and summed (Efron, "Bootstrap methods: another
    look at the jackknife", 1979; of blocks because of spatial dependence: Hall, "Resampling a coverage
    pattern", 1985). Draws for which the statistic is not defined are left out. NaN with fewer than two
    blocks: then nothing can be said. The same for the same arguments.
    """
    blocks = np.asarray(counts, dtype=np.float64)
    if len(blocks) + empty < 2:
        return np.full((2, *statistic(np.zeros((1, *blocks.shape[1:]))).shape[1:]), np.nan)
    sums = np.concatenate(
        [np.tensordot(draws, blocks, axes=1) for draws in block_draws(len(blocks), resamples, seed, empty)]
    )
    return percentile_interval(statistic(sums), level)


def block_draws(blocks: int, resamples: int, seed: int = 0, empty: int = 0) -> Iterator[NDArray[np.float64]]:
    """Yield how often each block is drawn, (r, blocks), some of all `resamples` at a time."""
    rng = np.random.default_rng(seed)
    total = blocks + empty
    chances = np.append(np.full(blocks, 1 / total), [empty / total] * (empty > 0))
    at_once = max(1, _DRAWS_AT_ONCE // max(1, blocks))
    for start in range(0, resamples, at_once):
        draws = rng.multinomial(total, chances, size=min(at_once, resamples - start))
        yield draws[:, :blocks].astype(np.float64)


def percentile_interval(values: NDArray[np.float64], level: float = 0.95) -> NDArray[np.float64]:
    """Return (2, ...): the interval with the share `level` of resampled metrics (R, ...); NaN without any."""
    tail = (1 - level) / 2
    defined = np.isfinite(values).any(axis=0)
    bounds = np.nanquantile(np.where(defined, values, 0.0), [tail, 1 - tail], axis=0)
    return np.where(defined, bounds, np.nan)


def ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """Quotient of arrays of one shape; NaN where `whole` isn't greater than 0."""
    below = np.asarray(whole, dtype=np.float64)
    result = np.full(below.shape, np.nan)
    return np.divide(np.asarray(part, dtype=np.float64), below, out=result, where=below > 0)
