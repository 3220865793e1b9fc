"""Land cover and trucks as segments: masks by geometry, files by COCO's convention."""

import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio.transform import from_origin
from rio_cogeo import cog_validate

from pipeline.layers.panoptic import TRUCK_CATEGORY, truck_masks, write_panoptic
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.scenes.scene import Scene
from pipeline.simulation.rendering import Vehicle, band_times, rectangle_coverage

ROWS, COLS, CRS = 700, 600, "EPSG:32632"
AFFINE = from_origin(600_000, 5_800_000, 10, 10)
GRID = GeoBox((ROWS, COLS), AFFINE, CRS)
BANDS = ("B02", "B08", "B03", "B04")


def on_map(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    return shapely.box(*(AFFINE * (left, bottom)), *(AFFINE * (right, top)))


def trucks_of(boxes, **columns) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        columns, index=range(len(boxes)), geometry=[on_map(*box) for box in boxes], crs=CRS
    )


def pixels(masks, truck: int = 0) -> set[tuple[int, int]]:
    mine = masks.trucks == truck
    return set(zip(masks.rows[mine].tolist(), masks.cols[mine].tolist(), strict=True))


def test_a_truck_that_goes_east_is_a_row_of_pixels():
    """90 km/h are 2.5 pixels from B02 to B04; half of the peak is 0.85 further on, and 0.74 to the sides."""
    masks = truck_masks(trucks_of([(8, 8, 13, 13)], heading_deg=90.0, speed_kmh=90.0), GRID)
    assert pixels(masks) == {(10, col) for col in (9, 10, 11)} | {(10, 8), (10, 12)}
    assert masks.boxes().tolist() == [[8, 10, 5, 1]]


def test_without_a_direction_it_is_the_box():
    masks = truck_masks(trucks_of([(8.4, 8.6, 11.4, 11.6)], axis_deg=np.nan, speed_kmh=90.0), GRID)
    assert pixels(masks) == {(row, col) for row in (9, 10, 11) for col in (8, 9, 10)}


def test_without_a_speed_the_track_fills_the_box():
    """As fast as 100 km/h: boxes drawn by eye may be too large."""
    small, large = [(9, 9, 12, 12)], [(6, 6, 15, 15)]
    fitted = truck_masks(trucks_of(small, travel_deg=135.0), GRID)
    assert {(row, col) for row, col in pixels(fitted) if row == col} == {(9, 9), (10, 10), (11, 11)}
    fastest = truck_masks(trucks_of(large, heading_deg=135.0, speed_kmh=100.0), GRID)
    assert pixels(fitted) <= pixels(fastest) == pixels(truck_masks(trucks_of(large, travel_deg=135.0), GRID))


def test_a_multipolygon_tells_its_pixels_itself():
    blobs = shapely.MultiPolygon([on_map(3, 3, 4, 4), on_map(6, 3, 7, 5)])
    trucks = gpd.GeoDataFrame({"heading_deg": [90.0], "speed_kmh": [90.0]}, geometry=[blobs], crs=CRS)
    assert pixels(truck_masks(trucks, GRID)) == {(3, 3), (3, 6), (4, 6)}


def test_a_pixel_is_of_the_better_truck_and_what_is_off_the_grid_is_of_none():
    boxes = [(0, 0, 3, 3), (1, 1, 4, 4), (1, 1, 4, 4), (-3, -3, 0.2, 0.2)]
    masks = truck_masks(trucks_of(boxes, score=[0.5, 0.9, 0.9, 0.3]), GRID)
    assert len(pixels(masks, 0)) == 5
    assert len(pixels(masks, 1)) == 9
    assert pixels(masks, 2) == pixels(masks, 3) == set()
    assert masks.boxes()[2:].tolist() == [[0] * 4] * 2
    assert truck_masks(trucks_of([], score=[]), GRID).count == 0


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0, 360),
    st.floats(30, 130),
    st.floats(-0.5, 0.5),
    st.floats(-0.5, 0.5),
    st.sampled_from([1, -1]),
)
def test_masks_are_what_the_simulator_shows_at_half_its_peak(heading, speed, x, y, order):
    """Rendered by exact integration of the blurred body; ours takes it for a Gaussian."""
    vehicle = Vehicle(30 + x, 30 + y, heading, speed, 13, 2.6, {})
    shown, nearly, never = (np.zeros((60, 60), bool) for _ in range(3))
    for band in BANDS:
        place = vehicle.position(band_times(order)[band])
        window, cover = rectangle_coverage((60, 60), *place, heading, 1.3, 0.26, 0.55)
        peak = rectangle_coverage((1, 1), 0.5, 0.5, heading, 1.3, 0.26, 0.55)[1].max()
        shown[window] |= cover >= 0.6 * peak
        nearly[window] |= cover >= 0.4 * peak
    never = ~nearly
    trucks = trucks_of(
        [vehicle.box(order)],
        heading_deg=heading,
        speed_kmh=speed,
        band_order="blue_first" if order > 0 else "red_first",
    )
    box = vehicle.box(order)
    ours = np.zeros((60, 60), bool)
    ours[tuple(np.array(sorted(pixels(truck_masks(trucks, GRID)))).T)] = True
    inside = np.zeros_like(ours)
    inside[int(box[1]) : int(np.ceil(box[3])), int(box[0]) : int(np.ceil(box[2]))] = True
    assert not (ours & ~inside).any()
    assert not (shown & inside & ~ours).any()
    assert not (ours & never).any()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Files of a scene of patches with 300 trucks, some of them over each other, and what went in."""
    folder = tmp_path_factory.mktemp("panoptic")
    rng = np.random.default_rng(0)
    ground = rng.choice([0, 1, 2, 4, 6, 255], (35, 30)).astype(np.uint8).repeat(20, 0).repeat(20, 1)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": ROWS, "width": COLS, "nodata": 255}
    with rasterio.open(folder / "landcover.tif", "w", crs=CRS, transform=AFFINE, **profile) as target:
        target.write(ground, 1)
    corner = rng.uniform((0, 0), (COLS - 6, ROWS - 6), (300, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(3, 6, (300, 2))], axis=1)
    heading = np.where(rng.random(300) < 0.2, np.nan, rng.uniform(0, 360, 300))
    trucks = trucks_of(
        boxes, id=[f"t{i}" for i in range(300)], score=rng.random(300), heading_deg=heading,
        axis_deg=heading % 180, speed_kmh=rng.uniform(20, 120, 300),
    )  # fmt: skip
    scene = Scene(id="patches", href="patches.tif", grid=GRID, bands={})
    outputs = write_panoptic(folder, scene, folder / "landcover.tif", trucks, DYNAMIC_WORLD)
    return outputs, ground, trucks, boxes


def read_ids(path) -> np.ndarray:
    """As COCO's `rgb2id`, on what Pillow reads."""
    colours = np.asarray(Image.open(path)).astype(np.int64)
    return colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]


