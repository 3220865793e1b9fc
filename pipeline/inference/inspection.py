"""Inspection of a network at a place: kernels, feature maps, proposals and layers of a small window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.models.bundle import Bundle, Card
from pipeline.models.centernet2 import WINDOW_REACH_PX, TwoStageDetector
from pipeline.models.family import dense
from pipeline.models.fast_rcnn import ContextPool
from pipeline.models.halo import card_anatomy
from pipeline.models.normalise import normalise
from pipeline.models.registry import build_network
from pipeline.scenes.raster.read import read_pixels
from pipeline.scenes.scene import Scene
from pipeline.tiling import round_up

SEARCH_PX = 512
"""Side of the middle of the scene in which the strongest detection is searched."""
_SIDE_PX, _MOST_SIDE_PX = 128, 512


@dataclass(frozen=True)
class Convolution:
    """A convolution as it ran on the window, or on crops of it."""

    name: str
    kind: str
    """`convolution` or `transposed`."""
    kernel: int
    """The longer side K."""
    stride: int
    padding: int
    dilation: int
    inputs: int
    """Channels C_in."""
    outputs: int
    """Channels C_out."""
    groups: int
    input_side: int
    """Width I of the input."""
    output_side: int
    """Width O of the output."""
    parameters: int
    macs: int
    """Multiply-accumulate operations for the window."""
    receptive_field: int | None
    """Side in pixels of the scene; None for a layer that sees crops, or the complete image."""
    maps: NDArray[np.float32] | None
    """(C_out, H, W) output for the window, of a layer on crops for that nearest to the place; None without
    crops."""


@dataclass(frozen=True)
class Inspection:
    """A network at a place of a scene."""

    card: Card
    scene: Scene
    at: tuple[int, int]
    """Column and row of the place in the scene."""
    reason: str
    """Why it is this place."""
    origin: tuple[int, int]
    """Column and row of the window in the scene."""
    reflectance: NDArray[np.float32]
    """(B, S, S) of `bands`, 0 where not valid or beyond the scene."""
    valid: NDArray[np.bool_]
    bands: tuple[str, ...]
    kernels: NDArray[np.float32]
    """(C_out, C_in, K, K) weights of the first layer."""
    convolutions: tuple[Convolution, ...]
    """Layers in the order in which they ran."""
    proposals: NDArray[np.float64] | None
    """(N, 4) boxes in pixels of the window; None for a network without proposals."""
    rois: NDArray[np.float64] | None
    """(N, 4) parts of the window that the second stage sees of the proposals."""
    detections: NDArray[np.float64]
    """(N, 4) boxes with at least the threshold of the card."""

    @property
    def place(self) -> tuple[int, int]:
        """Column and row of the place in the window."""
        return self.at[0] - self.origin[0], self.at[1] - self.origin[1]


@torch.no_grad()  # not `inference_mode`, under which receptive fields can't be traced
def inspect_network(bundle: Bundle, scene: Scene, at: tuple[int, int] | None = None) -> Inspection:
    """Run a bundle's network on a window of the scene around `at` (column, row), and keep what it computes.

    Without `at` the place is the strongest detection in the middle `SEARCH_PX` pixels of the scene; without
    detections, or for another task, the middle of the scene. The window has 128 px a side, or the receptive
    field up to 512 px. All its feature maps are in memory: some 100 MB for a window of 128 px.

    Raises
    ------
    BundleError
        If the scene lacks a band of the network, has other pixels, or the network can't be built.
    ConfigError
        If the place is outside of the scene.
    CorruptImageError
        If a block can't be decoded.
    """
    card = bundle.card
    card.check_scene(tuple(scene.bands), abs(scene.grid.resolution.x), scene.id)
    rows, cols = scene.shape
    if at is not None and not (0 <= at[0] < cols and 0 <= at[1] < rows):
        raise ConfigError(
            f"--at {at[0]},{at[1]} is outside of {scene.id}, which has {cols} x {rows} pixels. "
            f"Choose a column from 0 to {cols - 1} and a row from 0 to {rows - 1}."
        )
    network = bundle.load_into(build_network(card)).eval()
    reason = "chosen by --at"
    if at is None:
        at, reason = _default_place(network, card, scene)
    side = round_up(min(max(_SIDE_PX, 2 * card.halo + 1), _MOST_SIDE_PX), card.stride)
    origin = _origin(at, side, card, scene)
    reflectance, valid, bands = _read(card, scene, origin, side)
    image = normalise(reflectance, valid, card, bands)[None]
    place = (at[0] - origin[0], at[1] - origin[1])
    watch = _Watch(network)
    maps = dense(network, image)
    regions = _regions(network, maps)
    found = network.detections(*maps)[0] if card.task == "detection" else None  # type: ignore[operator]
    watch.stop()
    proposals, rois = regions or (None, None)
    return Inspection(
        card,
        scene,
        at,
        reason,
        origin,
        reflectance,
        valid,
        bands,
        watch.kernels(),
        watch.convolutions(card, side, _nearest(rois, place)),
        proposals,
        rois,
        np.empty((0, 4)) if found is None else _counted(found, card),
    )


def _default_place(network: nn.Module, card: Card, scene: Scene) -> tuple[tuple[int, int], str]:
    """Return the strongest detection in the middle of the scene, or the middle; and why."""
    rows, cols = scene.shape
    middle = cols // 2, rows // 2
    if card.task != "detection":
        return middle, "the middle of the scene"
    side = round_up(min(SEARCH_PX, max(rows, cols)), card.stride)
    left, top = _origin(middle, side, card, scene)
    reflectance, valid, bands = _read(card, scene, (left, top), side)
    maps = dense(network, normalise(reflectance, valid, card, bands)[None])
    (found,) = network.detections(*maps)  # type: ignore[operator]
    if not len(found["scores"]):
        return middle, "the middle of the scene, without a detection near it"
    x0, y0, x1, y1 = found["boxes"][found["scores"].argmax()].tolist()
    col, row = left + int((x0 + x1) / 2), top + int((y0 + y1) / 2)
    score = float(found["scores"].max())
    return (min(col, cols - 1), min(row, rows - 1)), (
        f"the strongest detection in the middle {side} px of the scene, with a score of {score:.2f} before "
        "calibration"
    )


def _origin(at: tuple[int, int], side: int, card: Card, scene: Scene) -> tuple[int, int]:
    """Return column and row of a window around a place, multiples of the stride, inside if it fits."""

    def start(middle: int, length: int) -> int:
        first = max(0, min(middle - side // 2, length - side))
        return first // card.stride * card.stride

    rows, cols = scene.shape
    return start(at[0], cols), start(at[1], rows)


def _read(
    card: Card, scene: Scene, origin: tuple[int, int], side: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[str, ...]]:
    """Return reflectance (B, S, S), valid pixels (S, S) and the bands of a window; 0 beyond the scene."""
    (left, top), (rows, cols) = origin, scene.shape
    height, width = min(side, rows - top), min(side, cols - left)
    bands = card.bands_used(scene.bands)
    pixels = read_pixels(scene, Window(left, top, width, height), bands)
    beyond = (0, side - height), (0, side - width)
    return np.pad(pixels.reflectance, ((0, 0), *beyond)), np.pad(pixels.valid, beyond), bands


def _regions(
    network: nn.Module, maps: tuple[Tensor, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return proposals and the regions that the second stage sees, (N, 4) each; None without a stage."""
    if not hasattr(network, "proposals"):
        return None
    (proposals,) = network.proposals(*maps)  # type: ignore[operator]
    seen = proposals
    if isinstance(network, TwoStageDetector):
        seen = proposals + WINDOW_REACH_PX * torch.tensor([-1, -1, 1, 1])
    elif isinstance(pool := getattr(getattr(network, "roi_heads", None), "box_roi_pool", None), ContextPool):
        seen = pool.widened(proposals, (int(maps[0].shape[1]), int(maps[0].shape[2])))
    return proposals.double().numpy(), seen.double().numpy()


