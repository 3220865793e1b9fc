"""What a network can see: output sizes, receptive fields, parameters and work, layer by layer.

The network runs once on a tensor without storage (PyTorch's `meta` device) and every operation is watched,
so skip connections, functional calls and any control flow are followed as they are. For each tensor we keep
which input pixels a position depends on, as if the image had no border; that is periodic in the position,
so it is exact for every phase of strided, transposed and interpolating layers. An operation that is not
known to be local counts as seeing everything: a halo is either right or not given.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from pipeline.errors import BundleError
from pipeline.models.bundle import Card
from pipeline.models.detector import build_detector
from pipeline.models.screener import build_screener
from pipeline.models.segmenter import build_segmenter
from pipeline.models.single_stage import PixelHead, SingleStageDetector
from pipeline.tiling import round_up

log = logging.getLogger(__name__)

Pair = tuple[int, int]

BOX_REACH = 8
"""Pixels that a detection reaches beyond what its place sees: half a box and its rivals' other half."""
_CHEAP_HALO = {"detection": 64, "segmentation": 128, "screening": 64}
_EXAMPLE_SIDE = 128


@dataclass(frozen=True)
class Axis:
    """The input pixels that each position along one axis of a tensor depends on.

    Position `i + len(low)` sees what position `i` sees, `step` input pixels further on. A phase that sees
    nothing (between the taps of a transposed convolution) has `low = inf`, `high = -inf`.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    """First and last input pixel, by phase."""
    step: int
    """Input pixels by which one period moves on; never shrinks from layer to layer."""

    @property
    def jump(self) -> Fraction:
        """Input pixels from one position to the next."""
        return Fraction(self.step, len(self.low))

    @property
    def receptive_field(self) -> int:
        """Input pixels from the first to the last one seen, for the phase that sees most."""
        return int(max(0, *(high - low + 1 for low, high in zip(self.low, self.high, strict=True))))

    @property
    def offset(self) -> float:
        """Middle of what position 0 sees, in pixels from the image's edge (NaN if it sees nothing)."""
        return (self.low[0] + self.high[0] + 1) / 2

    @property
    def reach(self) -> Pair:
        """Input pixels seen before and after those that a position itself covers, for the worst phase."""
        jump, before, after = self.jump, 0.0, 0.0
        for position, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            before = max(before, math.floor(position * jump) - low)
            after = max(after, high - (math.ceil((position + 1) * jump) - 1))
        return int(before), int(after)

    def interval(self, position: int) -> tuple[float, float]:
        """First and last input pixel that `position` sees."""
        period, phase = divmod(position, len(self.low))
        return self.low[phase] + period * self.step, self.high[phase] + period * self.step

    def gather(self, taps: Callable[[int], Iterable[int]], forward: int, every: int) -> Axis:
        """The axis of a layer whose position `o` reads positions `taps(o)` of this one.

        `taps(o + every)` must be `taps(o)` moved by `forward`: convolution, pooling, transposed convolution,
        interpolation, padding and slicing are all of this form.
        """
        repeats = len(self.low) // math.gcd(len(self.low), forward)
        seen = [[self.interval(tap) for tap in taps(position)] for position in range(every * repeats)]
        return Axis(
            tuple(min((low for low, _ in intervals), default=math.inf) for intervals in seen),
            tuple(max((high for _, high in intervals), default=-math.inf) for intervals in seen),
            self.step * forward * repeats // len(self.low),
        )

    def join(self, other: Axis) -> Axis:
        """The axis of a sum or concatenation of both; ValueError if their jumps differ."""
        if self.jump != other.jump:
            raise ValueError(f"one position is {self.jump} input pixels in one and {other.jump} in the other")
        period = math.lcm(len(self.low), len(other.low))
        pairs = [(self.interval(i), other.interval(i)) for i in range(period)]
        return Axis(
            tuple(min(a[0], b[0]) for a, b in pairs),
            tuple(max(a[1], b[1]) for a, b in pairs),
            int(self.jump * period),
        )


