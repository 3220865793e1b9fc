"""What other packages do not document and we use: a test that fails here names what an upgrade broke."""

import importlib
import logging
import subprocess
import sys

import httpx
import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.shutil
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.demos.boring_classes import BoringModel
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN
from torchvision.models.detection.rpn import RegionProposalNetwork

from pipeline import private_interfaces
from pipeline.models import faster_rcnn, fcos
from tests.conftest import write_geotiff

ATEN = torch.ops.aten


def test_a_copy_that_gdal_cannot_write_raises_an_error_without_a_public_name(tmp_path):
    source = write_geotiff(tmp_path / "a.tif", np.ones((4, 8, 8), np.uint16))
    (tmp_path / "taken").mkdir()
    error = private_interfaces.raster_copy_error()
    assert not issubclass(error, RasterioError)  # else that would do
    with pytest.raises(error):
        rasterio.shutil.copy(source, tmp_path / "taken" / "none" / "b.tif", driver="COG")


def test_the_class_of_gdals_error_is_behind_that_of_rasterio(tmp_path):
    with pytest.raises(RasterioError) as caught:
        DatasetReader(str(tmp_path / "none.tif"), driver=["JP2OpenJPEG", "GTiff"])
    assert private_interfaces.gdal_error_name(caught.value) == "CPLE_OpenFailedError"
    assert private_interfaces.gdal_error_name(ValueError()) == "NoneType"


def test_rasterio_opens_with_a_list_of_drivers(tmp_path):
    """`rasterio.open` documents a list and refuses it; the class that it returns takes one."""
    path = write_geotiff(tmp_path / "a.tif", np.ones((4, 8, 8), np.uint16))
    with DatasetReader(str(path), driver=["JP2OpenJPEG", "GTiff"]) as dataset:
        assert dataset.driver == "GTiff"
    with pytest.raises(RasterioError):
        DatasetReader(str(path), driver=["JP2OpenJPEG"])
    with pytest.raises(TypeError, match="invalid driver"):  # else that would do
        rasterio.open(path, driver=["GTiff"])


def test_openvino_takes_a_missing_telemetry_for_its_stub():
    private_interfaces.without_telemetry()
    import openvino
    from openvino.tools.ovc import telemetry_utils

    assert openvino.convert_model
    assert sys.modules["openvino_telemetry"] is None
    assert telemetry_utils.init_ovc_telemetry("test").__class__.__module__.endswith("telemetry_stub")


def test_torchvision_loads_without_the_compiler_of_pytorch():
    said = output_of(
        "from pipeline.models.registry import FAMILIES",
        "print('torchvision' in sys.modules, {'torch._dynamo', 'sympy'} & set(sys.modules))",
        "from torchvision.ops.roi_align import is_compile_supported",
        "from torch._dynamo.utils import is_compile_supported as real",
        "print(is_compile_supported('cuda') == real('cuda'), is_compile_supported('meta') == real('meta'))",
    )
    assert said.splitlines() == ["True set()", "True True"]


def output_of(*lines: str) -> str:
    command = [sys.executable, "-c", "\n".join(["import sys", *lines])]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_norms_are_fused_into_convolutions():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    network[1].running_mean += 2
    fused = private_interfaces.with_fused_norms(network)
    assert not [layer for layer in fused.modules() if isinstance(layer, nn.BatchNorm2d)]
    image = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(fused(image), network(image))


def test_a_network_that_cannot_be_traced_stays_as_it_is():
    class Shapely(nn.Module):
        def forward(self, image):
            return image if image.shape[0] > 1 else -image

    network = Shapely().eval()
    assert private_interfaces.with_fused_norms(network) is network


def test_operations_are_watched_with_their_arguments_by_name():
    seen = []

    def watch(operation, args, kwargs):
        seen.append((operation, private_interfaces.arguments_of(operation, args, kwargs)))
        return operation(*args, **kwargs)

    image = torch.ones(1, 1, 2, 2, device="meta")
    with private_interfaces.operations_to(watch):
        image.add_(2)
    ((operation, arguments),) = seen
    assert operation is ATEN.add_.Tensor
    assert list(arguments) == ["self", "other", "alpha"]
    assert arguments["self"] is image
    assert arguments["alpha"] == 1
    assert torch.Tag.pointwise in operation.tags
    assert operation.overloadpacket.__name__ == "add_"


def test_operations_in_place_are_known():
    assert private_interfaces.is_in_place(ATEN.add_.Tensor)
    assert not private_interfaces.is_in_place(ATEN.add.Tensor)