def _nearest(boxes: NDArray[np.float64] | None, place: tuple[int, int]) -> int | None:
    if boxes is None or not len(boxes):
        return None
    off = (boxes[:, :2] + boxes[:, 2:]) / 2 - (np.array(place) + 0.5)
    return int(np.hypot(*off.T).argmin())


def _counted(found: dict[str, Tensor], card: Card) -> NDArray[np.float64]:
    threshold = card.default_threshold(near_roads=False)
    scores = found["scores"].double().numpy()
    chances = np.array([card.calibration.probability(float(score), 0.0) for score in scores])
    boxes: NDArray[np.float64] = found["boxes"].double().numpy()[chances >= threshold]
    return boxes


class _Watch:
    """Recorder of all convolutions of a network, by forward hooks, in the order of their first run."""

    def __init__(self, network: nn.Module) -> None:
        self._runs: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._modules: dict[str, Any] = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        }
        self._hooks = [
            module.register_forward_hook(
                lambda _module, given, output, name=name: self._runs.setdefault(name, []).append(
                    (given[0], output.clone())  # later layers may write into it
                )
            )
            for name, module in self._modules.items()
        ]

    def stop(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    def kernels(self) -> NDArray[np.float32]:
        """Return the weights of the layer that ran first; if none ran, of the network's first."""
        name = next(iter(self._runs), next(iter(self._modules)))
        weights: NDArray[np.float32] = self._modules[name].weight.detach().float().numpy()
        return weights

    def convolutions(self, card: Card, side: int, nearest: int | None) -> tuple[Convolution, ...]:
        """Return the layers that ran; of those on crops the maps of the crop with the number `nearest`."""
        fields = {layer.name: layer.receptive_field for layer in card_anatomy(card, side).layers}
        return tuple(
            _convolution(name, self._modules[name], runs, fields.get(name), name in fields, nearest)
            for name, runs in self._runs.items()
        )


def _convolution(
    name: str,
    module: Any,
    runs: list[tuple[Tensor, Tensor]],
    field: tuple[int, int] | None,
    is_dense: bool,
    nearest: int | None,
) -> Convolution:
    given, output = runs[0]
    kernel, stride, dilation = (
        int(max(sides)) for sides in (module.kernel_size, module.stride, module.dilation)
    )
    outputs = torch.cat([one for _, one in runs]) if not is_dense else output
    number = 0 if is_dense else nearest
    size = math.prod(module.kernel_size) * module.in_channels * module.out_channels // module.groups
    transposed = isinstance(module, nn.ConvTranspose2d)
    places = sum((one if transposed else made)[:, 0].numel() for one, made in runs)
    return Convolution(
        name=name,
        kind="transposed" if transposed else "convolution",
        kernel=kernel,
        stride=stride,
        padding=_padding(module, kernel, dilation),
        dilation=dilation,
        inputs=module.in_channels,
        outputs=module.out_channels,
        groups=module.groups,
        input_side=int(given.shape[-1]),
        output_side=int(output.shape[-1]),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        macs=size * places,
        receptive_field=max(field) if field else None,
        maps=None if number is None or number >= len(outputs) else outputs[number].float().numpy(),
    )


def _padding(module: Any, kernel: int, dilation: int) -> int:
    if isinstance(module.padding, str):
        return dilation * (kernel - 1) // 2 if module.padding == "same" else 0
    return int(max(module.padding))