@dataclass(frozen=True)
class Field:
    """What a tensor's positions see. An axis is None once positions have lost their place in the image."""

    y: Axis | None
    x: Axis | None
    unbounded: tuple[str, ...] = ()
    """Layers on the way here whose output depends on the whole image."""
    dims: Pair = (-2, -1)
    """Dimensions of the tensor that are y and x."""

    def join(self, other: Field) -> Field:
        """The field of a sum or concatenation of both."""
        names = tuple(dict.fromkeys(self.unbounded + other.unbounded))
        y = self.y.join(other.y) if self.y and other.y else self.y or other.y
        x = self.x.join(other.x) if self.x and other.x else self.x or other.x
        return Field(y, x, names, self.dims if self.y or self.x else other.dims)

    def lost(self, layer: str) -> Field:
        """The same after a layer that sees everything."""
        return replace(self, unbounded=tuple(dict.fromkeys((*self.unbounded, layer))))


@dataclass(frozen=True)
class Layer:
    """One layer as it was run; a layer run on several pyramid levels appears once for each."""

    name: str
    kind: str
    kernel: Pair | None
    stride: Pair | None
    padding: Pair | None
    dilation: Pair | None
    output: tuple[int, ...]
    """Shape without the batch."""
    parameters: int
    """Of this layer; 0 when it runs again."""
    macs: int
    """Multiply-accumulate operations for the example."""
    receptive_field: Pair | None
    """(height, width) in input pixels, of the phase that sees most; None where it is the whole image."""
    jump: tuple[Fraction, Fraction] | None
    """(y, x) input pixels from one position to the next."""
    offset: tuple[float, float] | None
    """(y, x) of the middle of what the first position sees, in pixels from the image's corner."""


@dataclass(frozen=True)
class Anatomy:
    """What a network can see, and what it costs."""

    input: tuple[int, ...]
    """Shape of the example, without the batch."""
    layers: tuple[Layer, ...]
    outputs: tuple[Field, ...]
    parameters: int

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations for the example."""
        return sum(layer.macs for layer in self.layers)

    @property
    def unbounded(self) -> tuple[str, ...]:
        """Layers that make an output depend on the whole image."""
        return tuple(dict.fromkeys(name for field in self.outputs for name in field.unbounded))

    @property
    def stride(self) -> int:
        """Total stride in input pixels: moving the image by it moves everything inside without a change."""
        return math.lcm(*(axis.step for axis in self._axes()))

    @property
    def reach(self) -> tuple[int, int, int, int] | None:
        """Input pixels seen to the left, right, up and down of an output's own; None if all of them."""
        if self.unbounded:
            return None
        across = [field.x.reach for field in self.outputs if field.x]
        along = [field.y.reach for field in self.outputs if field.y]
        return (
            max(before for before, _ in across),
            max(after for _, after in across),
            max(before for before, _ in along),
            max(after for _, after in along),
        )

    @property
    def halo(self) -> int | None:
        """The reach rounded up to the stride: what a tile must add around its core. None if unbounded."""
        return None if self.reach is None else round_up(max(self.reach), self.stride)

    @property
    def receptive_field(self) -> Pair | None:
        """(height, width) of the largest receptive field of an output; None if it is the whole image."""
        if self.unbounded:
            return None
        return (
            max(field.y.receptive_field for field in self.outputs if field.y),
            max(field.x.receptive_field for field in self.outputs if field.x),
        )

    def to_table(self) -> list[dict[str, str]]:
        """One row a layer, every cell as text."""
        return [
            {
                "layer": layer.name or "(network)",
                "kind": layer.kind,
                "kernel": _times(layer.kernel),
                "stride": _times(layer.stride),
                "padding": _times(layer.padding),
                "dilation": _times(layer.dilation),
                "output": _times(layer.output),
                "parameters": f"{layer.parameters:,}" if layer.parameters else "",
                "MMACs": f"{layer.macs / 1e6:,.1f}" if layer.macs else "",
                "receptive field": _times(layer.receptive_field) or "all",
                "jump": _times(layer.jump),
                "offset": _times(layer.offset),
            }
            for layer in self.layers
        ]

    def _axes(self) -> Iterator[Axis]:
        return (axis for field in self.outputs for axis in (field.y, field.x) if axis)


