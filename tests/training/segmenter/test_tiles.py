"""Tiles of a teacher: a function of recipe and number, kept in files, damaged ones drawn again."""

import numpy as np
import pytest

from pipeline.inference.teacher import TeacherSettings
from pipeline.models.bundle import Card
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.scenes.atmosphere import top_of_atmosphere
from pipeline.training.segmenter.settings import TileSettings
from pipeline.training.segmenter.tiles import TeacherTiles, Tile, places_of
from tests.training.segmenter.test_ground import BANDS, place
from tests.training.segmenter.test_scenes import scene

NAMES = tuple(item.name for item in DYNAMIC_WORLD)
CARD = Card(
    id="test",
    version="1",
    task="segmentation",
    architecture="unet",
    bands=BANDS,
    optional_bands=BANDS[4:],
    mean=(0.0,) * 10,
    std=(1.0,) * 10,
    classes=DYNAMIC_WORLD,
    halo=0,
    stride=1,
)
TEACHER = TeacherSettings(
    model="none", bands=("B02", "B08"), classes=NAMES[::-1], mean=(0.0, 0.0), std=(1.0, 1.0)
)


class Oracle:
    """Bright is snow and dark is water, each with 0.8; its classes are in another order than the card's."""

    can_paint = False

    def probabilities(self, reflectance, bands):
        bright = reflectance[bands.index("B02")] > 0.2
        found = np.full((9, *bright.shape), 0.025, np.float32)
        found[0][bright] = found[8][~bright] = 0.8
        return found


@pytest.fixture
def tiles(tmp_path) -> TeacherTiles:
    settings = TileSettings(px=32, count=6, changed=0, mixed=0, transferred=0, painted=0)
    made = TeacherTiles([place()], CARD, TEACHER, settings, 1, tmp_path)
    made.__dict__["_teacher"] = Oracle()
    return made


def test_targets_are_sharpened_in_the_order_of_the_card(tiles):
    for number in range(6):
        tile = tiles.tile(number)
        sharp = 0.8**3 / (0.8**3 + 8 * 0.025**3)
        assert set(tile.target.argmax(axis=0).ravel().tolist()) <= {0, 8}
        assert tile.target.max() == round(255 * sharp)
        bright = tile.image[0] > 3500
        assert (tile.target.argmax(axis=0)[bright] == 8).all()


def test_a_class_that_is_absent_is_never_a_target(tiles):
    tiles.places = [place(absent=("snow and ice",))]
    assert not any(tiles.tile(number).target[8].any() for number in range(6))


def test_a_tile_is_drawn_once_and_again_if_its_file_is_damaged(tiles):
    first = tiles.tile(3)
    (path,) = tiles.folder.glob("*.npz")
    kept = path.stat().st_mtime_ns
    assert (tiles.tile(3).image == first.image).all()
    assert path.stat().st_mtime_ns == kept
    path.write_bytes(path.read_bytes()[:1000])
    assert Tile.load(path) is None
    assert (tiles.tile(3).image == first.image).all()
    assert Tile.load(path) is not None


def test_an_example_repeats_and_comes_with_and_without_the_atmosphere(tiles):
    image, target, weights = tiles[7]
    again = tiles[7]
    assert all((one == other).all() for one, other in zip((image, target, weights), again, strict=True))
    assert (image.shape, target.shape, weights.shape) == ((10, 32, 32), (9, 32, 32), (32, 32))
    assert target.sum(dim=0).allclose(target.new_ones(()), atol=0.02)
    blue = [float(tiles[6 * number][0][0].min()) for number in range(30)]  # always of tile 0
    assert min(blue) < 0.07
    assert max(blue) > 0.09


def test_the_student_sees_a_little_more_or_less_haze_than_the_teacher_saw(tiles):
    def blues():
        return {float(tiles[6 * number][0][0].min()) for number in range(40)}

    assert len(blues()) > 10
    tiles.settings = tiles.settings.model_copy(update={"haze_rest": 0.0, "level_spread": 0.0})
    assert len(blues()) == 2  # with the atmosphere, and without


def test_missing_bands_are_0(tiles):
    tiles.places = [place(lacks=("B8A",))]
    image, *_ = tiles[0]
    assert (image[BANDS.index("B8A")] == 0).all()
    assert (image[0] > 0).all()


def test_the_frequency_is_that_of_the_targets(tiles):
    frequency = tiles.frequency(4)
    assert frequency.sum() == pytest.approx(1)
    assert set(np.argsort(-frequency)[:2].tolist()) == {0, 8}


def test_another_recipe_has_other_files(tiles, tmp_path):
    other = TeacherTiles([place()], CARD, TEACHER, tiles.settings, 2, tmp_path)
    same = TeacherTiles(
        [place()], CARD, TEACHER, tiles.settings.model_copy(update={"count": 99}), 1, tmp_path
    )
    assert other.folder != tiles.folder == same.folder


def test_places_are_the_scenes_that_a_teacher_labels():
    assert places_of([scene()]) == []
    taught = scene()
    object.__setattr__(taught, "taught", np.ones(taught.shape, bool))
    object.__setattr__(taught, "tiles", 0.5)
    (found,) = places_of([taught])
    assert (found.name, found.share, found.hazy) == ("test", 0.5, True)


def test_in_pairs_neighbours_are_one_tile_with_and_without_its_atmosphere(tiles):
    tiles.in_pairs = True
    tiles.settings = tiles.settings.model_copy(update={"haze_rest": 0.0, "level_spread": 0.0})
    for number in range(4):
        (seen, target, _), (ground, same, _) = tiles[2 * number], tiles[2 * number + 1]
        assert (target == same).all()
        expected = top_of_atmosphere(ground.numpy(), BANDS, tiles.tile(number).haze)
        np.testing.assert_allclose(seen, expected, rtol=1e-5)
