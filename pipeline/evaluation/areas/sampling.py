"""A stratified random sample of a land-cover map's pixels: how many of each class, and which.

Sizes and allocation follow section 5.1 of Olofsson et al., "Good practices for estimating area and assessing
accuracy of land change", Remote Sensing of Environment 148, 2014, and Cochran, "Sampling Techniques", 3rd
edition, 1977.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from odc.geo.geobox import GeoBox

from pipeline.errors import ConfigError, LabelsError
from pipeline.evaluation.landcover.accuracy import class_index, prediction_grid
from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.layers.polygonise.regions import read_strips
from pipeline.models.legend import LegendClass
from pipeline.scenes.raster.datasets import local_raster, open_raster

Allocation = Literal["mixed", "proportional", "equal"]
EXPECTED_ACCURACY = 0.8
"""User's accuracy that is expected of a class of which nothing is known."""
AT_LEAST = 50
"""Points of a rare class: the paper recommends 50 to 100."""
FEWEST = 2
"""Points of any class: a variance needs them."""


@dataclass(frozen=True)
class Sample:
    """Pixels of a map, drawn at random within each of its K classes."""

    legend: tuple[LegendClass, ...]
    grid: GeoBox
    pixels: NDArray[np.int64]
    """(K,): pixels of each class on the map, the strata."""
    rows: NDArray[np.int64]
    """(N,): of the pixels drawn, in random order, so that their order doesn't tell their class."""
    cols: NDArray[np.int64]
    stratum: NDArray[np.int64]
    """(N,): position in the legend of the class mapped there."""
    seed: int
    allocation: Allocation
    expected_accuracy: NDArray[np.float64]
    """(K,): user's accuracies that the size rests on."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def points(self) -> NDArray[np.int64]:
        """(K,): pixels drawn of each class."""
        return np.bincount(self.stratum, minlength=len(self.legend))

    @property
    def hectares(self) -> NDArray[np.float64]:
        """(K,): area of each stratum."""
        return self.pixels.astype(np.float64) * (abs(self.grid.affine.determinant) / 10_000)

    @property
    def xy(self) -> NDArray[np.float64]:
        """(N, 2): centres of the pixels drawn, in the map's CRS."""
        transform = self.grid.affine
        x, y = self.cols + 0.5, self.rows + 0.5
        return np.column_stack(
            [transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f]
        )

    @property
    def expected_error(self) -> float:
        """Standard error of the overall accuracy, if the classes are as accurate as expected."""
        there = self.pixels > 0
        weight = self.pixels[there] / self.pixels.sum()
        accuracy = self.expected_accuracy[there]
        return float(np.sqrt((weight**2 * accuracy * (1 - accuracy) / self.points[there]).sum()))


def sample_size(pixels: ArrayLike, expected_accuracy: ArrayLike, standard_error: float) -> int:
    """Points that give the overall accuracy a standard error (eq. 13; Cochran, 1977, eq. 5.25).

    `pixels` (K,) are those of each stratum, `expected_accuracy` (K,) the user's accuracies expected there.
    Like the variances of `areas.estimates` it ignores how few pixels a map may have.
    """
    strata, accuracy = np.asarray(pixels, dtype=np.float64), np.asarray(expected_accuracy, dtype=np.float64)
    spread = (strata / strata.sum() * np.sqrt(accuracy * (1 - accuracy))).sum()
    return max(1, math.ceil((spread / standard_error) ** 2))


def allocate(
    pixels: ArrayLike, size: int, how: Allocation = "mixed", at_least: int = AT_LEAST
) -> NDArray[np.int64]:
    """Return (K,) points of each stratum of `pixels`, (K,): `size` in total, never more than its pixels.

    `equal`: the same number in each; `proportional`: by area; `mixed`: by area, but at least `at_least` in
    each (or all of its pixels), which the paper advises: rare classes get a useful interval, and the overall
    accuracy hardly suffers. Every stratum gets at least two. Rounded by largest remainders.

    Raises
    ------
    ConfigError
        If `size` is less than the least in each stratum together, or more than there are pixels.
    """
    strata = np.asarray(pixels, dtype=np.int64)
    least = np.minimum(at_least if how == "mixed" else FEWEST, strata)
    least = np.maximum(least, np.minimum(FEWEST, strata))
    if not least.sum() <= size <= strata.sum():
        raise ConfigError(
            f"{size} points can't be shared out: {int((strata > 0).sum())} classes with at least "
            f"{int(least.max(initial=0))} points each need {int(least.sum())}, and there are "
            f"{int(strata.sum())} pixels."
        )
    share = (strata > 0).astype(np.float64) if how == "equal" else strata / strata.sum()
    # Between its bounds a stratum gets its share of a total that is found by halving.
    low, high = 0.0, float(strata.sum()) * len(strata)
    for _ in range(200):
        middle = (low + high) / 2
        if np.clip(middle * share, least, strata).sum() < size:
            low = middle
        else:
            high = middle
    exact = np.clip(high * share, least, strata)
    points = np.floor(exact + 1e-9).astype(np.int64)
    remainder = np.where(points < strata, exact - points, -np.inf)
    points[np.argsort(-remainder, kind="stable")[: size - int(points.sum())]] += 1
    return points


