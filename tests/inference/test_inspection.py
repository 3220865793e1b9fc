"""A network at a place: layers, maps and proposals against numbers worked out by hand, for every family."""

import numpy as np
import pytest

from pipeline.errors import BundleError, ConfigError
from pipeline.inference import inspection
from pipeline.inference.inspection import Inspection, inspect_network
from pipeline.models.bundle import Bundle, Card, open_bundle, save_bundle
from pipeline.models.halo import with_halo
from pipeline.models.legend import LegendClass
from pipeline.models.registry import FAMILIES, build_network
from pipeline.scenes.open import open_scene
from tests.conftest import write_geotiff

SMALL = {
    "rcnn": {"widths": [4, 6], "crop_px": 8, "head": 8},
    "fast_rcnn": {"channels": [4, 6, 8], "features": 4, "head": 8},
    "faster_rcnn": {"channels": [4, 6, 8], "features": 4, "head": 8},
    "yolo": {"channels": [4, 6, 8], "features": 4},
    "fcos": {"channels": [4, 6, 8], "features": 4, "convolutions": 1},
    "centernet2": {"width": 8, "features": 4, "window_widths": [8, 8, 8, 8], "hidden": 8},
    "unet": {"widths": [4, 6, 8]},
    "separable_fcn": {"stem": 4, "widths": [6, 8], "detail": 4},
    "fcn": {"filters": 4},
    "smp_unet": {"encoder": "resnet18", "depth": 2, "widths": [8, 4]},
    "block_screener": {"widths": [4, 6, 8]},
}
PROPOSING = {"rcnn", "fast_rcnn", "faster_rcnn", "centernet2"}
CLASSES = tuple(
    LegendClass(value=value, name=name, colour=colour)
    for value, name, colour in ((1, "heavy", "#FF00FF"), (2, "light", "#00FF00"))
)


def card_of(family, **changes) -> Card:
    values = {
        "id": family.name,
        "version": "1",
        "task": family.task,
        "architecture": family.name,
        "arguments": SMALL.get(family.name, {}),
        "bands": ("B02", "B03", "B04", "B08"),
        "mean": (0.1,) * 4,
        "std": (0.02,) * 4,
        "classes": CLASSES if family.scores_vehicles or family.task == "segmentation" else CLASSES[:1],
        "halo": 0,
        "stride": 1,
    }
    return with_halo(Card(**(values | changes)))


def small_bundle(folder, name: str, **changes) -> Bundle:
    if name in {"fcn", "smp_unet"}:
        pytest.importorskip("torchgeo", reason="needs the extra train")
        pytest.importorskip("segmentation_models_pytorch", reason="needs the extra train")
    (family,) = (one for one in FAMILIES if one.name == name)
    card = card_of(family, **changes)
    return save_bundle(folder / name, card, build_network(card).state_dict())


@pytest.fixture
def scene(tmp_path):
    """Return noise of 150 columns and 140 rows, with a vehicle that moves east at column 60, row 70."""
    numbers = np.random.default_rng(0).integers(950, 1050, (4, 140, 150)).astype(np.uint16)
    for band, col in enumerate((58, 60, 62)):
        numbers[band, 69:72, col : col + 2] += 1500
    return open_scene(str(write_geotiff(tmp_path / "scene.tif", numbers)))


@pytest.fixture
def small_window(monkeypatch):
    """Keep the window as small as the network allows."""
    monkeypatch.setattr(inspection, "_SIDE_PX", 32)


def inspected(tmp_path, scene, name: str, at=(60, 70), **changes) -> Inspection:
    return inspect_network(small_bundle(tmp_path, name, **changes), scene, at)


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
@pytest.mark.usefixtures("small_window")
def test_every_family_has_layers_whose_numbers_follow_from_each_other(tmp_path, scene, name):
    found = inspected(tmp_path, scene, name)
    col, row = found.place
    assert (found.origin[0] + col, found.origin[1] + row) == (60, 70)
    assert found.convolutions
    assert found.kernels.ndim == 4
    for layer in found.convolutions:
        reach = layer.dilation * (layer.kernel - 1) + 1
        if layer.kind == "convolution":
            expected = (layer.input_side - reach + 2 * layer.padding) // layer.stride + 1
        else:
            expected = (layer.input_side - 1) * layer.stride + reach - 2 * layer.padding
        assert layer.output_side == expected
        weights = layer.kernel**2 * layer.inputs * layer.outputs // layer.groups
        assert layer.parameters - weights in (0, layer.outputs)
        if layer.maps is not None:
            assert layer.maps.shape == (layer.outputs, layer.output_side, layer.output_side)
    assert (found.proposals is not None) == (name in PROPOSING)
    if name in PROPOSING:
        assert found.proposals.shape == found.rois.shape


