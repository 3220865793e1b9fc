"""Models side by side: the same scenes, pooled; every figure where it belongs."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pipeline import cli
from pipeline.config import Engine
from pipeline.errors import BundleError, ConfigError
from pipeline.models.bundle import Bundle, save_bundle
from pipeline.models.halo import with_halo
from pipeline.models.registry import build_network
from pipeline.training.detector.train import blank_card
from pipeline.validation.compare_models import compare, milliseconds_per_megapixel, places_of
from tests.models.test_unet import small_card

BANDS = ("B02", "B03", "B04", "B08")
ENGINE = Engine(threads=1, precision="float32")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("pipeline.validation.compare_models.TIMED_PX", 64)
    monkeypatch.setattr("pipeline.validation.compare_models._REPEATS", 1)


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
    assert first.halo == 48
    assert first.receptive_field == 62
    assert second.kilomacs_px > 0
    assert first.ms_per_mpx > 0


def test_segmenters_are_compared_on_the_same_pixels(bundles, product):
    places = places_of([str(product.safe)], [product.landcover])
    (line,) = compare([str(bundles["unet"].folder)], places, ENGINE)
    assert list(line.scores) == ["OA", "mIoU"]
    assert 0 <= line.scores["mIoU"] <= line.scores["OA"] <= 1


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
