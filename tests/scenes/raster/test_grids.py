import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import Resampling, calculate_default_transform, reproject
from rasterio.warp import transform as gdal_transform
from rasterio.windows import Window

from pipeline.config import SceneSettings
from pipeline.errors import CorruptImageError, GeoreferenceError
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.grids import on_grid
from pipeline.scenes.raster.read import read_classes, read_pixels
from pipeline.scenes.readers.band_folder import open_band_folder
from pipeline.scenes.readers.geotiff import open_geotiff
from pipeline.scenes.scene import BandSource, Scene
from tests.scenes.products import write_raster

BANDS = ("B02", "B03", "B04", "B08")
SIDE = 120
UTM = "EPSG:32633"
CORNER = Affine(10, 0, 391_230, 0, -10, 5_817_870)


def waves(side: int = SIDE) -> np.ndarray:
    """Digital numbers (4, H, W) of gentle waves: blends of neighbours are near the truth."""
    y, x = np.mgrid[:side, :side] / 8
    wave = np.stack([np.sin(x + i) + np.cos(y - i) for i in range(4)])
    return (2000 + 700 * wave).astype(np.uint16)


def in_crs(path, crs: str, numbers: np.ndarray, resolution: float | None = None, **profile):
    """A GeoTIFF of the waves, which lie in UTM, resampled by GDAL: an oracle of its own."""
    side = numbers.shape[-1]
    bounds = (CORNER.c, CORNER.f - 10 * side, CORNER.c + 10 * side, CORNER.f)
    given = {"resolution": resolution} if resolution else {}
    transform, width, height = calculate_default_transform(UTM, crs, side, side, *bounds, **given)
    there = np.zeros((len(numbers), height, width), numbers.dtype)
    reproject(
        numbers, there, src_crs=UTM, src_transform=CORNER, src_nodata=0, dst_crs=crs,
        dst_transform=transform, dst_nodata=0, resampling=Resampling.cubic,
    )  # fmt: skip
    return write_raster(
        path, there, crs=crs, transform=transform, descriptions=BANDS[: len(numbers)], **profile
    )


def whole(scene: Scene, bands=BANDS):
    return read_pixels(scene, Window(0, 0, scene.shape[1], scene.shape[0]), bands)


def of_waves(scene: Scene, array: np.ndarray) -> np.ndarray:
    """The part of an array on the scene's grid that is the grid of the waves."""
    left, top = (round(number) for number in ~scene.grid.affine * (CORNER.c, CORNER.f))
    return array[..., top : top + SIDE, left : left + SIDE]


