"""Nodata and clouds around trucks, against the same asked truck by truck."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from pipeline.inference.predictions import CLOUD, NODATA, SEEN
from pipeline.layers import surroundings
from pipeline.layers.surroundings import near_cloud, touches_nodata
from pipeline.scenes.scene import BandSource, Scene

ROWS, COLS = 46, 38
TRANSFORM = Affine(10, 0, 600_000, 0, -10, 5_800_000)
SCENE = Scene("S2A_TEST", "here", GeoBox((ROWS, COLS), TRANSFORM, "EPSG:32632"), {})


def write(path: Path, values: np.ndarray, gsd: float = 10.0) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, height=len(values), width=values.shape[1],
        crs="EPSG:32632", transform=Affine(gsd, 0, 600_000, 0, -gsd, 5_800_000),
    ) as target:  # fmt: skip
        target.write(values.astype(np.uint8), 1)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("surroundings")


@pytest.fixture(autouse=True)
def strips_of_nine_rows(monkeypatch):
    monkeypatch.setattr(surroundings, "STRIP_ROWS", 9)


def with_scl(folder: Path, classes: np.ndarray) -> Scene:
    scl = BandSource("SCL", str(write(folder / f"{hash(classes.tobytes())}.tif", classes, 20.0)), scale=1.0)
    return dataclasses.replace(SCENE, scl=scl)


@given(st.integers(0, 2**32), st.floats(0, 0.3), st.integers(0, 30))
def test_nodata_as_asked_box_by_box(folder, seed, share, count):
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random((ROWS, COLS)) < share, NODATA, SEEN)
    corner = rng.uniform((-4, -4), (COLS - 1, ROWS - 1), (count, 2))
    boxes = np.hstack([corner, np.maximum(corner, 0) + rng.uniform(0.1, 15, (count, 2))])
    expected = [
        (codes[int(max(0, y0)) : int(np.ceil(y1)), int(max(0, x0)) : int(np.ceil(x1))] == NODATA).any()
        for x0, y0, x1, y1 in boxes
    ]
    assert touches_nodata(boxes, write(folder / "status.tif", codes)).tolist() == expected


@given(
    st.integers(0, 2**32), st.floats(0, 0.03), st.integers(0, 30), st.sampled_from([0, 4, 10, 55, 100, 700])
)
def test_clouds_as_asked_truck_by_truck(folder, seed, share, count, buffer_m):
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random((ROWS, COLS)) < share, CLOUD, SEEN)
    classes = np.where(rng.random((ROWS // 2, COLS // 2)) < share / 3, 10, 4)
    centres = rng.uniform(0, (COLS, ROWS), (count, 2))
    centres[::3] = (
        np.floor(centres[::3]) + 0.5
    )  # in the middle of a pixel, where distances tie with the reach
    y, x = np.nonzero((codes == CLOUD) | (classes.repeat(2, 0).repeat(2, 1) == 10))
    reach = np.ceil(buffer_m / 10)
    expected = [bool((np.hypot(y + 0.5 - cy, x + 0.5 - cx) <= reach).any()) for cx, cy in centres]
    status = write(folder / "status.tif", codes)
    assert near_cloud(with_scl(folder, classes), centres, buffer_m, status).tolist() == expected


def test_clouds_are_unknown_without_a_scene_classification(folder):
    status = write(folder / "status.tif", np.full((ROWS, COLS), SEEN))
    assert near_cloud(SCENE, np.array([[5.0, 5.0]]), 100.0, status) is None


def test_no_trucks(folder):
    status = write(folder / "status.tif", np.full((ROWS, COLS), CLOUD))
    scene = with_scl(folder, np.full((ROWS // 2, COLS // 2), 9))
    assert len(near_cloud(scene, np.zeros((0, 2)), 100.0, status)) == 0
    assert len(touches_nodata(np.zeros((0, 4)), status)) == 0
