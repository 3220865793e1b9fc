"""Labelled imagery: boxes land in pixels, blocks are held out whole, bad labels are told in one line."""

import logging

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from pipeline.errors import LabelsError, MissingBandError
from pipeline.simulation.chips.chip import HEAVY, LIGHT
from pipeline.training.detector.labelled import draw_labelled_chip, read_labelled
from pipeline.training.detector.settings import LabelSettings, TruckSource
from tests.conftest import write_geotiff

BANDS = ("B02", "B03", "B04", "B08")


WEST, NORTH = 600000, 5800000


PLACES = [(20, 20), (30, 90), (80, 20), (150, 40), (170, 150), (40, 160), (100, 100), (120, 30)]
"""Columns and rows of trucks in a scene of 192 x 192 px."""


def write_boxes(path, places=PLACES, side=4.0, crs="EPSG:32632", **columns):
    """Square boxes of `side` px around pixel places (column, row)."""
    geometry = [
        shapely.box(
            WEST + 10 * (col - side / 2), NORTH - 10 * (row + side / 2),
            WEST + 10 * (col + side / 2), NORTH - 10 * (row - side / 2),
        )
        for col, row in places
    ]  # fmt: skip
    frame = gpd.GeoDataFrame(columns, geometry=geometry, crs="EPSG:32632")
    frame.to_crs(crs).to_file(path, layer="trucks")
    return path


@pytest.fixture
def boxes(tmp_path):
    return write_boxes(tmp_path / "boxes.gpkg")


def read(scene, boxes, seed=0, **settings):
    of_source = {name: settings.pop(name) for name in ("complete", "bands") if name in settings}
    source = TruckSource(imagery=str(scene), labels=boxes, **of_source)
    return read_labelled(source, LabelSettings(**{"block_px": 64} | settings), BANDS, seed)


def test_a_block_beyond_the_scene_is_filled_up_without_data(scene, tmp_path):
    (ground,) = read(scene, write_boxes(tmp_path / "b.gpkg", [(20, 20)]), held_out=0, block_px=256).training
    assert ground.reflectance.shape == (4, 256, 256)
    np.testing.assert_allclose(ground.reflectance[0, 5, 99:104], [0.1, 0.2, 0.2, 0.2, 0.1])
    assert not ground.reflectance[:, 192:].any()
    assert not ground.reflectance[:, :, 192:].any()


def test_every_certain_box_is_learned_or_held_out_where_it_is(scene, boxes):
    found = read(scene, boxes, guard_px=0)
    assert sum(found.trucks) == len(PLACES)
    assert found.trucks[1] >= 0.25 * len(PLACES)
    for ground in (*found.training, *found.held_out):
        assert ground.reflectance.shape == (4, 64, 64)
        np.testing.assert_allclose(ground.boxes[:, 2:] - ground.boxes[:, :2], 4, atol=1e-3)


def test_labels_in_degrees_land_on_the_same_pixels(scene, boxes, tmp_path):
    other = read(scene, write_boxes(tmp_path / "degrees.gpkg", crs="EPSG:4326"))
    here = read(scene, boxes)
    assert other.trucks == here.trucks
    for theirs, ours in zip(other.training, here.training, strict=True):
        np.testing.assert_allclose(theirs.boxes, ours.boxes, atol=0.05)


def test_the_split_repeats_and_depends_on_the_seed(scene, boxes):
    areas = [read(scene, boxes, seed).held_out_area.geometry.to_wkt().tolist() for seed in (0, 0, 1, 2, 3)]
    assert areas[0] == areas[1]
    assert any(area != areas[0] for area in areas[2:])


