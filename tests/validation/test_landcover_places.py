"""A model at a place: its map is that of a run, references are on its grid, and blocks and bands are kept."""

from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from rasterio.windows import Window

from pipeline.config import Engine, load_config
from pipeline.errors import ConfigError
from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.models.bundle import save_bundle
from pipeline.models.halo import with_halo
from pipeline.models.registry import build_network
from pipeline.run import Request, merged, prepare, run_shards
from pipeline.scenes.atmosphere import top_of_atmosphere
from pipeline.scenes.raster.read import read_pixels
from pipeline.validation.landcover_places import LandcoverPlace, OpenPlace, observe_landcover
from tests.conftest import write_geotiff
from tests.models.test_unet import small_card

ENGINE = Engine(threads=1, precision="float32")
BANDS = ("B02", "B03", "B04", "B08")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.manual_seed(3)
    card = with_halo(small_card(bands=BANDS, mean=(0.1,) * 4, std=(0.05,) * 4, optional_bands=("B04", "B08")))
    network = build_network(card).eval()
    with torch.no_grad():  # untrained networks give one class everywhere
        logits = network(torch.randn(1, 4, 64, 64))
        network.head.weight.mul_(1 / logits.std())
        network.head.bias.sub_(network(torch.randn(1, 4, 64, 64)).mean(dim=(0, 2, 3)))
    return save_bundle(tmp_path_factory.mktemp("bundle"), card, network.state_dict())


@pytest.fixture
def scene(tmp_path):
    numbers = np.random.default_rng(0).integers(300, 3000, (4, 70, 90)).astype(np.uint16)
    numbers[:, :5, :7] = 0
    return write_geotiff(tmp_path / "scene.tif", numbers)


class Blue:
    """Teacher that calls pixels with more than 0.1 in B02 trees, and all others built."""

    bands = ("B02", "B08")
    settings = SimpleNamespace(classes=("built", "trees"))

    def probabilities(self, reflectance, bands):
        trees = reflectance[bands.index("B02")] > 0.1
        return np.stack([~trees, trees]).astype(np.float32)


def read_raster(path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def opened(scene, **changes) -> OpenPlace:
    return OpenPlace.of(LandcoverPlace(name="here", scene=str(scene), **{"level": "L1C", **changes}))


def test_the_map_is_that_of_a_run(scene, bundle, tmp_path):
    settings = ["trucks.enabled=false", f"landcover.bundle={bundle.folder}", "engine.precision=float32"]
    job = prepare(Request(str(scene), tmp_path / "out", load_config(None, settings)))
    run_shards(job, range(len(job.shards)))
    expected = read_raster(merged(job).landcover_raster)
    got = opened(scene).found(bundle, ENGINE)
    assert (got[:5, :7] == UNLABELLED).all()
    assert (got != expected).mean() < 1e-3


def test_bands_are_left_out_as_if_the_scene_lacked_them(scene, bundle):
    complete, without = opened(scene), opened(scene).without(("B08",))
    assert set(complete.scene.bands) - set(without.bands) == {"B08"}
    found = complete.found(bundle, ENGINE, ("B08",))
    assert (found != complete.found(bundle, ENGINE)).any()
    assert (found[10:] != UNLABELLED).all()


@pytest.mark.parametrize(("level", "haze"), [("L1C", 1.0), ("L2A", 1.0), ("L2A", 0.3)])
def test_the_teacher_sees_l2a_through_an_atmosphere(scene, bundle, level, haze):
    place = opened(scene, level=level, haze=haze)
    pixels = read_pixels(place.scene, Window(0, 0, 90, 70), ("B02",))
    blue = pixels.reflectance
    if level == "L2A":
        blue = top_of_atmosphere(blue, ("B02",), haze)
    got = place.teacher_classes(Blue(), bundle.card)
    names = np.array([item.name for item in bundle.card.classes])
    assert (names[got[pixels.valid]] == np.where(blue[0] > 0.1, "trees", "built")[pixels.valid]).all()
    assert (got[~pixels.valid] == UNLABELLED).all()


def test_a_scene_without_the_teachers_bands_has_no_teacher(scene, bundle):
    teacher = Blue()
    teacher.bands = ("B02", "B12")
    assert opened(scene).teacher_classes(teacher, bundle.card) is None


def test_only_the_given_blocks_count(scene, bundle):
    place = opened(scene, within=((10, 20, 30, 40), (0, 60, 2, 100)))
    expected = np.zeros((70, 90), bool)
    expected[10:40, 20:60] = expected[0:2, 60:90] = True
    for classes in (place.found(bundle, ENGINE), place.teacher_classes(Blue(), bundle.card)):
        np.testing.assert_array_equal(classes != UNLABELLED, expected)


def test_samples_are_logits_whose_largest_is_the_map(scene, bundle):
    place = opened(scene)
    found = place.found(bundle, ENGINE)
    assert len(np.unique(found)) > 3
    reference = np.full(found.shape, UNLABELLED, np.uint8)
    reference[20:40, 10:30] = found[20:40, 10:30]
    logits, truth = place.samples(bundle, ENGINE, reference)
    assert logits.shape == (400, 9)
    assert (logits.argmax(axis=1) == truth).mean() > 0.99


def test_labels_take_precedence_over_the_teacher_in_what_is_calibrated_on(product, bundle):
    place = opened(product.safe, labels=product.landcover, level=None)
    teacher = np.full(place.scene.shape, 3, np.uint8)
    observed = observe_landcover(place, bundle, ENGINE, lambda _: teacher, [("B08",)])
    assert observed.level == "L2A"
    assert list(observed.without) == [("B08",)]
    labelled = (observed.labels != UNLABELLED) & (observed.found != UNLABELLED)
    assert labelled.any()
    truth = read_raster(product.landcover)
    np.testing.assert_array_equal(observed.labels[labelled], truth[labelled])
    assert len(observed.truth) == len(observed.logits) > 1000
    assert set(np.unique(observed.truth)) - {3} <= set(np.unique(truth))


def test_a_level_that_nobody_knows_is_asked_for(scene):
    with pytest.raises(ConfigError, match="Place here: the level of scene is not known"):
        opened(scene, level=None)
