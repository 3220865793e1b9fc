"""Rasters that have to be files of this machine are never asked of a server."""

import time
from functools import partial

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from pipeline.errors import CorruptImageError, TruckscapeError
from pipeline.evaluation.areas.sampling import _strips
from pipeline.evaluation.landcover.accuracy import prediction_grid
from pipeline.evaluation.landcover.labels import read_landcover_labels
from pipeline.scenes.raster import datasets
from tests.conftest import write_geotiff
from tests.servers import file_server


@pytest.mark.parametrize(
    "address",
    [
        "/vsicurl/{}/a.tif",
        "{}/a.tif",
        "zip+{}/a.zip!a.tif",
        "/vsizip//vsicurl/{}/a.zip/a.tif",
        "GTIFF_DIR:1:/vsicurl/{}/a.tif",
        "s3://bucket/a.tif",
        "/vsis3/bucket/a.tif",
    ],
)
def test_labels_and_maps_are_files_of_this_machine(tmp_path, address):
    write_geotiff(tmp_path / "a.tif", np.ones((4, 8, 8), np.uint8))
    grid = GeoBox((8, 8), Affine(10, 0, 500000, 0, -10, 5600000), "EPSG:32632")
    with file_server(tmp_path) as server:
        path = address.format(server.url)
        of_labels = partial(read_landcover_labels, grid=grid)
        for read in (of_labels, prediction_grid, lambda each: list(_strips(each))):
            with pytest.raises(TruckscapeError) as caught:
                read(path)
            assert "\n" not in str(caught.value)
        assert not server.asked


def read_remotely(url: str) -> np.ndarray:
    href = f"/vsicurl/{url}/scene.tif"
    return datasets.with_dataset(href, "The band", None, lambda dataset: dataset.read())


def test_a_band_that_comes_slowly_comes_complete(tmp_path, monkeypatch):
    """Its transfers take several times as long as one may be silent."""
    numbers = np.random.default_rng(0).integers(1, 10_000, (4, 64, 64), np.uint16)
    write_geotiff(tmp_path / "scene.tif", numbers)
    limits = {"GDAL_HTTP_LOW_SPEED_TIME": 1, "GDAL_HTTP_MAX_RETRY": 0}
    monkeypatch.setattr(datasets, "REMOTE_OPTIONS", {**datasets.REMOTE_OPTIONS, **limits})
    monkeypatch.setattr(datasets, "_REMOTE_PAUSES_S", ())
    with file_server(tmp_path) as server:
        server.bytes_per_s = (tmp_path / "scene.tif").stat().st_size / 4
        begun = time.monotonic()
        np.testing.assert_array_equal(read_remotely(server.url), numbers)
        assert time.monotonic() - begun > 2.5


def test_a_silent_band_is_given_up_within_its_total_time(tmp_path, monkeypatch):
    write_geotiff(tmp_path / "scene.tif", np.ones((4, 64, 64), np.uint16))
    limits = {"GDAL_HTTP_LOW_SPEED_TIME": 1, "GDAL_HTTP_MAX_RETRY": 0}
    monkeypatch.setattr(datasets, "REMOTE_OPTIONS", {**datasets.REMOTE_OPTIONS, **limits})
    monkeypatch.setattr(datasets, "_PATIENCE_S", 1.0)
    begun = time.monotonic()
    with file_server(tmp_path) as server:
        server.faults["/scene.tif"] = ["hang"] * 50
        with pytest.raises(CorruptImageError):
            read_remotely(server.url)
    assert time.monotonic() - begun < 12
