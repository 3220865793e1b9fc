"""Fixtures that the tests of detector training share."""

import numpy as np
import pytest

from tests.conftest import write_geotiff


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    numbers = np.full((4, 192, 192), 1000, np.uint16)
    numbers[:, :, 100:103] = 2000
    return write_geotiff(tmp_path_factory.mktemp("scene") / "scene.tif", numbers)
