"""Precision and library are those that PyTorch would choose, and are known without it where they can be."""

import subprocess
import sys

import pytest
import torch

from pipeline.config import Engine
from pipeline.errors import MissingExtraError
from pipeline.inference import machine
from pipeline.inference.machine import backend, half_precision

WITHOUT_TORCH = """
import sys
from pipeline.config import Engine
from pipeline.inference import machine
print(machine.half_precision(Engine()), machine.backend(Engine(backend="torch")), "torch" in sys.modules)
"""


def test_what_computes_can_be_chosen(monkeypatch):
    assert backend(Engine(backend="torch")) == "torch"
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    assert backend(Engine()) == "torch"
    with pytest.raises(MissingExtraError, match="pip install openvino"):
        backend(Engine(backend="openvino"))


def test_precision_is_what_was_asked_for():
    assert half_precision(Engine(precision="bfloat16"))
    assert not half_precision(Engine(precision="float32"))


@pytest.mark.parametrize(("driver", "flags", "asked"), [("nvidiactl", "avx2", True), ("null", "avx2", False)])
def test_torch_is_asked_only_where_a_driver_of_a_gpu_is_loaded(tmp_path, monkeypatch, driver, flags, asked):
    for name, text in ((driver, ""), ("cpuinfo", f"flags: {flags}")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "_DEVICES", tmp_path)
    monkeypatch.setattr(machine, "_PROCESSOR", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert half_precision(Engine()) == asked
    assert (backend(Engine()) == "torch") == asked


@pytest.mark.parametrize(("flags", "has"), [("avx2", False), ("avx512f avx512_bf16", True)])
def test_a_processor_without_bfloat16_computes_in_float32(tmp_path, monkeypatch, flags, has):
    (tmp_path / "cpuinfo").write_text(f"flags: {flags}")
    monkeypatch.setattr(machine, "_PROCESSOR", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine, "_DEVICES", tmp_path)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert half_precision(Engine()) == has


def test_answers_are_those_of_torch():
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    on_processor = torch.backends.cpu.get_cpu_capability() == "AVX512" and features.get("avx512_bf16", False)
    if not torch.cuda.is_available():
        assert half_precision(Engine()) == on_processor


def test_a_processor_that_shows_its_features_is_known_without_torch():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True, timeout=120
    )
    precision, library, imported = done.stdout.split()
    assert library == "torch"
    if sys.platform == "linux" and precision == "False" and not torch.cuda.is_available():
        assert imported == "False"
