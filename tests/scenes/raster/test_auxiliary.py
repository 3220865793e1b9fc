"""What a file beside a raster sets is not read, and a warning says so."""

import numpy as np
import pytest
import rasterio

from pipeline.config import SceneSettings
from pipeline.errors import GeoreferenceError
from pipeline.input_warnings import collected_warnings
from pipeline.scenes.open import open_scene
from tests.scenes.products import write_raster

BANDS = ("B02", "B03", "B04", "B08")
UTM = rasterio.crs.CRS.from_epsg(32632).to_wkt()
NUMBERS = "<PAMRasterBand band='2'><NoDataValue>-9999</NoDataValue><Offset>-0.1</Offset></PAMRasterBand>"


def warnings_of(tmp_path, xml: str, **values) -> list[str]:
    planes = np.full((4, 20, 20), 700, np.uint16)
    path = write_raster(tmp_path / "scene.tif", planes, nodata=0, descriptions=BANDS)
    (tmp_path / "scene.tif.aux.xml").write_text(xml)
    with collected_warnings() as warnings:
        open_scene(str(path), settings=SceneSettings(**values))
    return warnings


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (NUMBERS, "nodata -9999, offset -0.1"),
        ("<PAMRasterBand band='1'><Scale>0.001</Scale></PAMRasterBand>", "scale 0.001"),
        (f"<SRS>{rasterio.crs.CRS.from_epsg(32633).to_wkt()}</SRS>", "a CRS"),
        ("<GeoTransform>600010.0, 10.0, 0.0, 5800000.0, 0.0, -10.0</GeoTransform>", "a geotransform"),
    ],
)
def test_what_is_ignored_is_named(tmp_path, content, what):
    (message,) = warnings_of(tmp_path, f"<PAMDataset>{content}</PAMDataset>")
    assert f"scene.tif.aux.xml sets {what}, which is not read" in message


@pytest.mark.parametrize(
    "xml",
    [
        "<PAMDataset><PAMRasterBand band='1'><Metadata><MDI key='STATISTICS_MAXIMUM'>9</MDI></Metadata>"
        "<NoDataValue>0</NoDataValue></PAMRasterBand></PAMDataset>",
        f"<PAMDataset><SRS>{UTM}</SRS></PAMDataset>",
        "<PAMDataset><GeoTransform>600000, 10, 0, 5800000, 0, -10</GeoTransform></PAMDataset>",
        "<PAMDataset><GeoTransform>a, b</GeoTransform><SRS>nowhere</SRS></PAMDataset>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><PAMDataset>&b;</PAMDataset>",
        "not XML",
    ],
)
def test_statistics_and_the_same_values_are_no_reason(tmp_path, xml):
    assert warnings_of(tmp_path, xml) == []


def test_the_users_values_are_compared(tmp_path):
    assert warnings_of(tmp_path, f"<PAMDataset>{NUMBERS}</PAMDataset>", nodata=-9999, offset=-0.1) == []


def test_a_large_file_is_not_parsed(tmp_path):
    (message,) = warnings_of(tmp_path, " " * (2**22 + 1))
    assert "larger than 4 MB" in message


def test_a_raster_without_a_crs_does_not_take_that_beside_it(tmp_path):
    planes = np.full((4, 20, 20), 700, np.uint16)
    path = write_raster(tmp_path / "scene.tif", planes, crs=None, descriptions=BANDS)
    (tmp_path / "scene.tif.aux.xml").write_text(f"<PAMDataset><SRS>{UTM}</SRS></PAMDataset>")
    with pytest.raises(GeoreferenceError, match=r"its \.aux\.xml is not read"):
        open_scene(str(path))