def test_the_raster_is_a_cog_in_its_place(written):
    path = written[0]["panoptic.tif"]
    assert cog_validate(path, strict=True)[0]
    with rasterio.open(path) as raster:
        assert (raster.shape, raster.transform, raster.crs.to_epsg()) == ((ROWS, COLS), AFFINE, 32632)
        overview = raster.read(out_shape=(3, ROWS // 2, COLS // 2)).astype(int)
    ids = np.tensordot([1, 256, 65536], overview, 1)
    assert set(np.unique(ids)) <= set(np.unique(read_ids(path)))


def test_segments_are_those_of_the_raster(written):
    outputs, ground, trucks, boxes = written
    ids = read_ids(outputs["panoptic.tif"])
    described = json.loads(outputs["panoptic.json"].read_text())
    (annotation,), (image,) = described["annotations"], described["images"]
    assert (annotation["image_id"], annotation["file_name"]) == (image["id"], "panoptic.tif")
    assert (image["height"], image["width"]) == ids.shape
    categories = {category["id"]: category for category in described["categories"]}
    assert sorted(categories) == [*range(1, 10), TRUCK_CATEGORY]
    found = annotation["segments_info"]
    assert {segment["id"] for segment in found} == set(np.unique(ids)) - {0}
    assert len({segment["id"] for segment in found}) == len(found)
    hidden = np.zeros(ids.shape, bool)
    number = {name: i for i, name in enumerate(trucks["id"])}
    for segment in found:
        rows, cols = np.nonzero(ids == segment["id"])
        assert segment["area"] == len(rows)
        low, high = (cols.min(), rows.min()), (cols.max(), rows.max())
        assert segment["bbox"] == [*low, high[0] - low[0] + 1, high[1] - low[1] + 1]
        if categories[segment["category_id"]]["isthing"]:
            x_min, y_min, x_max, y_max = boxes[number[segment["truck_id"]]]
            assert low[0] >= x_min - 1 and low[1] >= y_min - 1 and high[0] < x_max + 1 and high[1] < y_max + 1
            hidden[rows, cols] = True
    assert 0.9 * len(trucks) < len(found) - 5 <= len(trucks)
    for segment in found[:5]:
        category = categories[segment["category_id"]]
        np.testing.assert_array_equal((ids == segment["id"]), (ground == category["value"]) & ~hidden)
        assert segment["id"] == np.dot(category["color"], [1, 256, 65536])
    assert ((ids == 0) == ((ground == 255) & ~hidden)).all()


def test_colours_that_are_taken_or_black_are_moved(written, tmp_path):
    """Two classes of one colour, one that a truck would have, and one that would be void."""
    _, _, trucks, _ = written
    legend = [
        DYNAMIC_WORLD[value].model_copy(update={"colour": colour})
        for value, colour in ((0, "#000000"), (1, "#FF0000"), (2, "#FF0000"), (4, "#FFFFFF"), (6, "#123456"))
    ]
    landcover = written[0]["panoptic.tif"].with_name("landcover.tif")
    scene = Scene(id="patches", href="patches.tif", grid=GRID, bands={})
    ids = read_ids(write_panoptic(tmp_path, scene, landcover, trucks, legend)["panoptic.tif"])
    described = json.loads((tmp_path / "panoptic.json").read_text())["annotations"][0]["segments_info"]
    assert len({segment["id"] for segment in described} - {0}) == len(described) == len(np.unique(ids)) - 1
