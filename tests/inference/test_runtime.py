"""The convolutions give the same wherever they are computed."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from pipeline.config import Engine
from pipeline.inference import runtime
from pipeline.inference.runtime import open_runtime
from pipeline.models.bundle import open_bundle
from pipeline.models.registry import build_network
from pipeline.models.unet import UNet


@pytest.fixture(scope="module")
def shipped() -> dict[str, tuple[nn.Module, int]]:
    trucks, landcover = open_bundle("trucks"), open_bundle("landcover")
    return {
        "detection": (trucks.load_into(build_network(trucks.card)), len(trucks.card.bands)),
        "segmentation": (landcover.load_into(build_network(landcover.card)), len(landcover.card.bands)),
    }


def images(height: int = 96, width: int = 128) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {
        "detection": torch.randn(1, 4, height, width),
        "segmentation": torch.randn(1, 10, width, height),
    }


def eager(networks: dict[str, tuple[nn.Module, int]], name: str, image: torch.Tensor) -> tuple:
    network, _ = networks[name]
    with torch.inference_mode():
        return network.dense(image) if name == "detection" else (network(image).permute(0, 2, 3, 1),)


@pytest.mark.parametrize("which", ["torch", "openvino"])
def test_maps_are_those_of_the_network(shipped, which):
    opened = open_runtime(shipped, Engine(backend=which, precision="float32"), threads=1)
    given = images()
    for name, image in given.items():
        with opened.run(name, image) as maps:
            for got, expected in zip(maps, eager(shipped, name, image), strict=True):
                torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_maps_stay_while_another_network_runs_and_until_they_are_given_back(shipped):
    opened = open_runtime(shipped, Engine(backend="openvino", precision="float32"), threads=1)
    given = images()
    with opened.run("detection", given["detection"]) as maps:
        before = [part.clone() for part in maps]
        with opened.run("segmentation", given["segmentation"]):
            pass
        for part, as_it_was in zip(maps, before, strict=True):
            torch.testing.assert_close(part, as_it_was, atol=0, rtol=0)


def test_a_network_waits_for_its_maps_and_one_that_is_alone_has_two_places_for_them(shipped):
    both = open_runtime(shipped, Engine(backend="openvino", precision="float32"), threads=1)
    alone = open_runtime({"detection": shipped["detection"]}, Engine(precision="float32"), threads=1)
    image = torch.randn(1, 4, 64, 64)
    with ThreadPoolExecutor(1) as pool, alone.run("detection", image), alone.run("detection", image):
        with both.run("detection", image):
            waiting = pool.submit(both.run, "detection", image)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
        waiting.result(timeout=20)


def test_an_image_that_does_not_fit_leaves_the_place_free(shipped):
    opened = open_runtime(shipped, Engine(backend="openvino", precision="float32"), threads=1)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            opened.run("detection", torch.randn(1, 3, 64, 64))
    with opened.run("detection", torch.randn(1, 4, 64, 64)) as maps:
        assert len(maps) == 2


def test_several_images_at_once_say_what_each_says(shipped):
    opened = open_runtime(shipped, Engine(backend="openvino", precision="float32"), threads=1)
    stack = torch.randn(3, 4, 64, 80)
    with opened.run("detection", stack) as maps:
        together = [part.clone() for part in maps]
    for index in range(len(stack)):
        with opened.run("detection", stack[index : index + 1]) as alone:
            for got, expected in zip(alone, together, strict=True):
                torch.testing.assert_close(got[0], expected[index], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("which", ["torch", "openvino"])
def test_half_precision_is_near(shipped, which):
    opened = open_runtime(shipped, Engine(backend=which, precision="bfloat16"), threads=1)
    given = {name: image.bfloat16() for name, image in images().items()}
    with opened.run("segmentation", given["segmentation"]) as maps:
        (logits,) = (part.clone() for part in maps)
    with opened.run("detection", given["detection"]) as maps:
        features = maps[0].clone()
    (expected,) = eager(shipped, "segmentation", given["segmentation"].float())
    if which == "torch":  # OpenVINO keeps maps of few channels in float32
        assert features.dtype == torch.bfloat16
    assert (logits.argmax(-1) == expected.argmax(-1)).float().mean() >= 0.99


def test_batch_norm_is_part_of_the_convolutions():
    network = UNet(4, 3, (4, 6)).eval()
    opened = runtime.TorchRuntime({"n": (runtime.Dense(network), 4)}, half=False)
    left = [module for module in opened._networks["n"].modules() if isinstance(module, nn.BatchNorm2d)]
    assert left == []


def test_nobody_is_told_that_it_runs():
    """OpenVINO reports its imports to its makers where `openvino_telemetry` can be imported."""
    runtime.load_openvino()
    import sys

    assert sys.modules["openvino_telemetry"] is None
