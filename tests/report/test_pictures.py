import base64
import io

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio.transform import from_origin
from rasterio.warp import transform
from shapely import Point

from pipeline.inference.predictions import CLOUD, SEEN
from pipeline.models.legend import DYNAMIC_WORLD
from pipeline.report.pictures import (
    Picture,
    class_picture,
    data_uri,
    map_image,
    marked,
    quicklook,
    true_colour,
)
from pipeline.scenes.readers.geotiff import open_geotiff
from tests.conftest import write_geotiff
from tests.evaluation.landcover.test_labels import write_raster
from tests.evaluation.test_labels import GRID


def decode(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA"))


def test_places_are_marked_on_a_smaller_picture():
    grid = GeoBox((40, 80), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32632")
    picture = Picture(np.full((40, 80, 4), 255, np.uint8), grid)
    place = gpd.GeoSeries([Point(500_600, 4_999_800)], crs="EPSG:32632").to_crs("EPSG:4326")
    shown = marked(picture, place, max_px=40)
    assert shown.shape == (20, 40, 4)
    assert shown[10, 30, :3].tolist() == [225, 29, 72]
    assert (shown[10, :20] == 255).all()
    assert (marked(picture) == 255).all()


def test_true_colour_keeps_hues_and_leaves_holes_transparent():
    reflectance = np.zeros((3, 1, 3), np.float32)
    reflectance[:, 0] = [[0.1, 0.3, 9], [0.1, 0.2, 9], [0.1, 0.1, 9]]
    rgba = true_colour(reflectance, np.array([[True, True, False]]))
    assert rgba[0, 0].tolist() == [0, 0, 0, 255]
    assert rgba[0, 1, 0] > rgba[0, 1, 1] > rgba[0, 1, 2] == 0
    assert rgba[0, 2].tolist() == [0, 0, 0, 0]


def test_colours_are_stretched_over_what_is_clear():
    """Two pixels of ground beside two of cloud, which burns out; without a mask it takes all the range."""
    reflectance = np.tile(np.array([0.05, 0.15, 0.9, 1.0], np.float32), (3, 1, 1))
    valid = np.ones((1, 4), bool)
    clear = np.array([[True, True, False, False]])
    ground = true_colour(reflectance, valid, clear=clear)[0, :, 0]
    assert ground.tolist() == [0, 255, 255, 255]
    assert true_colour(reflectance, valid)[0, 1, 0] < 60
    assert (true_colour(reflectance, valid, clear=~valid) == true_colour(reflectance, valid)).all()


def test_a_quicklook_takes_clouds_from_the_status_of_the_search(tmp_path):
    numbers = np.full((4, 40, 60), 900, np.uint16)
    numbers[:, :, ::2] = 1400
    numbers[:, :20] = 9000
    scene = open_geotiff(write_geotiff(tmp_path / "s.tif", numbers))
    status = np.full((40, 60), SEEN, np.uint8)
    status[:20] = CLOUD
    seen = quicklook(scene, status=write_raster(tmp_path / "status.tif", status)).rgba
    assert seen[30, 1].tolist() == [0, 0, 0, 255]
    assert seen[30, 0].tolist() == [255, 255, 255, 255]
    assert quicklook(scene).rgba[30, 0, 0] < 100


def test_a_data_uri_gives_the_pixels_back():
    rgba = np.random.default_rng(0).integers(1, 255, (5, 7, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    assert (decode(data_uri(rgba)) == rgba).all()


def test_a_quicklook_covers_the_scene_and_stays_within_its_size(shared_data):
    scene = open_geotiff(shared_data / "trucks" / "walserberg_a8.tif")
    whole, small = quicklook(scene), quicklook(scene, max_px=100)
    assert whole.rgba.shape == (360, 240, 4)
    assert small.rgba.shape == (90, 60, 4)  # a quarter: overviews are thinned by powers of two
    assert small.grid.boundingbox.bbox == pytest.approx(scene.grid.boundingbox.bbox)


def test_the_map_shows_a_pixel_where_it_lies():
    """A red pixel, looked up at its centre's longitude and latitude in the warped picture."""
    grid = GeoBox((200, 300), from_origin(450_000, 5_800_000, 10, 10), "EPSG:32632")
    rgba = np.full((200, 300, 4), 255, np.uint8)
    rgba[140:143, 220:223] = [255, 0, 0, 255]
    image = map_image(Picture(rgba, grid))
    pixels = decode(image.uri)
    x, y = grid.affine * (221.5, 141.5)
    merc_x, merc_y = transform("EPSG:32632", "EPSG:3857", [x], [y])
    (south, west), (north, east) = image.south_west, image.north_east
    (left, right), (bottom, top) = transform("EPSG:4326", "EPSG:3857", [west, east], [south, north])
    col = int((merc_x[0] - left) / (right - left) * pixels.shape[1])
    row = int((top - merc_y[0]) / (top - bottom) * pixels.shape[0])
    assert pixels[row, col].tolist() == [255, 0, 0, 255]
    red = (pixels == [255, 0, 0, 255]).all(axis=-1)
    rows, cols = np.nonzero(red)
    zoom = pixels.shape[1] / 300
    assert (cols.mean() + 0.5 - col, rows.mean() + 0.5 - row) == pytest.approx((0.5, 0.5), abs=0.5 * zoom)


def test_classes_in_the_colours_of_their_legend(tmp_path):
    values = np.full((4, 6), 255, np.uint8)
    values[1, 2] = 6
    picture = class_picture(write_raster(tmp_path / "l.tif", values), DYNAMIC_WORLD)
    assert picture.grid.boundingbox == GRID.boundingbox
    assert picture.rgba[1, 2].tolist() == [0xC4, 0x28, 0x1B, 255]
    assert picture.rgba[0, 0, 3] == 0


def test_a_picture_across_the_antimeridian_goes_on_beyond_180_degrees():
    """GDAL can't warp it to Web Mercator itself: its two ends lie at opposite ends of the world."""
    grid = GeoBox((60, 60), Affine(10, 0, 833_700, 0, -10, 400), "EPSG:32660")
    rgba = np.full((60, 60, 4), 200, dtype=np.uint8)
    image = map_image(Picture(rgba, grid))
    (south, west), (north, east) = image.south_west, image.north_east
    lon, lat = transform("EPSG:32660", "EPSG:4326", [833_700, 834_300], [-200, 400])
    assert (west, east) == pytest.approx([degrees % 360 for degrees in lon], abs=3e-5)  # a third of a pixel
    assert (south, north) == pytest.approx(lat, abs=3e-5)
    assert west < 180 < east
