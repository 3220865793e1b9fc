"""Fixtures that the tests of the command line share."""

import numpy as np
import pytest

from tests.conftest import write_geotiff


@pytest.fixture
def scene(tmp_path) -> str:
    return str(write_geotiff(tmp_path / "scene.tif", np.full((4, 20, 20), 1000, np.uint16)))
