"""Input intervals along one axis, by hand."""

import math

import pytest

from pipeline.models.receptive_field.axis import Axis, Field

PIXEL = Axis((0.0,), (0.0,), 1)


def convolved(axis: Axis, kernel: int, stride: int = 1, padding: int = 0) -> Axis:
    return axis.gather(
        lambda o: range(o * stride - padding, o * stride - padding + kernel), forward=stride, every=1
    )


def test_two_convolutions_of_three_see_five():
    twice = convolved(convolved(PIXEL, 3, padding=1), 3, padding=1)
    assert (twice.receptive_field, twice.reach, twice.jump) == (5, (2, 2), 1)
    assert twice.interval(10) == (8, 12)


def test_a_stride_moves_on_and_covers_more():
    halved = convolved(PIXEL, 3, stride=2, padding=1)
    assert (halved.jump, halved.interval(5), halved.offset) == (2, (9, 11), 0.5)
    assert halved.reach == (1, 0)


def test_positions_between_taps_see_nothing():
    spread = PIXEL.gather(lambda o: [o // 2] if o % 2 == 0 else [], forward=1, every=2)
    assert spread.interval(4) == (2, 2)
    assert spread.interval(5) == (math.inf, -math.inf)
    assert spread.receptive_field == 1


def test_a_sum_sees_what_both_see_and_grids_must_agree():
    wide = convolved(PIXEL, 5, padding=2)
    assert PIXEL.join(wide).interval(7) == (5, 9)
    with pytest.raises(ValueError, match="2 in the other"):
        PIXEL.join(convolved(PIXEL, 3, stride=2))


def test_a_field_remembers_each_layer_that_sees_everything_once():
    field = Field(PIXEL, PIXEL).lost("pool").lost("pool").join(Field(None, None, ("norm",)))
    assert field.unbounded == ("pool", "norm")
    assert field.x == PIXEL
