"""A network of others that gives class probabilities, as a SavedModel or an ONNX file, run by OpenVINO."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import expit, softmax

from pipeline.errors import BundleError
from pipeline.inference.runtime import load_openvino
from pipeline.scenes.atmosphere import top_of_atmosphere
from pipeline.settings import Settings

Number = Annotated[float, Field(ge=-1e6, le=1e6)]


class TeacherSettings(Settings):
    """A teacher and its input: top-of-atmosphere reflectance of `bands`, normalised."""

    name: str = Field("", description="for the card; the model's name when not set")
    licence: str = Field("not stated", description="of the model, for the card")
    model: str = Field(description="folder of a SavedModel, or an ONNX file")
    painter: str | None = Field(
        None, description="model that draws normalised bands from class probabilities; null: none"
    )
    bands: tuple[str, ...] = Field(min_length=1, description="in the order of its input channels")
    classes: tuple[str, ...] = Field(min_length=2, description="names in the order of its output channels")
    transfer: Literal["linear", "log_sigmoid"] = Field(
        "linear",
        description="linear: (r - mean) / std; log_sigmoid: sigmoid((log(1 + log_scale r) - mean) / std)",
    )
    log_scale: float = Field(50.0, gt=0, le=1e6, description="of log_sigmoid, for reflectance of 0-1")
    mean: tuple[Number, ...] = Field(description="by band")
    std: tuple[Number, ...] = Field(description="by band")
    output: Literal["logits", "probabilities"] = "logits"

    @model_validator(mode="after")
    def _bands_fit(self) -> TeacherSettings:
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) != len(self.bands):
                raise ValueError(f"{name} has {len(numbers)} numbers for {len(self.bands)} bands")
        if min(self.std) <= 0:
            raise ValueError("std must be positive")
        return self

    @property
    def title(self) -> str:
        """Return its name in the card and in messages."""
        return self.name or Path(self.model).name


class Teacher:
    """A teacher that is ready to run; not for several threads at once."""

    def __init__(self, settings: TeacherSettings, threads: int = 1) -> None:
        """Open the model; takes a few seconds.

        Raises
        ------
        BundleError
            If a model can't be read, or its channels are not those of the settings.
        MissingExtraError
            If OpenVINO is not installed.
        """
        self.settings = settings
        bands, classes = len(settings.bands), len(settings.classes)
        self._forward, self._last = _opened(settings.model, bands, classes, threads)
        self._backward: Any = None
        if settings.painter:
            self._backward, self._paints_last = _opened(settings.painter, classes, bands, threads)
        columns = (np.array(values, np.float32)[:, None, None] for values in (settings.mean, settings.std))
        self._mean, self._std = columns

    @property
    def bands(self) -> tuple[str, ...]:
        """Return the bands that `probabilities` needs."""
        return self.settings.bands

    @property
    def can_paint(self) -> bool:
        """Return whether `paint` works."""
        return self._backward is not None

    def probabilities(self, reflectance: NDArray[np.float32], bands: Sequence[str]) -> NDArray[np.float32]:
        """Return class probabilities (K, H, W) of top-of-atmosphere reflectance (C, H, W) of `bands`.

        Bands that the teacher does not know are ignored. Values that are no number count as 0.

        Raises
        ------
        BundleError
            If a band of the teacher is not in `bands`.
        """
        missing = [band for band in self.bands if band not in bands]
        if missing:
            raise BundleError(
                f"The teacher {self.settings.title} needs band {', '.join(missing)}. "
                f"Received: {', '.join(bands)}."
            )
        image = np.nan_to_num(reflectance[[list(bands).index(band) for band in self.bands]], nan=0.0)
        if self.settings.transfer == "log_sigmoid":
            scaled = np.log1p(np.maximum(image, 0) * np.float32(self.settings.log_scale))
            image = expit((scaled - self._mean) / self._std)
        else:
            image = (image - self._mean) / self._std
        found = _run(self._forward, image, self._last)
        if self.settings.output == "logits":
            return np.asarray(softmax(found, axis=0), np.float32)
        return found

    def classes(
        self, reflectance: NDArray[np.float32], bands: Sequence[str], hazy: bool, haze: float = 1.0
    ) -> NDArray[np.uint8]:
        """Return the most probable class (H, W), an index of the settings' `classes`.

        Reflectance of the surface (not `hazy`) gets a model atmosphere first. Errors as `probabilities`.
        """
        image = reflectance if hazy else top_of_atmosphere(reflectance, bands, haze)
        return np.asarray(self.probabilities(image, bands).argmax(axis=0), np.uint8)

    def paint(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return reflectance (C, H, W) of `bands` that looks like these class probabilities (K, H, W)."""
        drawn = _run(self._backward, probabilities, self._paints_last)
        if self.settings.transfer == "log_sigmoid":
            drawn = np.clip(drawn, 1e-3, 1 - 1e-3)
            scaled = np.log(drawn / (1 - drawn)) * self._std + self._mean
            return np.asarray(np.expm1(scaled) / np.float32(self.settings.log_scale), np.float32)
        return np.asarray(drawn * self._std + self._mean, np.float32)