def test_lightning_keeps_the_state_of_early_stopping_under_its_name(tmp_path):
    stopping = EarlyStopping("train_loss", strict=False)
    silent = {
        "default_root_dir": tmp_path,
        "enable_checkpointing": False,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = Trainer(max_steps=1, limit_val_batches=0, callbacks=[stopping], accelerator="cpu", **silent)
    trainer.fit(BoringModel())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert {"wait_count", "best_score"} <= set(private_interfaces.callback_state(checkpoint, EarlyStopping))
    assert private_interfaces.callback_state({"callbacks": {}}, EarlyStopping) == {}


def test_torchvision_asks_our_region_proposals_for_targets(monkeypatch):
    """What is ignored is left out in an override, which must be called in training."""
    detector = faster_rcnn.TruckDetector(4, **faster_rcnn.FAMILY.arguments)
    asked = []
    stock = RegionProposalNetwork.assign_targets_to_anchors

    def noted(self, anchors, targets):
        asked.append(targets)
        return stock(self, anchors, targets)

    monkeypatch.setattr(RegionProposalNetwork, "assign_targets_to_anchors", noted)
    target = {"boxes": torch.tensor([[4.0, 4.0, 9.0, 9.0]]), "labels": torch.tensor([1])}
    losses = detector.train()([torch.zeros(4, 32, 32)], [target])
    ((seen,),) = asked
    assert seen["boxes"].equal(target["boxes"])
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}


def test_torchvision_has_the_parts_that_the_detectors_call():
    detector = faster_rcnn.TruckDetector(4, **faster_rcnn.FAMILY.arguments).eval()
    assert isinstance(detector, FasterRCNN)
    for part, name in (
        (detector.rpn, "nms_thresh"),
        (detector.rpn, "min_size"),
        (detector.rpn.anchor_generator, "cell_anchors"),
        (detector.rpn.box_coder, "decode_single"),
        (detector.roi_heads, "box_head"),
        (detector.roi_heads, "box_predictor"),
        (detector.roi_heads, "postprocess_detections"),
    ):
        assert hasattr(part, name), name
    single = fcos.SingleStageDetector(4, **fcos.FAMILY.arguments).eval()
    assert isinstance(single, FCOS)
    for part, name in (
        (single, "compute_loss"),
        (single.head, "compute_loss"),
        (single.head.classification_head, "cls_logits"),
        (single.head.regression_head, "bbox_reg"),
        (single.head.regression_head, "bbox_ctrness"),
    ):
        assert hasattr(part, name), name


@pytest.mark.parametrize("package", ["rasterio", "urllib3"])
def test_packages_log_below_their_own_name(package):
    """So one handler there removes credentials before those of the application have the record."""
    for name in {"rasterio": ("_env", "_err", "_io"), "urllib3": ("connectionpool", "util.retry")}[package]:
        importlib.import_module(f"{package}.{name}")
        logger = logging.getLogger(f"{package}.{name}")
        assert logger.propagate
        assert logger.name in logging.root.manager.loggerDict


@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:9", "socks://127.0.0.1:9", "socks4://h:1", "nonsense://h"]
)
def test_httpx_makes_clients_whatever_the_proxy_is(monkeypatch, proxy):
    monkeypatch.setitem(sys.modules, "socksio", None)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("all_proxy", proxy)
    monkeypatch.setenv("no_proxy", "::1/128,10.0.0.0/8,[::1],host:port")
    client = importlib.import_module("httpx._client")
    monkeypatch.setattr(client, "get_environment_proxies", original_proxies())
    with pytest.raises((ImportError, ValueError, httpx.InvalidURL)):
        httpx.Client()
    private_interfaces.without_unusable_proxies()
    private_interfaces.without_unusable_proxies()
    with httpx.Client() as made:
        assert made._mounts
    monkeypatch.setenv("all_proxy", "http://proxy:3128")
    assert client.get_environment_proxies()["all://"] == "http://proxy:3128"


def original_proxies():
    return importlib.import_module("httpx._utils").get_environment_proxies


def test_drivers_of_vectors_are_registered_again_without_those_that_are_skipped():
    pyogrio.set_gdal_config_options({"GDAL_SKIP": "DXF,"})
    try:
        private_interfaces.register_vector_drivers()
        assert "DXF" not in pyogrio.list_drivers()
    finally:
        pyogrio.set_gdal_config_options({"GDAL_SKIP": None})
        private_interfaces.register_vector_drivers()
    assert "DXF" in pyogrio.list_drivers()
