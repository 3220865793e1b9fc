"""Scale, offset, nodata value and time that the user sets, against tags and metadata."""

import math
from datetime import UTC, date, datetime

import numpy as np
import pytest
from rasterio.windows import Window

from pipeline.config import SceneSettings, load_config
from pipeline.errors import ConfigError, MetadataError
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.read import read_pixels
from tests.scenes.products import ALL_MINUS_1000, numbers, product_xml, write_raster, write_safe
from tests.scenes.readers.test_stac import write_item


def settings(**values):
    return SceneSettings.model_validate(values)


def tif(tmp_path, values, **profile):
    array = np.array([[values]] * 2)[:, 0:1]
    return str(write_raster(tmp_path / "scene.tif", array, descriptions=("B02", "B04"), **profile))


def reflectance(href, **given):
    pixels = read_pixels(open_scene(href, settings=settings(**given)), Window(0, 0, 3, 1), ["B02", "B04"])
    assert (pixels.reflectance[0] == pixels.reflectance[1]).all()
    return [
        round(float(value), 6) if ok else None
        for value, ok in zip(pixels.reflectance[0, 0], pixels.valid[0], strict=True)
    ]


def test_each_is_overridden_alone(tmp_path):
    href = tif(tmp_path, np.array([0, 1500, 3000], np.uint16), scales=(2e-4, 2e-4))
    assert open_scene(href).radiometry == "tags"
    assert reflectance(href) == [None, 0.3, 0.6]
    assert reflectance(href, scale=1e-4) == [None, 0.15, 0.3]
    assert reflectance(href, offset=-0.1) == [None, 0.2, 0.5]
    assert reflectance(href, nodata=1500) == [0.0, None, 0.6]
    assert reflectance(href, nodata="none", offset=0.1) == [0.1, 0.4, 0.7]
    assert reflectance(href, scale=1e-4, offset=-0.1, nodata=3000) == [-0.1, 0.05, None]
    assert open_scene(href, settings=settings(offset=0.0)).radiometry == "options"
    assert open_scene(href, settings=settings(nodata=0)).radiometry == "tags"


@pytest.mark.parametrize(
    ("values", "given"),
    [
        (np.array([0, 15, 30], np.float32), {"scale": 0.01}),  # per cent
        (np.array([0, 1500, 3000], np.float32), {"scale": 1e-4}),  # Earth Engine's floats
        (np.array([0, 2500, 4000], np.float32), {"scale": 1e-4, "offset": -0.1}),
        (np.array([0, 38.25, 76.5], np.float64), {"scale": 1 / 255}),
        (np.array([np.nan, 0.15, 0.3], np.float32), {}),
    ],
)
def test_exports_in_other_units(tmp_path, values, given):
    assert reflectance(tif(tmp_path, values), **given) == [None, 0.15, 0.3]


def test_eight_bits_need_a_scale(tmp_path):
    href = tif(tmp_path, np.array([0, 51, 102], np.uint8))
    with pytest.raises(MetadataError, match=r"8 bits and no scale.*--scale 0\.00392157"):
        open_scene(href)
    assert reflectance(href, scale=1 / 255) == [None, 0.2, 0.4]


def test_a_warped_scene_takes_them_too(tmp_path):
    array = np.full((2, 30, 30), 2000, np.uint16)
    array[:, :, :10] = 7
    href = str(
        write_raster(
            tmp_path / "scene.tif", array, gsd=1e-4, origin=(10.0, 52.0), crs="EPSG:4326",
            descriptions=("B02", "B04"), nodata=0,
        )
    )  # fmt: skip
    scene = open_scene(href, settings=settings(offset=-0.1, nodata=7))
    rows, cols = scene.shape
    pixels = read_pixels(scene, Window(0, 0, cols, rows), ["B02", "B04"])
    np.testing.assert_allclose(pixels.reflectance[:, pixels.valid], 0.1, atol=1e-6)
    assert 0.5 < pixels.valid.mean() < 0.6
    everywhere = read_pixels(
        open_scene(href, settings=settings(nodata="none")), Window(0, 0, cols, rows), ["B02"]
    )
    assert everywhere.valid.mean() > 0.8


