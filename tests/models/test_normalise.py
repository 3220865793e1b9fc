import numpy as np
import pytest

from pipeline.models.bundle import Card
from pipeline.models.normalise import normalise

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
    with pytest.raises(ValueError, match="takes B02, B08"):
        normalise(np.zeros(shape, np.float32), np.ones((4, 4), bool), CARD)


OPTIONAL = CARD.model_copy(update={"optional_bands": ("B08",)})


def test_an_optional_band_that_is_not_there_is_zero():
    reflectance = np.array([[[0.1, 0.2]]], np.float32)
    got = normalise(reflectance, np.ones((1, 2), bool), OPTIONAL, ("B02",))
    np.testing.assert_allclose(got.numpy(), [[[0.0, 2.0]], [[0.0, 0.0]]], atol=1e-6)


def test_any_optional_bands_may_be_missing():
    card = CARD.model_copy(
        update={
            "bands": ("B02", "B08", "B11"),
            "mean": (0.1, 0.3, 0.2),
            "std": (0.05, 0.1, 0.1),
            "optional_bands": ("B08", "B11"),
        }
    )
    got = normalise(np.array([[[0.2]], [[0.5]]], np.float32), np.ones((1, 1), bool), card, ("B02", "B11"))
    np.testing.assert_allclose(got.numpy().ravel(), [2.0, 0.0, 3.0], atol=1e-6)


def test_a_band_without_data_in_a_pixel_is_zero_there():
    reflectance = np.array([[[0.2, 0.2]], [[np.nan, 0.4]]], np.float32)
    got = normalise(reflectance, np.ones((1, 2), bool), OPTIONAL)
    np.testing.assert_allclose(got.numpy(), [[[2.0, 2.0]], [[0.0, 1.0]]], atol=1e-6)


def test_bands_are_taken_by_name():
    reflectance = np.array([[[0.4]], [[0.2]]], np.float32)
    got = normalise(reflectance, np.ones((1, 1), bool), CARD, ("B08", "B02"))
    np.testing.assert_allclose(got.numpy(), [[[2.0]], [[1.0]]], atol=1e-6)


def test_a_band_that_must_be_there_is_asked_for():
    with pytest.raises(ValueError, match="takes B02 and a mask"):
        normalise(np.zeros((1, 4, 4), np.float32), np.ones((4, 4), bool), OPTIONAL, ("B08",))
