"""A teacher gives the class probabilities of its model; a model that does not fit is one clear line."""

import logging
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.special import expit, softmax

from pipeline.errors import BundleError
from pipeline.inference.teacher import Teacher, TeacherSettings

ROUNDING = 0.01
"""OpenVINO computes in bfloat16 where the processor has it."""
WEIGHTS = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]], np.float32)


def field(number: int, value: int | str | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def onnx_model(path: Path, weights: np.ndarray) -> str:
    """Write an ONNX model that multiplies every pixel's channels with weights (outputs, inputs)."""

    def image(name: str, channels: int) -> bytes:
        sizes = [field(2, "n"), field(1, channels), field(2, "h"), field(2, "w")]
        shape = b"".join(field(1, size) for size in sizes)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    outputs, inputs = weights.shape
    dimensions = b"".join(field(1, size) for size in (outputs, inputs, 1, 1))
    tensor = dimensions + field(2, 1) + field(8, "w") + field(9, weights.astype("<f4").tobytes())
    node = field(1, "x") + field(1, "w") + field(2, "y") + field(4, "Conv")
    graph = field(1, node) + field(2, "pixels") + field(5, tensor)
    graph += field(11, image("x", inputs)) + field(12, image("y", outputs))
    path.write_bytes(field(1, 8) + field(8, field(1, "") + field(2, 13)) + field(7, graph))
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return onnx_model(tmp_path_factory.mktemp("teacher") / "pixels.onnx", WEIGHTS)


def settings(model: str, **changes) -> TeacherSettings:
    values = {
        "model": model,
        "bands": ("B02", "B03"),
        "classes": ("water", "trees", "built"),
        "mean": (0.1, 0.2),
        "std": (0.05, 0.1),
    }
    return TeacherSettings(**{**values, **changes})


@pytest.fixture
def reflectance() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.01, 0.6, (3, 5, 7)).astype(np.float32)


def logits(image: np.ndarray) -> np.ndarray:
    return np.einsum("kc,chw->khw", WEIGHTS, image)


def test_probabilities_are_those_of_the_model_on_normalised_bands(model, reflectance):
    """Bands are taken by name, in any order; others are ignored."""
    got = Teacher(settings(model)).probabilities(reflectance, ("B03", "B12", "B02"))
    blue, green = reflectance[2], reflectance[0]
    expected = softmax(logits(np.stack([(blue - 0.1) / 0.05, (green - 0.2) / 0.1])), axis=0)
    np.testing.assert_allclose(got, expected, atol=ROUNDING)
    assert (got.dtype, got.shape) == (np.float32, (3, 5, 7))


def test_dynamic_worlds_transfer(model, reflectance):
    """Its notebook: the logarithm of digital numbers of 10000 x 0.005, then a sigmoid."""
    teacher = Teacher(settings(model, transfer="log_sigmoid", mean=(1.7, 2.0), std=(0.4, 0.5)))
    got = teacher.probabilities(reflectance[:2], ("B02", "B03"))
    scaled = np.log(reflectance[:2] * 10_000 * 0.005 + 1)
    image = expit((scaled - np.array([1.7, 2.0])[:, None, None]) / np.array([0.4, 0.5])[:, None, None])
    np.testing.assert_allclose(got, softmax(logits(image), axis=0), atol=ROUNDING)


def test_a_model_may_give_probabilities_itself(tmp_path, reflectance):
    model = onnx_model(tmp_path / "even.onnx", np.full((3, 2), 0.25, np.float32))
    teacher = Teacher(settings(model, mean=(0, 0), std=(1, 1), output="probabilities"))
    ones = np.ones_like(reflectance[:2])
    np.testing.assert_allclose(teacher.probabilities(ones, ("B02", "B03")), 0.5, atol=1e-6)


def test_missing_values_count_as_zero(model, reflectance):
    teacher, holed, zeros = Teacher(settings(model)), reflectance[:2].copy(), reflectance[:2].copy()
    holed[:, 2, 3], zeros[:, 2, 3] = np.nan, 0
    np.testing.assert_array_equal(
        teacher.probabilities(holed, ("B02", "B03")), teacher.probabilities(zeros, ("B02", "B03"))
    )


def test_a_painter_draws_reflectance_from_probabilities(model, tmp_path):
    painter = onnx_model(tmp_path / "painter.onnx", np.array([[1, 0, 0], [0, 0, 2]], np.float32))
    assert not Teacher(settings(model)).can_paint
    teacher = Teacher(settings(model, painter=painter))
    assert teacher.can_paint
    shares = np.array([0.5, 0.3, 0.2], np.float32)[:, None, None]
    drawn = teacher.paint(shares)
    np.testing.assert_allclose(drawn.ravel(), [0.5 * 0.05 + 0.1, 0.4 * 0.1 + 0.2], atol=ROUNDING)
    logarithmic = Teacher(settings(model, painter=painter, transfer="log_sigmoid"))
    expected = np.expm1(np.log([1.0, 0.4 / 0.6]) * [0.05, 0.1] + [0.1, 0.2]) / 50
    np.testing.assert_allclose(logarithmic.paint(shares).ravel(), expected, atol=ROUNDING)


def test_a_band_that_the_teacher_needs_is_named(model, reflectance):
    with pytest.raises(BundleError, match=r"needs band B03\. Received: B02, B04, B08"):
        Teacher(settings(model)).probabilities(reflectance, ("B02", "B04", "B08"))


def test_a_model_that_does_not_fit_is_refused(model, tmp_path):
    with pytest.raises(BundleError, match="not there: nowhere"):
        Teacher(settings("nowhere"))
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(BundleError, match="can't be read"):
        Teacher(settings(str(tmp_path / "text.onnx")))
    with pytest.raises(BundleError, match="the settings name 3 channels"):
        Teacher(settings(model, bands=("B02", "B03", "B04"), mean=(0, 0, 0), std=(1, 1, 1)))
    with pytest.raises(BundleError, match="the settings name 2 channels"):
        Teacher(settings(model, classes=("water", "trees")))


def test_settings_that_do_not_fit_each_other_are_refused(model):
    with pytest.raises(ValidationError, match="std has 1 numbers for 2 bands"):
        settings(model, std=(1,))
    with pytest.raises(ValidationError, match="std must be positive"):
        settings(model, std=(1, 0))
    assert settings(model).title == "pixels.onnx"
    assert settings(model, name="Pixels").title == "Pixels"


def test_a_teacher_silences_nobody(model):
    """OpenVINO's conversion sets the level of the root logger, and warnings of a run would be lost."""
    level = logging.getLogger().level
    Teacher(settings(model))
    assert logging.getLogger().level == level