@pytest.mark.parametrize("seed", range(4))
def test_nothing_of_a_held_out_block_nor_its_guard_is_shown(scene, tmp_path, seed):
    """Trucks on both sides of every edge of every block; then where held-out ground is, is only nodata."""
    edges = [(at, across) for at in range(62, 192, 64) for across in range(10, 190, 30)]
    places = edges + [(col + 4, row) for col, row in edges] + [(row, col) for col, row in edges]
    found = read(scene, write_boxes(tmp_path / "edges.gpkg", places), seed, guard_px=6)
    guarded = found.held_out_area.union_all().buffer(60, join_style="mitre").buffer(-0.001)
    blocks = [(col, row) for row in range(0, 192, 64) for col in range(0, 192, 64)]
    boxes = {
        index: shapely.box(WEST + 10 * left, NORTH - 10 * top - 640, WEST + 10 * left + 640, NORTH - 10 * top)
        for index, (left, top) in enumerate(blocks)
    }
    training = [
        index for index, box in boxes.items() if not found.held_out_area.union_all().contains(box.centroid)
    ]
    assert len(training) == len(found.training)
    for index, ground in zip(training, found.training, strict=True):
        left, top = blocks[index]
        rows, cols = np.nonzero(ground.reflectance.any(axis=0))
        shown = shapely.points(WEST + 10 * (left + cols + 0.5), NORTH - 10 * (top + rows + 0.5))
        assert len(shown) and not shapely.intersects(guarded, shown).any()
        for box in ground.boxes:
            col, row = left + (box[0] + box[2]) / 2, top + (box[1] + box[3]) / 2
            assert not guarded.intersects(shapely.Point(WEST + 10 * col, NORTH - 10 * row))


def test_light_vehicles_keep_their_label(scene, tmp_path):
    kinds = ["light" if number % 2 else "heavy" for number in range(len(PLACES))]
    found = read(scene, write_boxes(tmp_path / "b.gpkg", vehicle=kinds))
    labels = np.concatenate([ground.labels for ground in (*found.training, *found.held_out)])
    assert sorted(labels.tolist()) == sorted(LIGHT if kind == "light" else HEAVY for kind in kinds)
    plain = read(scene, write_boxes(tmp_path / "c.gpkg"))
    assert {int(label) for ground in plain.training for label in ground.labels} == {HEAVY}


def test_low_and_ignored_boxes_and_those_that_reach_in_are_ambiguous(scene, tmp_path):
    confidence = ["high", "low", "ignore", "medium"]
    places = [(20, 20), (40, 40), (30, 50), (65, 30)]  # the last one reaches into the first block
    labels = write_boxes(tmp_path / "b.gpkg", places, confidence=confidence)
    first, *_ = (one for one in read(scene, labels, held_out=0).training if (one.boxes[:, 0] < 30).all())
    assert first.boxes.tolist() == [[18, 18, 22, 22]]
    assert sorted(map(tuple, first.ambiguous.tolist())) == [
        (28, 48, 32, 52),
        (38, 38, 42, 42),
        (63, 28, 67, 32),
    ]


def test_small_boxes_are_widened_to_three_pixels(scene, tmp_path):
    (ground,) = read(scene, write_boxes(tmp_path / "b.gpkg", [(20, 20)], side=1), held_out=0).training
    assert ground.boxes.tolist() == [[18.5, 18.5, 21.5, 21.5]]


def test_with_a_complete_area_blocks_without_boxes_are_shown_too(scene, boxes, tmp_path):
    area = tmp_path / "area.gpkg"
    whole = shapely.box(WEST, NORTH - 1920, WEST + 1600, NORTH)
    gpd.GeoDataFrame(geometry=[whole], crs="EPSG:32632").to_file(area)
    found = read(scene, boxes, complete=area)
    assert len(found.training) + len(found.held_out) == 9 > len(read(scene, boxes).training)
    east = [one for one in found.training if not one.reflectance[:, :, 32:].any()]
    assert all(not len(one.boxes[one.boxes[:, 0] > 32]) for one in east)


def test_a_chip_of_a_block_is_another_view_of_its_trucks(scene, boxes):
    blocks = read(scene, boxes).training
    chips = [draw_labelled_chip(np.random.default_rng(index), blocks, 32) for index in range(20)]
    assert sum(len(chip.boxes) for chip, _ in chips) >= 10
    for chip, valid in chips:
        assert chip.reflectance.shape == (4, 32, 32) and valid.shape == (32, 32)
        assert ((chip.boxes >= 0) & (chip.boxes <= 32)).all()
    again, _ = draw_labelled_chip(np.random.default_rng(3), blocks, 32)
    np.testing.assert_array_equal(again.reflectance, chips[3][0].reflectance)