def anatomy(module: nn.Module, example_shape: tuple[int, ...]) -> Anatomy:
    """The anatomy of `module` at inference, for an image of `example_shape`: (C, H, W) or (N, C, H, W).

    All tensors that the module returns (in tuples, lists or dictionaries too) count as outputs. The module
    is copied to the `meta` device and run there: nothing is computed and nothing of it changes. H and W
    should be multiples of the total stride, as tiles are. Receptive field arithmetic after Araujo, Norris
    and Sim, "Computing Receptive Fields of Convolutional Neural Networks" (Distill, 2019), carried further
    to layers whose positions differ by phase.

    Raises
    ------
    ValueError
        If the shape is not that of an image or stack of images, if two branches meet with different strides
        (H or W is no multiple of the total stride), or if no output depends on the image.
    """
    if len(example_shape) not in {3, 4} or min(example_shape) < 1:
        raise ValueError(
            f"An example is (C, H, W) or (N, C, H, W), all positive. Received: {tuple(example_shape)}"
        )
    network = copy.deepcopy(module).to("meta").eval()
    image = torch.empty(
        example_shape if len(example_shape) == 4 else (1, *example_shape),
        dtype=next((parameter.dtype for parameter in network.parameters()), torch.float32),
        device="meta",
    )
    watch = _Watch(network, image)
    with torch.no_grad(), watch:
        result = network(image)
    outputs = tuple(field for tensor in _tensors(result) if (field := watch.field(tensor)))
    if not outputs:
        raise ValueError("None of the network's outputs could be traced back to its input.")
    if watch.hidden:
        outputs = tuple(replace(field, unbounded=field.unbounded + watch.hidden) for field in outputs)
    total = sum(parameter.numel() for parameter in module.parameters())
    return Anatomy(tuple(image.shape[1:]), tuple(watch.layers), outputs, total)


def card_anatomy(card: Card, side: int = 256) -> Anatomy:
    """The anatomy of the network that a model card describes, for a tile of `side` pixels.

    Of a detector it is that of its dense part, from the image to the region proposals; boxes are then
    pooled and judged on their own, and reach half a box further. BundleError if the card can't be built.
    """
    build: Callable[[Card], nn.Module] = {
        "detection": lambda card: DensePart(build_detector(card)),
        "segmentation": build_segmenter,
        "screening": build_screener,
    }[card.task]
    network = build(card)
    return anatomy(network, (len(card.bands), side, side))


def with_halo(card: Card) -> Card:
    """The card with the halo and stride of its network; a halo that costs much is told in the log.

    A detector's halo also holds `BOX_REACH`: half a box, and the boxes that it competes with.

    Raises
    ------
    BundleError
        If a layer looks at the whole image: then no halo makes a tile equal the scene.
    """
    seen = card_anatomy(card, _EXAMPLE_SIDE)
    if seen.reach is None:
        layers = ", ".join(name or "the network itself" for name in seen.unbounded[:3])
        more = f" and {len(seen.unbounded) - 3} more" if len(seen.unbounded) > 3 else ""
        raise BundleError(
            f"Model {card.id} can't be cut into tiles: in its {card.architecture} these layers look at the "
            f"whole image: {layers}{more}. Choose one without squeeze-and-excitation, attention, global "
            "pooling, and norms over space."
        )
    reach = max(seen.reach) + (BOX_REACH if card.task == "detection" else 0)
    halo, cheap = round_up(reach, seen.stride), _CHEAP_HALO[card.task]
    if halo > cheap:
        log.warning(
            "Model %s needs a halo of %d px, more than the %d px that are cheap: tiles stay exact, but take "
            "longer. A smaller depth helps.",
            card.id,
            halo,
            cheap,
        )
    return card.model_copy(update={"halo": halo, "stride": seen.stride})


