"""The instrument of chips: misregistration of bands."""

import numpy as np

from pipeline.simulation.chips.instrument import MAX_MISREGISTRATION_PX, observe

SIZE = 64


def test_bands_are_at_most_three_tenths_of_a_pixel_apart():
    ramp = np.tile(np.linspace(0.1, 0.4, SIZE, dtype=np.float32), (4, SIZE, 1))
    step = 0.3 / (SIZE - 1)
    for seed in range(30):
        seen = observe(np.random.default_rng(seed), ramp.copy(), 0.0)
        if len(np.unique(seen)) < 1000:
            continue  # in few bits
        inner = seen[:, 8:-8, 8:-8]
        slope = (inner[..., -1] - inner[..., 0]).mean(1) / (inner.shape[2] - 1)
        middle = inner.mean(axis=(1, 2))
        still = slope / step * 0.25
        if np.allclose(slope / step, middle / 0.25, atol=0.02):  # without haze, a shift is all that is left
            assert (np.abs(middle - still) / slope <= MAX_MISREGISTRATION_PX + 0.05).all()
