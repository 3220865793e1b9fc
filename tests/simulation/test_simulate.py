"""A simulated scene is repeatable, is laid out like a real product, and its truth is true."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ConfigError, OutputError
from pipeline.simulation.simulate import simulate, simulate_scene
from pipeline.simulation.world.atmosphere import cloud_field
from pipeline.simulation.world.stage import Stage
from pipeline.simulation.world.traffic import Vehicles

VISIBLE = ("B02", "B03", "B04")


SIZE, SEED = 250, 4


@pytest.fixture(scope="module")
def only_trucks():
    """What trucks add to the visible bands of a scene, (3, H, W), and those that are alone and visible."""
    stage = Stage.of(500, 13)
    with_trucks = dataclasses.replace(stage, traffic=Vehicles(stage.traffic.heavy))
    without = dataclasses.replace(stage, traffic=Vehicles())
    pictures = [next(each.render(VISIBLE)).reflectance for each in (with_trucks, without)]
    truth = with_trucks.vehicles()
    places = np.array([(one.vehicle.x, one.vehicle.y) for one in truth])
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + 99 * np.eye(len(truth))
    alone = [one for one, gap in zip(truth, apart.min(axis=1), strict=True) if gap > 9]
    return pictures[0] - pictures[1], [one for one in alone if one.confidence == "high"]


def digests(folder: Path):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_same_seed_same_scene(scene):
    again = simulate_scene(SIZE, SEED)
    np.testing.assert_array_equal(again.reflectance, scene.reflectance)
    np.testing.assert_array_equal(again.landcover, scene.landcover)
    assert [truck.box for truck in again.trucks] == [truck.box for truck in scene.trucks]


def test_other_seed_other_scene(scene):
    other = simulate_scene(SIZE, SEED + 1, bands=("B04",))
    assert np.abs(other.reflectance[0] - scene.reflectance[scene.bands.index("B04")]).mean() > 0.01


def test_bands_do_not_depend_on_each_other(scene):
    alone = simulate_scene(SIZE, SEED, bands=("B08", "B03"))
    for channel, band in enumerate(alone.bands):
        np.testing.assert_array_equal(alone.reflectance[channel], scene.reflectance[scene.bands.index(band)])


def test_same_seed_same_files(tmp_path):
    for name in "ab":
        simulate(tmp_path / name, 64, 3)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_boxes_hold_what_the_trucks_add(only_trucks):
    added, trucks = only_trucks
    shares = []
    for truck in trucks:
        x0, y0, x1, y1 = truck.box
        near = np.abs(added[:, max(0, int(y0) - 3) : int(y1) + 5, max(0, int(x0) - 3) : int(x1) + 5]).sum()
        inside = np.abs(added[:, int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]).sum()
        shares.append(inside / near)
    assert len(shares) >= 5
    assert np.median(shares) > 0.85


def test_trucks_move_between_the_bands_as_the_truth_says(only_trucks):
    added, trucks = only_trucks
    rows, cols = np.mgrid[: added.shape[1], : added.shape[2]] + 0.5
    errors = []
    for truck in trucks:
        x0, y0, x1, y1 = truck.box
        part = (slice(max(0, int(y0) - 1), int(y1) + 2), slice(max(0, int(x0) - 1), int(x1) + 2))
        places = [
            np.array([(cols[part] * band[part]).sum(), (rows[part] * band[part]).sum()]) / band[part].sum()
            for band in (added[0], added[2])
        ]
        travelled = truck.vehicle.speed_kmh / 3.6 * 1.005 * truck.order / 10
        errors.append(np.hypot(*(places[1] - places[0] - travelled * np.array(truck.vehicle.direction))))
    # the bands are misregistered by up to 0.15 px in each direction
    assert np.median(errors) < 0.25


@pytest.mark.parametrize(("seed", "driving_side"), [(2, 1), (3, -1)])
def test_vehicles_keep_to_their_side(seed, driving_side):
    stage = Stage.of(600, seed)
    assert stage.world.driving_side == driving_side
    trucks = (*stage.traffic.heavy, *stage.traffic.light)
    motorway = next(road for road in stage.world.roads if road.road_class == "motorway")
    sides = []
    for truck in trucks:
        nearest = motorway.points[np.argmin(np.hypot(*(motorway.points - [truck.x, truck.y]).T))]
        away = np.array([truck.x, truck.y]) - nearest
        if np.hypot(*away) < 2:
            dx, dy = truck.direction
            sides.append(driving_side * float(away @ [-dy, dx]))
    assert len(sides) > 5
    assert min(sides) > 0


def test_no_certain_truck_is_under_cloud_or_truncated():
    stage = Stage.of(600, 1)
    for truck in (truck for truck in stage.vehicles() if truck.confidence == "high"):
        x0, y0, x1, y1 = truck.box
        assert min(x0, y0) >= 2
        assert max(x1, y1) <= 598
        opacity = cloud_field(stage.world, np.array([truck.vehicle.x]), np.array([truck.vehicle.y]))
        assert opacity[0, 0] < 0.2


@pytest.mark.parametrize("size", [1, 63, 10981])
def test_size_out_of_range_is_refused(size, tmp_path):
    with pytest.raises(ConfigError, match=f"64 to 10980 pixels a side. Received: size={size}"):
        simulate(tmp_path, size)
    assert not list(tmp_path.iterdir())


def test_unknown_band_is_refused():
    with pytest.raises(ValueError, match="Received: B10"):
        simulate_scene(64, 0, bands=("B02", "B10"))


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Can't write the simulated product"):
        simulate(tmp_path / "file" / "out", 64)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
