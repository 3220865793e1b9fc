"""Anatomy of a network: output sizes, receptive fields, parameters and work, layer by layer.

The network runs once on a tensor without storage (PyTorch's `meta` device), and every operation is
intercepted, so skip connections, functional calls and control flow are followed. For each tensor we store the
input pixels on which a position depends, as if the image had no border. They are periodic in the position, so
the result is exact for every phase of strided, transposed and interpolating layers. An operation without a
rule counts as dependent on the complete image: a halo is either correct or None.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.receptive_field.axis import Axis, Field, Pair
from pipeline.models.receptive_field.operations import RULES, UNKNOWN, Call, Operation
from pipeline.private_interfaces import arguments_of, is_in_place, operations_to
from pipeline.tiling import round_up


@dataclass(frozen=True)
class Layer:
    """Layer as run; a layer run on several pyramid levels has one entry for each."""

    name: str
    kind: str
    kernel: Pair | None
    stride: Pair | None
    padding: Pair | None
    dilation: Pair | None
    output: tuple[int, ...]
    """Shape without the batch."""
    parameters: int
    """Parameters of this layer; 0 when it runs again."""
    macs: int
    """Multiply-accumulate operations for the example."""
    receptive_field: Pair | None
    """(height, width) in input pixels, of the largest phase; None for the complete image."""
    jump: tuple[Fraction, Fraction] | None
    """Input pixels (y, x) from one position to the next."""
    offset: tuple[float, float] | None
    """Middle (y, x) of the pixels of the first position, from the image's corner."""


@dataclass(frozen=True)
class Anatomy:
    """Receptive field and cost of a network."""

    input: tuple[int, ...]
    """Shape of the example, without the batch."""
    layers: tuple[Layer, ...]
    outputs: tuple[Field, ...]
    parameters: int
    """Sum over the layers."""

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations for the example."""
        return sum(layer.macs for layer in self.layers)

    @property
    def unbounded(self) -> tuple[str, ...]:
        """Return the layers that make an output depend on the complete image."""
        return tuple(dict.fromkeys(name for field in self.outputs for name in field.unbounded))

    @property
    def stride(self) -> int:
        """Return the total stride: if the image moves by it, all features move without other changes."""
        return math.lcm(*(axis.step for axis in self._axes()))

    @property
    def reach(self) -> tuple[int, int, int, int] | None:
        """Return the input pixels beyond an output's own: left, right, up, down; None if unbounded."""
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
        """Return the margin around a core: the reach, rounded up to the stride; None if unbounded."""
        return None if self.reach is None else round_up(max(self.reach), self.stride)

    @property
    def receptive_field(self) -> Pair | None:
        """Return (height, width) of the largest receptive field of an output; None for the complete image."""
        if self.unbounded:
            return None
        return (
            max(field.y.receptive_field for field in self.outputs if field.y),
            max(field.x.receptive_field for field in self.outputs if field.x),
        )

    def to_table(self) -> list[dict[str, str]]:
        """Return one row a layer, with text cells."""
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


def anatomy(
    module: nn.Module,
    example_shape: tuple[int, ...],
    apply: Callable[[nn.Module, Tensor], Any] = lambda network, images: network(images),
) -> Anatomy:
    """Return the anatomy of a network at inference, for an image of shape (C, H, W) or (N, C, H, W).

    `apply` runs the network, or a part of it. All tensors that it returns (also in tuples, lists or
    dictionaries) are outputs. A copy of the module runs on the `meta` device: nothing is computed, and the
    module does not change. H and W should be multiples of the total stride, as in tiles. Receptive field
    arithmetic after Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks"
    (Distill, 2019), extended to layers whose positions differ by phase.

    Raises
    ------
    ValueError
        If the shape is not of an image or stack of images, if two branches meet with different strides
        (H or W is not a multiple of the total stride), or if no output depends on the image.
    """
    if len(example_shape) not in {3, 4} or min(example_shape) < 1:
        raise ValueError(
            f"example_shape must be (C, H, W) or (N, C, H, W), all positive. Received: {tuple(example_shape)}"
        )
    network = copy.deepcopy(module).to("meta").eval()
    image = torch.empty(
        example_shape if len(example_shape) == 4 else (1, *example_shape),
        dtype=next((parameter.dtype for parameter in network.parameters()), torch.float32),
        device="meta",
    )
    watch = _Watch(network, image)
    with torch.no_grad(), operations_to(watch):
        result = apply(network, image)
    outputs = tuple(field for tensor in _tensors(result) if (field := watch.field(tensor)))
    if not outputs:
        raise ValueError("No output of the network depends on its input, as far as it could be traced.")
    if watch.hidden:
        outputs = tuple(replace(field, unbounded=field.unbounded + watch.hidden) for field in outputs)
    total = sum(layer.parameters for layer in watch.layers)
    return Anatomy(tuple(image.shape[1:]), tuple(watch.layers), outputs, total)


