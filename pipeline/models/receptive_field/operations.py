"""Rules of tensor operations: the input pixels on which their output depends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from torch import Tensor

from pipeline.models.receptive_field.axis import Field, Pair


@dataclass(frozen=True)
class Operation:
    """Effect of an operation on the receptive field of its input."""

    kind: str = ""
    """Name as a layer; empty for operations that only rearrange."""
    gathers: tuple[tuple[Callable[[int], Iterable[int]], int, int], ...] = ()
    """Arguments of `Axis.gather` for y and x, which must be the last dimensions."""
    dims: Pair | None = None
    """Dimensions of y and x afterwards, if they change."""
    everything: bool = False
    """True if every position depends on the complete image."""
    displaced: bool = False
    """True if, in addition, positions have lost their place in the image."""
    kernel: Pair | None = None
    stride: Pair | None = None
    padding: Pair | None = None
    dilation: Pair | None = None
    macs: int = 0

    def apply(self, field: Field, layer: str) -> Field:
        """Return the field after the operation."""
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


UNKNOWN = Operation(displaced=True)


@dataclass(frozen=True)
class Call:
    """Call of an operation, with its arguments and output."""

    given: dict[str, Any]
    """Arguments by their names in the operator's schema."""
    inputs: list[Tensor]
    """Arguments that depend on the image."""
    output: Tensor
    dims: Pair
    """Dimensions of the inputs that are y and x, counted from the last."""

    @property
    def image(self) -> Tensor:
        """Return the first input."""
        return self.inputs[0]

    def space_in(self, dims: int | Sequence[int] | None) -> set[int]:
        """Return those of `dims` that are y or x; None or an empty list means all dimensions."""
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
            # Positions then depend on the size of the image, so no tile equals a part of the scene.
            return Operation(f"{kind}, corners aligned", displaced=True)
        factors = call.given.get("scale_factors") or (call.given.get("scales_h"), call.given.get("scales_w"))
        gathers = []
        for axis, factor in zip((-2, -1), factors, strict=True):
            scale = Fraction(call.image.shape[axis], call.output.shape[axis])
            if factor:  # PyTorch then uses it, even if the output's size was rounded.
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
    # Instance norm is also called as batch norm, with statistics of the image.
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
    # The input was flattened, so it has lost its place in the image.
    return Operation("linear", displaced=True, macs=call.output.numel() * call.image.shape[-1])


def _same(call: Call) -> Operation:
    return Operation()


def _rearranged(call: Call) -> Operation:
    """Return the operation of a view; it is local if rows and columns stay, as in groups of channels."""
    dim = call.given.get("dim")
    kept = call.output.shape[-2:] == call.image.shape[-2:] and not (
        isinstance(dim, int) and call.space_in(dim)
    )
    return Operation("" if kept else "reshape", gathers=(_STAY, _STAY), displaced=not kept)


def _permutation(call: Call) -> Operation:
    order = [dim % call.image.ndim for dim in call.given["dims"]]
    y, x = (order.index(dim % call.image.ndim) - call.image.ndim for dim in call.dims)
    return Operation(dims=(y, x))


RULES: dict[str, Rule] = {
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


def _pair(value: int | Sequence[int]) -> Pair:
    """Return (y, x) of an argument that PyTorch accepts as one number or two."""
    numbers = [value] if isinstance(value, int) else list(value)
    return numbers[0], numbers[-1]