def test_an_empty_file_is_refused(scene, tmp_path):
    with pytest.raises(LabelsError, match=r"nothing to learn from: .*boxes\.gpkg holds no boxes"):
        read(scene, write_boxes(tmp_path / "boxes.gpkg", []))


def test_boxes_of_another_place_are_refused(scene, tmp_path):
    with pytest.raises(
        LabelsError, match=r"None of the 2 boxes .* covers x 600000-601920, y 5798080-5800000"
    ):
        read(scene, write_boxes(tmp_path / "b.gpkg", [(500, 20), (-5, 20)]))


def test_some_boxes_outside_are_left_out_and_counted(scene, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    found = read(scene, write_boxes(tmp_path / "b.gpkg", [*PLACES, (500, 20)]))
    assert sum(found.trucks) == len(PLACES)
    assert "1 of 9 boxes" in caplog.text and "outside the imagery" in caplog.text


def test_unknown_classes_are_named(scene, tmp_path):
    labels = write_boxes(tmp_path / "b.gpkg", **{"class": ["truck", "bus", "car", *["truck"] * 5]})
    with pytest.raises(
        LabelsError, match=r"Column class of .* holds bus, car, which labels\.truck_classes does not"
    ):
        read(scene, labels)
    assert sum(read(scene, labels, truck_classes=("truck", "bus", "car")).trucks) == len(PLACES)


def test_boxes_that_are_no_trucks_are_refused(scene, tmp_path):
    with pytest.raises(LabelsError, match=r"one truck, 30 to 60 m\. .* 500 m across"):
        read(scene, write_boxes(tmp_path / "b.gpkg", side=50))


def test_only_ambiguous_boxes_are_refused(scene, tmp_path):
    labels = write_boxes(tmp_path / "b.gpkg", confidence=["low"] * len(PLACES))
    with pytest.raises(LabelsError, match="marked low or ignore: there is no truck"):
        read(scene, labels)


def test_a_split_without_positives_is_refused(scene, tmp_path):
    labels = write_boxes(tmp_path / "b.gpkg", [(20, 20), (30, 30)])
    with pytest.raises(LabelsError, match=r"could be held out: all 2 lie in one block of 64 px\. .*block_px"):
        read(scene, labels)


def test_numbers_that_are_none_are_no_data_and_their_boxes_are_counted(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    path = tmp_path / "nan.tif"
    numbers = np.full((4, 192, 192), 0.1, np.float32)
    numbers[1, 10:30, 10:30] = np.nan
    with rasterio.open(
        path, "w", driver="GTiff", width=192, height=192, count=4, dtype="float32", crs="EPSG:32632",
        transform=from_origin(WEST, NORTH, 10, 10),
    ) as file:  # fmt: skip
        file.write(numbers)
        file.descriptions = BANDS
        file.scales = (1.0,) * 4
    found = read(path, write_boxes(tmp_path / "b.gpkg"))
    assert "1 of 8 boxes of nan.tif are on pixels without data" in caplog.text
    assert sum(found.trucks) == len(PLACES) - 1
    assert all(np.isfinite(ground.reflectance).all() for ground in (*found.training, *found.held_out))


def test_boxes_on_no_data_only_are_refused(tmp_path):
    path = write_geotiff(tmp_path / "empty.tif", np.zeros((4, 192, 192), np.uint16))
    with pytest.raises(LabelsError, match=r"No box of .* is left to learn from"):
        read(path, write_boxes(tmp_path / "b.gpkg"))


def test_a_missing_band_is_named(tmp_path, boxes):
    path = write_geotiff(tmp_path / "x.tif", np.full((4, 64, 64), 1000, np.uint16))
    with pytest.raises(MissingBandError, match="B04"):
        read(path, boxes, bands=("B02", "B03", "B05", "B08"))


def test_a_simulated_product_and_its_truth_are_labelled_imagery(product):
    found = read(product.safe, product.trucks)
    truth = gpd.read_file(product.trucks)
    assert sum(found.trucks) <= int((truth["confidence"] == "high").sum())
    assert min(found.trucks) > 0