class DensePart(nn.Module):
    """All of a detector that slides over the image: backbone, and region proposal or pixel head."""

    def __init__(self, detector: GeneralizedRCNN | SingleStageDetector) -> None:
        super().__init__()
        self.backbone = detector.backbone
        self.head = detector.head if isinstance(detector, SingleStageDetector) else detector.rpn.head

    def forward(self, images: Tensor) -> tuple[Tensor | list[Tensor], ...]:
        """Scores, boxes (and centre-ness) by place and pyramid level, of normalised images (N, C, H, W)."""
        features = self.backbone(images)
        levels = list(features.values()) if isinstance(features, Mapping) else [features]
        return self.head.maps(levels[0]) if isinstance(self.head, PixelHead) else self.head(levels)


class _Watch(TorchDispatchMode):
    """Sees every ATen operation of a run and carries the fields of its inputs to its outputs."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        super().__init__()
        pixel = Axis((0.0,), (0.0,), 1)
        # Tensors are kept alive with their fields, so that no id is ever used twice; on `meta` that is free.
        self._fields: dict[int, tuple[Tensor, Field]] = {id(image): (image, Field(pixel, pixel))}
        self._counted: set[int] = set()
        self._inside = [""]
        self._modules = dict(network.named_modules())
        self.layers: list[Layer] = []
        self.hidden: tuple[str, ...] = ()
        """Layers that wrote what depends on the image into a tensor whose other views we can't follow."""
        for name, module in self._modules.items():
            module.register_forward_pre_hook(lambda _module, _args, name=name: self._inside.append(name))
            module.register_forward_hook(lambda _module, _args, _result: self._leave())

    def _leave(self) -> None:
        self._inside.pop()

    def field(self, tensor: Tensor) -> Field | None:
        """What is known of a tensor; None if it doesn't depend on the image."""
        return self._fields[id(tensor)][1] if id(tensor) in self._fields else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = _bind(func, args, kwargs or {})
        inputs = [tensor for tensor in _tensors(given) if id(tensor) in self._fields]
        target = next(_tensors(given), None)
        before = self.field(target) if target is not None else None
        result = func(*args, **(kwargs or {}))
        if inputs:
            outputs = list(_tensors(result))
            field = self._carry(func, given, inputs, outputs)
            if func._schema.is_mutable and target is not None and _is_part(target) and field != before:
                self.hidden = tuple(dict.fromkeys((*self.hidden, self._inside[-1])))
            for tensor in outputs:
                self._fields[id(tensor)] = (tensor, field)
        return result

    def _carry(self, func: Any, given: dict[str, Any], inputs: list[Tensor], outputs: list[Tensor]) -> Field:
        """The field of an operation's outputs; a row for every layer that has geometry or parameters."""
        name = self._inside[-1]
        kind = func.overloadpacket.__name__.strip("_")
        fields = [self._fields[id(tensor)][1] for tensor in inputs]
        step: Operation | None = None
        try:
            joined = fields[0]
            for field in fields[1:]:
                joined = joined.join(field)
        except ValueError as error:
            raise ValueError(
                f"Branches of {name or 'the network'} meet with different strides ({error}): give an example "
                "whose sides are multiples of the total stride."
            ) from error
        aligned = len({field.dims for field in fields if field.y and field.x}) <= 1
        if aligned and torch.Tag.pointwise in func.tags:
            spread = any(map(_is_spread, inputs, fields, outputs * len(inputs)))
            after = joined.lost(name) if spread else joined
        elif aligned and (rule := _RULES.get(kind)):
            step = rule(Call(given, inputs, outputs[0], joined.dims))
            kind = step.kind or kind
            after = step.apply(joined, name)
        else:
            after = _UNKNOWN.apply(joined, name)
        parameters = self._new_parameters(name)
        is_layer = bool(step and step.kind) or len(inputs) > 1 or after.unbounded != joined.unbounded
        if is_layer or parameters:
            self.layers.append(_layer(name, kind, step, outputs[0], parameters, after))
        return after

    def _new_parameters(self, name: str) -> int:
        own = {
            id(parameter): parameter.numel() for parameter in self._modules[name].parameters(recurse=False)
        }
        new = own.keys() - self._counted
        self._counted |= new
        return sum(own[key] for key in new)