def test_products_and_items_are_overridden_too(tmp_path):
    safe = write_safe(
        tmp_path, "L2A", {"B02": numbers("B02"), "SCL": np.full((120, 120), 4, np.uint8)},
        product_xml("L2A", offsets=ALL_MINUS_1000),
    )  # fmt: skip
    for path in (safe, write_item(tmp_path / "stac")):
        scene = open_scene(str(path))
        changed = open_scene(
            str(path), settings=settings(scale=2e-4, offset=0.05, nodata=9, acquired="2024-06-16")
        )
        assert {(s.scale, s.offset, s.nodata) for s in changed.bands.values()} == {(2e-4, 0.05, 9.0)}
        assert changed.scl == scene.scl
        assert (changed.radiometry, changed.other_offset) == ("options", None)
        assert changed.acquired == date(2024, 6, 16)
    assert open_scene(str(safe)).radiometry == "product"


def test_a_time_is_utc_and_a_date_stays_one(tmp_path):
    href = tif(tmp_path, np.array([1, 2, 3], np.uint16))
    assert open_scene(href).acquired is None
    for text, moment in (
        ("2023-06-13T10:20:31Z", datetime(2023, 6, 13, 10, 20, 31, tzinfo=UTC)),
        ("2023-06-13T12:20+02:00", datetime(2023, 6, 13, 10, 20, tzinfo=UTC)),
        ("2023-06-13", date(2023, 6, 13)),
    ):
        scene = open_scene(href, settings=settings(acquired=text))
        assert (scene.acquired, scene.has_time) == (moment, isinstance(moment, datetime))
        assert load_config(None, [f"scene.acquired={text}"]).scene.acquired[:10] == "2023-06-13"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scene.scale=0", "at least 1e-10 and at most 1"),
        ("scene.scale=-0.0001", "at least 1e-10 and at most 1"),
        ("scene.scale=nan", "at least 1e-10 and at most 1"),
        ("scene.scale=10000", r"1 / 10000 = 0\.0001"),
        ("scene.offset=-1000", r"-1000 \* 0\.0001 = -0\.1"),
        ("scene.offset=inf", "from -1 to 1"),
        ("scene.nodata=purple", "a number of 64 bits, nan or none"),
        ("scene.acquired=yesterday", "ISO 8601"),
        ("scene.acquired=2023-13-01", "ISO 8601"),
        ('scene.acquired="2023-13-01"', "ISO 8601"),
    ],
)
def test_what_can_not_be_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, [text])


def test_no_value_is_none():
    for text in ("nan", ".nan", "NaN", "none", "None", "-inf"):
        assert load_config(None, [f"scene.nodata={text}"]).scene.nodata == "none"
    assert load_config(None, ["scene.nodata=-9999"]).scene.nodata == -9999
    assert load_config(None, ["scene.nodata=null"]).scene.nodata is None


@pytest.mark.parametrize(
    ("scale", "offset", "message"),
    [
        (1e-4, -1000, r"B02 of .*scene\.tif has the offset -1000.*-1000 \* 0\.0001 = -0\.1.*--offset"),
        (1, -1000, r"-1000 \* 0\.0001 = -0\.1"),
        (10000, 0, r"has the scale 10000.*1 / 10000 = 0\.0001.*--scale"),
        (-1e-4, 0, "has the scale -0.0001"),
        (0, 0, "has the scale 0: "),
        (1e-300, 0, "has the scale 1e-300: "),
        (1e-11, 0, "at least 1e-10"),
        (math.nan, 0, "or a scale of NaN, so its reflectance is unknown"),
        (math.inf, 0, "has the scale inf"),
        (1e-4, math.inf, "has the offset inf"),
        (1e-4, math.nan, "has the offset nan"),
    ],
)
def test_tags_that_can_not_be_are_refused_unless_overridden(tmp_path, scale, offset, message):
    import rasterio

    href = tif(tmp_path, np.array([1000, 1500, 3000], np.uint16))
    with rasterio.open(href, "r+") as dataset:
        dataset.scales, dataset.offsets = (scale,) * 2, (offset,) * 2
    with pytest.raises(MetadataError, match=message):
        open_scene(href)
    assert reflectance(href, scale=1e-4, offset=-0.1) == [0.0, 0.05, 0.2]


def test_an_offset_without_a_scale_keeps_the_usual_scale(tmp_path):
    import rasterio

    href = tif(tmp_path, np.array([1000, 1500, 3000], np.uint16))
    with rasterio.open(href, "r+") as dataset:
        dataset.offsets = (-0.1,) * 2
    assert reflectance(href) == [0.0, 0.05, 0.2]