def draw_sample(
    landcover: Path | str,
    legend: Sequence[LegendClass],
    size: int | None = None,
    standard_error: float = 0.01,
    allocation: Allocation = "mixed",
    at_least: int = AT_LEAST,
    expected_accuracy: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Sample:
    """Draw pixels of a class raster at random, a number from each class; the same for the same seed.

    Without a `size` there are as many as give the overall accuracy a `standard_error`, if the classes have
    the user's accuracies `expected_accuracy` (by name; `EXPECTED_ACCURACY` for others), and what `allocate`
    asks for. The raster is read twice, by strips of rows: a granule takes less than 100 MB.

    Raises
    ------
    LabelsError
        If the raster can't be used: unreadable, without a projected CRS, without a class, or with values
        that aren't in the legend.
    ConfigError
        If the size can't be shared out, or an accuracy is of no class of the legend or isn't one.
    """
    grid = prediction_grid(landcover)
    if grid.crs is None or not grid.crs.projected:
        raise LabelsError(
            f"Pixels of {landcover} are of unequal area, since its CRS isn't projected. Bring it to a "
            "projected one, e.g. with gdalwarp -t_srs."
        )
    accuracy = _accuracies(legend, expected_accuracy or {})
    pixels = _pixels_by_class(landcover, legend)
    there = pixels > 0
    if size is None:
        least = np.minimum(at_least if allocation == "mixed" else FEWEST, pixels[there]).sum()
        size = max(sample_size(pixels[there], accuracy[there], standard_error), int(least))
        size = min(size, int(pixels.sum()))
    points = np.zeros(len(legend), dtype=np.int64)
    points[there] = allocate(pixels[there], size, allocation, at_least)
    rng = np.random.default_rng(seed)
    wanted = [
        np.sort(rng.choice(int(whole), int(some), replace=False, shuffle=False))
        for whole, some in zip(pixels, points, strict=True)
    ]
    flat = [np.array(part, dtype=np.int64) for part in _pixels_of_ranks(landcover, legend, wanted)]
    order = rng.permutation(size)
    rows, cols = np.divmod(np.concatenate(flat)[order], grid.width)
    stratum = np.repeat(np.arange(len(legend)), points)[order]
    return Sample(tuple(legend), grid, pixels, rows, cols, stratum, seed, allocation, accuracy)


def _accuracies(legend: Sequence[LegendClass], expected: Mapping[str, float]) -> NDArray[np.float64]:
    names = [item.name for item in legend]
    unknown = sorted(set(expected) - set(names))
    if unknown:
        raise ConfigError(f"Accuracies are expected of {', '.join(names)}. Received: {', '.join(unknown)}")
    wrong = {name: value for name, value in expected.items() if not 0 <= value <= 1}
    if wrong:
        raise ConfigError(f"An accuracy is from 0 to 1. Received: {wrong}")
    return np.array([expected.get(name, EXPECTED_ACCURACY) for name in names])


def _pixels_by_class(landcover: Path | str, legend: Sequence[LegendClass]) -> NDArray[np.int64]:
    counts = np.zeros(256, dtype=np.int64)
    for strip in _strips(landcover):
        counts += np.bincount(strip.ravel(), minlength=256)
    counts[UNLABELLED] = 0
    foreign = np.flatnonzero((counts > 0) & (class_index(legend) == len(legend)))
    if len(foreign):
        raise LabelsError(
            f"{landcover} holds values that are no class: {', '.join(map(str, foreign[:5]))}; expected "
            f"{min(item.value for item in legend)} to {max(item.value for item in legend)}, and 255 for none."
        )
    if not counts.any():
        raise LabelsError(f"{landcover} has no class anywhere, so there is nothing to draw from.")
    return counts[[item.value for item in legend]]


def _pixels_of_ranks(
    landcover: Path | str, legend: Sequence[LegendClass], wanted: Sequence[NDArray[np.int64]]
) -> list[list[int]]:
    """Return for each class the pixels, numbered row by row, with the wanted ranks in their class."""
    found: list[list[int]] = [[] for _ in legend]
    passed = np.zeros(len(legend), dtype=np.int64)
    first = 0
    for strip in _strips(landcover):
        values = strip.ravel()
        counts = np.bincount(values, minlength=256)[[item.value for item in legend]]
        for i, item in enumerate(legend):
            start, stop = np.searchsorted(wanted[i], [passed[i], passed[i] + counts[i]])
            if start < stop:
                places = np.flatnonzero(values == item.value)
                found[i] += (first + places[wanted[i][start:stop] - passed[i]]).tolist()
        passed += counts
        first += values.size
    return found


def _strips(landcover: Path | str) -> Iterator[NDArray[np.uint8]]:
    """Yield strips of rows, (h, W), with `UNLABELLED` for the raster's nodata value."""
    with open_raster(local_raster(landcover, "The land cover"), "The land cover") as source:
        for strip in read_strips(source):
            if source.nodata is not None:
                strip[strip == source.nodata] = UNLABELLED
            yield strip