@dataclass(frozen=True)
class Operation:
    """How an operation moves and widens what its input sees."""

    kind: str = ""
    """Its name as a layer; empty for those that only rearrange."""
    gathers: tuple[tuple[Callable[[int], Iterable[int]], int, int], ...] = ()
    """For y and x: arguments of `Axis.gather`. Needs y and x as the last dimensions."""
    dims: Pair | None = None
    """Where y and x are afterwards, if that changes."""
    everything: bool = False
    """Every position sees the whole image."""
    displaced: bool = False
    """So it is, and positions have lost their place in the image."""
    kernel: Pair | None = None
    stride: Pair | None = None
    padding: Pair | None = None
    dilation: Pair | None = None
    macs: int = 0

    def apply(self, field: Field, layer: str) -> Field:
        """The field afterwards."""
        elsewhere = self.gathers and field.dims != (-2, -1) and field.y and field.x
        if self.displaced or elsewhere:
            return replace(field.lost(layer), y=None, x=None)
        if self.everything:
            field = field.lost(layer)
        if self.gathers:
            along, across = self.gathers
            field = replace(
                field, y=field.y and field.y.gather(*along), x=field.x and field.x.gather(*across)
            )
        return replace(field, dims=self.dims or field.dims)


_UNKNOWN = Operation(displaced=True)


@dataclass(frozen=True)
class Call:
    """One operation as it was called, and what became of it."""

    given: dict[str, Any]
    """Arguments by the names of the operator's schema."""
    inputs: list[Tensor]
    """Those of them that depend on the image."""
    output: Tensor
    dims: Pair
    """Which dimensions of the inputs are y and x, counted from the last."""

    @property
    def image(self) -> Tensor:
        """The first input."""
        return self.inputs[0]

    def space_in(self, dims: int | Sequence[int] | None) -> set[int]:
        """Which of these dimensions are y or x; all dimensions are meant by None or an empty list."""
        listed = [dims] if isinstance(dims, int) else dims or range(self.image.ndim)
        return {dim % self.image.ndim - self.image.ndim for dim in listed} & set(self.dims)


Rule = Callable[[Call], Operation]


def _convolution(call: Call) -> Operation:
    weight: Tensor = call.given["weight"]
    if weight.ndim != 4 or len(call.inputs) > 1 or weight is call.image:  # 3-d, or weights from the image
        return Operation("convolution", displaced=True)
    kernel = (weight.shape[2], weight.shape[3])
    stride, padding, dilation = (_pair(call.given[key]) for key in ("stride", "padding", "dilation"))
    window = _transposed_window if call.given["transposed"] else _window
    return Operation(
        "transposed conv" if call.given["transposed"] else "conv",
        tuple(window(*sizes) for sizes in zip(kernel, stride, padding, dilation, strict=True)),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        macs=(call.image if call.given["transposed"] else call.output).numel() * math.prod(weight.shape[1:]),
    )


def _pool(call: Call) -> Operation:
    kernel, padding, dilation = (
        _pair(call.given.get(key) or default)
        for key, default in (("kernel_size", 1), ("padding", 0), ("dilation", 1))
    )
    stride = _pair(call.given.get("stride") or kernel)
    return Operation(
        "max pool" if "dilation" in call.given else "average pool",
        tuple(_window(*sizes) for sizes in zip(kernel, stride, padding, dilation, strict=True)),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
    )


def _window(kernel: int, stride: int, padding: int, dilation: int) -> tuple[Any, int, int]:
    return (
        lambda o: range(o * stride - padding, o * stride - padding + kernel * dilation, dilation),
        stride,
        1,
    )


_STAY = _window(1, 1, 0, 1)


