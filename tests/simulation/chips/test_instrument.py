"""The instrument of chips: misregistration of bands."""

import numpy as np

from pipeline.simulation.chips.instrument import MAX_MISREGISTRATION_PX, any_blur, any_noise, observe

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


def test_instruments_differ_in_noise_and_blur():
    rng = np.random.default_rng(0)
    noises, blurs = [any_noise(rng) for _ in range(50)], [any_blur(rng) for _ in range(50)]
    assert min(noises) >= 0.0008 and max(noises) <= 0.006
    means = [np.mean(list(blur.values())) for blur in blurs]
    assert 0.3 < min(means) < 0.45
    assert 0.55 < max(means) < 0.7
    assert max(max(blur.values()) - min(blur.values()) for blur in blurs) < 0.3
