"""What resembles a moving truck in chips."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.simulation.chips import lookalikes
from pipeline.simulation.chips.palette import any_world

SIZE = 64


def grey(level: float = 0.1) -> np.ndarray:
    return np.full((4, SIZE, SIZE), level, np.float32)


@pytest.mark.parametrize(
    "draw", [lookalikes.add_buildings, lookalikes.add_parked, lookalikes.add_train, lookalikes.add_aircraft]
)
def test_look_alikes_are_drawn(draw):
    rng = np.random.default_rng(1)
    changed = 0
    for _ in range(20):
        image = grey()
        draw(rng, image, any_world(rng))
        changed += bool(np.abs(image - 0.1).max() > 0.02)
    assert changed >= 12


def test_what_stands_is_at_one_place_in_every_band():
    image = grey(0.0)
    lookalikes._stand(image, any_world(np.random.default_rng(3)), (30.2, 20.7, 40.0), 1.6, 0.26, np.ones(4))
    for band in image:
        assert ndimage.center_of_mass(band) == pytest.approx(
            (20.2, 29.7), abs=0.02
        )  # pixel centres are at .5
