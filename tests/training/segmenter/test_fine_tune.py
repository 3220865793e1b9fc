"""Somebody's own labels over a scene: read, split by block, refused where they can't work, learnt."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from shapely import box

from pipeline.errors import BundleError, LabelsError
from pipeline.models.bundle import Bundle, Card, open_bundle, save_bundle
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.models.registry import build_network
from pipeline.scenes.open import open_scene
from pipeline.training.segmenter.fine_tune import (
    OwnLandcover,
    fine_tune,
    labelled_blocks,
    legend,
    read_labels,
)

SIDE, WEST, NORTH = 128, 500_000, 5_000_000
BANDS = ("B02", "B03", "B04", "B08")
CARD = Card(
    id="tiny",
    version="1",
    task="segmentation",
    architecture="unet",
    arguments={"widths": [6, 8]},
    bands=(*BANDS, "B11"),
    optional_bands=("B11",),
    mean=(0.1,) * 5,
    std=(0.1,) * 5,
    classes=DYNAMIC_WORLD,
    halo=10,
    stride=2,
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Bundle:
    torch.manual_seed(0)
    return save_bundle(tmp_path_factory.mktemp("tiny"), CARD, build_network(CARD).state_dict())


@pytest.fixture(scope="module")
def imagery(tmp_path_factory) -> Path:
    """Four bands, bright in the odd 32 px squares of a chessboard; no data in the last 8 rows."""
    path = tmp_path_factory.mktemp("imagery") / "scene.tif"
    rows, cols = np.mgrid[:SIDE, :SIDE] // 32
    numbers = np.where((rows + cols) % 2, 4000, 500).astype(np.uint16)
    numbers[-8:] = 0
    with rasterio.open(path, "w", **profile("uint16", 4), nodata=0) as target:
        target.write(np.repeat(numbers[None], 4, axis=0))
        target.descriptions = BANDS
    return path


def profile(dtype: str, count: int = 1) -> dict:
    return {
        "driver": "GTiff",
        "height": SIDE,
        "width": SIDE,
        "count": count,
        "dtype": dtype,
        "crs": "EPSG:32633",
        "transform": from_origin(WEST, NORTH, 10, 10),
    }


def square(row: int, col: int, rows: int = 32, cols: int = 32):
    left, top = WEST + 10 * col, NORTH - 10 * row
    return box(left, top - 10 * rows, left + 10 * cols, top)


def write_polygons(path: Path, labels: list[str], shapes: list, column: str = "class") -> Path:
    gpd.GeoDataFrame({column: labels}, geometry=shapes, crs="EPSG:32633").to_file(path)
    return path


@pytest.fixture
def chessboard(tmp_path) -> Path:
    """Every square with its class."""
    squares = [(row, col) for row in range(4) for col in range(4)]
    return write_polygons(
        tmp_path / "labels.gpkg",
        ["orchard" if (row + col) % 2 else "water" for row, col in squares],
        [square(32 * row, 32 * col) for row, col in squares],
    )


def settings(imagery: Path, labels: Path, tiny: Bundle, **changes) -> OwnLandcover:
    small = {
        "imagery": str(imagery),
        "labels": labels,
        "initial": str(tiny.folder),
        "block_px": 32,
        "guard_px": 2,
        "crop_px": 32,
        "steps": 2,
        "check_every": 2,
        "batch": 2,
        "threads": 1,
        "precision": "float32",
    }
    return OwnLandcover(**(small | changes))


def blocks_of(given: OwnLandcover):
    scene = open_scene(given.imagery)
    return labelled_blocks(given, scene, read_labels(given, scene), CARD)


def test_one_s_own_classes_are_learnt(imagery, chessboard, tiny, tmp_path):
    given = settings(imagery, chessboard, tiny, steps=60, check_every=60, learning_rate=0.03, average=0.5)
    bundle = fine_tune(given, tmp_path / "out")
    card = open_bundle(str(tmp_path / "out" / "bundle")).card
    assert card == bundle.card
    assert [item.name for item in card.classes] == ["orchard", "water"]
    assert card.classes[1].colour == DYNAMIC_WORLD[0].colour
    assert (card.bands, card.optional_bands, card.halo) == (CARD.bands, ("B11",), 10)
    assert card.quality["held_out"]["accuracy"] > 0.9
    assert "before_fine_tuning" not in card.quality
    assert card.training_data[0]["licence"] == "not stated"
    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert evaluation["confusion_matrix"]["classes"] == ["orchard", "water"]
    assert evaluation["pixels"] == card.quality["held_out"]["pixels"]
    assert (tmp_path / "out" / "learning_curve.png").is_file()


def test_with_known_classes_it_says_how_good_it_was_before(imagery, tiny, tmp_path):
    labels = np.full((SIDE, SIDE), 255, np.uint8)
    rows, cols = np.mgrid[:SIDE, :SIDE] // 32
    labels[:64] = np.where((rows + cols) % 2, 6, 0)[:64]
    with rasterio.open(tmp_path / "labels.tif", "w", **profile("uint8"), nodata=255) as target:
        target.write(labels, 1)
    card = fine_tune(settings(imagery, tmp_path / "labels.tif", tiny), tmp_path / "out").card
    assert [item.name for item in card.classes] == ["water", "built"]
    assert card.quality["before_fine_tuning"]["pixels"] == card.quality["held_out"]["pixels"]


def test_whole_blocks_are_held_out_and_labels_near_them_are_not_learnt(imagery, chessboard, tiny):
    learnt, kept = blocks_of(settings(imagery, chessboard, tiny))
    assert len(learnt) + len(kept) == 16
    assert len(kept) == 4
    assert {name.split()[-1] for name in (one.name for one in learnt)}.isdisjoint(
        name.split()[-1] for name in (one.name for one in kept)
    )
    assert sum((one.weights > 0).sum() for one in learnt) < 12 * 32 * 32
    assert not any((one.weights > 0).any() for one in kept)
    assert np.isnan(learnt[0].reflectance[4]).all()  # the optional band that the scene lacks
    again, _ = blocks_of(settings(imagery, chessboard, tiny))
    assert [one.name for one in again] == [one.name for one in learnt]
    other, _ = blocks_of(settings(imagery, chessboard, tiny, seed=5))
    assert [one.name for one in other] != [one.name for one in learnt]


def test_values_can_be_given_names(imagery, tiny, tmp_path):
    numbers = write_polygons(
        tmp_path / "n.gpkg", [1.0, 2.0, 3.0, 3.0], [square(0, 32 * i) for i in range(4)], "code"
    )
    given = settings(
        imagery, numbers, tiny, class_field="code", classes={"wood": [1, 2], "lake": ["3"], "rock": [9]}
    )
    labels = read_labels(given, open_scene(str(imagery)))
    assert labels.names == ("wood", "lake")


def test_where_polygons_overlap_the_smaller_counts(imagery, tiny, tmp_path):
    path = write_polygons(tmp_path / "p.gpkg", ["wood", "pond"], [square(0, 0, 64, 64), square(8, 8, 4, 4)])
    given = settings(imagery, path, tiny)
    labels = read_labels(given, open_scene(str(imagery)))
    classes = labels.read(rasterio.windows.Window(0, 0, SIDE, SIDE))
    assert (classes == labels.names.index("pond")).sum() == 16


def test_new_classes_get_colours_of_their_own():
    names = ("orchard", "trees", "vineyard")
    colours = [item.colour for item in legend(names, CARD)]
    assert colours[1] == DYNAMIC_WORLD[1].colour
    assert len(set(colours)) == 3


@pytest.mark.parametrize(
    ("labels", "shapes", "message"),
    [
        ([], [], "holds no polygons"),
        (["wood", "wood"], [square(0, 0), square(0, 64)], "one class only, wood"),
        (["wood", "lake"], [square(9000, 0), square(9000, 64)], "None of the labels .* lies in"),
        (
            ["wood", "lake"],
            [square(0, 0, 8, 8), square(16, 0, 8, 8)],
            "can be held out without losing a class",
        ),
        (["wood", "lake"] * 2, [square(121, 32 * i, 6, 6) for i in range(4)], "without data only"),
    ],
    ids=["empty", "one class", "elsewhere", "one block", "no data"],
)
def test_labels_that_can_t_work_are_refused(imagery, tiny, tmp_path, labels, shapes, message):
    path = write_polygons(tmp_path / "bad.gpkg", labels, shapes)
    with pytest.raises(LabelsError, match=message):
        fine_tune(settings(imagery, path, tiny), tmp_path / "out")
    assert not (tmp_path / "out" / "bundle").exists()


def test_a_class_that_the_configuration_does_not_name_is_refused(imagery, chessboard, tiny, tmp_path):
    given = settings(imagery, chessboard, tiny, classes={"water": ["water"], "built": []})
    with pytest.raises(LabelsError, match="holds orchard, which classes in the configuration does not name"):
        fine_tune(given, tmp_path / "out")


def test_values_of_a_raster_that_mean_nothing_are_refused(imagery, tiny, tmp_path):
    with rasterio.open(tmp_path / "l.tif", "w", **profile("uint8")) as target:
        target.write(np.repeat([[10, 20]], SIDE * SIDE // 2, axis=0).reshape(1, SIDE, SIDE).astype(np.uint8))
    with pytest.raises(LabelsError, match=r"no Dynamic World class \(10, 20\)"):
        fine_tune(settings(imagery, tmp_path / "l.tif", tiny), tmp_path / "out")
    given = settings(imagery, tmp_path / "l.tif", tiny, classes={"corn": [10], "wheat": [20]})
    assert read_labels(given, open_scene(str(imagery))).names == ("corn", "wheat")


def test_a_missing_column_is_named(imagery, chessboard, tiny, tmp_path):
    with pytest.raises(LabelsError, match=r"no column landuse .* It has: class"):
        fine_tune(settings(imagery, chessboard, tiny, class_field="landuse"), tmp_path / "out")


def test_missing_labels_are_named(imagery, tiny, tmp_path):
    with pytest.raises(LabelsError, match="not found"):
        fine_tune(settings(imagery, tmp_path / "none.gpkg", tiny), tmp_path / "out")


def test_a_scene_without_a_needed_band_is_refused(imagery, chessboard, tiny, tmp_path):
    card = CARD.model_copy(update={"bands": (*BANDS, "B05"), "optional_bands": ()})
    needy = save_bundle(tmp_path / "needy", card, tiny.state_dict())
    with pytest.raises(BundleError, match="needs band B05"):
        fine_tune(settings(imagery, chessboard, needy), tmp_path / "out")


def test_nan_is_no_data(tiny, tmp_path, chessboard):
    numbers = np.full((4, SIDE, SIDE), 0.2, np.float32)
    numbers[:, :32] = np.nan
    path = tmp_path / "nan.tif"
    with rasterio.open(path, "w", **profile("float32", 4)) as target:
        target.write(numbers)
        target.descriptions = BANDS
    learnt, kept = blocks_of(settings(path, chessboard, tiny))
    assert len(learnt) + len(kept) < 16
    assert all(np.isfinite(one.reflectance[:4, one.valid]).all() for one in (*learnt, *kept))