def _transposed_window(kernel: int, stride: int, padding: int, dilation: int) -> tuple[Any, int, int]:
    def taps(o: int) -> list[int]:
        reached = (o + padding - dilation * tap for tap in range(kernel))
        return [place // stride for place in reached if place % stride == 0]

    return taps, 1, stride


def _interpolation(kind: str, taps: Callable[[int, Fraction], Iterable[int]]) -> Rule:
    def rule(call: Call) -> Operation:
        if call.given.get("align_corners") and call.image.shape[-2:] != call.output.shape[-2:]:
            # Positions then depend on the size of the image, so a tile is never a part of the whole.
            return Operation(f"{kind}, corners aligned", displaced=True)
        factors = call.given.get("scale_factors") or (call.given.get("scales_h"), call.given.get("scales_w"))
        gathers = []
        for axis, factor in zip((-2, -1), factors, strict=True):
            scale = Fraction(call.image.shape[axis], call.output.shape[axis])
            if factor:  # PyTorch then uses it even where the output's size was rounded.
                scale = 1 / Fraction(factor).limit_denominator(4096)
            gathers.append((_scaled(taps, scale), scale.numerator, scale.denominator))
        return Operation(kind, tuple(gathers))

    return rule


def _scaled(
    taps: Callable[[int, Fraction], Iterable[int]], scale: Fraction
) -> Callable[[int], Iterable[int]]:
    return lambda o: taps(o, scale)


def _nearest(o: int, scale: Fraction) -> Iterable[int]:
    return (math.floor(o * scale),)


def _nearest_exact(o: int, scale: Fraction) -> Iterable[int]:
    return (math.floor((o + Fraction(1, 2)) * scale),)


def _linear(o: int, scale: Fraction) -> Iterable[int]:
    place = (o + Fraction(1, 2)) * scale - Fraction(1, 2)
    return range(math.floor(place), math.ceil(place) + 1)


def _cubic(o: int, scale: Fraction) -> Iterable[int]:
    place = (o + Fraction(1, 2)) * scale - Fraction(1, 2)
    return range(math.floor(place) - 1, math.floor(place) + 3) if place.denominator > 1 else (int(place),)


def _pad(call: Call) -> Operation:
    pad = call.given.get("pad", call.given.get("padding"))
    left, _, top, _ = (*(pad or ()), 0, 0, 0, 0)[:4]
    return Operation("pad", (_window(1, 1, top, 1), _window(1, 1, left, 1)))


def _slice(call: Call) -> Operation:
    dim = call.given["dim"] - call.image.ndim if call.given["dim"] >= 0 else call.given["dim"]
    start, stride = call.given.get("start") or 0, call.given.get("step") or 1
    if start < 0:
        start = max(0, start + call.image.shape[dim])
    return Operation(
        gathers=tuple(_window(1, stride, -start, 1) if dim == axis else _STAY for axis in (-2, -1))
    )


def _pixel_shuffle(call: Call) -> Operation:
    factor = call.given["upscale_factor"]
    return Operation("pixel shuffle", ((lambda o: (o // factor,), 1, factor),) * 2)


def _pixel_unshuffle(call: Call) -> Operation:
    factor = call.given["downscale_factor"]
    return Operation("pixel unshuffle", (_window(factor, factor, 0, 1),) * 2)


def _batch_norm(call: Call) -> Operation:
    # Instance norm arrives here too: as batch norm that takes its statistics from the image.
    statistics = bool(call.given.get("training", False))
    return Operation("instance norm" if statistics else "batch norm", everything=statistics)


def _group_norm(call: Call) -> Operation:
    return Operation("group norm", everything=True)


def _layer_norm(call: Call) -> Operation:
    over = call.space_in(range(-len(call.given["normalized_shape"]), 0))
    return Operation("layer norm", everything=bool(over))


def _reduction(kind: str) -> Rule:
    def rule(call: Call) -> Operation:
        over = call.given.get("dim")
        if call.space_in(over):
            return Operation(f"global {kind}", displaced=True)
        gone = [] if call.given.get("keepdim") else [over] if isinstance(over, int) else over or []
        behind = [dim % call.image.ndim - call.image.ndim for dim in gone]
        y, x = (place + sum(dim > place for dim in behind) for place in call.dims)
        return Operation(dims=(y, x))

    return rule


def _softmax(call: Call) -> Operation:
    everything = bool(call.space_in(call.given["dim"]))
    return Operation("softmax over space" if everything else "", everything=everything)


def _concatenation(call: Call) -> Operation:
    over_space = bool(call.space_in(call.given["dim"]))
    return Operation("cat over space" if over_space else "cat", displaced=over_space)


def _linear_layer(call: Call) -> Operation:
    # Whatever was flattened to come here has lost its place in the image.
    return Operation("linear", displaced=True, macs=call.output.numel() * call.image.shape[-1])


def _same(call: Call) -> Operation:
    return Operation()


def _rearranged(call: Call) -> Operation:
    """Views that leave rows and columns alone, such as the splitting of channels into groups."""
    dim = call.given.get("dim")
    kept = call.output.shape[-2:] == call.image.shape[-2:] and not (
        isinstance(dim, int) and call.space_in(dim)
    )
    return Operation("" if kept else "reshape", gathers=(_STAY, _STAY), displaced=not kept)


def _permutation(call: Call) -> Operation:
    order = [dim % call.image.ndim for dim in call.given["dims"]]
    y, x = (order.index(dim % call.image.ndim) - call.image.ndim for dim in call.dims)
    return Operation(dims=(y, x))


_RULES: dict[str, Rule] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _pool,
    "avg_pool2d": _pool,
    "upsample_nearest2d": _interpolation("nearest", _nearest),
    "upsample_nearest_exact2d": _interpolation("nearest", _nearest_exact),
    "upsample_bilinear2d": _interpolation("bilinear", _linear),
    "upsample_bicubic2d": _interpolation("bicubic", _cubic),
    "constant_pad_nd": _pad,
    "reflection_pad2d": _pad,
    "replication_pad2d": _pad,
    "slice": _slice,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "native_batch_norm": _batch_norm,
    "native_batch_norm_legit": _batch_norm,
    "native_batch_norm_legit_no_training": _batch_norm,
    "native_group_norm": _group_norm,
    "native_layer_norm": _layer_norm,
    "mean": _reduction("mean"),
    "sum": _reduction("sum"),
    "amax": _reduction("maximum"),
    "softmax": _softmax,
    "log_softmax": _softmax,
    "cat": _concatenation,
    "permute": _permutation,
    "addmm": _linear_layer,
    "mm": _linear_layer,
    **dict.fromkeys(("detach", "alias", "to_copy", "copy", "hardswish", "prelu_kernel"), _same),
    **dict.fromkeys(("view", "unsafe_view", "unsqueeze", "squeeze", "split", "expand"), _rearranged),
}


def _layer(
    name: str, kind: str, step: Operation | None, output: Tensor, parameters: int, field: Field
) -> Layer:
    y, x = field.y, field.x
    bounded = y and x and not field.unbounded
    return Layer(
        name,
        kind,
        step.kernel if step else None,
        step.stride if step else None,
        step.padding if step else None,
        step.dilation if step else None,
        tuple(output.shape[1:]),
        parameters,
        step.macs if step else 0,
        (y.receptive_field, x.receptive_field) if y and x and bounded else None,
        (y.jump, x.jump) if y and x else None,
        (y.offset, x.offset) if y and x and bounded else None,
    )


def _bind(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name, with the operator's defaults for those not given."""
    arguments = func._schema.arguments
    given = {argument.name: argument.default_value for argument in arguments if argument.has_default_value()}
    given |= {argument.name: value for argument, value in zip(arguments, args, strict=False)} | kwargs
    # In the operator's own order: the first tensor is the one that an in-place operation writes to.
    return {argument.name: given[argument.name] for argument in arguments if argument.name in given}


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _is_spread(tensor: Tensor, field: Field, output: Tensor) -> bool:
    """Whether broadcasting repeats a tensor's one row or column over the image."""
    return any(
        axis is not None and tensor.shape[dim] < output.shape[dim]
        for axis, dim in zip((field.y, field.x), field.dims, strict=True)
    )


def _is_part(tensor: Tensor) -> bool:
    return tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()


def _pair(value: int | Sequence[int]) -> Pair:
    """(y, x) of what PyTorch takes as one number or two."""
    numbers = [value] if isinstance(value, int) else list(value)
    return numbers[0], numbers[-1]


def _times(values: Sequence[Any] | None) -> str:
    if values is None:
        return ""
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 and len(texts) == 2 else "x".join(texts)
