"""Rasters that have to be files of this machine are never asked of a server."""

from functools import partial

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from pipeline.errors import TruckscapeError
from pipeline.evaluation.areas.sampling import _strips
from pipeline.evaluation.landcover.accuracy import prediction_grid
from pipeline.evaluation.landcover.labels import read_landcover_labels
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
