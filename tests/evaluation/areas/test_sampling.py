import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin

from pipeline.errors import ConfigError, LabelsError
from pipeline.evaluation.areas.sampling import allocate, draw_sample, sample_size
from pipeline.layers.polygonise import regions
from pipeline.models.legend import DYNAMIC_WORLD
from tests.evaluation.areas.test_estimates import PIXELS
from tests.evaluation.landcover.test_labels import write_raster


def test_the_size_of_olofssons_example():
    """Section 5.1.1: user's accuracies 0.70, 0.60, 0.90, 0.95, a standard error of 0.01: 641 points."""
    assert sample_size(PIXELS, [0.70, 0.60, 0.90, 0.95], 0.01) == 641


def test_a_map_of_one_class_needs_what_a_simple_random_sample_does():
    assert sample_size([1000], [0.5], 0.05) == 100  # p (1 - p) / e^2


def test_allocations_of_olofssons_example():
    assert allocate(PIXELS, 641, "proportional").tolist() == [13, 10, 205, 413]
    assert allocate(PIXELS, 640, "equal").tolist() == [160, 160, 160, 160]
    assert allocate(PIXELS, 640, "mixed", at_least=75).tolist() == [75, 75, 162, 328]


def test_a_stratum_never_gives_more_than_it_has_and_never_less_than_two():
    assert allocate([30, 1_000_000], 200, "equal").tolist() == [30, 170]
    assert allocate([30, 1_000_000], 200, "mixed", at_least=50).tolist() == [30, 170]
    assert allocate([30, 1_000_000], 200, "proportional").tolist() == [2, 198]


@given(
    st.lists(st.integers(1, 10**8), min_size=1, max_size=9),
    st.sampled_from(["mixed", "proportional", "equal"]),
    st.integers(18, 5000),
)
def test_allocations_add_up_within_their_bounds(pixels, how, size):
    at_least = 2 if how != "mixed" else size // len(pixels)
    least = np.minimum(pixels, at_least)
    if size > sum(pixels):
        with pytest.raises(ConfigError, match=f"there are {sum(pixels)} pixels"):
            allocate(pixels, size, how, at_least)
        return
    points = allocate(pixels, size, how, at_least)
    assert points.sum() == size
    assert (points >= least).all()
    assert (points <= pixels).all()


def test_too_small_a_size_is_told_with_what_is_needed():
    with pytest.raises(ConfigError, match="4 classes with at least 75 points each need 300"):
        allocate(PIXELS, 200, "mixed", 75)


@pytest.fixture
def landcover(tmp_path):
    rng = np.random.default_rng(5)
    values = rng.choice([0, 1, 4, 255], size=(90, 70), p=[0.05, 0.45, 0.4, 0.1]).astype(np.uint8)
    return write_raster(tmp_path / "landcover.tif", values), values


def test_pixels_are_drawn_from_their_class(landcover):
    path, values = landcover
    sample = draw_sample(path, DYNAMIC_WORLD, size=200, at_least=30)
    assert len(sample) == 200
    assert values[sample.rows, sample.cols].tolist() == sample.stratum.tolist()
    assert len(set(zip(sample.rows, sample.cols, strict=True))) == 200
    assert sample.points.tolist() == [30, 91, 0, 0, 79, 0, 0, 0, 0]
    assert sample.pixels[[0, 1, 4]].tolist() == [(values == value).sum() for value in (0, 1, 4)]
    assert sample.xy[0].tolist() == [600_005 + 10 * sample.cols[0], 5_799_995 - 10 * sample.rows[0]]
    assert sample.hectares.sum() == pytest.approx((values != 255).sum() / 100)


def test_the_same_seed_draws_the_same_whatever_the_strips(landcover, monkeypatch):
    path, _ = landcover
    first, other = (draw_sample(path, DYNAMIC_WORLD, size=200, seed=seed) for seed in (1, 2))
    monkeypatch.setattr(regions.read_strips, "__defaults__", (7,))
    again = draw_sample(path, DYNAMIC_WORLD, size=200, seed=1)
    assert (again.rows.tolist(), again.cols.tolist()) == (first.rows.tolist(), first.cols.tolist())
    assert other.rows.tolist() != first.rows.tolist()


def test_every_pixel_of_a_class_is_as_likely(tmp_path):
    path = write_raster(tmp_path / "l.tif", np.repeat([[0, 1]], 6, axis=0).astype(np.uint8))
    drawn = np.zeros((6, 2))
    for seed in range(100):
        sample = draw_sample(path, DYNAMIC_WORLD, size=4, at_least=2, seed=seed)
        drawn[sample.rows, sample.cols] += 1
    assert drawn.sum(axis=0).tolist() == [200, 200]
    assert (np.abs(drawn - 100 / 3) < 24).all()  # five standard deviations of 4.7


def test_the_order_does_not_tell_the_class(landcover):
    stratum = draw_sample(landcover[0], DYNAMIC_WORLD, size=200).stratum
    assert 60 < (np.diff(stratum) != 0).sum() < 180


def test_without_a_size_the_standard_error_decides(landcover):
    path, _ = landcover
    sample = draw_sample(path, DYNAMIC_WORLD, None, 0.02, "proportional")
    assert len(sample) == 400  # 0.8 x 0.2 / 0.02^2
    assert sample.expected_error == pytest.approx(0.02, rel=0.01)
    better = draw_sample(path, DYNAMIC_WORLD, standard_error=0.02, expected_accuracy={"trees": 0.9})
    assert better.expected_accuracy[:2].tolist() == [0.8, 0.9]
    assert len(better) < 400
    assert len(draw_sample(path, DYNAMIC_WORLD, standard_error=0.5)) == 150  # what three rare classes need


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([[0, 9]], {}, "values that are no class: 9; expected 0 to 8"),
        ([[255, 255]], {}, "has no class anywhere"),
        ([[0, 1]], {"transform": from_origin(9, 52, 1e-4, 1e-4), "crs": "EPSG:4326"}, "isn't projected"),
        ([[0, 1]], {"crs": None}, "no CRS"),
    ],
)
def test_maps_that_cannot_be_sampled_are_refused(tmp_path, values, options, message):
    path = write_raster(tmp_path / "l.tif", np.array(values, np.uint8), **options)
    with pytest.raises(LabelsError, match=message):
        draw_sample(path, DYNAMIC_WORLD)


def test_expected_accuracies_are_of_classes_and_shares(landcover):
    with pytest.raises(ConfigError, match="Received: lava"):
        draw_sample(landcover[0], DYNAMIC_WORLD, expected_accuracy={"lava": 0.9})
    with pytest.raises(ConfigError, match="from 0 to 1"):
        draw_sample(landcover[0], DYNAMIC_WORLD, expected_accuracy={"water": 90})