def test_the_fcn_by_hand(tmp_path, scene):
    found = inspected(tmp_path, scene, "fcn")
    first, second, *_ = found.convolutions
    assert (first.kernel, first.stride, first.padding, first.inputs, first.outputs) == (3, 1, 1, 4, 4)
    assert (first.input_side, first.output_side) == (128, 128)  # (128 - 3 + 2) / 1 + 1
    assert first.parameters == 3 * 3 * 4 * 4 + 4
    assert first.macs == 3 * 3 * 4 * 4 * 128 * 128
    assert [layer.receptive_field for layer in found.convolutions] == [3, 5, 7, 9, 11, 11]
    assert found.kernels.shape == (4, 4, 3, 3)
    kernel = found.kernels[1].astype(np.float64)
    col, row = found.place
    image = (found.reflectance[:, row - 1 : row + 2, col - 1 : col + 2] - 0.1) / 0.02
    bias = small_weights(tmp_path, "fcn", first.name)[1]
    assert first.maps[1, row, col] == pytest.approx((kernel * image).sum() + bias, abs=1e-3)
    assert second.inputs == 4


def small_weights(folder, name: str, layer: str) -> np.ndarray:
    return open_bundle(str(folder / name)).state_dict()[f"{layer}.bias"].numpy()


def test_a_vehicle_is_proposed_and_its_crop_is_wider(tmp_path, scene):
    found = inspected(tmp_path, scene, "rcnn")
    centres = (found.proposals[:, :2] + found.proposals[:, 2:]) / 2
    nearest = int(np.abs(centres - found.place).max(axis=1).argmin())
    assert np.abs(centres[nearest] - found.place).max() < 3
    margins = np.abs(found.rois[nearest] - found.proposals[nearest])
    assert margins.tolist() == [3, 3, 3, 3]
    first = found.convolutions[0]
    assert (first.input_side, first.receptive_field) == (8, None)  # crops of 8 px
    assert first.macs == 3 * 3 * 4 * 4 * 64 * len(found.proposals)
    assert first.maps.shape == (4, 8, 8)


def test_windows_of_centres_have_13_px(tmp_path, scene):
    found = inspected(
        tmp_path, scene, "centernet2", arguments={**SMALL["centernet2"], "min_objectness": 1e-6}
    )
    assert len(found.rois)
    assert np.unique(found.rois[:, 2:] - found.rois[:, :2]).tolist() == [13]
    assert np.unique(found.proposals[:, 2:] - found.proposals[:, :2]).tolist() == [1]


def test_the_default_place(tmp_path, scene):
    found = inspected(tmp_path, scene, "fcn", at=None)
    assert (found.at, found.reason) == ((75, 70), "the middle of the scene")


def test_beyond_a_small_scene_nothing_is_valid(tmp_path):
    numbers = np.full((4, 20, 30), 1000, np.uint16)
    small = open_scene(str(write_geotiff(tmp_path / "small.tif", numbers)))
    found = inspected(tmp_path, small, "fcn", at=(29, 19))
    assert found.valid.shape == (128, 128)
    assert int(found.valid.sum()) == 600
    assert (found.origin, found.place) == ((0, 0), (29, 19))


@pytest.mark.parametrize("at", [(150, 0), (0, 140), (-1, 5)])
def test_a_place_outside_of_the_scene_is_refused(tmp_path, scene, at):
    with pytest.raises(
        ConfigError, match=r"outside of scene.* 150 x 140 pixels\. Choose a column from 0 to 149"
    ):
        inspected(tmp_path, scene, "fcn", at=at)


def test_a_scene_without_the_bands_is_refused(tmp_path, scene):
    with pytest.raises(BundleError, match="needs band B11"):
        inspected(tmp_path, scene, "fcn", bands=("B02", "B03", "B04", "B11"))