class _Watch:
    """Handler of every ATen operation of a run, which carries fields from inputs to outputs."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        pixel = Axis((0.0,), (0.0,), 1)
        # References to the tensors keep their ids unique; on `meta` they need no memory.
        self._fields: dict[int, tuple[Tensor, Field]] = {id(image): (image, Field(pixel, pixel))}
        self._counted: set[int] = set()
        self._inside = [""]
        self._modules = dict(network.named_modules())
        self.layers: list[Layer] = []
        self.hidden: tuple[str, ...] = ()
        """Layers that wrote image-dependent values into a tensor with other views, which can't be traced."""
        for name, module in self._modules.items():
            module.register_forward_pre_hook(lambda _module, _args, name=name: self._inside.append(name))
            module.register_forward_hook(lambda _module, _args, _result: self._leave())

    def _leave(self) -> None:
        self._inside.pop()

    def field(self, tensor: Tensor) -> Field | None:
        """Return the field of a tensor; None if it doesn't depend on the image."""
        return self._fields[id(tensor)][1] if id(tensor) in self._fields else None

    def __call__(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = arguments_of(func, args, kwargs)
        inputs = [tensor for tensor in _tensors(given) if id(tensor) in self._fields]
        target = next(_tensors(given), None)
        before = self.field(target) if target is not None else None
        result = func(*args, **kwargs)
        if inputs:
            outputs = list(_tensors(result))
            field = self._carry(func, given, inputs, outputs)
            if is_in_place(func) and target is not None and _is_part(target) and field != before:
                self.hidden = tuple(dict.fromkeys((*self.hidden, self._inside[-1])))
            for tensor in outputs:
                self._fields[id(tensor)] = (tensor, field)
        return result

    def _carry(self, func: Any, given: dict[str, Any], inputs: list[Tensor], outputs: list[Tensor]) -> Field:
        """Return the field of an operation's outputs, and record layers with geometry or parameters."""
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
                f"Branches of {name or 'the network'} meet with different strides ({error}). Choose an "
                "example with sides that are multiples of the total stride."
            ) from error
        aligned = len({field.dims for field in fields if field.y and field.x}) <= 1
        if aligned and torch.Tag.pointwise in func.tags:
            spread = any(map(_is_spread, inputs, fields, outputs * len(inputs)))
            after = joined.lost(name) if spread else joined
        elif aligned and (rule := RULES.get(kind)):
            step = rule(Call(given, inputs, outputs[0], joined.dims))
            kind = step.kind or kind
            after = step.apply(joined, name)
        else:
            after = UNKNOWN.apply(joined, name)
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


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield all tensors in nested tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _is_spread(tensor: Tensor, field: Field, output: Tensor) -> bool:
    """Return True if broadcasting repeats the only row or column of a tensor over the image."""
    return any(
        axis is not None and tensor.shape[dim] < output.shape[dim]
        for axis, dim in zip((field.y, field.x), field.dims, strict=True)
    )


def _is_part(tensor: Tensor) -> bool:
    return tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()


def _times(values: Sequence[Any] | None) -> str:
    if values is None:
        return ""
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return texts[0] if len(set(texts)) == 1 and len(texts) == 2 else "x".join(texts)
