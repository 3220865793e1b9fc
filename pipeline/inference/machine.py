"""The precision and the library in which this machine computes networks.

Both are part of the keys of shards. PyTorch, which takes two seconds to import, is asked only where the
system does not show the answer, so that a run that finds all its shards does not wait for it.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from pipeline.config import Engine
from pipeline.errors import MissingExtraError

_DEVICES = Path("/dev")
_GPUS = ("nvidia*", "nvhost*", "nvgpu*", "dxg", "kfd")
"""Devices of drivers that PyTorch uses: of NVIDIA, of Windows in WSL, and of AMD."""
_PROCESSOR = Path("/proc/cpuinfo")


def half_precision(engine: Engine) -> bool:
    """Return whether the networks compute in bfloat16: if requested, or if the processor has it."""
    if engine.precision != "auto":
        return engine.precision == "bfloat16"
    if _has_gpu():
        import torch

        return bool(torch.cuda.is_bf16_supported())
    return _processor_has_bfloat16()


def backend(engine: Engine) -> str:
    """Return the library that computes the convolutions: `openvino` or `torch`.

    Raises
    ------
    MissingExtraError
        If OpenVINO was asked for and is not installed.
    """
    installed = find_spec("openvino") is not None
    if engine.backend == "openvino" and not installed:
        raise MissingExtraError("engine.backend=openvino needs OpenVINO: pip install openvino.")
    if engine.backend != "auto":
        return engine.backend
    return "openvino" if installed and not _has_gpu() else "torch"


def _has_gpu() -> bool:
    """Return whether PyTorch computes on a GPU: never on Linux without a driver."""
    if _PROCESSOR.exists() and not any(found for name in _GPUS for found in _DEVICES.glob(name)):
        return False
    import torch

    return torch.cuda.is_available()


def _processor_has_bfloat16() -> bool:
    with suppress(OSError):
        if "avx512_bf16" not in _PROCESSOR.read_text(encoding="utf-8", errors="replace"):
            return False
    import torch

    # Releases of torch that don't tell compute in float32, which is always right.
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and bool(features.get("avx512_bf16"))
