"""Classes of labels: what a value means, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from shapely import MultiPoint, Point

from pipeline.errors import LabelsError
from pipeline.input_warnings import collected_warnings
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.scenes.open import open_scene
from pipeline.training.segmenter.labels import class_names, legend, read_labels
from tests.training.segmenter.places import (
    NORTH,
    SIDE,
    WEST,
    chessboard,
    imagery,
    profile,
    square,
    write_polygons,
)

__all__ = ["chessboard", "imagery"]  # fixtures


def names_of(imagery: Path, path: Path, classes=None, field=None) -> tuple[str, ...]:
    return class_names([read_labels(path, open_scene(str(imagery)), field, classes)], classes)


def test_values_can_be_given_names(imagery, tmp_path):
    shapes = [square(0, 32 * i) for i in range(4)]
    numbers = write_polygons(tmp_path / "n.gpkg", [1.0, 2.0, 3.0, 3.0], shapes, "code")
    classes = {"wood": (1, 2), "lake": ("3",), "rock": (9,)}
    assert names_of(imagery, numbers, classes, "code") == ("wood", "lake")
    labels = read_labels(numbers, open_scene(str(imagery)), "code", classes)
    found = labels.read(rasterio.windows.Window(0, 0, SIDE, 1), ("lake", "wood"))
    assert found[0, ::32].tolist() == [1, 1, 0, 0]


def test_where_polygons_overlap_the_smaller_counts(imagery, tmp_path):
    path = write_polygons(tmp_path / "p.gpkg", ["wood", "pond"], [square(0, 0, 64, 64), square(8, 8, 4, 4)])
    labels = read_labels(path, open_scene(str(imagery)))
    classes = labels.read(rasterio.windows.Window(0, 0, SIDE, SIDE), ("wood", "pond"))
    assert (classes == 1).sum() == 16


def test_points_label_their_pixels(imagery, tmp_path):
    places = [Point(WEST + 10 * col + 5, NORTH - 5) for col in (0, 1, 1, 2, 3)]
    shapes = [*places[:4], MultiPoint([places[4], Point(WEST - 50, NORTH)])]
    classes = {"wood": (1, 2), "lake": (3,)}
    path = write_polygons(tmp_path / "p.gpkg", [1, 1, 2, 3, 3], shapes, "code")
    labels = read_labels(path, open_scene(str(imagery)), "code", classes)
    found = labels.read(rasterio.windows.Window(0, 0, 5, 1), ("lake", "wood"))
    assert found.tolist() == [[1, 1, 0, 0, 255]]  # both points of the second pixel are in the wood
    with collected_warnings() as warnings:
        labels = read_labels(path, open_scene(str(imagery)), "code")
    found = labels.read(rasterio.windows.Window(0, 0, 5, 1), ("1", "2", "3"))
    assert found.tolist() == [[0, 255, 2, 2, 255]]
    assert "1 of 4 pixels with points are not used" in warnings[0]


def test_new_classes_get_colours_of_their_own():
    colours = [item.colour for item in legend(("orchard", "trees", "vineyard"), DYNAMIC_WORLD)]
    assert colours[1] == DYNAMIC_WORLD[1].colour
    assert len(set(colours)) == 3


def test_the_legend_of_dynamic_world_is_its_own():
    assert legend([item.name for item in DYNAMIC_WORLD], DYNAMIC_WORLD) == DYNAMIC_WORLD


@pytest.mark.parametrize(
    ("labels", "shapes", "message"),
    [
        ([], [], "holds no polygons or points"),
        (["wood", "wood"], [square(0, 0), square(0, 64)], "one class only, wood"),
    ],
    ids=["empty", "one class"],
)
def test_labels_with_too_little_are_refused(imagery, tmp_path, labels, shapes, message):
    path = write_polygons(tmp_path / "bad.gpkg", labels, shapes)
    with pytest.raises(LabelsError, match=message):
        names_of(imagery, path)


def test_a_class_that_the_settings_do_not_name_is_refused(imagery, chessboard):
    with pytest.raises(LabelsError, match="holds orchard, which classes in the settings does not name"):
        names_of(imagery, chessboard, {"water": ("water",), "built": ()})


def test_values_of_a_raster_are_dynamic_world_s_unless_they_are_named(imagery, tmp_path):
    with rasterio.open(tmp_path / "l.tif", "w", **profile("uint8")) as target:
        target.write(np.repeat([[10, 20]], SIDE * SIDE // 2, axis=0).reshape(1, SIDE, SIDE).astype(np.uint8))
    with pytest.raises(LabelsError, match="holds 10, 20, which Dynamic World does not have"):
        names_of(imagery, tmp_path / "l.tif")
    assert names_of(imagery, tmp_path / "l.tif", {"corn": (10,), "wheat": (20,)}) == ("corn", "wheat")


def test_a_missing_column_is_named(imagery, chessboard):
    with pytest.raises(LabelsError, match=r"no column landuse .* It has: class"):
        names_of(imagery, chessboard, field="landuse")


def test_missing_labels_are_named(imagery, tmp_path):
    with pytest.raises(LabelsError, match="not found"):
        names_of(imagery, tmp_path / "none.gpkg")