def apart_px(pixels: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """How far (x, y) a picture is displaced from the truth, by least squares over their gradients."""
    down, right = np.gradient(truth, axis=(1, 2))
    (x, y), *_ = np.linalg.lstsq(
        np.stack([right.ravel(), down.ravel()], axis=1), (truth - pixels).ravel(), rcond=None
    )
    return float(x), float(y)


@pytest.mark.parametrize(
    ("crs", "resolution"),
    [("EPSG:4326", None), ("EPSG:4326", 8.983e-5), ("EPSG:3857", None)],
    ids=["degrees as GDAL makes them", "degrees as Earth Engine does", "web mercator"],
)
def test_a_scene_of_another_crs_is_read_on_the_utm_grid(tmp_path, crs, resolution):
    scene = open_geotiff(in_crs(tmp_path / "scene.tif", crs, waves(), resolution))
    assert scene.grid.crs == UTM
    assert (scene.grid.affine.a, scene.grid.affine.e) == (10, -10)
    assert scene.grid.affine.c % 10 == scene.grid.affine.f % 10 == 0
    pixels = whole(scene)
    inner = (slice(None), slice(2, -2), slice(2, -2))
    read, truth = of_waves(scene, pixels.reflectance)[inner], waves()[inner] * 1e-4
    assert of_waves(scene, pixels.valid)[inner[1:]].all()
    assert np.abs(read - truth).max() < 0.003
    assert apart_px(np.roll(truth, 1, axis=2)[..., 1:], truth[..., 1:])[0] == pytest.approx(1, abs=0.1)
    assert np.abs(apart_px(read, truth)).max() < 0.03


def test_corners_that_the_warp_leaves_have_no_data(tmp_path):
    scene = open_geotiff(in_crs(tmp_path / "scene.tif", "EPSG:4326", waves()))
    pixels = whole(scene)
    assert not pixels.valid[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert (pixels.reflectance[:, ~pixels.valid] == 0).all()


def test_nodata_stays_nodata_and_does_not_darken_its_neighbours(tmp_path):
    numbers = waves()
    numbers[:, 40:60, 40:60] = 0
    scene = open_geotiff(in_crs(tmp_path / "scene.tif", "EPSG:4326", numbers))
    pixels = whole(scene)
    assert not of_waves(scene, pixels.valid)[43:57, 43:57].any()
    assert pixels.reflectance[:, pixels.valid].min() > 0.9 * waves().min() * 1e-4


def test_every_window_shows_what_the_whole_scene_shows(tmp_path):
    scene = open_geotiff(in_crs(tmp_path / "scene.tif", "EPSG:4326", waves(600), tiled=True))
    everything = whole(scene)
    window = Window(100, 480, 450, 90)
    part = read_pixels(scene, window, BANDS)
    rows, cols = window.toslices()
    np.testing.assert_array_equal(part.reflectance, everything.reflectance[:, rows, cols])


def test_eight_bits_without_nodata_end_where_the_raster_ends(tmp_path):
    numbers = (waves() // 20).astype(np.uint8)
    with_opacity = in_crs(tmp_path / "rgba.tif", "EPSG:4326", numbers, scales=(0.005,) * 4)
    with pytest.raises(GeoreferenceError, match="band 4 is marked as opacity"):
        open_geotiff(with_opacity)
    path = in_crs(
        tmp_path / "scene.tif",
        "EPSG:4326",
        numbers,
        scales=(0.005,) * 4,
        photometric="minisblack",
        alpha="no",
    )
    pixels = whole(open_geotiff(path))
    assert 0.5 < pixels.valid.mean() < 1


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", Affine(1e-4, 0, 179.99, 0, -1e-4, 52.5)),
        ("EPSG:4326", Affine(1e-4, 0, -180.02, 0, -1e-4, -12.5)),
        ("EPSG:4326", Affine(1e-4, 0, 180.01, 0, -1e-4, 52.5)),
        ("EPSG:3857", Affine(16, 0, 20_036_900, 0, -16, 6_800_000)),
        ("EPSG:3857", Affine(16, 0, -20_039_900, 0, -16, 6_800_000)),
    ],
)
def test_a_scene_that_goes_on_beyond_180_degrees_is_whole(tmp_path, crs, transform):
    rng = np.random.default_rng(3)
    numbers = np.repeat(np.repeat(rng.integers(1000, 5000, (1, 15, 20)), 16, axis=1), 16, axis=2)
    path = write_raster(
        tmp_path / "scene.tif", numbers.astype(np.uint16), crs=crs, transform=transform, descriptions=("B02",)
    )
    scene = open_geotiff(path)
    pixels = whole(scene, ["B02"])
    rows, cols = np.mgrid[8:240:16, 8:320:16]
    x, y = transform * (cols.ravel() + 0.5, rows.ravel() + 0.5)
    places = gdal_transform(crs, scene.grid.crs.to_wkt(), x, y)
    col, row = (np.floor(axis).astype(int) for axis in ~scene.grid.affine * np.array(places))
    assert pixels.valid[row, col].all()
    np.testing.assert_allclose(
        pixels.reflectance[0, row, col], numbers[0, rows, cols].ravel() * 1e-4, rtol=1e-5
    )


def test_feet_are_brought_to_metres(tmp_path):
    transform = Affine(32.8, 0, 2_100_000, 0, -32.8, 740_000)  # US survey feet, North Carolina
    numbers = np.full((1, 50, 50), 1234, np.uint16)
    path = write_raster(
        tmp_path / "scene.tif", numbers, crs="EPSG:2264", transform=transform, descriptions=("B02",)
    )
    scene = open_geotiff(path)
    assert scene.grid.crs == "EPSG:32617"
    assert scene.grid.extent.area == pytest.approx((50 * 32.8 * 0.3048 + 30) ** 2, rel=0.1)
    assert whole(scene, ["B02"]).reflectance.max() == pytest.approx(0.1234)


def test_a_folder_of_bands_in_degrees(tmp_path):
    for band in BANDS:
        in_crs(tmp_path / f"T33UUU_20240615T102021_{band}.tif", "EPSG:4326", waves()[:1])
    in_crs(tmp_path / "T33UUU_20240615T102021_B05.tif", "EPSG:4326", waves()[:1], resolution=2.4e-4)
    scene = open_band_folder(tmp_path)
    assert scene.grid.crs == UTM
    pixels = whole(scene, ["B02", "B05"])
    inner = (slice(4, -4), slice(4, -4))
    assert of_waves(scene, pixels.valid)[inner].all()
    apart = np.abs(of_waves(scene, pixels.reflectance) - waves()[0] * 1e-4)
    assert apart[0][inner].max() < 0.005
    assert apart[1][inner].max() < 0.02


def test_classes_keep_their_names(tmp_path):
    numbers = np.where(np.arange(SIDE) < SIDE // 2, 4, 9).astype(np.uint8) * np.ones((1, SIDE, 1), np.uint8)
    path = in_crs(tmp_path / "scene.tif", "EPSG:4326", waves())
    scene = open_geotiff(path)
    with rasterio.open(path) as dataset:
        transform, shape, crs = dataset.transform, dataset.shape, dataset.crs
    scl = np.zeros((1, *shape), np.uint8)
    reproject(
        numbers, scl, src_crs=UTM, src_transform=CORNER, dst_crs=crs, dst_transform=transform,
        resampling=Resampling.nearest,
    )  # fmt: skip
    file = write_raster(tmp_path / "scl.tif", scl, crs=crs, transform=transform)
    source = on_grid(BandSource("SCL", str(file), scale=1.0), crs.to_wkt(), scene.grid, is_classes=True)
    classes = read_classes(scene, source, Window(0, 0, scene.shape[1], scene.shape[0]))
    assert set(np.unique(classes)) == {0, 4, 9}
    ours = of_waves(scene, classes)[3:-3]
    assert (ours[:, 3 : SIDE // 2 - 2] == 4).all()
    assert (ours[:, SIDE // 2 + 2 : -3] == 9).all()


def test_a_damaged_file_is_named_though_it_is_warped(tmp_path):
    path = in_crs(tmp_path / "scene.tif", "EPSG:4326", waves(), compress="deflate")
    content = path.read_bytes()
    scene = open_geotiff(path)
    whole(scene)
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(CorruptImageError, match=str(path)):
        whole(open_scene(str(path)))


def test_a_scene_says_once_that_it_is_warped(tmp_path, caplog):
    open_geotiff(in_crs(tmp_path / "scene.tif", "EPSG:4326", waves()))
    (message,) = [record.getMessage() for record in caplog.records if "10 m grid" in record.getMessage()]
    assert message.endswith("scene.tif is in EPSG:4326: warped to a 10 m grid in EPSG:32633")


def a_raster(path, transform: Affine, crs="EPSG:32632", shape=(4, 8, 8), **profile):
    """A sparse GeoTIFF of any size."""
    count, height, width = shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype="uint16", crs=crs,
        transform=transform, SPARSE_OK="YES", **profile,
    ) as raster:  # fmt: skip
        raster.descriptions = BANDS[:count]
    return path


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("transform", "match"),
    [
        (Affine(10, 0, INF, 0, -10, 5e6), "finite"),
        (Affine(10, 0, 5e5, 0, -10, NAN), "finite"),
        (Affine(INF, 0, 5e5, 0, -10, 5e6), "finite"),
        (Affine(10, 0, 5e5, 0, -INF, 5e6), "finite"),
        (Affine(10, NAN, 5e5, 0, -10, 5e6), "finite"),
        (Affine(0, 0, 5e5, 0, -10, 5e6), "no geotransform"),
        (Affine(10, 0, 5e5, 0, 10, 5e6), "north-up"),
        (Affine(-10, 0, 5e5, 0, -10, 5e6), "north-up"),
        (Affine(7.07, 7.07, 5e5, 7.07, -7.07, 5e6), "north-up"),
        (Affine(10, 0, 1e30, 0, -10, 5e6), "outside of its CRS EPSG:32632"),
        (Affine(10, 0, 5e5, 0, -10, 2e7), "outside of its CRS"),
        (Affine(10, 0, 5e7, 0, -10, 5e6), "outside of its CRS"),
        (Affine(10, 0, 5e5, 0, -10, 9.9e6), "is at latitude 8[0-9.]*; Sentinel-2 sees"),
    ],
)
def test_a_place_that_is_none_is_refused_with_one_line(tmp_path, transform, match):
    with pytest.raises(GeoreferenceError, match=match) as error:
        open_geotiff(a_raster(tmp_path / "scene.tif", transform))
    assert "scene.tif" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("crs", "transform", "match"),
    [
        ("EPSG:4326", Affine(9e-5, 0, 10, 0, -9e-5, 90), "is at latitude 90; Sentinel-2 sees"),
        ("EPSG:4326", Affine(9e-5, 0, 10, 0, -9e-5, -89.99), "is at latitude"),
        ("EPSG:4326", Affine(9e-5, 0, 10, 0, -9e-5, 90.5), "outside of its CRS"),
        ("EPSG:4326", Affine(9e-5, 0, 1e6, 0, -9e-5, 50), "outside of its CRS"),
        ("EPSG:3413", Affine(10, 0, -40, 0, -10, 40), "is at latitude 90"),
        ("EPSG:3031", Affine(10, 0, -40, 0, -10, 40), "is at latitude -90"),
        ("EPSG:3031", Affine(10, 0, 100_000, 0, -10, 40), "is at latitude -89"),
    ],
)
def test_poles_and_what_is_beyond_are_refused(tmp_path, crs, transform, match):
    with pytest.raises(GeoreferenceError, match=match):
        open_geotiff(a_raster(tmp_path / "scene.tif", transform, crs))


def test_a_raster_that_only_surrounds_the_pole_is_refused(tmp_path):
    transform = Affine(10, 0, -600_000, 0, -10, 650_000)
    with pytest.raises(GeoreferenceError, match="is at latitude"):
        open_geotiff(
            a_raster(tmp_path / "scene.tif", transform, "EPSG:3413", (1, 125_000, 125_000), tiled=True)
        )


def test_the_far_north_is_read(tmp_path):
    # Ellesmere Island, 82 degrees north: in polar stereographic, in its zone, and in degrees.
    for crs, (x, y) in {"EPSG:3413": (-300_000, -800_000), "EPSG:32617": (5e5, 9.2e6)}.items():
        scene = open_geotiff(a_raster(tmp_path / "scene.tif", Affine(10, 0, x, 0, -10, y), crs))
        assert scene.grid.crs == crs


@pytest.mark.parametrize(("width", "height"), [(2**31 - 1, 1), (1, 2**31 - 1)])
def test_absurd_sizes_are_refused(tmp_path, width, height):
    path = a_raster(
        tmp_path / "scene.tif", Affine(10, 0, 5e5, 0, -10, 5e6), shape=(1, height, width), BIGTIFF="YES",
        tiled=True,
    )  # fmt: skip
    with pytest.raises(GeoreferenceError, match="outside of its CRS"):
        open_geotiff(path)


def test_ground_control_points_alone_are_no_place(tmp_path):
    path = tmp_path / "scene.tif"
    points = [
        rasterio.control.GroundControlPoint(row, col, 9 + col / 1e4, 50 - row / 1e4)
        for row in (0, 8)
        for col in (0, 8)
    ]
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=8, width=8, dtype="uint16", gcps=points, crs="EPSG:4326"
    ) as raster:
        raster.descriptions = ["B02"]
    with pytest.raises(GeoreferenceError, match="ground control points or RPCs only"):
        open_geotiff(path)


@pytest.mark.parametrize("nodata", [-9999, 1e300, "none", 0])
def test_any_nodata_value_that_the_user_gives_is_taken_by_the_warp(tmp_path, nodata):
    path = in_crs(tmp_path / "scene.tif", "EPSG:4326", waves())
    settings = SceneSettings.model_validate({"nodata": nodata})
    pixels = whole(open_scene(str(path), settings=settings))
    assert of_waves(open_scene(str(path)), pixels.valid)[2:-2, 2:-2].all()
