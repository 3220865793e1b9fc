"""Models side by side: the same scenes, pooled; every figure where it belongs."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rasterio.windows import Window
from typer.testing import CliRunner

from pipeline import cli
from pipeline.config import Engine
from pipeline.errors import BundleError, ConfigError
from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.inference.teacher import TeacherSettings
from pipeline.models.bundle import Bundle, save_bundle
from pipeline.models.halo import with_halo
from pipeline.models.registry import build_network
from pipeline.scenes.raster.read import read_pixels
from pipeline.training.detector.train import blank_card
from pipeline.validation.compare_models import (
    compare,
    compare_with_teacher,
    milliseconds_per_megapixel,
    places_of,
)
from pipeline.validation.landcover_card import LandcoverMeasurement
from pipeline.validation.landcover_places import LandcoverPlace, OpenPlace
from tests.models.test_unet import small_card

BANDS = ("B02", "B03", "B04", "B08")
ENGINE = Engine(threads=1, precision="float32")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("pipeline.validation.compare_models.TIMED_PX", 64)
    monkeypatch.setattr("pipeline.validation.compare_models._REPEATS", 1)
    monkeypatch.setattr("pipeline.validation.compare_models.SEGMENTED_PX", 64)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Bundle]:
    """Untrained ones of three families."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bundles")
    small = {"channels": [8, 8, 8], "features": 8}
    cards = {
        "faster_rcnn": blank_card(arguments=small | {"head": 8}),
        "fcos": blank_card("fcos", small | {"convolutions": 1}),
        "unet": with_halo(small_card(bands=BANDS, mean=(0.1,) * 4, std=(0.1,) * 4)),
    }
    built = {name: build_network(card) for name, card in cards.items()}
    # A network that knows nothing proposes a truck at every pixel, and all of them would be measured.
    torch.nn.init.constant_(built["faster_rcnn"].rpn.head.cls_logits.bias, -4.0)
    return {name: save_bundle(folder / name, card, built[name].state_dict()) for name, card in cards.items()}


def test_detectors_are_compared_on_the_same_trucks(bundles, product):
    names = [str(bundles[name].folder) for name in ("faster_rcnn", "fcos")]
    places = places_of([str(product.safe)], [product.trucks], [product.roads])
    first, second = compare(names, places, ENGINE)
    assert (first.family, second.family) == ("faster_rcnn", "fcos")
    assert list(first.scores) == ["AP", "precision", "recall", "F1"]
    assert 0 <= first.scores["AP"] <= 1
    assert first.parameters == sum(
        parameter.numel() for parameter in build_network(bundles["faster_rcnn"].card).parameters()
    )
    assert first.halo == 44
    assert first.receptive_field == 62
    assert second.kilomacs_px > 0
    assert first.ms_per_mpx > 0
    assert 0 <= first.proposals.recall <= 1
    assert second.proposals is None


def test_segmenters_are_compared_on_the_same_pixels(bundles, product):
    places = places_of([str(product.safe)], [product.landcover])
    (line,) = compare([str(bundles["unet"].folder)], places, ENGINE)
    assert list(line.scores) == ["OA", "mIoU"]
    assert 0 <= line.scores["mIoU"] <= line.scores["OA"] <= 1


class Reds:
    """Teacher for which bright ground is built, and the rest water."""

    bands = ("B04",)
    settings = SimpleNamespace(classes=("water", "built"))

    def __init__(self, settings, threads):
        pass

    def probabilities(self, reflectance, bands):
        return np.concatenate([reflectance < 0.1, reflectance >= 0.1]).astype(np.float32)


def at_places(*scenes, **changes) -> LandcoverMeasurement:
    teacher = TeacherSettings(model="none", bands=("B04",), classes=("water", "built"), mean=(0,), std=(1,))
    places = [
        LandcoverPlace(name=f"place-{i}", scene=str(scene), level="L2A") for i, scene in enumerate(scenes)
    ]
    return LandcoverMeasurement(**{"teacher": teacher, "calibration": places, "threads": 1, **changes})


def test_segmenters_are_compared_with_a_teacher_at_places(bundles, product, monkeypatch, tmp_path):
    monkeypatch.setattr("pipeline.validation.compare_models.Teacher", Reds)
    monkeypatch.setattr("pipeline.validation.landcover_places.top_of_atmosphere", lambda pixels, *_: pixels)
    folder = bundles["unet"].folder
    copy = shutil.copytree(folder, tmp_path / "copy")
    said: list[str] = []
    first, second = compare_with_teacher([str(folder), str(copy)], at_places(product.safe), said.append)
    assert said == ["place 1 of 1: place-0", "speed"]
    assert (first.model, second.model) == (f"small-1, {folder}", f"small-1, {copy}")
    assert first.scores == second.scores
    place = OpenPlace.of(at_places(product.safe).calibration[0])
    found = place.found(bundles["unet"], ENGINE)
    red = read_pixels(place.scene, Window(0, 0, 256, 256), ("B04",)).reflectance[0]
    agrees = (found == np.where(red < 0.1, 0, 6))[found != UNLABELLED]
    assert first.scores["agreement"] == pytest.approx(agrees.mean(), abs=0.02)  # found in half precision


def test_what_a_comparison_with_a_teacher_needs(bundles, product, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.validation.compare_models.Teacher", Reds)
    unet = [str(bundles["unet"].folder)]
    with pytest.raises(BundleError, match=r"compared with a teacher\. Received: trucks"):
        compare_with_teacher([str(bundles["fcos"].folder)], at_places(product.safe))
    with pytest.raises(BundleError, match="Received: no bundle"):
        compare_with_teacher([], at_places(product.safe))
    with pytest.raises(ConfigError, match="needs a teacher"):
        compare_with_teacher(unet, at_places(product.safe, teacher=None))
    with pytest.raises(ConfigError, match=r"bands B04\. Received: no calibration places"):
        compare_with_teacher(unet, at_places())
    config = tmp_path / "places.yaml"
    config.write_text("{}")
    arguments = ["models", "compare", *unet, "--scene", "a.tif", "--config", str(config), "--out", "x"]
    result = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "leave --scene, --labels and --roads out" in " ".join(result.output.split())


def test_detectors_and_segmenters_are_not_compared_with_each_other(bundles):
    places = places_of(["a.tif"], [Path("a.gpkg")])
    with pytest.raises(BundleError, match=r"not both at once\. Received: trucks \(detection\), small"):
        compare([str(bundles["fcos"].folder), str(bundles["unet"].folder)], places)


def test_every_scene_needs_its_labels():
    with pytest.raises(ConfigError, match="Received: 2 scenes, 1 labels, 0 roads"):
        places_of(["a.tif", "b.tif"], [Path("a.gpkg")])
    with pytest.raises(ConfigError, match="each with its labels"):
        compare(["trucks"], ())


def test_time_is_that_of_one_thread_and_threads_are_left_as_they_were(bundles, product):
    (place,) = places_of([str(product.safe)], [product.trucks])
    before = torch.get_num_threads()
    assert 0 < milliseconds_per_megapixel(bundles["fcos"], place, ENGINE) < 1e6
    assert torch.get_num_threads() == before


def test_the_command_leaves_a_table_and_a_picture(bundles, product, tmp_path):
    arguments = ["models", "compare", str(bundles["fcos"].folder), "--scene", str(product.safe)]
    result = CliRunner().invoke(
        cli.app, [*arguments, "--labels", str(product.trucks), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    assert "fcos" in result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "comparison.json",
        "comparison.md",
        "comparison.png",
    ]
