import numpy as np
import pytest

from pipeline.models.bundle import Card
from pipeline.models.inputs import normalise

CARD = Card(
    id="two-bands",
    version="1",
    task="segmentation",
    architecture="unet",
    bands=("B02", "B08"),
    mean=(0.1, 0.3),
    std=(0.05, 0.1),
    classes=(),
    halo=0,
    stride=1,
)


def test_bands_are_centred_and_scaled_and_nodata_is_zero():
    reflectance = np.array([[[0.1, 0.2]], [[0.2, 0.0]]], np.float32)
    got = normalise(reflectance, np.array([[True, False]]), CARD)
    np.testing.assert_allclose(got.numpy(), [[[0.0, 0.0]], [[-1.0, 0.0]]], atol=1e-6)
    assert got.numpy().dtype == np.float32


def test_not_even_nan_leaks_out_of_pixels_without_data():
    reflectance = np.full((2, 1, 1), np.nan, np.float32)
    assert normalise(reflectance, np.zeros((1, 1), bool), CARD).abs().sum() == 0


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 4, 5)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="takes 2 bands"):
        normalise(np.zeros(shape, np.float32), np.ones((4, 4), bool), CARD)
