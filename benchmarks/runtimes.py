"""Compare runtimes of the convolutions: one core, both shipped networks, a tile of the engine's size."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.results import save, table
from pipeline.config import Engine
from pipeline.inference.runtime import open_runtime
from pipeline.models.bundle import open_bundle
from pipeline.models.family import Dense
from pipeline.models.registry import build_network

SIDE_PX = 1072
REPEATS = 2

Way = tuple[str, str, Callable[[Tensor], object]]


def main() -> None:
    """Measure, and write the section of RESULTS.md."""
    rows = []
    for task, (network, bands) in _shipped().items():
        for name, precision, run in _ways(network, bands):
            image = torch.randn(1, bands, SIDE_PX, SIDE_PX)
            seconds = _seconds(run, image.bfloat16() if precision == "bfloat16" else image)
            rows.append(
                {
                    "network": task,
                    "runtime": name,
                    "precision": precision,
                    "CPU seconds per megapixel": f"{seconds / (SIDE_PX**2 / 1e6):.2f}",
                }
            )
    note = (
        f"The dense part of each network on {SIDE_PX} x {SIDE_PX} px, one thread, the best of {REPEATS} runs "
        "after a warm-up, without compilation and export. The engine uses OpenVINO on a CPU. ONNX Runtime is "
        "measured in float32, if it is installed."
    )
    save("runtimes", "Runtimes of the convolutions", [note, "", *table(rows)], {"rows": rows})


def _shipped() -> dict[str, tuple[nn.Module, int]]:
    trucks, landcover = open_bundle("trucks"), open_bundle("landcover")
    return {
        "trucks": (trucks.load_into(build_network(trucks.card)), len(trucks.card.bands)),
        "landcover": (landcover.load_into(build_network(landcover.card)), len(landcover.card.bands)),
    }


def _ways(network: nn.Module, bands: int) -> Iterator[Way]:
    dense = Dense(network).eval()
    channels_last = dense.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def plain(image: Tensor) -> object:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=image.dtype != torch.float32),
        ):
            return channels_last(image.contiguous(memory_format=torch.channels_last))

    for precision in ("float32", "bfloat16"):
        yield "PyTorch, eager", precision, plain
        for backend in ("torch", "openvino"):
            engine = Engine(backend=backend, precision=precision)  # type: ignore[arg-type]
            opened = open_runtime({"n": (network, bands)}, engine, threads=1)
            shown = "OpenVINO" if backend == "openvino" else "PyTorch, batch norm fused"
            yield shown, precision, lambda image, opened=opened: opened.run("n", image).give_back()
        compiled = torch.compile(dense)

        def compile_way(image: Tensor, compiled: Callable[[Tensor], object] = compiled) -> object:
            half = image.dtype != torch.float32
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
                return compiled(image.contiguous(memory_format=torch.channels_last))

        yield "torch.compile", precision, compile_way
    if importlib.util.find_spec("onnxruntime"):
        yield "ONNX Runtime", "float32", _onnx(dense, bands)


def _onnx(dense: Dense, bands: int) -> Callable[[Tensor], object]:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        torch.onnx.export(dense, (torch.zeros(1, bands, SIDE_PX, SIDE_PX),), file, input_names=["image"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file.read_bytes(), options, ["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image.numpy()})


def _seconds(run: Callable[[Tensor], object], image: Tensor) -> float:
    torch.set_num_threads(1)
    spent = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        run(image)
        spent.append(time.process_time() - start)
    return float(np.min(spent[1:]))


if __name__ == "__main__":
    main()
