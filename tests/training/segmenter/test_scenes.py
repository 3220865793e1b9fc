"""Labelled scenes: complete ones and blocks of them; what is held out stays out."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio

from pipeline.errors import LabelsError
from pipeline.evaluation.landcover.labels import UNLABELLED
from pipeline.models.bundle import Card
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.training.segmenter.scenes import (
    LabelledScene,
    OpenSource,
    masked,
    simulated_scene,
    trusted,
    without_land_use,
)
from pipeline.training.segmenter.settings import FineTuning, LandcoverSource, SegmenterTraining
from tests.training.segmenter.places import SIDE, chessboard, imagery, profile, square, write_polygons

__all__ = ["chessboard", "imagery"]  # fixtures

BANDS = ("B02", "B03", "B04", "B08")
CARD = Card(
    id="test",
    version="1",
    task="segmentation",
    architecture="unet",
    bands=BANDS,
    mean=(0.0,) * 4,
    std=(1.0,) * 4,
    classes=DYNAMIC_WORLD,
    halo=0,
    stride=1,
)


def scene(height: int = 40, width: int = 60) -> LabelledScene:
    """A scene whose classes can be read off its pixels: reflectance 0.1 for class 0, 0.2 for class 1..."""
    classes = (np.arange(height * width).reshape(height, width) // 7 % 9).astype(np.uint8)
    return LabelledScene(
        name="test",
        kind="test",
        reflectance=np.repeat((classes[None] + 1) * np.float32(0.1), 4, axis=0),
        valid=np.ones((height, width), bool),
        classes=classes,
        weights=np.ones((height, width), np.float32),
        labels=classes,
        trust=trusted({"snow and ice": 0.0}, [item.name for item in DYNAMIC_WORLD]),
    )


def test_held_out_blocks_and_their_guard_bands_have_no_weight():
    held = masked(replace(scene(), held_out=((10, 20, 10, 10),)), guard_px=3)
    assert held.held_out_mask.sum() == 100
    assert (held.weights == 0).sum() == 16 * 16
    assert not held.weights[7:23, 17:33].any()


def test_land_use_can_be_left_out():
    land_use = np.full((40, 60), UNLABELLED, np.uint8)
    land_use[10:20, 12:14] = 4
    labelled = replace(scene(), land_use=land_use, classes=np.full((40, 60), 4, np.uint8))
    before = without_land_use(replace(labelled, held_out=((0, 40, 40, 20),)), 2)
    assert before.classes is labelled.labels
    assert not before.weights[:, 38:].any()
    assert ((before.weights[:, :38] > 0) == (labelled.labels[:, :38] != 8)).all()


def test_simulated_scenes_bring_their_truth_and_clouds_do_not_count():
    labelled = simulated_scene(96, 5, CARD)
    assert labelled.reflectance.shape == (4, 96, 96)
    assert set(np.unique(labelled.classes)) <= set(range(9))
    assert (labelled.weights[labelled.labels == UNLABELLED] == 0).all()
    assert not masked(simulated_scene(96, 5, CARD, held_out=True), 0).centres


def test_land_use_is_trusted_over_the_labels(shared_data):
    place = shared_data / "landcover" / "brandenburg"
    source = LandcoverSource(
        imagery=str(place),
        labels=place / "dynamicworld_pseudolabel.tif",
        land_use=place / "osm_landuse_west.gpkg",
        held_out=((0, 256, 256, 256),),
    )
    settings = SegmenterTraining(labelled=(source,))
    (labelled,) = OpenSource.of(source, settings.classes).read(CARD, settings)
    assert labelled.reflectance.shape == (4, 768, 1536)
    certain = labelled.weights == 3
    assert certain.sum() > 50_000
    assert (labelled.classes[certain] == labelled.land_use[certain]).all()
    assert (labelled.labels[certain] != labelled.land_use[certain]).mean() > 0.3
    at_edges = (labelled.land_use != UNLABELLED) & ~certain & (labelled.weights > 0)
    assert (labelled.land_use[at_edges] == labelled.labels[at_edges]).all()
    assert not masked(labelled, 32).weights[labelled.held_out_mask].any()


TINY = CARD.model_copy(
    update={"bands": (*BANDS, "B11"), "optional_bands": ("B11",), "mean": (0.1,) * 5, "std": (0.1,) * 5}
)


def blocks_of(imagery, labels, card=TINY, **changes):
    """The blocks to learn from and those held out."""
    settings = FineTuning(block_px=32, guard_px=2, crop_px=32, **changes)
    source = LandcoverSource(imagery=str(imagery), labels=labels)
    opened = OpenSource.of(source, None)
    names = sorted(set(opened.labels.names.values()))
    classes = tuple(
        item.model_copy(update={"name": name}) for item, name in zip(DYNAMIC_WORLD, names, strict=False)
    )
    scenes = opened.read(card.model_copy(update={"classes": classes}), settings)
    return [one for one in scenes if not one.held_out], [one for one in scenes if one.held_out]


def test_blocks_are_held_out_completely_and_labels_near_them_are_not_learned(imagery, chessboard):
    learned, kept = blocks_of(imagery, chessboard)
    assert (len(learned), len(kept)) == (12, 4)
    assert sum(one.learned for one in learned) < 12 * 32 * 32
    assert sum(int(one.held_out_mask.sum()) for one in kept) == 4 * 32 * 32
    assert not any(masked(one, 2).learned for one in kept)
    assert np.isnan(learned[0].reflectance[4]).all()  # the optional band that the scene lacks
    again, _ = blocks_of(imagery, chessboard)
    assert all((one.labels == other.labels).all() for one, other in zip(learned, again, strict=True))
    other, _ = blocks_of(imagery, chessboard, seed=5)
    assert [one.shape for one in other] != [one.shape for one in learned]


def test_points_are_held_out_by_block_and_those_near_it_are_not_learned(imagery, tmp_path):
    """A point every 4 px: 64 in a block. The first row and column of them are 1 px from other blocks."""
    at = [(row, col) for row in range(1, SIDE, 4) for col in range(1, SIDE, 4)]
    shapes = [square(row, col, 1, 1).centroid for row, col in at]
    kinds = ["orchard" if (row // 32 + col // 32) % 2 else "water" for row, col in at]
    path = write_polygons(tmp_path / "points.gpkg", kinds, shapes)
    learned, kept = blocks_of(imagery, path)
    assert (len(learned), len(kept)) == (12, 4)
    assert all((one.labels[one.held_out_mask] != UNLABELLED).sum() == 64 for one in kept)
    assert not any(masked(one, 2).learned for one in kept)
    near = [int(((one.labels != UNLABELLED) & (one.weights == 0)).sum()) for one in learned]
    assert set(near) <= {0, 1, 8, 15} and max(near) >= 8  # a corner, a side, two sides
    assert all(one.learned <= 64 - hidden for one, hidden in zip(learned, near, strict=True))


def test_at_most_so_many_blocks_are_read(imagery, chessboard):
    learned, kept = blocks_of(imagery, chessboard, blocks=8)
    assert len(learned) + len(kept) == 8


@pytest.mark.parametrize(
    ("labels", "shapes", "message"),
    [
        (["wood", "lake"], [square(9000, 0), square(9000, 64)], "None of the labels .* is in"),
        (
            ["wood", "lake"],
            [square(0, 0, 8, 8), square(16, 0, 8, 8)],
            "can be held out without losing a class",
        ),
        (["wood", "lake"] * 2, [square(121, 32 * i, 6, 6) for i in range(4)], "without data only"),
    ],
    ids=["elsewhere", "one block", "no data"],
)
def test_labels_in_the_wrong_place_are_refused(imagery, tmp_path, labels, shapes, message):
    path = write_polygons(tmp_path / "bad.gpkg", labels, shapes)
    with pytest.raises(LabelsError, match=message):
        blocks_of(imagery, path)


def test_nan_is_no_data(tmp_path, chessboard):
    numbers = np.full((4, SIDE, SIDE), 0.2, np.float32)
    numbers[:, :32] = np.nan
    path = tmp_path / "nan.tif"
    with rasterio.open(path, "w", **profile("float32", 4)) as target:
        target.write(numbers)
        target.descriptions = BANDS
    learned, kept = blocks_of(path, chessboard)
    assert len(learned) + len(kept) < 16
    assert all(np.isfinite(one.reflectance[:4, one.valid]).all() for one in (*learned, *kept))
