"""Intervals of input pixels along one axis, periodic in the output position."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

Pair = tuple[int, int]


@dataclass(frozen=True)
class Axis:
    """Input pixels on which each position along one axis of a tensor depends.

    Position `i + len(low)` depends on the pixels of position `i`, moved by `step` input pixels. A phase
    without pixels (between the taps of a transposed convolution) has `low = inf`, `high = -inf`.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    """First and last input pixel, by phase."""
    step: int
    """Input pixels of one period; never decreases from layer to layer."""

    @property
    def jump(self) -> Fraction:
        """Return the input pixels from one position to the next."""
        return Fraction(self.step, len(self.low))

    @property
    def receptive_field(self) -> int:
        """Return the input pixels from the first to the last, for the largest phase."""
        return int(max(0, *(high - low + 1 for low, high in zip(self.low, self.high, strict=True))))

    @property
    def offset(self) -> float:
        """Return the middle of the pixels of position 0, from the image's edge (NaN without pixels)."""
        return (self.low[0] + self.high[0] + 1) / 2

    @property
    def reach(self) -> Pair:
        """Return the input pixels before and after a position's own, for the worst phase."""
        jump, before, after = self.jump, 0.0, 0.0
        for position, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            before = max(before, math.floor(position * jump) - low)
            after = max(after, high - (math.ceil((position + 1) * jump) - 1))
        return int(before), int(after)

    def interval(self, position: int) -> tuple[float, float]:
        """Return the first and last input pixel of `position`."""
        period, phase = divmod(position, len(self.low))
        return self.low[phase] + period * self.step, self.high[phase] + period * self.step

    def gather(self, taps: Callable[[int], Iterable[int]], forward: int, every: int) -> Axis:
        """Return the axis of a layer whose position `o` reads positions `taps(o)` of this one.

        `taps(o + every)` must be `taps(o)` moved by `forward`. Convolution, pooling, transposed convolution,
        interpolation, padding and slicing have this form.
        """
        repeats = len(self.low) // math.gcd(len(self.low), forward)
        seen = [[self.interval(tap) for tap in taps(position)] for position in range(every * repeats)]
        return Axis(
            tuple(min((low for low, _ in intervals), default=math.inf) for intervals in seen),
            tuple(max((high for _, high in intervals), default=-math.inf) for intervals in seen),
            self.step * forward * repeats // len(self.low),
        )

    def join(self, other: Axis) -> Axis:
        """Return the axis of a sum or concatenation of both; ValueError if their jumps differ."""
        if self.jump != other.jump:
            raise ValueError(
                f"one position is {self.jump} input pixels in one branch, {other.jump} in the other"
            )
        period = math.lcm(len(self.low), len(other.low))
        pairs = [(self.interval(i), other.interval(i)) for i in range(period)]
        return Axis(
            tuple(min(a[0], b[0]) for a, b in pairs),
            tuple(max(a[1], b[1]) for a, b in pairs),
            int(self.jump * period),
        )


@dataclass(frozen=True)
class Field:
    """Receptive field of a tensor's positions; an axis is None if positions have no place in the image."""

    y: Axis | None
    x: Axis | None
    unbounded: tuple[str, ...] = ()
    """Layers so far with an output that depends on the complete image."""
    dims: Pair = (-2, -1)
    """Dimensions of the tensor that are y and x."""

    def join(self, other: Field) -> Field:
        """Return the field of a sum or concatenation of both."""
        names = tuple(dict.fromkeys(self.unbounded + other.unbounded))
        y = self.y.join(other.y) if self.y and other.y else self.y or other.y
        x = self.x.join(other.x) if self.x and other.x else self.x or other.x
        return Field(y, x, names, self.dims if self.y or self.x else other.dims)

    def lost(self, layer: str) -> Field:
        """Return the field after a layer that depends on the complete image."""
        return replace(self, unbounded=tuple(dict.fromkeys((*self.unbounded, layer))))
