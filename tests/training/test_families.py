"""Every family is trained by the same flow, chosen by configuration."""

import pytest
import torch

from pipeline.errors import BundleError
from pipeline.models.bundle import open_bundle
from pipeline.models.registry import build_network
from pipeline.training.detector.settings import DetectorTraining
from pipeline.training.detector.train import blank_card, train_detector
from pipeline.training.segmenter.train import blank_card as blank_segmenter
from pipeline.training.segmenter.train import train
from tests.training.segmenter.test_train import data, settings

__all__ = ["data"]  # a fixture

SHALLOW = {"encoder": "resnet18", "depth": 2, "widths": [8, 8]}


@pytest.mark.parametrize(
    ("architecture", "small", "classes"),
    [
        ("fcos", {"channels": [8, 8, 8], "features": 8, "convolutions": 1}, ["heavy vehicle"]),
        (
            "centernet2",
            {"width": 8, "features": 4, "window_widths": [8], "hidden": 8},
            ["heavy vehicle", "light vehicle"],
        ),
        ("rcnn", {"widths": [8], "crop_px": 8, "head": 8}, ["heavy vehicle", "light vehicle"]),
        (
            "fast_rcnn",
            {"channels": [8, 8, 8], "features": 8, "head": 8},
            ["heavy vehicle", "light vehicle"],
        ),
        ("yolo", {"channels": [8, 8, 8], "features": 8}, ["heavy vehicle", "light vehicle"]),
    ],
)
def test_other_detectors_are_trained_by_the_same_flow(tmp_path, architecture, small, classes):
    chosen = DetectorTraining(
        architecture=architecture, arguments=small, steps=2, batch=2, check_every=2, chip_px=32, threads=1
    )
    bundle = open_bundle(str(train_detector(chosen, tmp_path).folder))
    assert bundle.card.architecture == architecture
    assert [one.name for one in bundle.card.classes] == classes
    bundle.load_into(build_network(bundle.card))


@pytest.mark.parametrize("architecture", ["faster_rcnn", "fcos"])
def test_the_halo_of_a_detector_comes_from_its_network(architecture):
    card = blank_card(architecture)
    assert (card.halo, card.stride) == (44, 4)


@pytest.mark.parametrize(
    ("architecture", "arguments", "halo"), [("fcn", {"filters": 4}, 5), ("smp_unet", SHALLOW, 32)]
)
def test_segmenters_of_libraries_are_trained_by_the_same_flow(data, tmp_path, architecture, arguments, halo):
    pytest.importorskip("torchgeo", reason="needs the extra train")
    bundle = train(settings(data, architecture=architecture, arguments=arguments), tmp_path)
    assert (bundle.card.architecture, bundle.card.halo) == (architecture, halo)
    bundle.load_into(build_network(bundle.card))


def test_families_have_arguments_of_their_own(data):
    card = blank_segmenter(settings(data, architecture="fcn", arguments={}))
    assert card.arguments == {}


def test_a_u_net_starts_from_sentinel_2_weights(data, tmp_path):
    timm = pytest.importorskip("timm", reason="needs the extra train")
    torch.manual_seed(0)
    weights = timm.create_model("resnet18", in_chans=13, num_classes=0).state_dict()
    torch.save(weights, tmp_path / "hub.pth")
    given = {"pretrained": "require", "pretrained_source": str(tmp_path / "hub.pth")}
    bundle = train(settings(data, architecture="smp_unet", arguments=SHALLOW, **given), tmp_path / "out")
    started = open_bundle(str(tmp_path / "out" / "pretrained")).state_dict()["encoder.layer1.0.conv1.weight"]
    torch.testing.assert_close(started.float(), weights["layer1.0.conv1.weight"], atol=1e-3, rtol=1e-3)
    learnt = bundle.state_dict()["encoder.layer1.0.conv1.weight"].float()
    assert 0 < (learnt - weights["layer1.0.conv1.weight"]).abs().max() < 0.1


def test_an_encoder_that_can_t_be_tiled_is_refused_before_any_training(data, tmp_path):
    pytest.importorskip("torchgeo", reason="needs the extra train")
    chosen = settings(data, architecture="smp_unet", arguments={"encoder": "efficientnet-b0"})
    with pytest.raises(BundleError, match="can't run in tiles"):
        train(chosen, tmp_path / "out")
    assert not (tmp_path / "out").exists()
