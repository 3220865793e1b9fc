"""The convolutions of a run's networks, as fast as the machine computes them.

On a processor that is OpenVINO where it is installed: it fuses batch norm and activations into convolutions
that PyTorch computes one after the other. On a GPU, and wherever OpenVINO is not, it is PyTorch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config import Engine
from pipeline.errors import MissingExtraError
from pipeline.inference.machine import backend, half_precision
from pipeline.models.family import Dense
from pipeline.private_interfaces import with_fused_norms, without_telemetry

_EXAMPLE_PX = 64
"""Side of the image by which a network is traced; what is traced holds for every size."""
_WIDE = 32
"""Maps of so many channels are features, which leave OpenVINO in the precision that they are computed in."""


@dataclass(frozen=True)
class Maps:
    """Output maps of a network for images, in memory that is reused after the `with`."""

    parts: tuple[Tensor, ...]
    give_back: Callable[[], None] = lambda: None

    def __enter__(self) -> tuple[Tensor, ...]:
        return self.parts

    def __exit__(self, *_: object) -> None:
        self.give_back()


class Runtime(Protocol):
    """The dense parts of networks, ready to run, by name."""

    device: torch.device
    """Device of the maps. Images are in the processor's memory."""

    def run(self, name: str, images: Tensor) -> Maps:
        """Compute the maps of images (N, C, H, W) by one of the networks.

        Images and maps are float32, or bfloat16 in half precision; maps are in memory in any order. While
        maps are in use another network may run; the same one may have to wait until they are returned.
        """


def open_runtime(networks: Mapping[str, tuple[nn.Module, int]], engine: Engine, threads: int) -> Runtime:
    """Open networks, each with its number of input channels; thread-safe."""
    parts = {name: (Dense(network.eval()).eval(), bands) for name, (network, bands) in networks.items()}
    half = half_precision(engine)
    if backend(engine) == "openvino":
        torch.set_num_threads(1)  # boxes are PyTorch's, and judged while OpenVINO has all cores
        return OpenVinoRuntime(parts, half, threads)
    torch.set_num_threads(threads)
    return TorchRuntime(parts, half)


class TorchRuntime:
    """Networks in PyTorch: channels last, with batch norm in the convolutions; on the GPU if there is one."""

    def __init__(self, networks: Mapping[str, tuple[Dense, int]], half: bool) -> None:
        self._half = half
        self._lock = threading.Lock()  # two tiles at once would take twice the memory
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._uploads = torch.cuda.Stream() if self.device.type == "cuda" else None
        self._networks = {
            name: with_fused_norms(network).to(self.device).to(memory_format=torch.channels_last)
            for name, (network, _) in networks.items()
        }

    @torch.inference_mode()
    def run(self, name: str, images: Tensor) -> Maps:
        """See `Runtime`."""
        with self._lock, torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            there = self._uploaded(images).to(memory_format=torch.channels_last)
            return Maps(tuple(self._networks[name](there)))

    def _uploaded(self, images: Tensor) -> Tensor:
        """Return images on the device, copied there while a GPU still computes those before them."""
        if self._uploads is None:
            return images
        with torch.cuda.stream(self._uploads):
            there = images.pin_memory().to(self.device, non_blocking=True)
        computing = torch.cuda.current_stream()
        computing.wait_stream(self._uploads)
        there.record_stream(computing)
        return there


class OpenVinoRuntime:
    """Networks in OpenVINO, as one graph: so they take each other's memory as they come and go.

    A network that is not asked for is fed an image so small that its time does not show. Each network has
    its own place for maps, and a network that is alone has two: one tile's are judged while the next one's
    are computed.
    """

    device = torch.device("cpu")

    def __init__(self, networks: Mapping[str, tuple[Dense, int]], half: bool, threads: int) -> None:
        openvino = load_openvino()
        parts = [_converted(network, bands, half) for network, bands in networks.values()]
        graph = openvino.Model(
            [result for part in parts for result in part.get_results()],
            [parameter for part in parts for parameter in part.get_parameters()],
        )
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Pinned threads would wait for cores on which others decode.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = openvino.Core().compile_model(graph, "CPU", settings)
        self._bfloat16 = openvino.Type.bf16
        self._tensor_class = openvino.Tensor
        dtype = torch.bfloat16 if half else torch.float32
        self._idle = {
            name: self._tensor(torch.zeros((1, bands, _EXAMPLE_PX, _EXAMPLE_PX), dtype=dtype))
            for name, (_, bands) in networks.items()
        }
        ends = np.cumsum([0, *(len(part.outputs) for part in parts)])
        self._outputs = {name: range(*ends[i : i + 2]) for i, name in enumerate(networks)}
        self._free = {name: SimpleQueue[Any]() for name in networks}
        for places in self._free.values():
            for _ in range(1 if len(networks) > 1 else 2):
                places.put(compiled.create_infer_request())

    def run(self, name: str, images: Tensor) -> Maps:
        """See `Runtime`."""
        request = self._free[name].get()
        try:
            inputs = {**self._idle, name: self._tensor(images.contiguous())}
            request.infer(dict(enumerate(inputs.values())), share_inputs=True, share_outputs=True)
            parts = tuple(self._map(request.get_output_tensor(index)) for index in self._outputs[name])
        except BaseException:
            self._free[name].put(request)
            raise
        return Maps(parts, lambda: self._free[name].put(request))

    def _tensor(self, image: Tensor) -> Any:
        """Return an OpenVINO tensor that shares the memory."""
        if image.dtype == torch.bfloat16:
            return self._tensor_class(image.view(torch.int16).numpy(), list(image.shape), self._bfloat16)
        return self._tensor_class(image.numpy(), shared_memory=True)

    def _map(self, tensor: Any) -> Tensor:
        """Return a map (N, H, W, channels) that shares the memory of planes."""
        if tensor.element_type == self._bfloat16:  # which numpy does not know
            planes = torch.from_numpy(tensor.data.view(np.int16)).view(torch.bfloat16)
        else:
            planes = torch.from_numpy(tensor.data)
        return planes.permute(0, 2, 3, 1)


def load_openvino() -> Any:
    """Import OpenVINO, which takes a second, and sends no usage data.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    if find_spec("openvino") is None:
        raise MissingExtraError("This needs OpenVINO: pip install openvino.")
    without_telemetry()
    import openvino

    return openvino


def _converted(network: Dense, bands: int, half: bool) -> Any:
    """Convert a network to a graph of OpenVINO."""
    openvino = load_openvino()
    network.requires_grad_(False)

    def planes(images: Tensor) -> tuple[Tensor, ...]:
        """Return maps (N, channels, H, W): OpenVINO would transpose others, in two more passes."""
        return tuple(part.permute(0, 3, 1, 2) for part in network(images))

    with torch.inference_mode():
        example = torch.zeros(1, bands, _EXAMPLE_PX, _EXAMPLE_PX)
        traced = torch.jit.trace(planes, example, check_trace=False)  # faster than a module
    graph = openvino.convert_model(traced)
    graph.reshape([-1, bands, -1, -1])
    steps = openvino.preprocess.PrePostProcessor(graph)
    if half:
        steps.input().tensor().set_element_type(openvino.Type.bf16)
    for index, output in enumerate(graph.outputs):
        if half and output.partial_shape[1].get_max_length() >= _WIDE:
            steps.output(index).tensor().set_element_type(openvino.Type.bf16)
    return steps.build()
