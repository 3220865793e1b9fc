"""Rasters of a scene that lie elsewhere than the others."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import GeoreferenceError
from pipeline.input_warnings import collected_warnings
from pipeline.scenes.open import open_scene
from pipeline.scenes.raster.extents import check_extents
from tests.scenes.products import GRANULE, ORIGIN, STEM, gsd_of, numbers, write_raster, write_safe

X, Y = ORIGIN
SIDE = 60
"""Pixels at 10 m."""


def image(safe: Path, band: str) -> Path:
    return safe / GRANULE / "IMG_DATA" / f"R{gsd_of(band)}m" / f"{STEM}_{band}_{gsd_of(band)}m.jp2"


@pytest.fixture
def safe(tmp_path):
    images = {band: numbers(band, size=SIDE) for band in ("B01", "B02", "B03", "B11")}
    images["SCL"] = np.ones((SIDE // 2, SIDE // 2), np.uint8)
    return write_safe(tmp_path, "L2A", images, footprint=np.full((SIDE, SIDE), 5, np.uint8))


PLACES = {
    "other tile": {"origin": (X + 99960, Y)},
    "half a tile": {"origin": (X + 300, Y)},
    "other zone": {"crs": "EPSG:32633"},
    "other hemisphere": {"crs": "EPSG:32732"},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("band", ["B03", "B11", "SCL", "footprint"])
def test_a_raster_of_another_place_is_refused(safe, place, band):
    path = safe / GRANULE / "QI_DATA" / "MSK_DETFOO_B02.jp2" if band == "footprint" else image(safe, band)
    gsd = 10 if band == "footprint" else gsd_of(band)
    check_extents(open_scene(str(safe)))
    write_raster(path, np.ones((SIDE * 10 // gsd,) * 2, np.uint16), gsd, **PLACES[place])
    name = "MSK_DETFOO_B02" if band == "footprint" else band
    with pytest.raises(GeoreferenceError, match=rf"{name} (is in EPSG|covers)"):
        check_extents(open_scene(str(safe)))


@pytest.mark.parametrize("side", [SIDE // 2, SIDE * 2, SIDE - 2])
def test_a_band_of_another_size_is_refused(safe, side):
    write_raster(image(safe, "B03"), np.ones((side, side), np.uint16))
    with pytest.raises(GeoreferenceError, match=r"another place or size. B03 covers 600000 to"):
        check_extents(open_scene(str(safe)))


def test_bands_that_are_not_needed_may_lie_anywhere(safe):
    write_raster(image(safe, "B01"), np.ones((10, 10), np.uint16), 60, origin=(X + 99960, Y))
    check_extents(open_scene(str(safe)), without={"B01"})
    with pytest.raises(GeoreferenceError, match="B01"):
        check_extents(open_scene(str(safe)))


def test_exports_may_cut_bands_differently(tmp_path):
    """Up to a coarse pixel without a word, up to half of the scene with a warning."""
    for band in ("B02", "B11"):
        write_raster(tmp_path / f"{band}.tif", numbers(band, size=SIDE), gsd_of(band))
    for east, expected in ((0, 0), (20, 0), (-20, 0), (100, 1), (280, 1), (320, None), (1e5, None)):
        write_raster(tmp_path / "B11.tif", numbers("B11", size=SIDE), 20, origin=(X + east, Y))
        scene = open_scene(str(tmp_path))
        if expected is None:
            with pytest.raises(GeoreferenceError, match="B11 covers"):
                check_extents(scene)
            continue
        with collected_warnings() as warnings:
            check_extents(scene)
        assert len(warnings) == expected


@pytest.mark.parametrize("nodata", [None, 0])
def test_blocks_that_are_not_there_are_a_warning_unless_nodata_explains_them(tmp_path, nodata):
    array = np.zeros((2, SIDE, SIDE), np.float32)
    array[0], array[1, :16, :32] = 0.5, 0.1
    path = write_raster(
        tmp_path / "a.tif",
        array,
        tiled=True,
        blockxsize=32,
        blockysize=16,
        interleave="band",
        descriptions=("B02", "B03"),
        SPARSE_OK=True,
        nodata=nodata,
    )
    with collected_warnings() as warnings:
        check_extents(open_scene(str(path)))
    found = [text for text in warnings if "lacks" in text]
    assert found == [] if nodata == 0 else "lacks blocks (88% of B03)" in found[0] and len(found) == 1
