import pytest

from pipeline.labelling.formats.rotation import envelope


def test_a_right_angle_is_clockwise_on_the_image():
    # The right edge turns down: from the corner (0, 0), x becomes y, and y becomes -x.
    assert envelope((0, 0, 4, 2), 90, (0, 0)) == pytest.approx((-2, 0, 0, 4))
    assert envelope((0, 0, 4, 2), 0, (0, 0)) == (0, 0, 4, 2)
    assert envelope((0, 0, 2, 2), 45, (1, 1)) == pytest.approx(
        (1 - 2**0.5, 1 - 2**0.5, 1 + 2**0.5, 1 + 2**0.5)
    )