def _opened(path: str, inputs: int, outputs: int, threads: int) -> tuple[Any, bool]:
    """Compile a model; return it, and whether its channels are the last dimension."""
    if not Path(path).exists():
        raise BundleError(f"The teacher's model is not there: {path}")
    openvino = load_openvino()
    level = logging.getLogger().level
    try:
        model = openvino.convert_model(path, extension=[_halving(openvino)])
    except Exception as error:  # OpenVINO raises RuntimeError and others for what it can't read
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"The teacher's model can't be read: {path} ({reason}).") from error
    finally:
        logging.getLogger().setLevel(level)  # OpenVINO silences the warnings of all others
    if len(model.inputs) != 1 or len(model.outputs) != 1 or model.input().partial_shape.rank != 4:
        raise BundleError(f"The teacher's model must turn one image (N, C, H, W) into one map: {path}")
    last = _is(model.input().partial_shape[3], inputs)
    channels, found = (3 if last else 1), model.output().partial_shape
    if not last and not _is(model.input().partial_shape[1], inputs):
        raise BundleError(
            f"The teacher's model takes images of shape {model.input().partial_shape}, but the settings name "
            f"{inputs} channels: {path}"
        )
    if found.rank != 4 or not _is(found[channels], outputs):
        raise BundleError(
            f"The teacher's model gives maps of shape {found}, but the settings name {outputs} channels: "
            f"{path}"
        )
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    return openvino.Core().compile_model(model, "CPU", settings), last


def _is(size: Any, wanted: int) -> bool:
    return size.is_static and size.get_length() == wanted


def _run(model: Any, image: NDArray[np.float32], last: bool) -> NDArray[np.float32]:
    """Return the map (K, H, W) of an image (C, H, W), repeated at the border to even sides."""
    height, width = image.shape[1:]
    image = np.pad(image, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    if last:
        image = np.moveaxis(image, 0, -1)
    found = model(np.ascontiguousarray(image[None], np.float32))[0][0]
    return np.array(np.moveaxis(found, -1, 0) if last else found, np.float32)[:, :height, :width]


def _halving(openvino: Any) -> Any:
    """Return the conversion of TensorFlow's ScaleAndTranslate where it halves an image of even sides.

    OpenVINO has none. The kernel is a triangle of twice the step: 1 3 3 1 in each direction, and at the
    border the sum of what is there.
    """
    from openvino import opset13 as ops
    from openvino.frontend import ConversionExtension

    kernel = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64

    def halved(node: Any) -> list[Any]:
        image = node.get_input(0)
        channels = image.get_partial_shape()[3].get_length()

        def smooth(data: Any, count: int) -> Any:
            weights = ops.constant(np.broadcast_to(kernel, (count, 1, 1, 4, 4)).copy())
            return ops.group_convolution(data, weights, [2, 2], [1, 1], [1, 1], [1, 1])

        first = ops.transpose(image, ops.constant(np.array([0, 3, 1, 2])))
        one, zero = ops.constant(np.float32(1)), ops.constant(np.float32(0))
        single = ops.slice(first, *(ops.constant([value]) for value in (0, 1, 1, 1)))
        inside = smooth(ops.add(ops.multiply(single, zero), one), 1)
        result = ops.divide(smooth(first, channels), inside)
        return [ops.transpose(result, ops.constant(np.array([0, 2, 3, 1]))).output(0)]

    return ConversionExtension("ScaleAndTranslate", halved)
